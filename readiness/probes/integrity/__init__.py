"""Probes of `multichip.integrity`: which chip or link causes a wrong result."""
