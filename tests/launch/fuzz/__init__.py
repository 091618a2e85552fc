"""Random kernels with what NumPy says they compute. `grammar.py` makes them, `test_fuzz.py` runs them."""
