"""Operations that need more of the tools than one array in and one out: several results, integers among them, labels,
numbers of rows, keyword arguments that must be given, gradients for some results only.

Their kernels are as plain as can be. A table of faults stands beside them: what each must fail by.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import mlx.core as mx
import numpy as np

import zmlx
from zmlx.testing import OpInfo, SampleInput

FLOATS = (mx.float32, mx.float16, mx.bfloat16)

#: Name -> input names, output names, Metal source; one thread for each element of the grid.
SOURCES: dict[str, tuple[list[str], list[str], str]] = {
    "example_scaled": (
        ["x", "w", "factor"],
        ["scaled", "square"],
        """
        uint i = thread_position_in_grid.x;
        float value = float(x[i]);
        scaled[i] = T(factor * value * float(w[i]));
        square[i] = T(value * value);
        """,
    ),
    "example_scaled_vjp": (
        ["x", "w", "factor", "dscaled", "dsquare"],
        ["dx"],
        """
        uint i = thread_position_in_grid.x;
        dx[i] = T(factor * float(w[i]) * float(dscaled[i]) + 2.0f * float(x[i]) * float(dsquare[i]));
        """,
    ),
    "example_top": (
        ["x", "columns"],
        ["top", "place"],
        """
        uint row = thread_position_in_grid.x;
        int best = 0;
        for (int i = 1; i < columns; ++i) {
            if (x[row * columns + i] > x[row * columns + best]) best = i;
        }
        top[row] = x[row * columns + best];
        place[row] = best;
        """,
    ),
    "example_top_vjp": (
        ["place", "dtop", "columns"],
        ["dx"],
        """
        uint i = thread_position_in_grid.x;
        dx[i] = int(i % columns) == place[i / columns] ? dtop[i / columns] : T(0);
        """,
    ),
    "example_pick": (
        ["x", "labels", "sinks", "columns"],
        ["out"],
        """
        uint row = thread_position_in_grid.x;
        int label = labels[row];
        out[row] = label < 0 ? T(0) : T(float(x[row * columns + label]) - float(sinks[row]));
        """,
    ),
    "example_pick_vjp": (
        ["labels", "dy", "columns"],
        ["dx"],
        """
        uint i = thread_position_in_grid.x;
        dx[i] = int(i % columns) == labels[i / columns] ? dy[i / columns] : T(0);
        """,
    ),
    "example_drop": (
        ["x", "seed"],
        ["out"],
        """
        uint i = thread_position_in_grid.x;
        out[i] = ((i + uint(seed)) * 2654435769u) >> 31 ? T(0) : T(2.0f * float(x[i]));
        """,
    ),
}


def _launch(
    name: str,
    inputs: Sequence[Any],
    threads: int,
    shapes: Sequence[tuple[int, ...]],
    dtypes: Sequence[mx.Dtype],
    reference: Callable[..., Any],
) -> tuple[mx.array, ...]:
    """All outputs of a kernel whose T is the first output's dtype."""
    if not threads:
        return tuple(mx.zeros(shape, dtype) for shape, dtype in zip(shapes, dtypes, strict=True))
    input_names, output_names, source = SOURCES[name]

    def by_operations(given: list[mx.array], template: Mapping[str, Any]) -> list[mx.array]:
        return list(reference(*given))

    kernel = zmlx.metal_kernel(name, input_names, output_names, source, reference=by_operations)
    made = kernel(
        inputs=list(inputs),
        template=[("T", dtypes[0])],
        grid=(threads, 1, 1),
        threadgroup=(min(threads, 64), 1, 1),
        output_shapes=list(shapes),
        output_dtypes=list(dtypes),
    )
    return tuple(made)


def _checked(x: mx.array, name: str) -> None:
    if x.dtype not in FLOATS:
        raise TypeError(f"{name} takes floats, got {x.dtype}")


