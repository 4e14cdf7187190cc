"""Between hosts: which pairs and groups of a fleet's hosts are tried together, and which host or link is to blame."""
