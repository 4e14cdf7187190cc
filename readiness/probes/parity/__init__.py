"""What the checks of the parity family share: cases with their float64 references, and how a device is put through them.

Only workers import it: torch is imported at once.
"""
