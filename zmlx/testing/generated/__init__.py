"""The tests that follow from a table of operations: `opinfo_tests` writes them into a test module.

In: OpInfo entries. Out: pytest functions, one set for each operation, dtype and sample. One module a subject: forward,
gradients, invariance (layouts, runs, evaluation), transforms (vmap, compile), claims (what must be refused), properties
(arguments that Hypothesis draws, each an example). Each has ``tests(ops)``, which yields functions for pytest, and
``check_…`` functions that do the work and can be called alone.
Must not know: how a command is run, or which project it is for.
"""
