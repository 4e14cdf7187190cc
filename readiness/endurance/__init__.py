"""Work without end, and what it proves: what `multichip.soak` stands on."""
