"""Probes of `multichip.collectives`: every operation of torch.distributed against known answers."""
