"""Profiles: loaded from TOML, laid over what they extend, checked, with the line of every mistake."""
