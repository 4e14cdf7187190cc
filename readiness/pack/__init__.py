"""Acceptance packs: assessments with all that a buyer needs beside them, whole, signed, and checked again later.

A pack is a folder or a zip archive. `contents` says what is in one, `build` makes it, `verify` checks it.
"""
