"""What `multichip.data_parallel` measures with: training on several ranks against training in one process."""