def scaled(x: mx.array, w: mx.array, *, factor: float = 1.0) -> tuple[mx.array, mx.array]:
    """``factor * x * w``, and ``x * x``; w has one number for each column, and is copied to the shape of x."""
    _checked(x, "scaled")
    wide = mx.contiguous(mx.broadcast_to(w, x.shape))
    number = mx.array(factor, mx.float32)

    def operations(x: mx.array, w: mx.array, factor: mx.array) -> list[mx.array]:
        made = (factor * x.astype(mx.float32) * w.astype(mx.float32), mx.square(x.astype(mx.float32)))
        return [value.astype(x.dtype) for value in made]

    def gradient(x: mx.array, w: mx.array, factor: mx.array, *cotangents: mx.array) -> list[mx.array]:
        one, other = (c.astype(mx.float32) for c in cotangents)
        return [(factor * w.astype(mx.float32) * one + 2 * x.astype(mx.float32) * other).astype(x.dtype)]

    @mx.custom_function
    def call(x: mx.array) -> tuple[mx.array, ...]:
        x = mx.stop_gradient(x)
        return _launch("example_scaled", (x, wide, number), x.size, [x.shape] * 2, [x.dtype] * 2, operations)

    @call.vjp
    def call_vjp(primals: Any, cotangents: Any, _: Any) -> Any:
        (x,) = primals if isinstance(primals, (tuple, list)) else (primals,)
        given = (x, wide, number, *cotangents)
        return _launch("example_scaled_vjp", given, x.size, [x.shape], [x.dtype], gradient)[0]

    return tuple(call(x))  # type: ignore[return-value, arg-type]


def top(x: mx.array) -> tuple[mx.array, mx.array]:
    """The largest number of each row, and its place: the first of equal ones."""
    _checked(x, "top")
    rows, columns = x.shape[:-1], x.shape[-1]
    wide = mx.array(columns, mx.int32)
    count = x.size // columns

    @mx.custom_function
    def call(x: mx.array) -> tuple[mx.array, ...]:
        return _launch(
            "example_top",
            (mx.stop_gradient(x), wide),
            count,
            [rows, rows],
            [x.dtype, mx.int32],
            lambda x, _: [mx.max(x, axis=-1), mx.argmax(x, axis=-1).astype(mx.int32)],
        )

    @call.vjp
    def call_vjp(primals: Any, cotangents: Any, outputs: Any) -> Any:
        (x,) = primals if isinstance(primals, (tuple, list)) else (primals,)
        return _launch(
            "example_top_vjp",
            (outputs[1], cotangents[0].astype(x.dtype), wide),
            x.size,
            [x.shape],
            [x.dtype],
            lambda place, dy, _: [
                mx.where(mx.arange(columns) == place[..., None], dy[..., None], 0).astype(dy.dtype)
            ],
        )[0]

    return tuple(call(x))  # type: ignore[return-value, arg-type]


def pick(x: mx.array, labels: mx.array, sinks: mx.array) -> mx.array:
    """``x[row, labels[row]] - sinks[row]``, and 0 where a label is negative; the gradient is that of x."""
    _checked(x, "pick")
    wide = mx.array(x.shape[-1], mx.int32)

    def operations(x: mx.array, labels: mx.array, sinks: mx.array, _: mx.array) -> list[mx.array]:
        found = mx.take_along_axis(x, mx.maximum(labels, 0)[..., None], axis=-1)[..., 0]
        apart = found.astype(mx.float32) - sinks.astype(mx.float32)
        return [mx.where(labels < 0, 0, apart).astype(x.dtype)]

    def gradient(labels: mx.array, dy: mx.array, wide: mx.array) -> list[mx.array]:
        columns = mx.arange(x.shape[-1])
        return [mx.where(columns == labels[..., None], dy[..., None], 0).astype(dy.dtype)]

    @mx.custom_function
    def call(x: mx.array) -> mx.array:
        given = (mx.stop_gradient(x), labels, sinks, wide)
        return _launch("example_pick", given, labels.size, [labels.shape], [x.dtype], operations)[0]

    @call.vjp
    def call_vjp(primals: Any, cotangent: mx.array, _: Any) -> Any:
        (x,) = primals if isinstance(primals, (tuple, list)) else (primals,)
        given = (labels, cotangent.astype(x.dtype), wide)
        return _launch("example_pick_vjp", given, x.size, [x.shape], [x.dtype], gradient)[0]

    return call(x)  # type: ignore[no-any-return, arg-type]


def drop(x: mx.array, *, seed: int) -> mx.array:
    """Twice x, or 0, by a hash of the place and the seed; without a gradient."""
    _checked(x, "drop")

    def operations(x: mx.array, seed: mx.array) -> list[mx.array]:
        places = mx.arange(x.size).astype(mx.uint32).reshape(x.shape) + seed.astype(mx.uint32)
        return [mx.where((places * mx.array(2654435769, mx.uint32)) >> 31, 0, 2 * x).astype(x.dtype)]

    given = (x, mx.array(seed, mx.int32))
    return _launch("example_drop", given, x.size, [x.shape], [x.dtype], operations)[0]


