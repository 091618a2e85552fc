"""Rows too long and too many for 16 bits, and what a text alone can show of those too large for 32."""

from __future__ import annotations

import re

import numpy as np
import pytest

from zmlx.testing.bench.arguments import arguments_of, drawn_sample
from zmlx.testing.generated.case import Case, kernels_of, results
from zmlx.testing.large import ways_of
from zmlx.testing.launches import recorded_launches
from zmlx.testing.op_db import op_db
from zmlx.testing.opinfo import OpInfo, case_rng

pytestmark = pytest.mark.usefixtures("mx_device")

KERNELS = kernels_of(op_db)

#: More than 16 bits count, and no multiple of a chunk.
LONG = 70_001


def _rows_of(op: OpInfo) -> list[int]:
    """How long rows are that the benchmark draws for results of `LONG`; none where it draws no arguments. What makes
    rows of another length, as heads of attention are, has tests of long rows of its own."""
    return [a.shape[-1] for a in arguments_of(op.rivals, 2, LONG)] if op.rivals is not None else []


def _is_made_long(op: OpInfo) -> bool:
    """Whether the samples of the generated test_large have results of such rows: those of gates, half as long as their
    arguments, are too short there."""
    return "columns" in ways_of(op) and max(_rows_of(op)) <= LONG


TIMED = tuple(op for op in KERNELS if max(_rows_of(op), default=0) >= LONG and not _is_made_long(op))


@pytest.mark.parametrize("op", TIMED, ids=str)
def test_rows_longer_than_16_bits_count(op, record_error):
    """Lengths, and where in a row a thread begins, are whole numbers of 32 bits, backward too."""
    assert op.rivals is not None
    rng = case_rng(op.name)("long")
    # Around one: the terms of a long sum do not cancel.
    sample = drawn_sample(op.rivals, 2, LONG, rng, "long", loc=1.0)
    case = Case(op, "float32", sample.cast("float32"))
    made = results(case)
    case.check_all(made, record_error)


def test_more_rows_than_a_grid_takes():
    """The limits themselves: 2**20 threadgroups in one row, 65535 times 128 rows of threads along y."""
    import mlx.core as mx

    from zmlx.kernels import _rows, reductions, transformer

    count = _rows.MAX_GROUPS + 5
    column = mx.arange(count).astype(mx.float32)[:, None]
    assert mx.array_equal(reductions.sum_lastdim(column), column[:, 0])

    count = _rows.MAX_GROUPS_Y * _rows.SPAN_THREADS + 3
    values = (mx.arange(count) % 7).astype(mx.float32)
    y = transformer.swiglu(mx.stack([mx.ones(count), values], axis=1))
    assert mx.allclose(y[:, 0], values * (1 / (1 + np.exp(-1))), rtol=1e-6, atol=0).item()


_PRODUCT = re.compile(r"\* (?:length|columns)\b")


def _is_wide(source: str, end: int) -> bool:
    """Whether the product that ends there has 64 bits: its statement, or the variable in front of it, is a size_t."""
    statement = source[max(source.rfind(mark, 0, end) for mark in ";{},") + 1 : end]
    factor = re.search(r"(\w+) \* (?:2 \* )?\w+$", statement)
    return "size_t(" in statement or bool(
        factor and re.search(rf"\bsize_t (?:\w+ = [^;]*, )?{factor[1]} =", source)
    )


@pytest.mark.tools
@pytest.mark.parametrize("op", KERNELS, ids=str)
def test_where_a_row_begins_is_counted_in_64_bits(op: OpInfo):
    """By the kernels' text: to compute it would take arrays of more than 2**32 values."""
    from zmlx.kernels import _rows

    for dtype in ("float32", "float16"):
        launches = recorded_launches(op, dtype, "cuda")
        assert launches
        with _rows.override(32, 0):  # rows that are longer than a thread can hold
            longer = recorded_launches(op, dtype, "cuda")
        for record in (*launches, *longer):
            source = record.kernel.source
            narrow = [
                source[product.start() - 60 : product.end()]
                for product in _PRODUCT.finditer(source)
                if not _is_wide(source, product.end())
            ]
            assert not narrow, record.kernel.name


@pytest.mark.tools
def test_kernels_of_rows_multiply_by_the_length_of_a_row():
    """Else the test above would look for what is not there."""
    found = {
        record.kernel.name
        for op in KERNELS
        for record in recorded_launches(op, "float32", "cuda")
        if _PRODUCT.search(record.kernel.source)
    }
    for name in ("rmsnorm", "rmsnorm_vjp", "layernorm", "sum", "softmax", "softmax_vjp", "swiglu", "geglu"):
        assert f"zmlx_{name}" in found
