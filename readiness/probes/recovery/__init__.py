"""Probes of `multichip.recovery`: training that is killed and resumed from checkpoints."""
