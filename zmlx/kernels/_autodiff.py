"""The rules that make a kernel a function that MLX can transform.

=======================  ========================================================================================
``mx.grad``, ``mx.vjp``  the backward kernel; higher derivatives differentiate the reference
``mx.jvp``               the reference, in MLX operations: no kernel computes forward-mode derivatives
``mx.vmap``              one launch over all rows; one launch an entry where weights are mapped or have gradients
``mx.compile``           the kernels; on the CPU the reference where launches cannot be part of MLX's graph
=======================  ========================================================================================

``mx.jvp`` and ``mx.vmap`` work on the CPU only. On a GPU the launch is part of MLX's graph, and MLX (0.32) meets its
CustomKernel there before it looks at these rules: "Not implemented for CustomKernel". All kernels take leading axes,
so that vmap over rows can be left out.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import mlx.core as mx

from zmlx.launch.gradient import tracing_test

Outputs = tuple[mx.array, ...]

#: What `metal_kernel` takes as ``reference``.
Reference = Callable[[list[mx.array], Mapping[str, Any]], Sequence[mx.array]]


def differentiable(
    forward: Callable[..., Any],
    backward: Callable[..., Outputs],
    reference: Callable[..., Any],
    *,
    reference_gradient: Callable[..., Outputs] | None = None,
    row_arguments: int = 1,
    cotangents: int = 1,
    entries: bool = False,
) -> Callable[..., Any]:
    """A function of ``(x, *weights)`` with all the rules above.

    Parameters
    ----------
    forward
        ``forward(x, *weights)`` works on each row (the last axis) of ``x`` by itself.
    backward
        ``backward(cotangent, x, *weights)`` returns the gradients of ``x`` and of every weight.
    reference
        The same as ``forward``, in MLX operations.
    reference_gradient
        The same as ``backward``, in MLX operations; None: it is derived from ``reference``.
    row_arguments
        How many arguments have rows; the others are weights.
    cotangents
        How many results there are. Of several, ``forward`` returns a tuple, and ``backward`` takes so many cotangents.
    entries
        Whether `mx.vmap` launches an entry at a time, whatever is mapped: results depend on a row's number.
    """
    function = mx.custom_function(_stopped(forward))
    gradient = mx.custom_function(_stopped(backward))

    def derived(*arrays: mx.array) -> Outputs:
        given, primals = arrays[:cotangents], arrays[cotangents:]
        return tuple(mx.vjp(reference, list(primals), list(given))[1])

    in_operations = reference_gradient or derived

    @function.vjp
    def function_vjp(primals: Any, cotangent: Any, output: Any) -> Any:
        given = [c.astype(o.dtype) for c, o in zip(_tuple(cotangent), _tuple(output), strict=True)]
        gradients = _tuple(gradient(*given, *_tuple(primals)))
        return gradients if isinstance(primals, tuple) else gradients[0]

    @gradient.vjp
    def gradient_vjp(primals: Any, cotangents: Any, outputs: Any) -> Outputs:
        return tuple(mx.vjp(in_operations, list(primals), list(_tuple(cotangents)))[1])

    function.jvp(_forward_mode(reference))
    gradient.jvp(_forward_mode(in_operations))
    function.vmap(_vmap(function, row_arguments, entries=entries))
    # A weight's gradient is a sum over rows, which must not run over the mapped axis too.
    gradient.vmap(_vmap(gradient, cotangents + row_arguments, weights_split=True, entries=entries))
    return where_followed(function, forward)


def by_reference(
    forward: Callable[..., Any], reference: Callable[..., Any], row_arguments: int
) -> Callable[..., Any]:
    """A function with all the rules above whose gradient has no kernel: it is that of ``reference``.

    Parameters
    ----------
    forward
        Works on each row of its first ``row_arguments`` arguments by itself; the others are weights.
    reference
        The same in MLX operations.
    row_arguments
        How many arguments have leading axes.
    """
    function = mx.custom_function(_stopped(forward))

    @function.vjp
    def function_vjp(primals: Any, cotangents: Any, outputs: Any) -> Any:
        given = [
            cotangent.astype(output.dtype)
            for cotangent, output in zip(_tuple(cotangents), _tuple(outputs), strict=True)
        ]
        gradients = tuple(mx.vjp(reference, list(_tuple(primals)), given)[1])
        return gradients if isinstance(primals, tuple) else gradients[0]

    function.jvp(_forward_mode(reference))
    function.vmap(_vmap(function, row_arguments))
    return where_followed(function, forward)


def mapped_rows(forward: Callable[[mx.array], mx.array]) -> Callable[[mx.array], mx.array]:
    """A function of rows of integers, whose gradient is zero, that mx.vmap takes in one launch."""
    function = mx.custom_function(_stopped(forward))
    function.vmap(_vmap(function, row_arguments=1))
    return where_followed(function, forward)


def where_followed(function: Any, launch: Callable[..., Any]) -> Callable[..., Any]:
    """``function``, a custom function around ``launch``, where a transformation follows an argument; else ``launch``.

    On the CPU a custom function costs several times what a launch does: its result is an operation more to evaluate,
    and so are the inputs that it gives to the launch.
    """
    is_followed = tracing_test()

    def called(*arrays: mx.array) -> Any:
        return function(*arrays) if is_followed(list(arrays)) else launch(*arrays)

    return called


def per_entry(function: Any, reference: Callable[..., Any]) -> None:
    """Give a custom function, whose arguments are no rows, the rules for ``mx.jvp`` and ``mx.vmap``."""
    function.jvp(_forward_mode(reference))
    function.vmap(_vmap(function, 0, entries=True))


def _stopped(launch: Callable[..., Any]) -> Callable[..., Any]:
    """``launch`` on inputs that no transformation follows: mx.jvp looks inside of a custom function too."""
    return lambda *inputs: launch(*map(mx.stop_gradient, inputs))


def value_reference(function: Callable[..., mx.array]) -> Reference:
    """The ``reference=`` of a kernel that computes ``function`` of its inputs."""
    return lambda inputs, template: [function(*inputs)]


def gradient_reference(function: Callable[[mx.array], mx.array]) -> Reference:
    """The ``reference=`` of a kernel whose inputs are x and the cotangent of ``function(x)``."""
    return lambda inputs, template: mx.vjp(function, inputs[:1], inputs[1:])[1]


def _forward_mode(reference: Callable[..., Any]) -> Callable[[Any, Any], Any]:
    """The jvp rule that differentiates the reference."""

    def rule(primals: Any, tangents: Any) -> Any:
        values = _tuple(primals)
        directions = [
            mx.zeros_like(p) if t is None else t for p, t in zip(values, _tuple(tangents), strict=True)
        ]
        outputs = mx.jvp(reference, list(values), directions)[1]
        return outputs[0] if len(outputs) == 1 else tuple(outputs)

    return rule


def _vmap(
    function: Callable[..., Any], row_arguments: int, *, weights_split: bool = False, entries: bool = False
) -> Callable[[Any, Any], tuple[Any, Any]]:
    """The vmap rule of a function whose first ``row_arguments`` arguments are rows and whose others are weights.

    Parameters
    ----------
    function
        Called on the arguments with the mapped axis in front: on all entries at once, or on one after the other.
    row_arguments
        How many arguments have one row for each row of the result.
    weights_split
        Whether weights, mapped or not, forbid one call for all entries.
    entries
        Whether anything does.
    """

    def rule(inputs: Any, axes: Any) -> tuple[Any, Any]:
        arrays, mapped = _tuple(inputs), _tuple(axes)
        size = next(x.shape[axis] for x, axis in zip(arrays, mapped, strict=True) if axis is not None)
        front = [
            x if axis is None else mx.moveaxis(x, axis, 0) for x, axis in zip(arrays, mapped, strict=True)
        ]
        weights = mapped[row_arguments:]
        together = not entries and not (weights and weights_split)
        if together and all(axis is None for axis in weights):
            rows = [
                mx.broadcast_to(x, (size, *x.shape)) if axis is None else x
                for x, axis in zip(front[:row_arguments], mapped[:row_arguments], strict=True)
            ]
            outputs = function(*rows, *front[row_arguments:])
        else:
            outputs = _stack(
                [
                    function(*(x if axis is None else x[i] for x, axis in zip(front, mapped, strict=True)))
                    for i in range(size)
                ]
            )
        return outputs, tuple(0 for _ in outputs) if isinstance(outputs, tuple) else 0

    return rule


def _stack(entries: Sequence[Any]) -> Any:
    if isinstance(entries[0], mx.array):
        return mx.stack(list(entries))
    return tuple(mx.stack(list(column)) for column in zip(*entries, strict=True))


def _tuple(value: Any) -> tuple[Any, ...]:
    return tuple(value) if isinstance(value, (tuple, list)) else (value,)
