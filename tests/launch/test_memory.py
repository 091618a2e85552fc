"""Memory of outputs: large ones are not filled with zeros that the kernel overwrites."""

from __future__ import annotations

from typing import Any

import mlx.core as mx
import numpy as np
import pytest

import zmlx
from zmlx.launch import memory, primitive_library

pytestmark = pytest.mark.cpu

SOURCE = "uint i = thread_position_in_grid.x; y[i] = x[i] + x[i];"
DTYPES = ("uint8", "float16", "bfloat16", "float32", "int64", "complex64")
#: One byte short of the first that nobody fills, that one, and several axes.
SHAPES = ((memory._MANY_BYTES - 1,), (memory._MANY_BYTES,), (3, 1, 1 << 19, 2))


def needs_library() -> None:
    library, reason = primitive_library.found()
    if library is None:
        pytest.skip(f"not here: {reason}")


@pytest.fixture
def library() -> None:
    needs_library()


@pytest.fixture
def filled(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How many bytes have been filled, each time."""
    sizes: list[int] = []
    fill = memory._filled

    def note(shape: Any, dtype: Any, value: Any) -> mx.array:
        sizes.append(int(np.prod(shape)) * dtype.size)
        filled: mx.array = fill(shape, dtype, value)
        return filled

    monkeypatch.setattr(memory, "_filled", note)
    return sizes


def doubled(x: mx.array, **more: Any) -> mx.array:
    kernel = zmlx.metal_kernel("doubled", ["x"], ["y"], SOURCE)
    outputs: list[mx.array] = kernel(
        inputs=[x],
        output_shapes=[x.shape],
        output_dtypes=[x.dtype],
        grid=(x.size, 1, 1),
        threadgroup=(256, 1, 1),
        stream=mx.cpu,
        **more,
    )
    return outputs[0]


def array(shape: tuple[int, ...], dtype: str) -> mx.array:
    x = (mx.arange(int(np.prod(shape)), stream=mx.cpu) % 97).reshape(shape, stream=mx.cpu)
    return x.astype(getattr(mx, dtype), stream=mx.cpu)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("there", [True, False], ids=["library", "without"])
def test_large_outputs_are_not_filled(
    shape: tuple[int, ...], dtype: str, there: bool, filled: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    if not there:
        monkeypatch.setattr(primitive_library, "found", lambda: (None, "it is not here"))
    else:
        needs_library()
    x = array(shape, dtype)
    y = doubled(x)
    assert y.shape == shape
    assert y.dtype == x.dtype
    assert mx.array_equal(y, x + x, stream=mx.cpu)
    # What MLX does with it: slices, reshapes, sums, as of any array.
    assert mx.array_equal(y[..., 1:].reshape(-1), (x + x)[..., 1:].reshape(-1), stream=mx.cpu)
    assert bool(filled) is (not there or y.nbytes < memory._MANY_BYTES)


def test_an_init_value_is_filled_in(filled: list[int]) -> None:
    y = doubled(array((1 << 21,), "float32"), init_value=7.0)
    assert len(filled) == 1
    assert y.size == 1 << 21


def test_memory_is_given_back() -> None:
    x = array((1 << 20,), "float32")
    mx.eval(x)
    mx.clear_cache()
    before = mx.get_active_memory()
    for _ in range(5):
        y = doubled(x)
        assert mx.get_active_memory() - before < 2 * x.nbytes
    del y
    assert mx.get_active_memory() == before


@pytest.mark.usefixtures("library")
def test_axes_of_more_than_31_bits() -> None:
    """The room of an output that is nearly as long as an axis may be has two axes; nothing of it is touched."""
    made = memory._unwritten((1, 2**31 - 1), mx.uint8)
    assert made is not None
    output, room = made
    assert output.shape == (1, 2**31 - 1)
    assert max(room.shape) < 2**31
    assert room.nbytes >= output.nbytes + 2 * memory.BAND


@pytest.mark.usefixtures("library")
def test_no_memory_is_an_error() -> None:
    before = mx.get_active_memory()
    with pytest.raises(
        RuntimeError, match=r"^\[metal_kernel\] Unable to allocate \d+ bytes for an output\.$"
    ):
        memory._unwritten((2**31 - 1, 2**15), mx.complex64)
    assert mx.get_active_memory() == before  # evaluations wait where more is taken than there is
