"""Operators: PyTorch's own database of them, what can be judged about each, and a sweep that survives what it finds.

`classes` says how each operator is judged, `database` reads PyTorch's list, `samples` makes inputs, `judge` tries one
operator in one dtype, `children` are the processes in which that happens, `sweep` leads them.
"""
