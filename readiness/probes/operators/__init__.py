"""Probes of `operators.sweep` and `operators.large`: PyTorch's operator database, tried and compared.

`opinfo` reads the database, `extra_ops` adds what it lacks, `op_semantics` says how each operator is judged. `samples`,
`sample_variants`, `edge_shapes` and `edge_arguments` make inputs, `layouts` lays them out in memory. `op_call` calls an
operator, `op_trial` calls it on the device, on the CPU and in float64, `op_oracle` compares the results, `opinfo_trial` puts
the database's samples through it. `cpu_fallback`, `kernel_provenance` and `profiler_traffic` find where an operator ran.
`sweep` hands operators to processes (`sweep_worker`) and `summary` counts outcomes.
"""
