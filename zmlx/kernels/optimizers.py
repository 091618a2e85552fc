"""Steps of optimizers: parameters and moments are read once and written once."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import mlx.core as mx

from zmlx.kernels import _check, _check_numbers, _rows
from zmlx.kernels._autodiff import Reference, by_reference
from zmlx.kernels._msl import CHUNKS
from zmlx.kernels._spans import flat_shape, numbers
from zmlx.launch import MetalKernel, metal_kernel

__all__ = ["adamw_step", "lion_step"]

_SPAN = """
  using parameters = zmlx_chunk<T, N, PACKED>;
  using gradients = zmlx_chunk<G, N, PACKED>;
  using moments = zmlx_chunk<U, N, PACKED>;
  const uint rows = p_shape[0], length = p_shape[1];
  const uint begin = thread_position_in_grid.x * (N * S);
  const uint end = min(begin + N * S, length);
  const bool whole = PACKED && length % N == 0 && parameters::aligned(p) && gradients::aligned(g) &&
                     moments::aligned(m) && ALIGNED;
  for (uint row = thread_position_in_grid.y; row < rows; row += threads_per_grid.y) {
    const size_t at = size_t(row) * length;
    float a[N], b[N], c[N], d[N];
    ZMLX_SPAN(begin, end, whole, {
      parameters::load(a, p + at + i, count, 0.0f, sure);
      gradients::load(b, g + at + i, count, 0.0f, sure);
      moments::load(c, m + at + i, count, 0.0f, sure);
      STEP
      parameters::store(p_out + at + i, a, count, sure);
      moments::store(m_out + at + i, c, count, sure);
    })
  }
"""


def _source(numbers: str, step: str, aligned: str) -> str:
    return numbers + _SPAN.replace("STEP", step).replace("ALIGNED", aligned)


# Sums of products are written as fma: left to the compiler, the loops over whole and over ragged chunks, which are two
# copies of one text, need not come to the same bits.
_ADAMW = _source(
    """
  const float keep = rates[0], rate = rates[1], first = rates[2], fresh = rates[3];
  const float second = rates[4], fresh_square = rates[5], root = rates[6], eps = rates[7];
""",
    """moments::load(d, v + at + i, count, 0.0f, sure);
      for (int j = 0; j < N; ++j) {
        c[j] = fma(first, c[j], fresh * b[j]);
        d[j] = fma(second, d[j], fresh_square * b[j] * b[j]);
        a[j] = fma(keep, a[j], -(rate * c[j] / fma(sqrt(d[j]), root, eps)));
      }
      moments::store(v_out + at + i, d, count, sure);""",
    "moments::aligned(v)",
)

# c < 0 and c > 0 are both false of NaN, which stays what it is; sign() would make zero of it.
_LION = _source(
    """
  const float keep = rates[0], rate = rates[1], first = rates[2], fresh = rates[3];
  const float second = rates[4], fresh_moment = rates[5];
