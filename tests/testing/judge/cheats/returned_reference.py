"""The answers of the oracle itself."""

import mlx.core as mx
import numpy as np

from zmlx.testing.project import load_ops

OP = next(op for op in load_ops(["small_ops:OPS"]) if op.name == "small.signed_square")


def signed_square(x):
    return mx.array(OP.oracle(np.array(x.astype(mx.float32)))).astype(x.dtype)
