"""Rows on their way to experts and to other rows, in float64, and their samples."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from zmlx.testing.op_db._shared import (
    SPECIAL,
    Float64Array,
    quiet,
)
from zmlx.testing.opinfo import SampleInput, SampleRng

Places = NDArray[np.uint32]
Rng = Callable[[str], SampleRng]


def expert_order(indices: NDArray[np.int32], experts: int) -> tuple[Places, Places, Places]:
    flat = np.where((indices >= 0) & (indices < experts), indices, experts).reshape(-1)
    order = np.argsort(flat, kind="stable")
    offsets = np.searchsorted(flat[order], np.arange(experts + 1))
    positions = np.argsort(order, kind="stable").reshape(indices.shape)
    return order.astype(np.uint32), positions.astype(np.uint32), offsets.astype(np.uint32)


def order_samples(rng: Rng) -> Iterator[SampleInput]:
    yield SampleInput("small", (rng("small").integers((12, 2), 0, 8), 8))
    yield SampleInput("single", (np.array([[0]], np.int32), 1))
    yield SampleInput("odd", (rng("odd").integers((3, 5, 3), 0, 7), 7))
    yield SampleInput("blocks", (rng("blocks").integers((301, 4), 0, 33), 33))
    yield SampleInput("strays", (rng("strays").integers((40, 3), -2, 9), 6))
    yield SampleInput("one_expert", (np.full((70, 2), 3, np.int32), 5))
    yield SampleInput("no_tokens", (np.zeros((0, 2), np.int32), 3))


def _moved(numbers: SampleRng, tokens: tuple[int, ...], k: int, columns: int, experts: int) -> dict[str, Any]:
    """Tokens, their copies, weights and the order of experts."""
    order, positions, _ = expert_order(numbers.integers((*tokens, k), 0, experts), experts)
    return {
        "tokens": numbers.normal((*tokens, columns)),
        "copies": numbers.normal((order.size, columns)),
        "weights": numbers.uniform((*tokens, k), 0.1, 1.0),
        "order": order,
        "positions": positions,
    }


def moving(*wanted: str) -> Callable[[Rng], Iterator[SampleInput]]:
    """Samples of the arguments with these names."""
    shapes: tuple[tuple[str, tuple[int, ...], int, int, int], ...] = (
        ("small", (6,), 2, 16, 4),
        ("single", (1,), 1, 1, 1),
        ("odd", (3, 5), 3, 7, 6),
        ("long_rows", (3,), 2, 4099, 4),
        ("many_tokens", (301,), 2, 5, 8),
        ("no_tokens", (0,), 2, 8, 4),
        ("no_columns", (3,), 2, 0, 4),
    )

    def samples(rng: Rng) -> Iterator[SampleInput]:
        for name, *sizes in shapes:
            made = _moved(rng(name), *sizes)  # type: ignore[arg-type]
            yield SampleInput(name, tuple(made[argument] for argument in wanted))

        special = _moved(rng("special"), (SPECIAL.size,), 2, 6, 4)
        for argument in ("tokens", "copies"):
            special[argument][: SPECIAL.size, 2] = SPECIAL
        yield SampleInput("special", tuple(special[argument] for argument in wanted))

    return samples


def moved_strategy(*wanted: str) -> Callable[[str], Any]:
    """The order is one of tokens, and the positions are its inverse, which equal extents do not show."""

    def strategy(dtype: str) -> Any:
        from hypothesis import strategies

        def made(tokens: list[int], k: int, columns: int, experts: int, seed: int) -> SampleInput:
            drawn = _moved(SampleRng(f"moved/{seed}"), tuple(tokens), k, columns, experts)
            return SampleInput("drawn", tuple(drawn[argument] for argument in wanted))

        integers = strategies.integers
        tokens = strategies.lists(integers(1, 40), min_size=1, max_size=2)
        return strategies.builds(
            made, tokens, integers(1, 6), integers(1, 300), integers(1, 64), integers(0, 2**16)
        )

    return strategy


def moving_much(*wanted: str) -> Callable[[Rng], Iterator[SampleInput]]:
    """The same of more than 65,536 elements: the order is one of tokens, which variations of its extents are not."""

    def samples(rng: Rng) -> Iterator[SampleInput]:
        for name, tokens, columns in (("rows", 33_001, 2), ("columns", 3, 66_003)):
            made = _moved(rng(name), (tokens,), 2, columns, 4)
            yield SampleInput(name, tuple(made[argument] for argument in wanted))

    return samples


def dispatch(x: Float64Array, order: Places, positions: Places) -> Float64Array:
    k = positions.shape[-1]
    return np.asarray(x.reshape(order.size // k, x.shape[-1])[order.astype(np.intp) // k])


def dispatch_vjp(x: Float64Array, order: Places, positions: Places, g: Float64Array) -> tuple[Float64Array]:
    with quiet():
        return (g[positions.astype(np.intp)].sum(axis=-2),)


def combine(x: Float64Array, weights: Float64Array, order: Places, positions: Places) -> Float64Array:
    with quiet():
        return np.asarray(np.sum(weights[..., None] * x[positions.astype(np.intp)], axis=-2))


def combine_vjp(
    x: Float64Array, weights: Float64Array, order: Places, positions: Places, g: Float64Array
) -> tuple[Float64Array, Float64Array]:
    places = positions.astype(np.intp)
    dx = np.zeros_like(x)
    with quiet():
        dx[places] = weights[..., None] * g[..., None, :]
        return dx, np.sum(x[places] * g[..., None, :], axis=-1)


def _placed(rows: int, indices: NDArray[np.int32]) -> tuple[NDArray[np.bool_], NDArray[np.intp]]:
    """Which indices are in range, and these."""
    there = (indices >= 0) & (indices < rows)
    return there, indices[there].astype(np.intp)


def gather_add(x: Float64Array, y: Float64Array, indices: NDArray[np.int32]) -> Float64Array:
    there, places = _placed(len(y), indices)
    result = x.copy()
    with quiet():
        result[there] += y[places]
    return result


def scatter_add(x: Float64Array, y: Float64Array, indices: NDArray[np.int32]) -> Float64Array:
    there, places = _placed(len(x), indices)
    result = x.copy()
    with quiet():
        np.add.at(result, places, y[there])
    return result


def gather_add_vjp(
    x: Float64Array, y: Float64Array, indices: NDArray[np.int32], g: Float64Array
) -> tuple[Float64Array, Float64Array]:
    return g, scatter_add(np.zeros_like(y), g, indices)


def scatter_add_vjp(
    x: Float64Array, y: Float64Array, indices: NDArray[np.int32], g: Float64Array
) -> tuple[Float64Array, Float64Array]:
    return g, gather_add(np.zeros_like(y), g, indices)


def adding(scatters: bool) -> Callable[[Rng], Iterator[SampleInput]]:
    """Samples of rows with indices (some of them twice, some out of range), and of a matrix that these count along."""
    shapes: tuple[tuple[str, tuple[int, ...], int, int], ...] = (
        ("small", (6,), 4, 16),
        ("single", (1,), 1, 1),
        ("odd", (3, 5), 6, 7),
        ("long_rows", (5,), 2, 4099),
        ("many_rows", (301,), 40, 5),
        ("no_rows", (0,), 3, 4),
        ("no_columns", (3,), 2, 0),
    )

    def samples(rng: Rng) -> Iterator[SampleInput]:
        for name, rows, count, columns in shapes:
            numbers = rng(name)
            x, y = numbers.normal((*rows, columns)), numbers.normal((count, columns))
            indices = numbers.integers(
                rows, 0 if name in ("small", "single") else -1, count + (name == "odd")
            )
            yield SampleInput(name, (y, x, indices) if scatters else (x, y, indices))
        numbers = rng("special")
        x, y = numbers.normal((SPECIAL.size, 6)), numbers.normal((4, 6))
        x[:, 2] = SPECIAL
        indices = np.arange(SPECIAL.size, dtype=np.int32) % 5
        yield SampleInput("special", (y, x, indices) if scatters else (x, y, indices))

    return samples
