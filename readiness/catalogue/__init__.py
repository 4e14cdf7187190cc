"""Operators: PyTorch's own database of them, what can be judged about each, and a sweep that survives what it finds.

`classes` says how each operator is judged, `database` reads PyTorch's list, `samples` makes inputs and `layouts` lays
them otherwise in memory, `calls` calls one operator and `judge` tries it in one dtype, `fallback` hears and
`provenance` reads where it really ran, `children` are the processes in which that happens, `sweep` leads them and
`tally` counts.
"""