""",
    """for (int j = 0; j < N; ++j) {
        const float update = fma(first, c[j], fresh * b[j]);
        const float direction = update > 0.0f ? 1.0f : update < 0.0f ? -1.0f : update;
        c[j] = fma(second, c[j], fresh_moment * b[j]);
        a[j] = fma(keep, a[j], -(rate * direction));
      }""",
    "moments::aligned(m_out)",
)


def adamw_step(
    p: mx.array,
    g: mx.array,
    m: mx.array,
    v: mx.array,
    step: int | mx.array,
    lr: float | mx.array,
    betas: tuple[float, float] = (0.9, 0.999),
    eps: float = 1e-8,
    weight_decay: float = 0.01,
) -> tuple[mx.array, mx.array, mx.array]:
    """One step of AdamW: new parameters and new moments.

    ``m' = b1 m + (1 - b1) g``, ``v' = b2 v + (1 - b2) g**2`` and
    ``p' = (1 - lr * weight_decay) p - lr * (m' / (1 - b1**step)) / (sqrt(v' / (1 - b2**step)) + eps)``.

    Parameters
    ----------
    p
        Parameters, of any shape, float32, float16 or bfloat16, in any memory layout.
    g
        Their gradient, of ``p``'s shape and of any of these dtypes.
    m, v
        The moments, of ``p``'s shape and of one of these dtypes; zeros before the first step.
    step
        The number of this step, from 1 on; or an array of no dimension, with which `mx.compile` compiles once.
    lr
        The learning rate, a number or an array of no dimension.
    betas
        ``b1`` and ``b2``, from 0 to less than 1.
    eps
        Added to the root; zero or more.
    weight_decay
        Zero or more; decoupled from the gradient.

    Returns
    -------
    tuple of mx.array
        ``p'``, ``m'`` and ``v'``, of the dtypes of ``p``, ``m`` and ``v``; computed in float32, ``p'`` from the
        moments before they are rounded.

    Raises
    ------
    TypeError
        An array is not an MLX array of one of these dtypes, ``v`` has not that of ``m``, or a number is none.
    ValueError
        An array does not have ``p``'s shape, or a number is beyond its bounds.

    Notes
    -----
    Loshchilov and Hutter, Decoupled Weight Decay Regularization (arXiv:1711.05101), algorithm 2, the decay times the
    learning rate as in PyTorch and MLX. Squares of gradients overflow beyond 1.8e19.
    """
    function = "adamw_step"
    _check_arrays(function, p, g=g, m=m, v=v)
    first, second = _check_betas(function, betas)
    eps = _check_numbers.check_number(function, eps, "eps", 0.0)
    rate, keep = _rates(function, lr, weight_decay)
    by_step = _corrections(function, step, first, second)
    if p.size == 0:
        return tuple(mx.zeros(x.shape, x.dtype) for x in (p, m, v))  # type: ignore[return-value]
    rates = numbers(keep, rate * by_step[0], first, 1 - first, second, 1 - second, by_step[1], eps)
    result: tuple[mx.array, mx.array, mx.array] = _adamw(p, g, m, v, rates)
    return result


def lion_step(
    p: mx.array,
    g: mx.array,
    m: mx.array,
    lr: float | mx.array,
    betas: tuple[float, float] = (0.9, 0.99),
    weight_decay: float = 0.0,
) -> tuple[mx.array, mx.array]:
    """One step of Lion: new parameters and a new moment.

    ``p' = (1 - lr * weight_decay) p - lr * sign(b1 m + (1 - b1) g)`` and ``m' = b2 m + (1 - b2) g``.

    Parameters
    ----------
    p
        Parameters, of any shape, float32, float16 or bfloat16, in any memory layout.
    g
        Their gradient, of ``p``'s shape and of any of these dtypes.
    m
        The moment, of ``p``'s shape and of any of these dtypes; zeros before the first step.
    lr
        The learning rate, a number or an array of no dimension.
    betas
        ``b1`` and ``b2``, from 0 to less than 1.
    weight_decay
        Zero or more; decoupled from the gradient.

    Returns
    -------
    tuple of mx.array
        ``p'`` and ``m'``, of the dtypes of ``p`` and ``m``; computed in float32.

    Raises
    ------
    TypeError
        An array is not an MLX array of one of these dtypes, or a number is none.
    ValueError
        An array does not have ``p``'s shape, or a number is beyond its bounds.

    Notes
    -----
    Chen et al., Symbolic Discovery of Optimization Algorithms (arXiv:2302.06675), algorithm 2. The sign of zero is
    zero, that of NaN is NaN.
    """
    function = "lion_step"
    _check_arrays(function, p, g=g, m=m)
    first, second = _check_betas(function, betas)
    rate, keep = _rates(function, lr, weight_decay)
    if p.size == 0:
        return mx.zeros(p.shape, p.dtype), mx.zeros(m.shape, m.dtype)
    result: tuple[mx.array, mx.array]
    result = _lion(p, g, m, numbers(keep, rate, first, 1 - first, second, 1 - second))
    return result


def _check_arrays(function: str, p: mx.array, **others: mx.array) -> None:
    _check.check_dimensions(function, p, "p", 0, "any")
    for name, array in others.items():
        _check.check_shape(function, array, name, tuple(p.shape), "that of `p`")
    if "v" in others and others["v"].dtype != others["m"].dtype:
        raise TypeError(
            f"[{function}] Expected `m` and `v` to have one dtype, got {others['m'].dtype} and {others['v'].dtype}. "
            "Convert one of them: v.astype(m.dtype)."
        )


def _check_betas(function: str, betas: object) -> tuple[float, float]:
    if not isinstance(betas, (tuple, list)) or len(betas) != 2:
        raise ValueError(f"[{function}] Expected `betas` to be two numbers, got {betas!r}.")
    first, second = (_check_numbers.check_number(function, beta, "betas", 0.0, 1.0) for beta in betas)
    return first, second


def _check_0d(function: str, value: mx.array, name: str) -> mx.array:
    if value.ndim:
        raise ValueError(
            f"[{function}] Expected `{name}` to be a number or an array of no dimension, got shape "
            f"{tuple(value.shape)}."
        )
    return value.astype(mx.float32)


def _rates(function: str, lr: float | mx.array, weight_decay: float) -> tuple[Any, Any]:
    """The learning rate, and what decay leaves of a parameter."""
    decay = _check_numbers.check_number(function, weight_decay, "weight_decay", 0.0)
    rate = (
        _check_0d(function, lr, "lr")
        if isinstance(lr, mx.array)
        else _check_numbers.check_number(function, lr, "lr", 0.0)
    )
    return rate, 1 - rate * decay


def _corrections(function: str, step: int | mx.array, first: float, second: float) -> tuple[Any, Any]:
    """What the first moment, and the root of the second one, are multiplied by against their bias to zero."""
    if isinstance(step, mx.array):
        count = _check_0d(function, step, "step")
        # As 1 - b**step these would cancel in float32.
        logs = [mx.log(mx.array(beta, mx.float32)) if beta else None for beta in (first, second)]
        left = [mx.array(1.0) if log is None else -mx.expm1(count * log) for log in logs]
        return 1 / left[0], mx.rsqrt(left[1])
    count_ = _check_numbers.check_integer(function, step, "step", 1, 2**63)
    return 1 / (1 - first**count_), (1 - second**count_) ** -0.5


def _reference_adamw(
    p: mx.array, g: mx.array, m: mx.array, v: mx.array, rates: mx.array
) -> tuple[mx.array, ...]:
    keep, rate, first, fresh, second, fresh_square, root, eps = (rates[i] for i in range(8))
    p32, g32, m32, v32 = (x.astype(mx.float32) for x in (p, g, m, v))
    m32 = first * m32 + fresh * g32
    v32 = second * v32 + fresh_square * mx.square(g32)
    p32 = keep * p32 - rate * m32 / (mx.sqrt(v32) * root + eps)
    return p32.astype(p.dtype), m32.astype(m.dtype), v32.astype(v.dtype)


def _reference_lion(p: mx.array, g: mx.array, m: mx.array, rates: mx.array) -> tuple[mx.array, ...]:
    keep, rate, first, fresh, second, fresh_moment = (rates[i] for i in range(6))
    p32, g32, m32 = (x.astype(mx.float32) for x in (p, g, m))
    update = first * m32 + fresh * g32
    direction = mx.where(mx.isnan(update), update, mx.sign(update))
    m32 = second * m32 + fresh_moment * g32
    return (keep * p32 - rate * direction).astype(p.dtype), m32.astype(m.dtype)


def _reference_of(function: Callable[..., tuple[mx.array, ...]]) -> Reference:
    def reference(inputs: list[mx.array], template: Mapping[str, Any]) -> Sequence[mx.array]:
        return function(*inputs)

    return reference


def _step(
    kernel: MetalKernel, p: mx.array, g: mx.array, *moments_and_rates: mx.array
) -> tuple[mx.array, ...]:
    *moments, rates = moments_and_rates
    shape = flat_shape(p)
    launch = _rows.span_launch(*shape, p.dtype.size)
    outputs = launch.run(
        kernel,
        [*(x.reshape(shape) for x in (p, g, *moments)), rates],
        [(shape, x.dtype) for x in (p, *moments)],
        T=p.dtype,
        G=g.dtype,
        U=moments[0].dtype,
    )
    return tuple(x.reshape(p.shape) for x in outputs)


_ADAMW_KERNEL = metal_kernel(
    "zmlx_adamw",
    ["p", "g", "m", "v", "rates"],
    ["p_out", "m_out", "v_out"],
    _ADAMW,
    CHUNKS,
    reference=_reference_of(_reference_adamw),
)
_LION_KERNEL = metal_kernel(
    "zmlx_lion",
    ["p", "g", "m", "rates"],
    ["p_out", "m_out"],
    _LION,
    CHUNKS,
    reference=_reference_of(_reference_lion),
)


def _forward_adamw(*arrays: mx.array) -> tuple[mx.array, ...]:
    return _step(_ADAMW_KERNEL, *arrays)


def _forward_lion(*arrays: mx.array) -> tuple[mx.array, ...]:
    return _step(_LION_KERNEL, *arrays)


_adamw = by_reference(_forward_adamw, _reference_adamw, row_arguments=4)
_lion = by_reference(_forward_lion, _reference_lion, row_arguments=3)
