"""Probes of the throughput checks; imported by workers, within a check."""
