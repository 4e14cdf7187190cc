"""Assessments held against each other: a run against an earlier one or a baseline of several, and machines side by side."""
