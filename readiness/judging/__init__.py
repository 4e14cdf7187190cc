"""Judging: findings, verdicts and scores from evidence and a profile. Pure: no clock, no files, no hardware."""
