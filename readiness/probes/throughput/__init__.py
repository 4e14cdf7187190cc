"""Probes of the throughput checks. Only workers import them."""
