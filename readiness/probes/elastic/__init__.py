"""What `multichip.elastic` measures with: a job under torchrun that loses a worker."""
