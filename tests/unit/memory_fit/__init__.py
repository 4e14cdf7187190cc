"""Tests of readiness.memory_fit."""
