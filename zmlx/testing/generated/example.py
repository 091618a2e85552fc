"""One example of a property-based test: what is asked of it, and the text that runs it again."""

from __future__ import annotations

import textwrap
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from zmlx.testing.conditioning import movement, nearer, working_precision
from zmlx.testing.generated import oracle
from zmlx.testing.generated.case import Case, Record
from zmlx.testing.generated.forward import check_forward
from zmlx.testing.generated.gradients import check_gradient
from zmlx.testing.opinfo import OpInfo, SampleInput, as_tuple
from zmlx.testing.project import ProjectError, find_project
from zmlx.testing.tolerance import compare, dtype_name
from zmlx.testing.variations import REFUSALS, Variation, arrays_of

#: Arrays with more elements than this, together, are written as what makes them, not as their values.
MOST_LITERALS = 200


class Refused(Exception):
    """The operation raised ValueError before it launched anything: it does not take such arguments."""


class Unfit(Exception):
    """The oracle cannot be asked: the arguments do not fit together."""


class _Example(Case):
    """A case in which an element may be as wrong as rounding the inputs makes it."""

    def check(
        self,
        result: Any,
        truth: Any,
        record: Record,
        grad: int | None = None,
        place: int = 0,
        part: str = "",
    ) -> None:
        __tracebackhide__ = True
        what = part if grad is None else f" gradient of argument {grad}"
        tolerance = self.op.tolerance(self.dtype, grad=grad is not None, result=place)
        dtype = dtype_name(result)
        verdict = compare(result, truth, dtype, tolerance, name=f"{self}{what}")
        if verdict:
            return
        if verdict.stats is not None and np.asarray(truth).dtype.kind == "f":
            moved = movement(*self._oracle(grad, place), working_precision(self.op, self.dtype))
            if compare(nearer(result, truth, moved), truth, dtype, tolerance):
                record(self.op.name + what, self.dtype, verdict.stats, self.sample.name)
                return
        pytest.fail(verdict.message, pytrace=False)

    def _oracle(self, grad: int | None, place: int) -> tuple[Callable[[SampleInput], Any], SampleInput]:
        """The oracle of a result or of a gradient, and its arguments: for a gradient, the cotangents come last."""
        if grad is None:
            return lambda sample: self.op.expected(sample)[place], self.sample
        index = self.op.differentiable.index(grad)
        cotangent = oracle.cotangent(self.op, self.sample, self.dtype)
        count = len(self.sample.args)
        given = replace(self.sample, args=(*self.sample.args, *as_tuple(cotangent)))

        def gradient(sample: SampleInput) -> Any:
            moved = sample.args[count:]
            return self.op.expected_vjp(
                replace(sample, args=sample.args[:count]), moved if isinstance(cotangent, tuple) else moved[0]
            )[index]

        return gradient, given


def check_example(op: OpInfo, sample: SampleInput, dtype: str, backend: str | None = None) -> bool:
    """Fail unless value and gradients are the oracle's, from kernels that ran here, and no input was touched.

    Parameters
    ----------
    op : OpInfo
        The operation.
    sample : SampleInput
        Rounded to `dtype`.
    dtype : str
        Of its float arrays.
    backend : str, optional
        Where kernels must run: that of MLX's default device.

    Returns
    -------
    bool
        Whether the tolerance alone decided. False: an element is farther off, but no farther than rounding the inputs
        to the kernel's precision moves the oracle.

    Raises
    ------
    Unfit
        The oracle does not take the arguments.
    Refused
        The operation does not: a ValueError before anything was launched.
    """
    __tracebackhide__ = True
    from zmlx.launch import current_backend, watch

    where = current_backend() if backend is None else backend
    case = _Example(op, dtype, sample)
    loose: list[Any] = []
    try:
        with np.errstate(all="ignore"):
            oracle.truths(op, sample)
    except REFUSALS as error:
        raise Unfit(str(error)) from error
    with np.errstate(all="ignore"), watch() as launches:
        try:
            check_forward(case, where, lambda *found: loose.append(found))
        except ValueError as error:
            if launches:
                raise
            raise Refused(str(error)) from error
        if op.differentiable:
            check_gradient(case, where, lambda *found: loose.append(found))
    return not loose


