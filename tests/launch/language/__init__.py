"""The Metal language as kernels use it: a table of features, each a few statements with what NumPy says they compute.

`table.py` gathers the rows, `test_language.py` runs them on the default device, and ``python -m language.table``
(in ``tests/launch``) records a back end's results and writes docs/language.md.
"""
