"""Statements of the grammar: a Metal text and what it does to a state."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from fuzz.expressions import Expression, State

#: Changes the variables and arrays of a state in place, for the threads of its mask.
Effect = Callable[[State], None]


@dataclass(frozen=True)
class Statement:
    text: str
    run: Effect = field(compare=False, repr=False)


def _nothing(s: State) -> None:
    """Barriers order what threads do, and threads of NumPy do everything in order; pointers are texts."""


def silent(text: str) -> Statement:
    return Statement(text, _nothing)


def joined(statements: Sequence[Statement]) -> str:
    return " ".join(statement.text for statement in statements)


def assigned(name: str, e: Expression, form: str = "{} = {};") -> Statement:
    """``form`` is a declaration or an assignment."""

    def run(s: State) -> None:
        old = s.variables.get(name)
        new = e.value(s)
        s.variables[name] = new if old is None else np.where(s.mask, new, old)

    return Statement(form.format(name, e.text), run)


def branched(condition: Expression, then: list[Statement], otherwise: list[Statement]) -> Statement:
    def run(s: State) -> None:
        c = condition.value(s)
        for branch, part in ((c, then), (~c, otherwise)):
            inside = s.where(branch)
            for statement in part:
                statement.run(inside)

    text = f"if ({condition.text}) {{ {joined(then)} }}"
    return Statement(text + (f" else {{ {joined(otherwise)} }}" if otherwise else ""), run)


def switched(number: Expression, cases: list[list[Statement]], falls: bool) -> Statement:
    """``switch (number % cases)``, the last case being the default; ``falls``: the first runs into the second."""
    count = len(cases)
    text = f"switch ({number.text} % {count}u) {{ "
    for k, case in enumerate(cases):
        label = "default" if k == count - 1 else f"case {k}"
        text += f"{label}: {{ {joined(case)} }} {'' if falls and k == 0 else 'break; '}"

    def run(s: State) -> None:
        chosen = number.value(s) % count
        for k, case in enumerate(cases):
            inside = s.where((chosen == k) | (falls and k == 1 and chosen == 0))
            for statement in case:
                statement.run(inside)

    return Statement(text + "}", run)


def repeated(
    name: str,
    style: str,
    bound: Expression,
    skip: Expression | None,
    leave: Expression | None,
    part: list[Statement],
) -> Statement:
    """A loop of up to 3 iterations, with ``continue`` and ``break``.

    ``style``: ``"up"``, ``"while"`` and ``"do"`` evaluate ``bound % 4`` again in each iteration, ``"do"`` after it;
    ``"down"`` evaluates it once.
    """
    body = f"if ({skip.text}) continue; " if skip else ""
    body += joined(part)
    body += f" if ({leave.text}) break;" if leave else ""
    text = {
        "up": f"for (uint {name} = 0; {name} < {bound.text} % 4u; ++{name}) {{ {body} }}",
        "down": f"for (uint {name} = {bound.text} % 4u; {name} > 0u; --{name}) {{ {body} }}",
        "while": f"{{ uint {name} = 0u; while ({name}++ < {bound.text} % 4u) {{ {body} }} }}",
        "do": f"{{ uint {name} = 0u; do {{ ++{name}; {body} }} while ({name} < {bound.text} % 4u); }}",
    }[style]

    def run(s: State) -> None:
        alive = s.entered.copy()
        count = bound.value(s) % 4 if style == "down" else None
        for k in range(4):
            current = count - np.uint32(k) if count is not None else k
            s.variables[name] = np.full(len(alive), current).astype("uint32")
            here = replace(s, entered=alive)
            if count is not None:
                alive = alive & (k < count)
            elif style != "do" or k > 0:
                alive = alive & (k < bound.value(here) % 4)
            inside = replace(s, entered=alive)
            if not inside.mask.any():
                break
            if style in ("while", "do"):
                s.variables[name] = s.variables[name] + np.uint32(1)
            active = inside.where(~skip.value(inside)) if skip else inside
            for statement in part:
                statement.run(active)
            if leave:
                alive = alive & ~(active.mask & leave.value(active))
        s.variables.pop(name)

    return Statement(text, run)


def returned(condition: Expression, stores: list[Statement]) -> Statement:
    """Threads for which the condition holds leave the kernel."""

    def run(s: State) -> None:
        inside = s.where(condition.value(s))
        for statement in stores:
            statement.run(inside)
        s.gone[inside.mask] = True

    return Statement(f"if ({condition.text}) {{ {joined(stores)} return; }}", run)


def written(kind: str, column: int, name: str) -> Statement:
    """A variable goes to its place in the output of its kind, whose columns are counted in a macro."""

    def run(s: State) -> None:
        s.memory[f"out_{kind}"][s.mask, column] = s.variables[name][s.mask]

    return Statement(f"out_{kind}[i * N_{kind} + {column}u] = {name};", run)


def condition_of(text: str, value: Callable[[State], Any]) -> Expression:
    return Expression("bool", text, value)
