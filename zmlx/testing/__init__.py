"""Testing one kernel on several back ends.

plugin      the pytest plugin: markers, skips, options, fixtures, terminal summary
opinfo      OpInfo and SampleInput: everything the suite needs to know of a kernel
op_db       one module per kernels/ module: samples, float64 oracle, dtypes, tolerances, bad inputs
layouts     the same values as row-contiguous, transposed, strided, sliced or broadcast MLX arrays
tolerance   error measures and budgets
golden      recording and comparing golden values; golden_file is what they look like on disk
report      terminal, Markdown and HTML agreement report
bench       kernels timed against MLX's operations (rivals) and a copy (bandwidth); bench_engine is what is under them

Nothing is imported here, so that loading the plugin costs no NumPy and no MLX.
"""
