"""GroupNorm: what no generated test shows."""

from __future__ import annotations

import contextlib
from typing import Any

import numpy as np
import pytest


def test_groups_are_those_of_pytorch(mx_device: Any) -> None:
    import mlx.core as mx
    import mlx.nn as nn

    from zmlx.kernels.group_norms import groupnorm

    x = mx.random.normal((3, 5, 4, 12), key=mx.random.key(1))
    layer = nn.GroupNorm(3, 12, pytorch_compatible=True)
    ours = groupnorm(x, layer.weight, layer.bias, 3)
    np.testing.assert_allclose(np.asarray(ours), np.asarray(layer(x)), rtol=1e-5, atol=1e-5)


SHAPES = (
    (1, 1, 1),
    (3, 7, 12),
    (16, 1024, 4096),
    (1, 2**20, 8),
    (8, 4096, 320),
    (2, 1, 2**18),
    (512, 49, 64),
)


@pytest.mark.parametrize("backend", ["cpu", "cuda", "metal"])
@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("divided", [False, True])
def test_parts_cover_all_groups(backend: str, shape: tuple[int, ...], divided: bool) -> None:
    """Runs of places and pieces of channels are as many as the kernels compute, and none of them is empty."""
    import mlx.core as mx

    from zmlx.kernels._groupnorm_launch import parts_launch
    from zmlx.launch import recording

    batch, places, channels = shape
    for groups in {1, channels // 4 or 1, channels}:
        with recording(backend):
            plan = parts_launch(mx.broadcast_to(mx.array(0.0), shape), groups, divided=divided)
        template = dict(plan.launch.template)
        width, across, threads = channels // groups, template["A"], template["W"]
        assert threads % across == 0
        assert threads & (threads - 1) == across & (across - 1) == 0
        runs = -(-places // plan.run)
        assert (runs - 1) * plan.run < places <= runs * plan.run
        assert plan.parts == runs * -(-width // (across * template["S"] * template["N"]))
        assert divided or plan.parts == 1
        assert plan.lines == batch * runs
        assert plan.columns == groups * -(-width // template["N"])
        group = plan.launch.threadgroup[0]
        assert group % threads == 0
        assert threads <= 32 or group == threads
        assert plan.launch.grid[0] * plan.launch.grid[1] >= batch * groups * plan.parts * threads


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize("width", [1, 4, 10, 20, 21, 40, 64])
def test_no_chunk_on_a_gpu_ends_early(dtype: str, width: int) -> None:
    """The groups of diffusion models have 10, 20 and 40 channels."""
    import mlx.core as mx

    from zmlx.kernels._groupnorm_launch import parts_launch
    from zmlx.launch import recording

    x = mx.broadcast_to(mx.array(0, getattr(mx, dtype)), (8, 4096, 32 * width))
    with recording("cuda"):
        plan = parts_launch(x, 32)
        weights = plan.weights_launch()
    for launch in (plan.launch, weights):
        template = dict(launch.template)
        assert width % template["N"] == 0
        assert template["N"] == 16 // x.dtype.size or width % (2 * template["N"])
        assert template["PACKED"] == (template["N"] > 1)


def test_registers_hold_a_group_of_a_gpu_where_they_are_enough() -> None:
    import mlx.core as mx

    from zmlx.kernels._groupnorm_launch import HELD_BYTES, is_divided, parts_launch
    from zmlx.launch import recording

    def held(dtype: Any, shape: tuple[int, ...], groups: int, gradient: bool = False) -> tuple[int, int]:
        x = mx.broadcast_to(mx.array(0, dtype), shape)
        plan = parts_launch(x, groups, divided=is_divided(x, groups), gradient=gradient)
        template = dict(plan.launch.template)
        chunks = template.get("K", 0)
        assert plan.held == bool(chunks)
        if chunks:
            assert chunks * template["W"] // template["A"] >= shape[1]
            assert chunks * template["N"] * x.dtype.size * (1 + gradient) <= HELD_BYTES
        return template["W"], chunks

    with recording("cuda"):
        assert held(mx.float32, (64, 256, 4096), 32) == (512, 16)
        assert held(mx.float32, (64, 256, 4096), 32, gradient=True) == (512, 0)
        assert held(mx.bfloat16, (64, 256, 4096), 32) == (256, 16)
        assert held(mx.bfloat16, (64, 256, 4096), 32, gradient=True) == (512, 8)
        assert held(mx.float32, (256, 64, 4096), 32, gradient=True) == (256, 8)
        assert held(mx.float32, (8, 4096, 320), 32) == (512, 0)
        assert held(mx.float32, (2, 16, 64), 2) == (32, 4)
        assert held(mx.float32, (3, 2, 8), 2) == (4, 1)
        assert held(mx.float32, (1, 2**20, 8), 1)[1] == 0
    with recording("cpu"):
        assert held(mx.float32, (64, 256, 4096), 32)[1] == 0


def test_few_large_groups_have_threads_for_a_whole_gpu() -> None:
    """Of 16 groups of 4 million values each, on 132 multiprocessors."""
    import mlx.core as mx

    from zmlx.kernels._groupnorm_launch import ALL_THREADS, parts_launch
    from zmlx.launch import recording

    for dtype in (mx.float32, mx.bfloat16):
        with recording("cuda"):
            plan = parts_launch(mx.broadcast_to(mx.array(0, dtype), (16, 1024, 4096)), 1)
        assert ALL_THREADS <= plan.launch.grid[0] < 2 * ALL_THREADS


@pytest.mark.parametrize("threads", [None, 32])
@pytest.mark.parametrize("first", [0.0, 1e4])
def test_a_value_far_from_the_others_costs_no_digits(
    mx_device: Any, threads: int | None, first: float
) -> None:
    """Moments come from one pass around a value of each thread, which may be the one that is like no other."""
    import mlx.core as mx

    from zmlx.kernels import _rows
    from zmlx.kernels.group_norms import groupnorm
    from zmlx.testing.op_db.group_norms import _groupnorm

    x = np.random.default_rng(3).normal(50, 1, (1, 400, 64)).astype(np.float32)
    x[0, 0, 0] += first
    weight, bias = np.ones(64), np.zeros(64)
    with _rows.override(threads) if threads else contextlib.nullcontext():
        y = groupnorm(mx.array(x), mx.array(weight, mx.float32), mx.array(bias, mx.float32), 1)
    wanted = _groupnorm(x.astype(np.float64), weight, bias, 1)
    np.testing.assert_allclose(np.asarray(y), wanted, rtol=2e-6, atol=2e-6)
