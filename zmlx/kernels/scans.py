"""Scans of the last axis: every element becomes what the row is joined to, up to it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import mlx.core as mx

from zmlx.kernels import _check, _rows
from zmlx.kernels._autodiff import Reference, differentiable
from zmlx.kernels._msl import CHUNKS, ROWS
from zmlx.kernels._product_gradient import product_gradient, product_reference
from zmlx.kernels._row_loops import each_row
from zmlx.kernels._scan import PRODUCT, SCAN, SUM, TURN, scan_of_rows
from zmlx.launch import MetalKernel, metal_kernel

__all__ = ["cumprod_lastdim", "cumsum_lastdim"]

# EXCLUSIVE: up to the element before.
_SCAN = each_row(
    "    using results = zmlx_chunk<O, N, PACKED>;\n"
    + scan_of_rows(
        "M_BEFORE carry = M_BEFORE::none();",
        """
      zmlx_raw<T, N, PACKED> held[HELD];
      zmlx_hold<T, N, HELD, W, PACKED>(held, in, begin, reach, sure, M::none().value);
      M v[HELD * N], before[HELD];
      ZMLX_UNROLL for (int k = 0; k < HELD; ++k) {
        for (int j = 0; j < N; ++j) v[k * N + j] = M{held[k].at(j)};
        zmlx_scan_chunk<M, N, REVERSE>(v + k * N);
        before[ZMLX_TURN(k)] = v[k * N + (REVERSE ? 0 : N - 1)];
      }
      const M tile = zmlx_scan_tile<M, HELD, W>(before, team);
      ZMLX_UNROLL for (int k = 0; k < HELD; ++k) {
        const uint i = begin + k * (W * N);
        const M first = before[ZMLX_TURN(k)];
        float out[N];
        for (int j = 0; j < N; ++j) {
          const int last = EXCLUSIVE ? (REVERSE ? j + 1 : j - 1) : j;
          M upto = first;
          if (last >= 0 && last < N) upto = M::join(first, v[k * N + last]);
          out[j] = carry.with(upto);
        }
        if (inside && i < length) results::store(y + size_t(row) * length + i, out, length - i, sure);
      }
      carry.add(tile);
""",
    ),
    aligned="chunk::aligned(x) && zmlx_chunk<O, N, PACKED>::aligned(y)",
)


def cumsum_lastdim(x: mx.array) -> mx.array:
    """``y[i] = x[0] + ... + x[i]`` over the last axis.

    Parameters
    ----------
    x
        Shape (..., D), float32, float16 or bfloat16, in any memory layout.

    Returns
    -------
    mx.array
        Of ``x``'s shape and dtype; added up in float32. The gradient is the sum of the cotangent from the other end.

    Raises
    ------
    TypeError
        ``x`` is not an MLX array of one of these dtypes.
    ValueError
        ``x`` is 0-d.

    Notes
    -----
    The definition of the prefix sum; Blelloch, Prefix Sums and Their Applications (1990), section 1. The order of the
    additions depends on the row's length and the back end alone, so runs repeat bit for bit.
    """
    return _scanned("cumsum_lastdim", x, _cumsum)


def cumprod_lastdim(x: mx.array) -> mx.array:
    """``y[i] = x[0] * ... * x[i]`` over the last axis.

    Parameters
    ----------
    x
        Shape (..., D), float32, float16 or bfloat16, in any memory layout.

    Returns
    -------
    mx.array
        Of ``x``'s shape and dtype; multiplied in float32. The gradient divides by nothing, so that zeros do no harm.

    Raises
    ------
    TypeError
        ``x`` is not an MLX array of one of these dtypes.
    ValueError
        ``x`` is 0-d.

    Notes
    -----
    The definition of the prefix product; Blelloch, Prefix Sums and Their Applications (1990), sections 1 and 4 (the
    gradient is a linear recurrence). A row with an infinity before its end has gradients that are infinite or NaN:
    which, the order of the operations decides.
    """
    return _scanned("cumprod_lastdim", x, _cumprod)


def _scanned(function: str, x: mx.array, scan: Any) -> mx.array:
    _check.check_rows(function, x)
    if x.size == 0:
        return mx.zeros(x.shape, x.dtype)
    result: mx.array = scan(x)
    return result


def _sum_reference(x: mx.array) -> mx.array:
    return mx.cumsum(x.astype(mx.float32), axis=-1).astype(x.dtype)


def _scan_reference(scan: Callable[..., mx.array]) -> Reference:
    def reference(inputs: list[mx.array], template: Mapping[str, Any]) -> Sequence[mx.array]:
        reverse, inclusive = bool(template["REVERSE"]), not template["EXCLUSIVE"]
        y = scan(inputs[0].astype(mx.float32), axis=-1, reverse=reverse, inclusive=inclusive)
        return [y.astype(template["O"])]

    return reference


def _scan_kernel(name: str, header: str, joined: str, scan: Callable[..., mx.array]) -> MetalKernel:
    """A scan of structs ``joined``, and of ``joined`` + ``_before`` from tile to tile."""
    source = _SCAN.replace("M_BEFORE", f"{joined}_before")
    return metal_kernel(
        name,
        ["x"],
        ["y"],
        f"  using M = {joined};\n{source}",
        CHUNKS + ROWS + SCAN + TURN + header,
        reference=_scan_reference(scan),
    )


_SUM_KERNEL = _scan_kernel("zmlx_cumsum", SUM, "zmlx_added", mx.cumsum)
_PRODUCT_KERNEL = _scan_kernel("zmlx_cumprod", PRODUCT, "zmlx_multiplied", mx.cumprod)


def _scan(
    kernel: MetalKernel, x: mx.array, dtype: mx.Dtype, *, reverse: bool = False, exclusive: bool = False
) -> mx.array:
    rows = _rows.as_rows(x)
    count, length = rows.shape
    launch = _rows.row_launch(count, length, x.dtype.size)
    template: dict[str, mx.Dtype | int] = {
        "T": x.dtype,
        "O": dtype,
        "REVERSE": reverse,
        "EXCLUSIVE": exclusive,
    }
    return launch.run(kernel, [rows], [(rows.shape, dtype)], **template)[0].reshape(x.shape)


def _cumsum_forward(x: mx.array) -> mx.array:
    return _scan(_SUM_KERNEL, x, x.dtype)


def _cumsum_backward(cotangent: mx.array, x: mx.array) -> tuple[mx.array]:
    return (_scan(_SUM_KERNEL, cotangent, x.dtype, reverse=True),)


def _cumprod_forward(x: mx.array) -> mx.array:
    return _scan(_PRODUCT_KERNEL, x, x.dtype)


def _cumprod_backward(cotangent: mx.array, x: mx.array) -> tuple[mx.array]:
    def products_before() -> mx.array:
        return _scan(_PRODUCT_KERNEL, x, mx.float32, exclusive=True)

    return (product_gradient(x, cotangent, products_before),)


_cumsum = differentiable(_cumsum_forward, _cumsum_backward, _sum_reference)
_cumprod = differentiable(_cumprod_forward, _cumprod_backward, product_reference)
