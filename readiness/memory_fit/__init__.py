"""Memory that a model needs against the memory of the chips: arithmetic alone, without torch and without a device."""
