"""Images, channels last."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from zmlx.testing.op_db._grid_sample import GRID_SAMPLE
from zmlx.testing.op_db._shared import (
    CANCELLING,
    ITEMSIZE,
    Float64Array,
    as_on_a_gpu,
    kernel,
    ones,
    quiet,
    values,
)
from zmlx.testing.opinfo import ErrorInput, OpInfo, SampleInput, SampleRng
from zmlx.testing.rivals import Rivals

_TAPS = [(i, j) for i in range(3) for j in range(3)]


def _bordered(x: Float64Array) -> Float64Array:
    return np.pad(x, [(0, 0)] * (x.ndim - 3) + [(1, 1), (1, 1), (0, 0)])


def _shifted(x: Float64Array, i: int, j: int) -> Float64Array:
    """x[h + i - 1, w + j - 1], zero beyond the image."""
    return _bordered(x)[..., i : i + x.shape[-3], j : j + x.shape[-2], :]


def _depthwise(x: Float64Array, weight: Float64Array) -> Float64Array:
    with quiet():
        y = np.zeros_like(x)
        for i, j in _TAPS:
            y += weight[:, i, j] * _shifted(x, i, j)
        return y


def _depthwise_vjp(
    x: Float64Array, weight: Float64Array, cotangent: Float64Array
) -> tuple[Float64Array, Float64Array]:
    with quiet():
        dx, dweight = np.zeros_like(x), np.zeros_like(weight)
        over = tuple(range(x.ndim - 1))
        for i, j in _TAPS:
            dx += weight[:, i, j] * _shifted(cotangent, 2 - i, 2 - j)
            dweight[:, i, j] = np.sum(cotangent * _shifted(x, i, j), axis=over)
        return dx, dweight


def _depthwise_samples(rng: Callable[[str], SampleRng]) -> Iterator[SampleInput]:
    def sample(name: str, shape: tuple[int, ...]) -> SampleInput:
        numbers = rng(name)
        return SampleInput(name, (numbers.normal(shape), numbers.normal((shape[-1], 3, 3), scale=0.5)))

    yield sample("small", (2, 4, 5, 6))
    yield sample("single", (1, 1, 1))
    yield sample("odd", (2, 2, 7, 10, 5))
    yield sample("one_row", (1, 9, 4))
    yield sample("one_column", (11, 1, 4))
    yield sample("many_channels", (2, 2, 130))
    yield sample("tall", (35, 4, 2))
    special = sample("special", (5, 6, 4))
    special.args[0][2, 3, :3] = np.nan, np.inf, -0.0
    yield special
    yield sample("no_images", (0, 4, 5, 6))
    yield sample("no_channels", (4, 5, 0))


def _places(inputs: int, outputs: int, align_corners: bool) -> Float64Array:
    """Where outputs lie among inputs."""
    o = np.arange(outputs, dtype=np.float64)
    if align_corners:
        return o * (inputs - 1) / (outputs - 1) if outputs > 1 else o
    return np.maximum((o + 0.5) * inputs / outputs - 0.5, 0.0)


def _interpolation(inputs: int, outputs: int, align_corners: bool) -> Float64Array:
    """The share of each input (columns) in each output (rows)."""
    places = _places(inputs, outputs, align_corners)
    before = np.minimum(np.floor(places).astype(int), inputs - 1)
    share, o = places - before, np.arange(outputs)
    matrix = np.zeros((outputs, inputs))
    np.add.at(matrix, (o, before), 1 - share)
    np.add.at(matrix, (o, np.minimum(before + 1, inputs - 1)), share)
    return matrix


def _axes(x: Float64Array, size: tuple[int, int], align: bool) -> tuple[Float64Array, Float64Array]:
    return _interpolation(x.shape[-3], size[0], align), _interpolation(x.shape[-2], size[1], align)


def _resize(x: Float64Array, size: tuple[int, int], align_corners: bool = False) -> Float64Array:
    down, across = _axes(x, size, align_corners)
    return np.asarray(np.einsum("rh,cw,...hwk->...rck", down, across, x))


def _resize_vjp(
    x: Float64Array, size: tuple[int, int], cotangent: Float64Array, align_corners: bool = False
) -> tuple[Float64Array]:
    down, across = _axes(x, size, align_corners)
    return (np.einsum("rh,cw,...rck->...hwk", down, across, cotangent),)


_ALIGNED = {"align_corners": True}


def _resize_samples(rng: Callable[[str], SampleRng]) -> Iterator[SampleInput]:
    for name, shape, size, kwargs in (
        ("small", (2, 4, 5, 3), (6, 7), {}),
        ("small_aligned", (2, 4, 5, 3), (6, 7), _ALIGNED),
        ("single", (1, 1, 1), (1, 1), {}),
        ("from_one_pixel", (1, 1, 4), (3, 5), _ALIGNED),
        ("to_one_pixel", (5, 6, 4), (1, 1), _ALIGNED),
        ("to_one_pixel_between", (5, 6, 4), (1, 1), {}),
        ("odd", (3, 2, 7, 5, 9), (4, 11), {}),
        ("shrunk", (23, 31, 2), (5, 4), {}),
        ("shrunk_aligned", (23, 31, 2), (5, 4), _ALIGNED),
        ("enlarged", (3, 4, 2), (25, 19), {}),
        ("many_channels", (2, 3, 130), (3, 2), {}),
        ("no_images", (0, 4, 5, 3), (6, 7), {}),
        ("no_channels", (4, 5, 0), (6, 7), {}),
    ):
        yield SampleInput(name, (rng(name).normal(shape), size), dict(kwargs))


def _pixels(sample: SampleInput) -> int:
    """How many values a resized image has."""
    x, size = sample.args
    return int(np.prod((*x.shape[:-3], *size, x.shape[-1])))


def _call(*arguments: Any) -> Callable[[], tuple[Any, ...]]:
    """Arguments, shapes among them (lists) made into arrays of ones."""
    return lambda: tuple(ones(*a) if isinstance(a, list) else a for a in arguments)


def _rejected(function: str, *others: Any) -> tuple[ErrorInput, ...]:
    return (
        ErrorInput(
            "integer",
            lambda: (ones(4, 5, 8, dtype="int32"), *_call(*others)()),
            TypeError,
            f"[{function}] Expected `x` to be float32, float16 or bfloat16, got int32. "
            "Convert it first: x.astype(mx.float32).",
        ),
        ErrorInput(
            "no_channels_axis",
            _call([5, 8], *others),
            ValueError,
            f"[{function}] Expected `x` to have at least 3 dimensions, height, width and channels at the end, got "
            "shape (5, 8).",
        ),
    )


def _depthwise_formula(mx: Any, x: Any, weight: Any) -> Any:
    _, height, width, _ = x.shape
    padded = mx.pad(x, ((0, 0), (1, 1), (1, 1), (0, 0)))
    return sum(weight[:, i, j] * padded[:, i : i + height, j : j + width] for i in range(3) for j in range(3))


OPS = (
    OpInfo(
        name="vision.depthwise_conv_3x3",
        op=kernel("vision", "depthwise_conv_3x3"),
        kernels=("zmlx_depthwise_conv_3x3",),
        grad_kernels=("zmlx_depthwise_conv_3x3", "zmlx_depthwise_conv_3x3_vjp", "zmlx_column_sum"),
        gpu_shape=as_on_a_gpu,
        oracle=_depthwise,
        oracle_vjp=_depthwise_vjp,
        differentiable=(0, 1),
        samples=_depthwise_samples,
        extents=(1, 300),
        axis_extents={(1, -1): (3, 3), (1, -2): (3, 3)},
        source="Chollet 2017, Xception: Deep Learning with Depthwise Separable Convolutions (arXiv:1610.02357); "
        "torch.nn.functional.conv2d with padding=1 and groups=C",
        tolerances=CANCELLING,
        grad_tolerances=CANCELLING,
        golden_samples=("small", "single", "special"),
        error_inputs=(
            *_rejected("depthwise_conv_3x3", [8, 3, 3]),
            ErrorInput(
                "five_taps",
                _call([4, 5, 8], [8, 5, 5]),
                ValueError,
                "[depthwise_conv_3x3] Expected `weight` to have shape (8, 3, 3), nine taps for each channel of `x`, "
                "got (8, 5, 5).",
            ),
        ),
        bytes_moved=lambda sample, dtype: (values(sample) + int(sample.args[0].size)) * ITEMSIZE[dtype],
        flops=lambda sample, dtype: 18 * int(sample.args[0].size),
        rivals=Rivals(
            # An image of eight columns, so that rows of it are those of the benchmark.
            shapes=lambda rows, columns: ((1, rows, 8, columns // 8), (columns // 8, 3, 3)),
            formula=_depthwise_formula,
            own_name="mx.conv2d",
            own=lambda mx, x, weight: mx.conv2d(x, weight[..., None], padding=1, groups=x.shape[-1]),
            by_rows=False,
        ),
    ),
    OpInfo(
        name="vision.resize_bilinear",
        op=kernel("vision", "resize_bilinear"),
        kernels=("zmlx_resize_bilinear",),
        grad_kernels=("zmlx_resize_bilinear_vjp",),
        gpu_shape=as_on_a_gpu,
        oracle=_resize,
        oracle_vjp=_resize_vjp,
        differentiable=(0,),
        samples=_resize_samples,
        extents=(1, 100),
        source="torch.nn.functional.interpolate with mode='bilinear', channels last",
        tolerances=CANCELLING,
        grad_tolerances=CANCELLING,
        golden_samples=("small", "small_aligned", "single"),
        error_inputs=(
            *_rejected("resize_bilinear", (4, 4)),
            ErrorInput(
                "one_number",
                _call([4, 5, 8], 7),
                ValueError,
                "[resize_bilinear] Expected `size` to be (height, width), got 7.",
            ),
            ErrorInput(
                "no_height",
                _call([4, 5, 8], (0, 7)),
                ValueError,
                "[resize_bilinear] Expected `size` to be from 1 to 32768, got 0.",
            ),
            ErrorInput(
                "fraction",
                _call([4, 5, 8], (2.5, 7)),
                TypeError,
                "[resize_bilinear] Expected `size` to be an integer, got float. Pass an int.",
            ),
            ErrorInput(
                "no_pixels",
                _call([0, 5, 8], (4, 4)),
                ValueError,
                "[resize_bilinear] Expected `x` to have pixels, got shape (0, 5, 8).",
            ),
        ),
        bytes_moved=lambda sample, dtype: (values(sample) + _pixels(sample)) * ITEMSIZE[dtype],
        flops=lambda sample, dtype: 9 * _pixels(sample),
    ),
    GRID_SAMPLE,
)
