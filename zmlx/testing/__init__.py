"""Testing one kernel on several back ends.

In: `OpInfo` entries (``op_db/``), each a kernel with its oracle and samples. Out: a pytest plugin and generated tests,
``golden/`` values and their comparison, ``report/`` pages, ``bench/`` tables. The modules beside the folders are what
these share (opinfo, layouts, tolerance, selection, environment) and the plugin's own (plugin, session, markers,
fixtures, ledger, checking, reproduce). Sees all other folders; none of them sees it.
"""
