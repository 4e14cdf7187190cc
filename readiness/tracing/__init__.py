"""Tracing: records the operators that a model calls as a workload, and writes a profile for it."""
