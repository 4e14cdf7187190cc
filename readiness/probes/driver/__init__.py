"""Probes of the driver checks. Only workers import them, since most import torch."""
