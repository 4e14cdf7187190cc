"""A simulated accelerator: a real device of PyTorch over the CPU's memory, whose defects a TOML file declares."""
