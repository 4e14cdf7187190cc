"""Probes of `multichip.links`: links and ranks over thousands of calls."""
