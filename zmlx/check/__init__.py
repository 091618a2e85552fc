"""Everything that finds faults in kernels: races, bounds, uninitialised memory, barriers, and what Metal refuses.

In: a launch, handed over by the hook that `zmlx.launch` offers (`zmlx.launch.hook`). Out: the launch's outputs and
`Finding` objects, each with a line of the author's text and what to do. `launch` does not know that this package is
there. Must not know: the catalogue, the tests that use it.
"""

from zmlx.check.checker import Checking, checked
from zmlx.check.findings import Finding, KernelCheckError

__all__ = ["Checking", "Finding", "KernelCheckError", "checked"]
