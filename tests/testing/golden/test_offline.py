"""Golden files where NumPy, MLX or both are missing: imports are blocked in a process of its own."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

import zmlx
from zmlx.testing._formats import FLOAT_FORMATS, round_one, round_to, ulp, ulp_at
from zmlx.testing.golden.case import GoldenCase
from zmlx.testing.golden.comparison import count_in_bins
from zmlx.testing.golden.distances import distance, drift, unravel
from zmlx.testing.golden.file import GoldenFile, save
from zmlx.testing.golden.offline import compare_values, missing_package
from zmlx.testing.golden.summary import summary_lines
from zmlx.testing.tolerance import Tolerance, error_stats, ulp_distance

pytestmark = pytest.mark.cpu

ROOT = Path(zmlx.__file__).parent.parent
SPECIAL = [
    0.0,
    -0.0,
    1.0,
    -1.0,
    1e-45,
    6e-8,
    65504.0,
    65520.0,
    3.4e38,
    1e39,
    0.1,
    np.inf,
    -np.inf,
    np.nan,
    1e-320,
]

RUN = """
import sys


class Blocked:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in {blocked!r}:
            raise ModuleNotFoundError(f"No module named {{name!r}}", name=name)


sys.meta_path.insert(0, Blocked())
from zmlx.__main__ import main

