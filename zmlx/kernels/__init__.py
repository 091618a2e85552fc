"""The catalogue: kernels written once as Metal, each with its gradient, that run on Metal, CUDA and CPU.

In: MLX arrays, checked with errors that say what was expected. Out: MLX arrays, by launches of `zmlx.metal_kernel`; the
functions can be differentiated, vectorised and traced. One module a family; what several share begins with ``_``. Must
not know: how they are tested, checked or timed; `zmlx.testing.op_db` has that.
"""

from zmlx.kernels import norms, reductions, softmax, transformer

__all__ = ["norms", "reductions", "softmax", "transformer"]
