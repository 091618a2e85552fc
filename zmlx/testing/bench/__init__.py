"""How fast kernels are, against MLX's own operations, `mx.compile` and the memory's bandwidth.

In: the entries of op_db with their rivals. Out: a `Benchmark` and its table. Everything that is compared takes turns in
one process. Must not know: golden values, or pytest; no test depends on a time.
"""
