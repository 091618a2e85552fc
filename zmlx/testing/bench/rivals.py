"""The rivals of one kernel as calls: the operation of MLX that users would call instead, and the formula itself."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from types import ModuleType
from typing import Any

from zmlx.testing.differentiation import gradients_of
from zmlx.testing.opinfo import as_tuple
from zmlx.testing.rivals import Rivals

#: The two columns of the table: what MLX computes without being asked to fuse, and with `mx.compile`.
MLX = "MLX"
COMPILED = "mx.compile"


@dataclass(frozen=True)
class Rival:
    """One thing that a kernel is timed against: the column of the table, its name, and the call."""

    column: str
    name: str
    call: Callable[..., Any]


def list_rivals(
    rivals: Rivals, mx: ModuleType, dtype: str, results: Sequence[str], differentiable: Sequence[int] = ()
) -> tuple[Rival, ...]:
    """All that a kernel is timed against in one dtype; with ``differentiable``, the gradients of all that. ``results``
    are the dtypes of what the kernel gives.

    A formula in a 16-bit dtype can be computed in that dtype, as it stands, or in float32 between two
    conversions, as the kernels do. Which is faster differs with device and formula, so both run.
    """
    forms: dict[str, Callable[..., Any]] = {"": lambda *a: rivals.formula(mx, *a)}
    if dtype != "float32":
        forms[" in float32"] = lambda *a: _in_float32(rivals, mx, dtype, results, a)
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


def _in_float32(
    rivals: Rivals, mx: ModuleType, dtype: str, results: Sequence[str], arguments: Sequence[Any]
) -> Any:
    """The formula with arguments of `dtype` as float32, and its results as the kernel gives them."""
    own = getattr(mx, dtype)
    found = rivals.formula(mx, *(a.astype(mx.float32) if a.dtype == own else a for a in arguments))
    cast = [r.astype(getattr(mx, name)) for r, name in zip(as_tuple(found), results, strict=True)]
    return cast[0] if len(cast) == 1 else tuple(cast)
