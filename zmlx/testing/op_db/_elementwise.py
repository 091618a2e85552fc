"""What the entries of elementwise kernels have in common: oracles from a function and its slopes, samples, rivals."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np

from zmlx.testing.op_db._peers import torch_compiled
from zmlx.testing.op_db._shared import (
    ITEMSIZE,
    SPECIAL,
    Float64Array,
    as_on_a_gpu,
    kernel,
    ones,
    quiet,
    rejected_arrays,
)
from zmlx.testing.opinfo import ErrorInput, OpInfo, SampleInput, SampleRng
from zmlx.testing.rivals import Argument, Call, Rivals

#: (the value, its derivative by each argument) at float64 arguments.
Slopes = Callable[..., tuple[Float64Array, ...]]
Shapes = tuple[tuple[int, ...], ...]

_erfc = np.vectorize(math.erfc, otypes=[np.float64])
ROOT = math.sqrt(2 / math.pi)


# The activations, each with its derivative ------------------------------------------------------------------------


def sigmoid(a: Float64Array) -> tuple[Float64Array, Float64Array]:
    """1 / (1 + exp(-a)); the derivative in a form that does not cancel."""
    e = np.exp(-np.abs(a))
    return 1 / (1 + np.exp(-a)), e / (1 + e) ** 2


def silu(a: Float64Array) -> tuple[Float64Array, Float64Array]:
    s = 1 / (1 + np.exp(-a))
    return a * s, s + a * (s * (1 - s))


def gelu_erf(a: Float64Array) -> tuple[Float64Array, Float64Array]:
    """a * Phi(a), Phi(a) = erfc(-a / sqrt(2)) / 2."""
    integral = 0.5 * _erfc(-a / math.sqrt(2)).reshape(np.shape(a))
    return a * integral, integral + a * (np.exp(-0.5 * a * a) / math.sqrt(2 * math.pi))


def gelu_tanh(a: Float64Array) -> tuple[Float64Array, Float64Array]:
    """0.5 a (1 + tanh(z)), z = sqrt(2 / pi) (a + 0.044715 a**3); the derivative's limits far from zero."""
    t = np.tanh(ROOT * (a + 0.044715 * a**3))
    slope = 0.5 * (1 + t) + 0.5 * a * (1 - t * t) * ROOT * (1 + 3 * 0.044715 * a * a)
    return 0.5 * a * (1 + t), np.where(np.abs(a) > 30, a > 0, slope)


def relu2(a: Float64Array) -> tuple[Float64Array, Float64Array]:
    return np.maximum(a, 0) ** 2, np.where(a > 0, 2 * a, 0)


# Entries ----------------------------------------------------------------------------------------------------------


def _summed(gradient: Float64Array, like: Float64Array) -> Float64Array:
    """The sum over the axes along which ``like`` was broadcast."""
    while gradient.ndim > like.ndim:
        gradient = gradient.sum(axis=0)
    axes = tuple(axis for axis, n in enumerate(like.shape) if n == 1 != gradient.shape[axis])
    return gradient.sum(axis=axes, keepdims=True) if axes else gradient


def _oracles(slopes: Slopes) -> tuple[Callable[..., Float64Array], Callable[..., tuple[Float64Array, ...]]]:
    def oracle(*args: Float64Array, **kwargs: float) -> Float64Array:
        with quiet():
            return np.asarray(slopes(*args, **kwargs)[0])

    def oracle_vjp(*args: Any, **kwargs: float) -> tuple[Float64Array, ...]:
        *arrays, cotangent = args
        with quiet():
            return tuple(
                _summed(cotangent * slope, array)
                for slope, array in zip(slopes(*arrays, **kwargs)[1:], arrays, strict=True)
            )

    return oracle, oracle_vjp


def _special(count: int, shapes: Callable[[int, int], Shapes]) -> tuple[Float64Array, ...]:
    """Each argument is special where the others are ordinary."""
    ordinary = np.linspace(0.5, 2.0, SPECIAL.size)
    columns = [
        np.concatenate([SPECIAL if turn == place else ordinary * (-1) ** turn for turn in range(count)])
        for place in range(count)
    ]
    return tuple(
        column[None] if len(shape) > 1 else column
        for column, shape in zip(columns, shapes(1, columns[0].size), strict=True)
    )


def samples_of(
    shapes: Callable[[int, int], Shapes],
    to_domain: Callable[[Float64Array], Float64Array],
    others: Sequence[SampleInput],
) -> Callable[[Callable[[str], SampleRng]], Iterator[SampleInput]]:
    """Samples for arguments whose shapes, for results of so many rows and columns, are ``shapes(rows, columns)``."""

    def samples(rng: Callable[[str], SampleRng]) -> Iterator[SampleInput]:
        def drawn(name: str, sizes: Shapes, scale: float = 1.0) -> SampleInput:
            random = rng(name)
            return SampleInput(
                name, tuple(to_domain(np.asarray(random.normal(size, scale=scale))) for size in sizes)
            )

        yield drawn("small", shapes(4, 32))
        yield drawn("single", shapes(1, 1))
        yield drawn(
            "odd",
            tuple((3, 5, *size[1:]) if len(size) > 1 else size for size in shapes(5, 7)),
            3.0,
        )
        yield drawn("long_rows", shapes(2, 4099), 2.0)
        yield drawn("many_rows", shapes(301, 5))
        tails = to_domain(np.linspace(-30.0, 30.0, 241))
        first, *rest = shapes(1, tails.size)
        yield SampleInput("tails", (tails.reshape(first), *(np.full(size, 0.75) for size in rest)))
        yield SampleInput("special", _special(len(shapes(1, 1)), shapes))
        yield drawn("no_rows", shapes(0, 8))
        yield drawn("no_columns", shapes(3, 0))
        yield from others

    return samples


