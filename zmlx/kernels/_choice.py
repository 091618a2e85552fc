"""The rules of functions that choose values of a row, or put rows in their places: integers come out, or go in."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import mlx.core as mx

from zmlx.kernels._autodiff import _forward_mode, _stopped, _tuple, _vmap, where_followed

Chosen = tuple[mx.array, mx.array]


def choosing(
    forward: Callable[..., Chosen],
    backward: Callable[[mx.array, mx.array, mx.array], mx.array],
    at: Callable[[mx.array, mx.array], mx.array],
) -> Callable[..., Chosen]:
    """A function of ``(x, *others)`` that MLX can transform as `zmlx.kernels._autodiff` says.

    Parameters
    ----------
    forward
        ``forward(x, *others)`` returns values and their places in the rows of ``x``. The others have no gradient.
    backward
        ``backward(cotangent, x, places)`` is the gradient of ``x``: the choice is taken as it was.
    at
        ``at(x, places)``: the values, in MLX operations.
    """
    function = mx.custom_function(_stopped(forward))
    gradient = mx.custom_function(_stopped(backward))

    def reference(cotangent: mx.array, x: mx.array, places: mx.array) -> mx.array:
        return mx.vjp(lambda x: at(x, places), [x], [cotangent])[1][0]

    @function.vjp
    def function_vjp(primals: Any, cotangents: Any, outputs: Any) -> Any:
        x, *others = _tuple(primals)
        values, places = outputs
        found = gradient(cotangents[0].astype(values.dtype), x, places)
        return (found, *map(mx.zeros_like, others)) if isinstance(primals, tuple) else found

    @gradient.vjp
    def gradient_vjp(primals: Any, cotangent: Any, output: Any) -> Any:
        again, x, places = primals
        found = mx.vjp(lambda c, x: reference(c, x, places), [again, x], [cotangent])[1]
        return (*found, mx.zeros_like(places))

    @function.jvp
    def function_jvp(primals: Any, tangents: Any) -> Any:
        x, *others = _tuple(primals)
        places = mx.stop_gradient(_tuple(function(x, *others))[1])
        direction = _tuple(tangents)[0]
        direction = mx.zeros_like(x) if direction is None else direction
        return (*mx.jvp(lambda x: at(x, places), [x], [direction])[1], mx.zeros_like(places))

    gradient.jvp(_forward_mode(reference))
    function.vmap(_vmap(function, row_arguments=1))
    gradient.vmap(_vmap(gradient, row_arguments=3))
    return where_followed(function, forward)


def placing(
    forward: Callable[..., mx.array],
    backward: Callable[..., tuple[mx.array, ...]],
    reference: Callable[..., mx.array],
    integers: int,
    *,
    linear: bool = False,
) -> Callable[..., mx.array]:
    """A function of ``(*floats, *places)`` that MLX can transform; `mx.vmap` launches one entry after the other.

    Parameters
    ----------
    forward
        Returns an array.
    backward
        ``backward(cotangent, *floats, *places)`` returns the gradients of the floats.
    reference
        The same as ``forward``, in MLX operations.
    integers
        How many arguments are places, which have no gradient.
    linear
        Whether the result is linear in all floats together: it is its own derivative, also where MLX has none.
    """
    function = mx.custom_function(_stopped(forward))
    gradient = mx.custom_function(_stopped(backward))

    def of_floats(places: tuple[mx.array, ...]) -> Callable[..., mx.array]:
        return lambda *floats: reference(*floats, *places)

    @function.vjp
    def function_vjp(primals: Any, cotangent: mx.array, output: mx.array) -> Any:
        found = _tuple(gradient(cotangent.astype(output.dtype), *primals))
        return (*found, *map(mx.zeros_like, primals[-integers:]))

    @gradient.vjp
    def gradient_vjp(primals: Any, cotangents: Any, outputs: Any) -> Any:
        floats, places = list(primals[:-integers]), tuple(primals[-integers:])

        def again(cotangent: mx.array, *floats: mx.array) -> tuple[mx.array, ...]:
            return tuple(mx.vjp(of_floats(places), list(floats), [cotangent])[1])

        found = mx.vjp(again, floats, list(_tuple(cotangents)))[1]
        return (*found, *map(mx.zeros_like, places))

    @function.jvp
    def function_jvp(primals: Any, tangents: Any) -> Any:
        floats, places = list(primals[:-integers]), tuple(primals[-integers:])
        directions = [mx.zeros_like(p) if t is None else t for p, t in zip(floats, tangents, strict=False)]
        if linear:
            return reference(*directions, *places)
        return mx.jvp(of_floats(places), floats, directions)[1][0]

    function.vmap(_vmap(function, row_arguments=0))
    gradient.vmap(_vmap(gradient, row_arguments=0))
    return where_followed(function, forward)
