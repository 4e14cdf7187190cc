"""Isolation: child processes that may die or hang without harm to their parent."""
