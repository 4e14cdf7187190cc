"""What `operators.workload` measures with: the recorded calls of a model, replayed on a device."""
