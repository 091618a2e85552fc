"""GroupNorm: what no generated test shows."""

from __future__ import annotations

from typing import Any

import numpy as np


def test_groups_are_those_of_pytorch(mx_device: Any) -> None:
    import mlx.core as mx
    import mlx.nn as nn

    from zmlx.kernels.group_norms import groupnorm

    x = mx.random.normal((3, 5, 4, 12), key=mx.random.key(1))
    layer = nn.GroupNorm(3, 12, pytorch_compatible=True)
    ours = groupnorm(x, layer.weight, layer.bias, 3)
    np.testing.assert_allclose(np.asarray(ours), np.asarray(layer(x)), rtol=1e-5, atol=1e-5)
