"""The catalogue: kernels written once as Metal, each with its gradient, that run on Metal, CUDA and CPU.

In: MLX arrays of float32, float16 or bfloat16, in any memory layout. Out: MLX arrays, computed in float32 by launches
of `zmlx.metal_kernel`, with rules for ``mx.grad``, ``mx.jvp``, ``mx.vmap`` and ``mx.compile``. One module a family;
what several share begins with ``_``. Must not know: how they are tested, checked or timed (`zmlx.testing.op_db` does).
"""

from zmlx.kernels import norms, reductions, softmax, transformer

__all__ = ["norms", "reductions", "softmax", "transformer"]
