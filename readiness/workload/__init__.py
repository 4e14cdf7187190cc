"""Workloads: the operators that a model really calls, as data, and a device put through them.

`document` is the file, `tracing` hears what a model calls, `models` builds the model to be heard, `forms` finds how sizes
depend on the length, `recording` makes the file of it and `writing` a profile. `drawing` makes inputs for a record,
`contraction` bounds what sums may cost, `operators` says what is known of each operator, `trial` tries one,
`replay_supervisor` has them tried in a process that may die of it (`replay_worker`), `sizes` chooses how large, `tally`
counts.
"""