def with_biases(count: int, biases: int) -> Callable[[int, int], Shapes]:
    """Arguments of the result's shape, then vectors."""
    return lambda rows, columns: (*((rows, columns),) * count, *((columns,),) * biases)


def _same(values: Float64Array) -> Float64Array:
    return values


def _bytes_moved(sample: SampleInput, dtype: str) -> int:
    """Each argument is read, the result written."""
    shapes = [a.shape for a in sample.args if isinstance(a, np.ndarray)]
    return sum(map(math.prod, (*shapes, np.broadcast_shapes(*shapes)))) * ITEMSIZE[dtype]


def _errors(name: str, arguments: Sequence[str], biases: Sequence[str]) -> tuple[ErrorInput, ...]:
    """Calls that fail, of a kernel with these arguments, of which ``biases`` are vectors and come last."""
    first, *others = arguments
    sizes = [(8,) if argument in biases else (2, 8) for argument in arguments]

    def call(position: int, wrong: Callable[[], Any]) -> Callable[[], tuple[Any, ...]]:
        return lambda: (
            *(ones(*size) for size in sizes[:position]),
            wrong(),
            *(ones(*size) for size in sizes[position + 1 :]),
        )

    def reject(
        case: str, position: int, wrong: Callable[[], Any], kind: type[Exception], text: str
    ) -> ErrorInput:
        return ErrorInput(case, call(position, wrong), kind, f"[{name}] Expected {text}")

    made = [
        # They speak of `x`, and have no others.
        ErrorInput(e.name, call(0, lambda e=e: e.make()[0]), e.exception, re.sub(r"\bx\b", first, e.match))  # type: ignore[misc]
        for e in rejected_arrays(name)
        if biases or e.name != "zero_d"
    ]
    for position, other in enumerate(others, 1):
        made.append(
            reject(
                f"{other}_of_another_dtype",
                position,
                lambda size=sizes[position]: ones(*size, dtype="float16"),  # type: ignore[misc]
                TypeError,
                f"`{other}` to be float32 as `{first}` is, got float16. Convert one of them first: "
                f"{other}.astype(mx.float32).",
            )
        )
        if other in biases:
            made.append(
                reject(
                    f"{other}_short",
                    position,
                    lambda: ones(7),
                    ValueError,
                    f"`{other}` to have shape (8,), one number for each element of a row of `{first}` "
                    "(shape (2, 8)), got (7,).",
                )
            )
        else:
            shapes = ", ".join(
                f"`{argument}` {(3, 8) if argument == other else size}"
                for argument, size in zip(arguments, sizes, strict=True)
            )
            made.append(
                reject(
                    f"{other}_of_another_shape",
                    position,
                    lambda: ones(3, 8),
                    ValueError,
                    f"shapes that broadcast, got {shapes}. Aligned at their last axes, extents must be equal or 1: "
                    "reshape the arrays.",
                )
            )
    return tuple(made)


def positive(shapes: Any) -> Any:
    """The same arrays of numbers above 0, where a formula has no value at others."""
    return lambda rows, columns: tuple(Argument(shape, within=(0.1, 8.0)) for shape in shapes(rows, columns))


def entry(
    family: str,
    name: str,
    arguments: str,
    slopes: Slopes,
    source: str,
    formula: Call,
    *,
    flops: int,
    own_name: str = "",
    own: Call | None = None,
    torch: Callable[..., Any] | None = None,
    to_domain: Callable[[Float64Array], Float64Array] = _same,
    others: Sequence[SampleInput] = (),
    errors: Sequence[ErrorInput] = (),
    golden: Sequence[str] = ("small", "single", "special"),
    grad_kernels: Sequence[str] | None = None,
    **fields: Any,
) -> OpInfo:
    """The entry of a kernel that is a formula.

    Parameters
    ----------
    arguments
        The names of its arrays, parted by spaces; those that end in "bias" are vectors.
    slopes
        The oracle: the value and its derivative by each argument.
    formula, own, torch
        What it is timed against.
    flops
        For each element.
    to_domain
        Applied to ordinary samples.
    others
        More samples.
    grad_kernels
        None: one for all gradients.
    """
    names = arguments.split()
    biases = [argument for argument in names if argument.endswith("bias")]
    shapes = with_biases(len(names) - len(biases), len(biases))
    oracle, oracle_vjp = _oracles(slopes)

    return OpInfo(
        name=f"{family}.{name}",
        op=kernel(family, name),
        oracle=oracle,
        oracle_vjp=oracle_vjp,
        differentiable=tuple(range(len(names))),
        samples=samples_of(shapes, to_domain, others),
        source=source,
        kernels=(f"zmlx_{name}",),
        grad_kernels=(f"zmlx_{name}_vjp",) if grad_kernels is None else tuple(grad_kernels),
        gpu_shape=as_on_a_gpu,
        golden_samples=tuple(golden),
        error_inputs=(*_errors(name, names, biases), *errors),
        bytes_moved=_bytes_moved,
        flops=lambda sample, dtype: (
            flops * math.prod(np.broadcast_shapes(*(np.shape(a) for a in sample.args)))
        ),
        rivals=Rivals(
            shapes=positive(shapes) if to_domain is np.exp else shapes,
            formula=formula,
            own_name=own_name,
            own=own,
            peers=(torch_compiled(torch),) if torch else (),
        ),
        **fields,
    )
