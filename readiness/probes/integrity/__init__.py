"""What `multichip.integrity` measures with: whose doing a wrong result between chips is."""
