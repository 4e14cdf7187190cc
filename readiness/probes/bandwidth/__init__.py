"""Probes of `multichip.bandwidth`: collectives and transfers by size, tails, overlap, link counters."""
