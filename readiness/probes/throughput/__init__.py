"""What the checks of the throughput family share; imported by workers, within a check."""
