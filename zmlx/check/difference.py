"""What shows when a launch runs again: with its threads in another order, or with inputs that are not constant."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from zmlx.check.findings import Finding

if TYPE_CHECKING:
    import mlx.core as mx

    from zmlx.metal.signature import KernelSource

#: What floating-point atomics may differ by when they are added up in another order, relative to the largest element,
#: by the bytes of an element.
_ROUNDING = {2: 1e-2, 4: 1e-4}


def find_difference(
    kernel: KernelSource,
    name: str,
    array: mx.array,
    memory: Any,
    schedule: str,
    add_note: Callable[[str], None],
) -> Finding | None:
    """The finding of an output that ``schedule`` left other than ``array`` in ``memory``; None if it is the same.

    Sums of floating-point atomics may differ as roundings do; that is a note.
    """
    import mlx.core as mx
    import numpy as np

    raw = mx.view(mx.flatten(array), mx.uint8) if array.size else mx.zeros((0,), mx.uint8)
    first, second = np.asarray(raw), np.frombuffer(memory, np.uint8, array.nbytes)
    different = np.nonzero(first != second)[0]
    if not different.size:
        return None
    index = int(different[0]) // array.itemsize
    count = len(np.unique(different // array.itemsize))
    values = [
        _value(part[index * array.itemsize :][: array.itemsize], array.dtype) for part in (first, second)
    ]
    if mx.issubdtype(array.dtype, mx.floating) and (
        kernel.atomic_outputs or "atomic" in kernel.source + kernel.header
    ):
        numbers = [
            np.asarray(mx.view(mx.array(part), array.dtype).astype(mx.float32)) for part in (first, second)
        ]
        change = float(np.max(np.abs(numbers[0] - numbers[1])))
        if change <= _ROUNDING[array.itemsize] * float(np.max(np.abs(numbers[0]))):
            add_note(
                f"{kernel.name}: {name} differs by up to {change:.2g} with the order of threads, as sums of "
                "floating-point atomics do; this is not reported."
            )
            return None
    advice = (
        "look for threads that depend on who comes first, such as the result of an atomic operation used as an "
        "index."
    )
    return Finding(
        "schedule-dependent",
        kernel.name,
        f"{count} of {array.size} elements of {name} depend on the order in which threads run: {name}[{index}] is "
        f"{values[0]} in lockstep and {values[1]} with the threads in another order ({schedule})",
        advice,
        array=name,
        index=str(index),
    )


def vary(x: mx.array) -> mx.array | None:
    """A floating-point array that holds one number only with several near it instead; None for other arrays."""
    import mlx.core as mx

    if x.size < 2 or not mx.issubdtype(x.dtype, mx.floating) or not bool(mx.all(x == x.reshape(-1)[0])):
        return None
    steps = (mx.arange(x.size) % 7).astype(mx.float32).reshape(x.shape) / 8
    varied = (x.astype(mx.float32) + (1 + mx.abs(x.astype(mx.float32))) * steps).astype(x.dtype)
    mx.eval(varied)
    return varied


def _value(raw: Any, dtype: mx.Dtype) -> str:
    import mlx.core as mx

    return str(mx.view(mx.array(raw), dtype).item())