@dataclass(frozen=True)
class Within:
    """What an example runs inside of: Python text of imports, and of a context manager."""

    imports: str
    context: str


def snippet(
    op: OpInfo,
    sample: SampleInput,
    dtype: str,
    backend: str,
    module: Path,
    *,
    made_by: Variation | None = None,
    within: Within | None = None,
) -> str:
    """A Python program that runs one example again: arguments, call, comparison.

    Parameters
    ----------
    op, sample, dtype, backend
        As `check_example` takes them.
    module : pathlib.Path
        The test module; its project's table has the operation, or its ``zmlx_ops``.
    made_by : Variation, optional
        Of which sample this is the variation: what a large one is written as.
    within : Within, optional
        Around the call.
    """
    standard, ours, table = _table(op, module)
    small = sum(a.size for a in arrays_of(sample)) <= MOST_LITERALS or made_by is None
    ours += [
        "from zmlx.testing.generated.example import check_example",
        "from zmlx.testing.opinfo import SampleInput, to_mx",
    ]
    if not small:
        ours.append("from zmlx.testing.variations import Variation")
    if within is not None:
        ours.append(within.imports)
    lines = [
        *(*standard, ""),
        *("import mlx.core as mx", "import numpy as np", "from numpy import inf, nan", ""),
        *(*sorted(ours), ""),
        f"mx.set_default_device(mx.{'cpu' if backend == 'cpu' else 'gpu'})",
        *table,
    ]
    lines.append(f"op = next(op for op in ops if op.name == {op.name!r})")
    lines += _literal(sample) if small else _drawn_again(made_by, dtype)
    if op.indices and not small:
        lines.append("sample = op.in_range(sample)")
    body = [
        f"result = op.op(*to_mx(sample, {dtype!r}), **sample.kwargs)",
        'print("got", result)',
        'print("expected", *op.expected(sample))',
        f"check_example(op, sample, {dtype!r})  # value and gradients by the tolerance, kernels, inputs",
    ]
    if within is not None:
        body = [f"with {within.context}:", *(f"    {line}" for line in body)]
    return "\n".join([*lines, *body, 'print("agrees")'])


def _table(op: OpInfo, module: Path) -> tuple[list[str], list[str], list[str]]:
    """How a program gets the table, `ops`: imports of the standard library, of zmlx, and what then makes it."""
    project = find_project(module.parent)
    try:
        known = any(
            (entry.name, entry.op, entry.oracle) == (op.name, op.op, op.oracle) for entry in project.ops
        )
    except (ProjectError, ImportError):
        known = False  # the test module itself has a table
    if known:
        return (
            ["from pathlib import Path"],
            ["from zmlx.testing.project import find_project"],
            [f"ops = find_project(Path({str(module.parent)!r})).ops"],
        )
    return (
        ["import runpy", "import sys"],
        [],
        [
            f"sys.path.insert(0, {str(module.parent)!r})",
            f'ops = runpy.run_path({str(module)!r})["zmlx_ops"]',
        ],
    )


def _literal(sample: SampleInput) -> list[str]:
    lines = ["sample = SampleInput(", f"    {sample.name!r},", "    ("]
    for value in sample.args:
        if isinstance(value, np.ndarray):
            lines += textwrap.wrap(
                f"{_array(value)},", 110, initial_indent=" " * 8, subsequent_indent=" " * 12
            )
        else:
            lines.append(f"        {value!r},")
    return [*lines, "    ),", f"    {dict(sample.kwargs)!r},", f"    layout={sample.layout!r},", ")"]


def _array(array: Any) -> str:
    if not array.size:
        return f"np.zeros({array.shape!r}, np.{array.dtype.name})"
    dtype = "" if array.dtype == np.float64 else f", np.{array.dtype.name}"
    return f"np.array({array.tolist()!r}{dtype})"


def _drawn_again(variation: Variation | None, dtype: str) -> list[str]:
    assert variation is not None
    return [
        f"base = next(sample for sample in op.sample_inputs() if sample.name == {variation.sample!r})",
        f"sample = {variation!r}.applied(base, {dtype!r})",
    ]
