"""What the checks of several chips share: placement of ranks, known all-reduces, process groups, message sizes."""
