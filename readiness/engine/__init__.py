"""Engine: what runs checks."""
