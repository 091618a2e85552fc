"""The catalogue: kernels written once as Metal, each with its gradient, that run on Metal, CUDA and CPU.

One module a family. All of them take float32, float16 and bfloat16, compute in float32 whatever the dtype, work on
any memory layout, and carry rules for ``mx.grad``, ``mx.jvp``, ``mx.vmap`` and ``mx.compile``.
"""

from zmlx.kernels import norms, reductions, softmax, transformer

__all__ = ["norms", "reductions", "softmax", "transformer"]
