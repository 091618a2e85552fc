"""What another run, another order of threads and TF32 change is seen, counted and held against the entry's claim."""

from __future__ import annotations

import itertools
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import mlx.core as mx
import numpy as np
import pytest

import zmlx
from zmlx.check.findings import KernelCheckError
from zmlx.check.ordered import ORDERS
from zmlx.testing import changes, tf32
from zmlx.testing.changes import between, reorder_threads, repeat_runs
from zmlx.testing.opinfo import OpInfo, SampleInput
from zmlx.testing.project import Project
from zmlx.testing.tf32 import Tf32Error, compare_tf32
from zmlx.testing.tolerance import Tolerance
from zmlx.testing.verification import Change
from zmlx.testing.verify import VerifyError, verify

pytestmark = pytest.mark.cpu

#: Sums in float32 that depend on their order: 1e8 swallows what comes after it.
VALUES = np.where(np.arange(96) % 7 == 0, 1e8, 1.0) * np.where(np.arange(96) % 14 == 0, -1, 1)

ATOMIC_SUM = zmlx.metal_kernel(
    "changes_atomic_sum",
    ["x"],
    ["y"],
    "atomic_fetch_add_explicit(&y[0], x[thread_position_in_grid.x], memory_order_relaxed);",
    atomic_outputs=True,
)

RACE = zmlx.metal_kernel(
    "changes_race",
    ["x"],
    ["y"],
    "uint i = thread_position_in_grid.x; y[0] = x[i];",
)

DOUBLE = zmlx.metal_kernel(
    "changes_double", ["x"], ["y"], "uint i = thread_position_in_grid.x; y[i] = x[i] * 2;"
)


LOOSE = {"float32": Tolerance(rtol=0.0, atol=1e10, reason="only the bits count here")}


def launcher(kernel: Any, size: int | None = None) -> Any:
    def call(x: Any) -> Any:
        shape = x.shape if size is None else (size,)
        return kernel(
            inputs=[x],
            output_shapes=[shape],
            output_dtypes=[x.dtype],
            grid=(x.size, 1, 1),
            threadgroup=(8, 1, 1),
            init_value=None if size is None else 0.0,
        )[0]

    return call


def samples(_: Any) -> Iterator[SampleInput]:
    yield SampleInput("small", (VALUES,))


def make(op: Any = None, **changed: Any) -> OpInfo:
    fields: dict[str, Any] = {
        "name": "made.double",
        "oracle": lambda x: 2 * x,
        "samples": samples,
        "source": "arithmetic",
        "dtypes": ("float32",),
    }
    return OpInfo(op=op or launcher(DOUBLE), **{**fields, **changed})


def cast(op: OpInfo) -> list[SampleInput]:
    return [sample.cast("float32") for sample in op.sample_inputs()]


# ---- differences ----


def test_differences_are_counted_by_bits_and_measured_in_ulps() -> None:
    one = np.float32
    first = [np.array([1, 2, 3, np.nan], one), np.array([0.0], one)]
    second = [np.array([1, 2 + 2**-21, 3, np.nan], one), np.array([-0.0], one)]
    third = [np.array([1 + 2**-23, 2, 3, np.nan], one), np.array([0.0], one)]
    assert between([first, first]) == Change(2, 5, 0, 0.0)
    found = between([first, second, third])
    assert (found.runs, found.elements, found.differing) == (3, 5, 3)
    assert found.max_ulp == 2.0  # 2 has ULPs of 2**-22; the zeros are equal, and their bits are not


def test_bits_of_every_kind_of_array() -> None:
    for array in (
        mx.array([1.5, 2], mx.bfloat16),
        mx.array([True, False]),
        mx.array([7, 8]),
        mx.zeros((0, 3)),
    ):
        assert between([[array], [array]]) == Change(2, array.size, 0, 0.0)
    assert between([[mx.array([1, 2])], [mx.array([1, 5])]]) == Change(2, 2, 1, 3.0)


# ---- runs ----


