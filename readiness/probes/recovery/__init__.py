"""What `multichip.recovery` measures with: training that is killed and resumed from checkpoints."""
