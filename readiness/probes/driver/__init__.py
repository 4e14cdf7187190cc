"""Probes of the driver checks. Most of it imports torch: only workers import it, within a check."""
