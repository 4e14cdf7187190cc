"""Probes of the checks of whole models. Only workers import them."""
