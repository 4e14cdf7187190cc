"""What `multichip.collectives` measures with: every operation of torch.distributed against known answers."""
