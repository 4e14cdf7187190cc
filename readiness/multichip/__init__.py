"""Checks of several chips: collectives, bandwidth, links, integrity, rank faults, recovery, elastic jobs, data parallelism.

What runs on the ranks of each check of `checks/multichip/`, its parent where there is one, and the measurements made of
what ranks report (`telling*`, pure). Rank groups are started by `readiness.ranks`.
"""
