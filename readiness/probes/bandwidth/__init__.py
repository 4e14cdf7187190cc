"""What `multichip.bandwidth` measures with: collectives and transfers by size, tails, overlap, link counters."""
