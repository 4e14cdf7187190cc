"""Probes of `multichip.data_parallel`: training on several ranks compared with training in one process."""
