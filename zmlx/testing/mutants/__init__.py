"""Mutation testing of kernels: faults planted into a copy of the sources, one at a time, and the tests that notice.

In: a table of `Mutant`s. Out: which test noticed each, and which survived. The working tree is never changed. Must not
know: which kernels there are, or pytest's insides; it runs `python -m pytest`.
"""

from zmlx.testing.mutants.mutant import Mutant, MutantError

__all__ = ["Mutant", "MutantError"]
