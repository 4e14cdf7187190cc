"""Tracing: from a model to a workload, the operators that it calls as data, and to a profile."""
