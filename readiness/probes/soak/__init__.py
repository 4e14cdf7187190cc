"""Probes of `multichip.soak`: train a model for a given time, and bound the fault rate from it."""
