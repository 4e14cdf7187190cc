"""Operators: PyTorch's own database of them, what can be judged about each, and a sweep that survives what it finds.

`classes` says how each operator is judged, `database` reads PyTorch's list, `samples` makes inputs and `layouts` lays
them otherwise in memory. `op_call` calls an operator, `op_trial` calls it on the device, on the CPU and in float64,
`op_oracle` compares what they gave, `opinfo_trial` puts the database's samples through it. `fallback` hears and
`provenance` reads where an operator really ran, `children` are the processes in which that happens, `sweep` leads them and
`tally` counts.
"""