def test_runs_that_repeat_have_the_same_bits(mx_device: Any) -> None:
    op = make(differentiable=(0,), oracle_vjp=lambda x, dy: (2 * dy,), op=lambda x: x * 2, kernel=False)
    found = repeat_runs(op, cast(op), "float32", 3)
    assert found == Change(3, 2 * VALUES.size, 0, 0.0)  # results and gradients
    assert found.cell == "same bits"
    assert found.text("runs") == "same bits in 3 runs"


def test_a_run_that_differs_shows(mx_device: Any) -> None:
    counter = itertools.count()
    op = make(lambda x: x * 2 + (1e8 * 2**-20 if next(counter) == 2 else 0.0), kernel=False)
    found = repeat_runs(op, cast(op), "float32", 3)
    assert found.differing == VALUES.size
    assert found.cell.endswith(" ULP")
    assert found.text("runs").startswith("96 of 96 elements differ in 3 runs, by up to ")


def test_a_gradient_that_differs_shows(mx_device: Any) -> None:
    counter = itertools.count()

    @mx.custom_function
    def f(x: Any) -> Any:
        return 2 * x

    @f.vjp
    def _(primals: Any, cotangent: Any, output: Any) -> Any:
        return cotangent * (2.0 + next(counter))

    op = make(f, kernel=False, differentiable=(0,), oracle_vjp=lambda x, dy: (2 * dy,))
    found = repeat_runs(op, cast(op), "float32", 2)
    assert (found.elements, found.differing) == (192, 96)


# ---- orders ----


def test_a_sum_of_atomics_depends_on_the_order_of_threads() -> None:
    op = make(launcher(ATOMIC_SUM, 1), deterministic=False, oracle=lambda x: np.sum(x, keepdims=True))
    found = reorder_threads(op, cast(op), "float32")
    assert (found.runs, found.elements, found.differing) == (len(ORDERS), 1, 1)
    assert found.max_ulp > 0


def test_what_does_not_depend_on_it_is_the_same(mx_device: Any) -> None:
    before = mx.default_device()
    found = reorder_threads(make(), cast(make()), "float32")
    assert found == Change(len(ORDERS), VALUES.size, 0, 0.0)
    assert mx.default_device() == before


def test_findings_of_the_checker_end_it() -> None:
    op = make(launcher(RACE, 1))
    with pytest.raises(
        KernelCheckError, match=r"With its threads in another order \(lockstep\) the checker has"
    ) as e:
        reorder_threads(op, cast(op), "float32")
    assert {finding.kind for finding in e.value.findings} == {"data-race"}


def test_launches_take_the_shape_of_a_gpu_and_samples_are_small() -> None:
    seen: list[str] = []

    class Shape:
        def __enter__(self) -> None:
            seen.append("in")

        def __exit__(self, *_: object) -> None:
            seen.append("out")

    double = launcher(DOUBLE)
    large = SampleInput("large", (np.ones(changes.MOST_VALUES + 1),))
    empty = SampleInput("empty", (np.ones(0),))
    op = make(lambda x: seen.append("call") or double(x), gpu_shape=Shape)
    reorder_threads(op, [*cast(op), large, empty], "float32")
    assert seen == ["in", "call", "out"] * len(ORDERS)


# ---- TF32 ----

MODULE = """
import os
import numpy as np
from zmlx.testing import OpInfo, SampleInput

def op(x):
    if x.size == 0:
        raise RuntimeError("first line\\nit is empty")
    return x * (1 + 2.0**-10 * int(os.environ["MLX_ENABLE_TF32"]))

def entry(name, size):
    samples = lambda rng: [SampleInput("s", (np.ones(size),))]
    return OpInfo(name, op, lambda x: x, samples, "s", dtypes=("float32",), kernel=False, multiplies_matrices=True)

OPS = (entry("tf.sized", 3), entry("tf.empty", 0))
"""


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Project]:
    (tmp_path / "changes_tf32_ops.py").write_text(MODULE, encoding="utf-8")
    monkeypatch.setattr(tf32, "BACKENDS", ("cpu",))
    monkeypatch.setattr(sys, "path", list(sys.path))
    yield Project(tmp_path, ("changes_tf32_ops:OPS",), "here", tmp_path, {})
    sys.modules.pop("changes_tf32_ops", None)


