"""Soak: a model's work for a given time, and what it proves: `multichip.soak`."""
