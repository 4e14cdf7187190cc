"""Probes: the measurements behind the checks of each topic. Only workers import them.

In each folder of several chips `rank.py` runs on every rank, `parent.py` starts and watches the group, and
`measurements.py` turns reports of ranks into measurements.
"""