def test_tf32_is_compared_in_two_processes_and_shown(project: Project) -> None:
    found = verify("cpu", "sized", ops=project.ops[:1], project=project)
    (row,) = found.rows
    assert row.tf32 == Change(2, 3, 3, 2.0**13)
    assert found.ok  # it changes what it is meant to change
    assert "8.19e+03 ULP" in found.text()
    assert "TF32: MLX_ENABLE_TF32 1 against 0; 1 of 1 rows differ" in found.text()


def test_a_process_that_fails_is_told(project: Project) -> None:
    op = project.ops[1]
    with pytest.raises(
        Tf32Error, match=r"^tf\.empty: the process with MLX_ENABLE_TF32=0 failed: .*it is empty$"
    ):
        compare_tf32(op, "cpu", project.root, project.tables)


def test_a_process_that_does_not_end_is_told(project: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tf32, "TIME_LIMIT", 0.01)
    expected = r"^tf\.sized: the process with MLX_ENABLE_TF32=0 did not end within 0\.01 s\.$"
    with pytest.raises(Tf32Error, match=expected):
        compare_tf32(project.ops[0], "cpu", project.root, project.tables)


def test_a_back_end_without_tf32_says_so() -> None:
    found = compare_tf32(make(), "cpu", Path(), ())
    assert found.cell == found.text("settings") == "not on this back end"


# ---- verify ----


def test_an_entry_that_promises_the_same_bits_is_held_to_it() -> None:
    def oracle(x: Any) -> Any:
        return np.sum(x, keepdims=True)

    op = make(launcher(ATOMIC_SUM, 1), name="made.atomic", oracle=oracle, tolerances=LOOSE)
    found = verify("cpu", ops=[op], orders=True)
    (failure,) = found.failures
    assert failure.direction == "orders"
    assert failure.message.startswith(
        "made.atomic/float32: expected the same bits, as `deterministic` says, got 1 of 1 elements differ in 4 orders, "
    )
    assert failure.message.endswith("on the order of threads, write deterministic=False.")
    assert "--kernel made.atomic --dtype float32 --orders" in found.text()
    allowed = make(op.op, name="made.atomic", oracle=oracle, tolerances=LOOSE, deterministic=False)
    found = verify("cpu", ops=[allowed], orders=True)
    assert found.ok
    assert found.rows[0].orders.differing == 1
    assert (
        "orders: each launch with its threads in 4 orders, on the CPU, small samples; 1 of 1 rows differ"
        in (found.text())
    )


def test_runs_are_compared_where_they_are_asked_for() -> None:
    double, counter = launcher(DOUBLE), itertools.count()
    drifting = make(lambda x: double(x) + 8.0 * (next(counter) % 2), name="made.drifting", tolerances=LOOSE)
    assert verify("cpu", ops=[make()]).rows[0].repeats is None
    found = verify("cpu", ops=[make(), drifting], runs=2)
    assert [row.repeats.cell for row in found.rows] == ["same bits", "1 ULP"]
    (failure,) = found.failures
    assert failure.case == "made.drifting/float32/all"
    assert "of 96 elements differ in 2 runs, by up to 1 ULP at the RMS." in failure.message
    with pytest.raises(VerifyError, match=r"^--runs: expected 1 or more, got 0\.$"):
        verify("cpu", ops=[make()], runs=0)


def test_a_kernel_with_findings_fails_in_its_row() -> None:
    op = make(launcher(RACE, 1), oracle=lambda x: x[-1:], tolerances=LOOSE)
    (failure,) = verify("cpu", ops=[op], orders=True).failures
    assert failure.direction == "orders"
    assert "KernelCheckError: [metal_kernel] With its threads in another order (lockstep)" in failure.message


def test_what_is_wrong_already_is_not_run_again() -> None:
    found = verify("cpu", ops=[make(oracle=lambda x: 3 * x)], runs=3, orders=True)
    assert found.rows[0].repeats is None
    assert {failure.direction for failure in found.failures} == {"forward"}
