"""What the checks of the driver family share. Most of it imports torch: it is imported by workers, within a check."""
