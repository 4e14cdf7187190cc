"""What `multichip.drills` measures with: a fault in one rank, and what the others make of it."""
