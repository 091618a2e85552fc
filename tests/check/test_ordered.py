"""Launches with their threads in a chosen order: outputs, findings, gradients."""

from __future__ import annotations

import mlx.core as mx
import pytest

import zmlx
from zmlx.check.findings import KernelCheckError
from zmlx.check.ordered import ORDERS, Ordered
from zmlx.launch import watch
from zmlx.launch.hook import intercepting

pytestmark = pytest.mark.cpu

#: The thread that comes last leaves its number.
LAST = zmlx.metal_kernel(
    "ordered_last",
    [],
    ["y"],
    "atomic_store_explicit(&y[0], int(thread_position_in_grid.x), memory_order_relaxed);",
    atomic_outputs=True,
)

BEYOND = zmlx.metal_kernel("ordered_beyond", ["x"], ["y"], "y[thread_position_in_grid.x + 1] = x[0];")


def last(threads: int) -> int:
    (y,) = LAST(
        inputs=[],
        output_shapes=[(1,)],
        output_dtypes=[mx.int32],
        grid=(threads, 1, 1),
        threadgroup=(32, 1, 1),
        init_value=-1,
    )
    return int(y.item())


def test_the_outputs_are_those_of_the_order() -> None:
    seen = {}
    for order in ORDERS:
        with watch() as launches, intercepting(Ordered(order)):
            seen[order] = last(128)
        assert [launch.path for launch in launches] == ["checked"]
    assert seen["lockstep"] == 127
    assert seen["reversed"] == 0
    assert seen["random"] in range(128)
    assert last(1) == 0  # outside of the blocks an ordinary launch


def test_nothing_to_launch_is_what_the_output_began_with() -> None:
    with intercepting(Ordered("lockstep")):
        assert last(0) == -1


def test_findings_are_an_error() -> None:
    with (
        intercepting(Ordered("reversed")),
        pytest.raises(
            KernelCheckError, match=r"another order \(reversed\) the checker has 1 finding"
        ) as error,
    ):
        BEYOND(
            inputs=[mx.ones(1)],
            output_shapes=[(4,)],
            output_dtypes=[mx.float32],
            grid=(4, 1, 1),
            threadgroup=(4, 1, 1),
        )
    assert [finding.kind for finding in error.value.findings] == ["out-of-bounds"]


def test_an_order_that_is_none() -> None:
    expected = r"^order: expected one of 'lockstep', .*'random'; got 'backwards'\.$"
    with pytest.raises(ValueError, match=expected):
        Ordered("backwards")
