"""Probes of `operators.workload`: replay the recorded calls of a model on a device."""