def _scaled_samples(rng: Any) -> Iterator[SampleInput]:
    for name, shape in (("small", (4, 6)), ("odd", (2, 3, 7)), ("empty", (0, 5))):
        args = (rng(name).normal(shape), rng(f"{name}/w").normal(shape[-1:]))
        yield SampleInput(name, args, {"factor": -1.5} if name == "odd" else {})


def _top_samples(rng: Any) -> Iterator[SampleInput]:
    yield SampleInput("small", (rng("small").normal((4, 6)),))
    yield SampleInput("odd", (rng("odd").normal((2, 3, 7)),))


def _pick_samples(rng: Any) -> Iterator[SampleInput]:
    yield SampleInput(
        "small", (rng("small").normal((4, 6)), np.array([5, 0, -1, 3], np.int32), rng("s").normal((4,)))
    )
    places = rng("p").integers((9,), 0, 17).astype(np.int32)
    yield SampleInput("odd", (rng("odd").normal((9, 17)), places, rng("o").normal((9,))))


def _drop_samples(rng: Any) -> Iterator[SampleInput]:
    yield SampleInput("small", (rng("small").normal((4, 6)),), {"seed": 7})
    yield SampleInput("odd", (rng("odd").normal((3, 5)),), {"seed": 12345})


def _picked(x: Any, labels: Any, sinks: Any) -> Any:
    found = np.take_along_axis(x, np.maximum(labels, 0)[..., None], axis=-1)[..., 0]
    return np.where(labels < 0, 0.0, found - sinks)


def _dropped(x: Any, *, seed: int) -> Any:
    places = np.arange(x.size, dtype=np.uint64) + np.uint64(seed)
    hashed = (places * np.uint64(2654435769)) & np.uint64(0xFFFFFFFF)
    return np.where((hashed >> np.uint64(31)).reshape(x.shape), 0.0, 2.0 * x)


def _at(columns: int, places: Any, values: Any) -> Any:
    return np.where(np.arange(columns) == places[..., None], values[..., None], 0.0)


def _scaled_vjp(x: Any, w: Any, cotangents: Any, *, factor: float = 1.0) -> Any:
    dscaled, dsquare = cotangents
    return (factor * w * dscaled + 2 * x * dsquare,)


SCALED = OpInfo(
    name="example.scaled",
    op=scaled,
    kernels=("example_scaled",),
    grad_kernels=("example_scaled_vjp",),
    oracle=lambda x, w, factor=1.0: (factor * x * w, x * x),
    oracle_vjp=_scaled_vjp,
    differentiable=(0,),
    samples=_scaled_samples,
    source="its own docstring",
    golden_samples=("small", "odd"),
    extents=(1, 60),
    supports_vmap=False,
)

TOP = OpInfo(
    name="example.top",
    op=top,
    kernels=("example_top",),
    grad_kernels=("example_top_vjp",),
    oracle=lambda x: (np.max(x, axis=-1), np.argmax(x, axis=-1).astype(np.int32)),
    oracle_vjp=lambda x, dy: (_at(x.shape[-1], np.argmax(x, axis=-1), dy),),
    differentiable=(0,),
    samples=_top_samples,
    source="its own docstring",
    out_dtype=lambda dtype: (dtype, "int32"),
    golden_samples=("small",),
    extents=(1, 60),
    supports_vmap=False,
)

PICK = OpInfo(
    name="example.pick",
    op=pick,
    kernels=("example_pick",),
    grad_kernels=("example_pick_vjp",),
    oracle=_picked,
    oracle_vjp=lambda x, labels, sinks, dy: (_at(x.shape[-1], labels, dy),),
    differentiable=(0,),
    samples=_pick_samples,
    source="its own docstring",
    golden_samples=("small",),
    indices={1: (0, -1)},
    extents=(1, 60),
    supports_vmap=False,
)

DROP = OpInfo(
    name="example.drop",
    op=drop,
    kernels=("example_drop",),
    oracle=_dropped,
    samples=_drop_samples,
    source="its own docstring",
    golden_samples=("small",),
    extents=(1, 60),
)

OPS = (SCALED, TOP, PICK, DROP)
