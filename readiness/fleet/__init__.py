"""Many hosts: their assessments in one database, what is odd among them, and the picture of the whole."""
