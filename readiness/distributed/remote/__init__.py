"""Ranks on other hosts: a remote agent there, a client and a proxy here."""
