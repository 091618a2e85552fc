"""Golden values: what each back end computed, recorded with where it comes from, and compared.

In: the entries of op_db, this machine's results, files that other machines wrote. Out: ``<back end>.json`` files and a
`Comparison`. Must not know: how a comparison is shown (`zmlx.testing.report` does), or how fast anything is.
"""
