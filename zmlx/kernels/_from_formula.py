"""Kernels of the catalogue that are a formula and a docstring: `from_formula` makes functions of them."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from functools import wraps
from typing import Any, ParamSpec

import mlx.core as mx

from zmlx.kernels import _check
from zmlx.kernels._elementwise import elementwise

P = ParamSpec("P")

_ARRAY = "Shape {0}, float32, float16 or bfloat16, in any memory layout."
_NAMES = "Of any shapes that broadcast, all float32, all float16 or all bfloat16, in any memory layout."
_BIAS = "Shape (D,), of the arrays' dtype, with D the last axis of `{0}`."
_AFTER = """
Returns
-------
mx.array
    Of {shape} shape and dtype; computed in float32, gradients included.

Raises
------
TypeError
    An argument is not an MLX array of one of these dtypes{several}.
"""
_SHAPES = """ValueError
    {what}
"""


def from_formula(
    formula: str, *, grad: Mapping[str, str] | None = None
) -> Callable[[Callable[P, mx.array]], Callable[P, mx.array]]:
    """Make a function whose body is a docstring compute ``formula``, as `zmlx.elementwise` has it.

    Parameters of it that have no default are the formula's inputs, the others are its scalars. One whose name ends in
    "bias" must be a vector as long as the first one's last axis. The docstring gets the sections that all have.
    """

    def decorate(function: Callable[P, mx.array]) -> Callable[P, mx.array]:
        signature = inspect.signature(function)
        parameters = signature.parameters.values()
        inputs = [p.name for p in parameters if p.default is p.empty]
        scalars = {p.name: float(p.default) for p in parameters if p.default is not p.empty}
        kernel = elementwise(
            formula, name=function.__name__, inputs=inputs, scalars=scalars, grad=dict(grad or {})
        )
        biases = [name for name in inputs if name.endswith("bias")]

        @wraps(function)
        def call(*args: P.args, **kwargs: P.kwargs) -> mx.array:
            # As most calls are; binding takes longer than all the checks.
            if not kwargs and len(args) == len(inputs):
                given: Mapping[str, Any] = dict(zip(inputs, args, strict=True))
            else:
                given = signature.bind(*args, **kwargs).arguments
            if biases:
                x = given[inputs[0]]
                _check.check_rows(kernel.__name__, x, inputs[0])
                for name in biases:
                    _check.check_weight(kernel.__name__, given[name], x, name, inputs[0])
            numbers = {name: given[name] for name in scalars if name in given}
            result: mx.array = kernel(*(given[name] for name in inputs), **numbers)
            return result

        call.__doc__ = f"{inspect.cleandoc(function.__doc__ or '')}\n\n{_sections(inputs, biases, scalars)}"
        return call

    return decorate


def _sections(inputs: list[str], biases: list[str], scalars: Mapping[str, float]) -> str:
    arrays = [name for name in inputs if name not in biases]
    lines = ["Parameters", "----------"]
    if len(arrays) == 1:
        lines += [arrays[0], f"    {_ARRAY.format('(..., D)' if biases else '(...)')}"]
    else:
        lines += [", ".join(arrays), f"    {_NAMES}"]
    if biases:
        lines += [", ".join(biases), f"    {_BIAS.format(inputs[0])}"]
    if scalars:
        lines += [", ".join(scalars), "    Numbers."]
    text = (
        "\n".join(lines)
        + "\n"
        + _AFTER.format(
            shape="the arrays' common" if len(arrays) > 1 else f"`{arrays[0]}`'s",
            several=", or they are of several" if len(inputs) > 1 else "",
        )
    )
    faults = ["The shapes do not broadcast."] * (len(arrays) > 1)
    faults += [f"`{inputs[0]}` is 0-d, or a bias has another length."] * bool(biases)
    return text + _SHAPES.format(what=" ".join(faults)) if faults else text
