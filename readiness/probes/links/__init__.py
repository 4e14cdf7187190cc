"""What `multichip.links` measures with: links and ranks over thousands of calls."""
