"""Ranks on other hosts: an agent there, a client and a proxy here."""
