"""Probes of the stability checks: core operations under sustained load, their latency, and checkpoints."""
