"""Probes of `multichip.drills`: a fault in one rank, and the reaction of the others."""
