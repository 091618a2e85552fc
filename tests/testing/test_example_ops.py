"""Operations with several results, integers, labels and keyword arguments: every generated test, and what each notices;
golden values and `verify` of them."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import mlx.core as mx
import numpy as np
import pytest
from example_ops import DROP, OPS, PICK, SCALED, TOP, drop, pick, scaled, top

from zmlx.testing import opinfo_tests
from zmlx.testing.generated import claims, forward, gradients, invariance, transforms
from zmlx.testing.generated.case import first_case
from zmlx.testing.generated.example import snippet
from zmlx.testing.golden import run as golden
from zmlx.testing.golden.file import GoldenError
from zmlx.testing.opinfo import OpInfo, SampleInput
from zmlx.testing.tolerance import Tolerance, default_tolerance
from zmlx.testing.variations import Variation
from zmlx.testing.verify import verify

pytestmark = pytest.mark.cpu

opinfo_tests(OPS)


def _nothing(*_: Any) -> None:
    """Records no error."""


def changed(op: OpInfo, function: Any, **fields: Any) -> OpInfo:
    """The entry with another function of the same arguments."""
    return replace(op, op=function, dtypes=("float32",), **fields)


def off_in_the_second(x: mx.array, w: mx.array, *, factor: float = 1.0) -> Any:
    one, other = scaled(x, w, factor=factor)
    return one, other * 1.01


def next_place(x: mx.array) -> Any:
    value, place = top(x)
    return value, place + 1


def of_the_first_only(x: mx.array, w: mx.array, *, factor: float = 1.0) -> Any:
    one, other = scaled(x, w, factor=factor)
    return one, mx.stop_gradient(other)


FAULTS: dict[str, tuple[OpInfo, Any, str]] = {
    "second result": (
        changed(SCALED, off_in_the_second),
        forward.check_forward,
        r"example\.scaled/float32/small:1: \d+ of 24 elements",
    ),
    "integers are exact": (
        changed(TOP, next_place),
        forward.check_forward,
        r"example\.top/float32/small:1: 4 of 4 elements",
    ),
    "integers are exact whatever floats may be off": (
        changed(TOP, next_place, tolerances={"float32": Tolerance(10.0, 10.0, reason="for this test")}),
        forward.check_forward,
        r"example\.top/float32/small:1: 4 of 4 elements",
    ),
    "dtype of the second": (
        changed(TOP, top, out_dtype=lambda dtype: (dtype, "uint32")),
        forward.check_forward,
        r"small:1: got int32, the entry promises uint32",
    ),
    "number of results": (
        changed(TOP, lambda x: top(x)[0]),
        forward.check_forward,
        r"small: 1 results, the oracle has 2",
    ),
    "number of dtypes": (
        changed(TOP, top, out_dtype=lambda dtype: (dtype, "int32", "int32")),
        forward.check_forward,
        r"expected `out_dtype` to give one name, or one for each of 2 results; got \('float32', 'int32', 'int32'\)",
    ),
    "a cotangent for each": (
        changed(SCALED, of_the_first_only),
        gradients.check_gradient,
        r"gradient of argument 0: \d+ of 24 elements",
    ),
    "keyword arguments": (
        changed(DROP, lambda x, *, seed: drop(x, seed=seed + 1)),
        forward.check_forward,
        r"example\.drop/float32/small: \d+ of 24 elements",
    ),
    "labels": (
        changed(PICK, lambda x, labels, sinks: pick(x, mx.maximum(labels, 0), sinks)),
        forward.check_forward,
        r"example\.pick/float32/small: 1 of 4 elements",
    ),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_fault_is_noticed(fault: str) -> None:
    op, check, message = FAULTS[fault]
    with pytest.raises((AssertionError, pytest.fail.Exception, ValueError), match=message):
        check(first_case(op), "cpu", _nothing)


def test_vmap_compares_every_result() -> None:
    calls = iter(range(100))

    def drifting(x: mx.array, *, seed: int) -> Any:
        return drop(x, seed=seed), x + (1 if next(calls) else 0)

    op = changed(DROP, drifting, oracle=lambda x, *, seed: (x, x))
    with pytest.raises(pytest.fail.Exception, match=r"vmap, result 1: "):
        transforms.check_vmap(op, "float32", 0, "cpu")


def test_runs_and_layouts_compare_every_result() -> None:
    calls = iter(range(100))

    def drifting(x: mx.array, *, seed: int) -> Any:
        return drop(x, seed=seed), mx.full(x.shape, next(calls))

    op = changed(DROP, drifting)
    with pytest.raises(pytest.fail.Exception, match=r"two runs, result 1: "):
        invariance.check_repeats(op, "float32")
    with pytest.raises(pytest.fail.Exception, match=r"transposed against row, result 1: "):
        invariance.check_layout(op, "float32", "transposed")


def test_the_refused_dtype_is_that_of_the_first_argument_of_floats() -> None:
    def swapped(labels: mx.array, x: mx.array, sinks: mx.array) -> mx.array:
        return pick(x, labels, sinks)

    def samples(rng: Any) -> Any:
        for sample in PICK.samples(rng):
            x, labels, sinks = sample.args
            yield replace(sample, args=(labels, x, sinks))

    op = replace(PICK, op=swapped, samples=samples, differentiable=(), oracle_vjp=None)
    assert first_case(op).first == 1
    claims.check_other_dtypes(op, "cpu")
    lax = replace(op, op=lambda labels, x, sinks: swapped(labels, x.astype(mx.float32), sinks))
    with pytest.raises(pytest.fail.Exception, match="takes bool_, which its entry does not claim"):
        claims.check_other_dtypes(lax, "cpu")


def test_tolerances_are_for_floats_among_the_results() -> None:
    given = Tolerance(1e-2, 1e-5, reason="for this test")
    op = replace(TOP, tolerances={"float32": given})
    assert op.tolerance("float32") == given
    assert op.tolerance("float32", result=1) == default_tolerance("int32")
    assert op.tolerance("float16") == default_tolerance("float16")
    assert op.tolerance("float16", grad=True, result=1) == default_tolerance("float16")
    assert replace(op, out_dtype=lambda dtype: "int32").tolerance("float32") == given


def test_indices_stay_below_the_extent_that_they_count_along() -> None:
    sample = SampleInput("few", (np.zeros((4, 3)), np.array([5, 2, -100, 3], np.int32), np.zeros(4)))
    kept = PICK.in_range(sample).args[1]
    assert kept.tolist() == [2, 2, -100, 0]
    assert kept.dtype == np.int32
    assert replace(PICK, indices={}).in_range(sample).args[1] is sample.args[1]


@pytest.fixture(scope="module")
def recorded(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory with the cpu.json of all of them; do not change it."""
    directory = tmp_path_factory.mktemp("golden")
    golden.record("cpu", directory, ops=OPS)
    return directory


