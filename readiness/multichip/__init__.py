"""What ranks measure of several chips: collectives, links, drills, recovery, training in every mode.

The ranks' side of each check of `checks/multichip/` and what is told of it (`telling*`, pure); the worlds that it runs in
are `readiness.ranks`.
"""
