"""Tests of the probes of links."""