status = main(sys.argv[1:])
assert not {blocked!r} & {{name.partition(".")[0] for name in sys.modules}}
sys.exit(status)
"""


def run(blocked, *arguments, cwd=ROOT):
    code = RUN.format(blocked=set(blocked))
    return subprocess.run(
        [sys.executable, "-c", code, *arguments],
        capture_output=True,
        text=True,
        cwd=cwd,
        env={"PYTHONPATH": str(ROOT), "PATH": "/usr/bin:/bin"},
    )


NOTHING = ("numpy", "mlx", "platformdirs", "filelock")


def test_the_report_needs_nothing_but_python(tmp_path):
    page = tmp_path / "r.html"
    done = run(NOTHING, "report", "--html", str(page), "--markdown", str(tmp_path / "r.md"))
    assert done.returncode == 0, done.stdout + done.stderr
    assert "not loaded: NumPy is missing here" in done.stdout
    assert "note: not checked, for NumPy cannot be imported here: oracles" in done.stdout
    assert (
        "metal: not recorded; on such a machine: python -m zmlx golden record --backend metal" in done.stdout
    )
    from zmlx.testing.op_db import op_db

    kernels = sum(op.kernel for op in op_db)
    whole = "the files are whole and fit together; tolerances were not judged here"
    verdict = f"PASS: {kernels} kernels on cuda, cpu: {whole}"
    assert verdict in done.stdout.splitlines()
    assert "The back ends agree" not in page.read_text(encoding="utf-8")
    assert "as recorded" in page.read_text(encoding="utf-8")


def test_as_many_cases_are_identical_without_numpy_as_with_it():
    def pair(text):
        (line,) = (line for line in text.splitlines() if line.startswith("cpu - cuda "))
        return line.split()[3:5]

    without, having = run(NOTHING, "report"), run((), "report")
    assert (without.returncode, having.returncode) == (0, 0), without.stderr + having.stderr
    assert pair(without.stdout) == pair(having.stdout) != ["0", "0"]


def test_with_numpy_only_the_sources_are_left_out():
    done = run(("mlx",), "report")
    assert done.returncode == 0, done.stdout + done.stderr
    assert (
        "note: MLX does not import here: values were compared with the oracle and with each other"
        in done.stdout
    )
    assert "How much of the tolerance that is" in done.stdout


@pytest.mark.parametrize("blocked", [NOTHING, ("mlx",), ()], ids=["nothing", "numpy", "all"])
def test_offline_comparison_and_explanation(blocked):
    done = run(blocked, "golden", "compare", "--offline")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "cpu - cuda" in done.stdout
    told = run(blocked, "golden", "compare", "--explain", "norms.rmsnorm/float32/odd")
    assert told.returncode == 0, told.stdout + told.stderr
    assert "cpu.json against cuda.json: within" in told.stdout
    assert "  worst element [" in told.stdout
    assert ("weight: 0.67412585 in column 6" in told.stdout) is (blocked != NOTHING)


def test_a_case_that_nobody_has_names_the_nearest():
    done = run(NOTHING, "golden", "compare", "--explain", "norms.rmsnorm/float32/od")
    assert done.returncode == 2
    assert done.stderr.startswith(
        "zmlx: No golden file has a case 'norms.rmsnorm/float32/od'. Did you mean norms.rmsnorm/float32/odd,"
    )


def test_a_back_end_has_no_meaning_offline():
    done = run(NOTHING, "golden", "compare", "--offline", "--backend", "cpu")
    assert (done.returncode, done.stderr) == (
        2,
        "zmlx: --offline and --explain run nothing, so --backend has no meaning beside them.\n",
    )


def test_the_readme_is_not_written_from_half_of_the_checks(tmp_path):
    readme = tmp_path / "README.md"
    readme.write_text("<!-- zmlx report: begin -->\n<!-- zmlx report: end -->\n")
    done = run(NOTHING, "report", "--update-readme", str(readme))
    assert done.returncode == 1
    assert done.stderr == f"zmlx: {readme} is left as it was: its tables need NumPy and MLX.\n"


CASE = GoldenCase("float32", (2,), (0.5, 1.0), "i", "s", 0.5, 0.2)


def compare(tmp_path, mine, theirs=CASE):
    save(GoldenFile("cuda", {}, {"a.b/float32/s": theirs}), tmp_path / "cuda.json")
    save(GoldenFile("cpu", {}, {"a.b/float32/s": mine} if mine else {}), tmp_path / "cpu.json")
    return compare_values(tmp_path, "x")


@pytest.mark.parametrize(
    ("mine", "kind", "said"),
    [
        (replace(CASE, input_hash="j"), "stale input", "the two were recorded from different inputs"),
        (replace(CASE, source_hash="t"), "stale source", "recorded from different sources of the kernel"),
        (replace(CASE, source_hash="t", other_sources={"cuda": "r"}), "stale source", "different sources"),
        (replace(CASE, source_hash="t", other_sources={"metal": "s"}), "stale source", "different sources"),
        (replace(CASE, shape=(1, 2)), "shape", "float32 of shape (1, 2) and float32 of shape (2,) cannot"),
        (replace(CASE, values=(0.5, "nan")), "values", "a NaN or an infinity where the other has a number"),
    ],
)
def test_what_is_wrong_between_two_files_is_found(tmp_path, mine, kind, said):
    comparison = compare(tmp_path, mine)
    (finding,) = comparison.findings
    assert not comparison.ok
    assert (finding.kind, finding.case) == (kind, "a.b/float32/s")
    assert finding.message.startswith("cpu against cuda: a.b/float32/s: ")
    assert said in finding.message


@pytest.mark.parametrize("knows", ["mine", "theirs"])
def test_back_ends_may_launch_kernels_of_their_own(tmp_path, knows):
    """One of the two files says what the other was to be recorded from."""
    mine = replace(CASE, source_hash="t", other_sources={"cuda": "s"} if knows == "mine" else {})
    theirs = replace(CASE, other_sources={"cpu": "t"} if knows == "theirs" else {})
    comparison = compare(tmp_path, mine, theirs)
    assert comparison.ok
    assert [r.identical for r in comparison.results if r.against == "cuda"] == [True]


def test_a_difference_is_shown_and_not_judged(tmp_path):
    comparison = compare(tmp_path, replace(CASE, values=(0.5, 1.01)))
    assert comparison.ok
    (result,) = (r for r in comparison.results if r.against == "cuda")
    # One has its ULP at 2**-23, which is more than that of the RMS of (0.5, 1).
    assert result.max_ulp == pytest.approx((1.01 - 1) * 2**23, rel=1e-3)
    assert (result.share, result.identical, result.worst.index) == (None, False, (1,))


def test_equal_files_agree_and_a_case_that_one_lacks_is_pending(tmp_path):
    comparison = compare(tmp_path, CASE)
    assert comparison.ok
    assert [r.identical for r in comparison.results if r.against == "cuda"] == [True]
    assert (
        summary_lines(comparison)[-1] == "golden values agree: 3 comparisons, tolerances were not judged here"
    )
    comparison = compare(tmp_path, None)
    assert [(p.backend, p.cases) for p in comparison.pending] == [("cpu", ("a.b/float32/s",))]


def test_missing_packages_are_told_from_mistakes():
    assert missing_package(ModuleNotFoundError("x", name="mlx.core")) == "MLX"
    assert missing_package(ModuleNotFoundError("x", name="numpy")) == "NumPy"
    assert missing_package(ModuleNotFoundError("x", name="nump")) is None


@pytest.mark.parametrize("dtype", FLOAT_FORMATS)
def test_numbers_without_numpy_are_those_with_it(dtype):
    drawn = np.random.default_rng(3)
    values = [*SPECIAL, *(drawn.standard_normal(300) * 2.0 ** drawn.integers(-150, 130, 300)).tolist()]
    with np.errstate(all="ignore"):
        rounded = round_to(values, dtype)
        assert np.array_equal([round_one(v, dtype) for v in values], rounded, equal_nan=True)
        assert np.signbit([round_one(v, dtype) for v in values]).tolist() == np.signbit(rounded).tolist()
        assert [ulp_at(v, dtype) for v in values] == ulp(values, dtype).tolist()
        others = round_to(np.roll(values, 1), dtype)
        for floor in (0.0, 1e-5):
            wanted = ulp_distance(rounded, others, dtype, floor=floor).tolist()
            got = [
                distance(a, b, dtype, floor) for a, b in zip(rounded.tolist(), others.tolist(), strict=True)
            ]
            assert got == wanted


@pytest.mark.parametrize("dtype", ["float32", "float16", "bfloat16"])
def test_drift_has_the_figures_of_error_stats(dtype):
    drawn = np.random.default_rng(5)
    one = round_to(drawn.standard_normal((3, 5)), dtype)
    two = round_to(one * (1 + 2.0 ** -np.asarray(drawn.integers(6, 20, (3, 5)))), dtype)
    cases = [GoldenCase.from_array(array, dtype) for array in (one, two)]
    found = drift(*cases)
    stats = error_stats(one, two, dtype)
    assert found.max_ulp == stats.max_ulp
    assert found.rms == pytest.approx(stats.rms, rel=1e-12)
    assert found.worst.index == stats.worst_index
    assert found.bins == count_in_bins(ulp_distance(one, two, dtype, floor=1e-5).ravel().tolist())
    assert not found.identical
    assert drift(cases[0], cases[0]).identical


def test_drift_of_other_dtypes():
    whole = drift(GoldenCase("int64", (2,), (2**60, 3)), GoldenCase("int64", (2,), (2**60 + 1, 3)))
    assert (whole.max_ulp, whole.identical, whole.share) == (1.0, False, float("inf"))
    pair = [
        GoldenCase.from_array(np.array([1 + 2j, np.nan]), "complex64"),
        GoldenCase("complex64", (2,), (1, 2, "nan", 0)),
    ]
    found = drift(*pair)
    assert (found.max_ulp, found.identical, found.worst.index) == (0.0, True, (0, 0))
    signs = drift(GoldenCase("float32", (1,), (0.0,)), GoldenCase("float32", (1,), (-0.0,)))
    assert (signs.max_ulp, signs.identical) == (0.0, False)
    empty = drift(GoldenCase("float32", (0,), ()), GoldenCase("float32", (0,), ()))
    assert (empty.worst, empty.rms, empty.identical) == (None, 0.0, True)


def test_the_share_is_the_largest_part_of_the_tolerance():
    mine, theirs = GoldenCase("float32", (2,), (1.5, 100.0)), GoldenCase("float32", (2,), (1.0, 101.0))
    assert drift(mine, theirs, Tolerance(rtol=0.0, atol=2.0)).share == 0.5


def test_unravel():
    assert [unravel(i, (2, 3)) for i in (0, 2, 5)] == [(0, 0), (0, 2), (1, 2)]
    assert unravel(0, ()) == ()


def test_decoded_values_are_those_of_the_array():
    for name in ("cpu", "cuda"):
        cases = json.loads((ROOT / "golden_values" / f"{name}.json").read_text())["cases"]
        for raw in list(cases.values())[::7]:
            case = GoldenCase.from_json(raw)
            assert np.array_equal(case.numbers(), case.array().ravel(), equal_nan=True)
