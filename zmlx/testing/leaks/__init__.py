"""Whether a process that launches a kernel very often keeps what it should give back.

In: the entries of a table of operations. Out: what the process held before and after many launches of each, a verdict
by stated tolerances, and a JSON file that reports show (`zmlx.testing.leak_figures`).
"""
