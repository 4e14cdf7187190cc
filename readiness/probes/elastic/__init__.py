"""Probes of `multichip.elastic`: a job under torchrun that loses a worker."""
