"""Which arrays are others, moved, cast or cut, and which were computed."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from zmlx.testing.judge.arrays import Raw, raw_of_numpy
from zmlx.testing.judge.provenance import come_alike, comes_from

X = np.random.default_rng(5).normal(size=(4, 6, 5)).astype(np.float32)

MOVED: dict[str, Callable[[Any], Any]] = {
    "itself": lambda x: x,
    "reshaped": lambda x: x.reshape(24, 5),
    "transposed": lambda x: np.swapaxes(x, 0, 2),
    "first half": lambda x: x[:, :3],
    "last half": lambda x: x[:, 3:],
    "every other": lambda x: x[:, ::2],
    "one row": lambda x: x[:, :, 2:3],
    "prefix": lambda x: x.reshape(-1)[:7],
    "repeated": lambda x: np.broadcast_to(x, (3, *x.shape)),
    "repeated at the end": lambda x: np.broadcast_to(x[..., None], (*x.shape, 2)),
    "repeated and flattened": lambda x: np.broadcast_to(x, (3, *x.shape)).reshape(-1),
    "repeated in the middle": lambda x: np.broadcast_to(x[:, None], (4, 3, 6, 5)).reshape(12, 30),
    "repeated at two places": lambda x: np.broadcast_to(x[:, None, :, None], (4, 3, 6, 2, 5)).reshape(-1),
    "each repeated, flattened": lambda x: np.repeat(x.reshape(-1), 3),
    "nothing of it": lambda x: x[:0],
}

COMPUTED: dict[str, Callable[[Any], Any]] = {
    "doubled": lambda x: 2 * x,
    "sum": lambda x: x.sum(-1),
    "max": lambda x: x.max(-1),
    "sorted": lambda x: np.sort(x, -1),
    "reversed": lambda x: x[:, ::-1],
    "repeated and doubled": lambda x: 2 * np.tile(x.reshape(-1), 3),
    "repeated, one element changed": lambda x: np.where(
        np.arange(3 * x.size) == 61, 0, np.tile(x.reshape(-1), 3)
    ),
    "one element changed": lambda x: np.where(np.arange(x.size).reshape(x.shape) == 61, 0, x),
}


def raw(array: Any, dtype: str = "float32") -> Raw:
    return raw_of_numpy(np.asarray(array), dtype)


@pytest.mark.parametrize("how", MOVED)
def test_moved_arrays_are_known(how: str) -> None:
    assert comes_from(raw(MOVED[how](X)), [raw(np.ones(3)), raw(X)])


@pytest.mark.parametrize("how", COMPUTED)
def test_computed_arrays_are_not(how: str) -> None:
    assert not comes_from(raw(COMPUTED[how](X)), [raw(np.ones(3)), raw(X)])


def test_casts_are_known() -> None:
    half = raw(X.astype(np.float16), "float16")
    assert comes_from(half, [raw(X)])
    assert comes_from(raw(X.astype(np.float16)), [half])
    assert not comes_from(raw(X), [half])


def test_nan_is_itself() -> None:
    array = np.array([np.nan, 1.0, np.inf])
    assert comes_from(raw(array), [raw(array)])


def test_nothing_comes_from_no_source() -> None:
    assert not comes_from(raw(X), [])
    assert not comes_from(raw(X), [raw(np.zeros((0, 3)))])


def test_several_calls_have_the_same_part() -> None:
    other = X + 1
    sources = [[raw(np.ones(3)), raw(a)] for a in (X, other)]

    assert come_alike([raw(X[:, 1:3]), raw(other[:, 1:3])], sources)
    assert not come_alike([raw(X[:, 1:3]), raw(other[:, 2:4])], sources)
    assert not come_alike([raw(X), raw(other[:, :3])], sources)


def test_several_calls_have_the_same_source() -> None:
    assert come_alike([raw(X), raw(X)], [[raw(X), raw(-X)], [raw(-X), raw(X)]]) is False
    assert come_alike([raw(X), raw(X)], [[raw(X), raw(-X)], [raw(X), raw(-X)]])
