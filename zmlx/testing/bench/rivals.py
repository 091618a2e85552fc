"""The rivals of one kernel as calls: the operation of MLX that users would call instead, and the formula itself."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from types import ModuleType
from typing import Any

import numpy as np

from zmlx.testing.differentiation import gradients_of
from zmlx.testing.opinfo import SampleInput
from zmlx.testing.rivals import Rivals

#: The two columns of the table: what MLX computes without being asked to fuse, and with `mx.compile`.
MLX = "MLX"
COMPILED = "mx.compile"


def bench_sample(rivals: Rivals, rows: int, columns: int) -> SampleInput:
    """A sample with the shapes of the benchmark, for an entry's `bytes_moved`; its arrays take no memory."""
    zero = np.float64(0)
    return SampleInput("bench", tuple(np.broadcast_to(zero, s) for s in rivals.shapes(rows, columns)))


@dataclass(frozen=True)
class Rival:
    """One thing that a kernel is timed against: the column of the table, its name, and the call."""

    column: str
    name: str
    call: Callable[..., Any]


def list_rivals(
    rivals: Rivals, mx: ModuleType, dtype: str, differentiable: Sequence[int] = ()
) -> tuple[Rival, ...]:
    """All that a kernel is timed against in one dtype; with ``differentiable``, the gradients of all that.

    A formula in a 16-bit dtype can be computed in that dtype, as it stands, or in float32 between two
    conversions, as the kernels do. Which is faster differs with device and formula, so both run.
    """
    forms: dict[str, Callable[..., Any]] = {"": lambda *a: rivals.formula(mx, *a)}
    if dtype != "float32":
        forms[" in float32"] = lambda *a: rivals.formula(mx, *(x.astype(mx.float32) for x in a)).astype(
            a[0].dtype
        )
    own = rivals.own
    owns: dict[str, Callable[..., Any]] = {}
    if own is not None:
        owns[rivals.own_name] = lambda *a: own(mx, *a)
    if differentiable:
        forms = {suffix: gradients_of(form, differentiable) for suffix, form in forms.items()}
        owns = {name: gradients_of(call, differentiable) for name, call in owns.items()}
    if owns:
        plain = [Rival(MLX, name, call) for name, call in owns.items()]
    else:
        plain = [Rival(MLX, f"operations{suffix}", form) for suffix, form in forms.items()]
    compiled = [Rival(COMPILED, f"mx.compile{suffix}", mx.compile(form)) for suffix, form in forms.items()]
    return (*plain, *compiled)
