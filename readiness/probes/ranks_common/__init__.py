"""Shared by the checks of several chips: placement of ranks, known all-reduces, process groups, message sizes."""
