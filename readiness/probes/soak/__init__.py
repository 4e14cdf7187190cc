"""Soak: a model's work for as long as is asked, and what it proves: `multichip.soak`."""
