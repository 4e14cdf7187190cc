"""Probes of the parity checks: cases with float64 references, and their execution on a device.

Only workers import it: torch is imported at once.
"""
