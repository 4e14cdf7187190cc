"""What the checks of stability stand on: core operations repeated for long, paced, and carried over a restart."""