def test_every_result_is_recorded_and_compared(recorded: Path) -> None:
    cases = json.loads((recorded / "cpu.json").read_text())["cases"]
    own = {name: case["dtype"] for name, case in cases.items() if "float32" in name}
    assert own == {
        "example.scaled/float32/small:0": "float32",
        "example.scaled/float32/small:1": "float32",
        "example.scaled/float32/odd:0": "float32",
        "example.scaled/float32/odd:1": "float32",
        "example.top/float32/small:0": "float32",
        "example.top/float32/small:1": "int32",
        "example.pick/float32/small": "float32",
        "example.drop/float32/small": "float32",
    }
    comparison = golden.compare_live(recorded, backend="cpu", ops=OPS)
    assert comparison.ok, comparison.findings
    gradients = {(r.case, r.part) for r in comparison.results if r.part and r.dtype == "float32"}
    assert gradients == {
        ("example.scaled/float32/small", "gradient of x"),
        ("example.scaled/float32/odd", "gradient of x"),
        ("example.top/float32/small", "gradient of x"),
        ("example.pick/float32/small", "gradient of x"),
    }


def test_a_changed_integer_is_noticed(recorded: Path) -> None:
    wrong = [changed(TOP, next_place)]
    comparison = golden.compare_live(recorded, backend="cpu", ops=wrong)
    assert "example.top/float32/small:1" in {f.case for f in comparison.findings if f.kind == "values"}


def test_the_wrong_number_of_results_is_not_recorded(tmp_path: Path) -> None:
    with pytest.raises(GoldenError, match=r"example\.top/float32/small:0: 1 results, the oracle has 2\."):
        golden.record("cpu", tmp_path, ops=[changed(TOP, lambda x: top(x)[0])])


def test_verify_takes_them_all() -> None:
    found = verify("cpu", ops=OPS, dtype="float32", runs=2, orders=True)
    assert found.ok, [f.message for row in found.rows for f in row.failures]
    assert [(row.op, row.gradient is not None) for row in found.rows] == [
        (op.name, bool(op.differentiable)) for op in OPS
    ]


def test_verify_names_the_result() -> None:
    (row,) = verify("cpu", ops=[changed(SCALED, off_in_the_second)]).rows
    assert "example.scaled/float32/odd:1: " in "".join(f.message for f in row.failures)


def test_a_large_example_of_labels_is_drawn_again_within_their_range() -> None:
    variation = Variation("small", {4: 600, 6: 2})
    sample = PICK.in_range(variation.applied(PICK.sample_inputs()[0], "float32"))
    program = snippet(PICK, sample, "float32", "cpu", Path(__file__), made_by=variation)
    assert "\nsample = op.in_range(sample)\n" in program
    ran = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, env={**os.environ, **_importable()}
    )
    assert ran.stdout.endswith("agrees\n"), ran.stderr


def _importable() -> dict[str, str]:
    return {"PYTHONPATH": os.pathsep.join([str(Path(__file__).parent), os.environ.get("PYTHONPATH", "")])}


def test_a_layout_that_no_sample_can_have_is_named_with_what_to_do() -> None:
    def samples(rng: Any) -> Any:
        yield SampleInput("flat", (rng("flat").normal((5,)),))

    op = OpInfo("mine.flat", mx.abs, np.abs, samples, "|x|", kernel=False)
    with pytest.raises(
        pytest.fail.Exception, match=r"no sample .* leave 'transposed' out of the OpInfo's `layouts`"
    ):
        invariance.check_layout(op, "float32", "transposed")
