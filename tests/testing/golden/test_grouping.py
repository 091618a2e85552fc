"""Findings as a person reads them: by operation, the worst first, what to ask before what to do."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from zmlx._text import count
from zmlx.testing import OpInfo, SampleInput
from zmlx.testing.golden.about import source_file
from zmlx.testing.golden.comparison import About, CaseResult, Comparison, Finding, figure_text
from zmlx.testing.golden.grouping import finding_lines, group_findings
from zmlx.testing.golden.summary import summary_lines
from zmlx.testing.op_db import op_db

pytestmark = pytest.mark.cpu


def result(op, sample, max_ulp, subject="live", against="oracle"):
    case = f"{op}/float32/{sample}"
    return CaseResult(subject, against, case, op, "float32", max_ulp, max_ulp, 4, False, max_ulp < 10)


def values(of):
    worst = f"  worst element [{of.max_ulp:g}]"
    message = f"{of.subject} against {of.against}: {of.case}: 4 of 4 elements are outside\n{worst}"
    return Finding("values", of.subject, of.case, message)


def broken_constant():
    """What one wrong number in a kernel makes: a kernel's every case wrong in every comparison, and its hash stale."""
    results, findings = [], []
    for i in range(12):
        for against in ("oracle", "cuda"):
            results.append(result("norms.rmsnorm", f"s{i}", 1000.0 + i, against=against))
            findings.append(values(results[-1]))
    for backend in ("cpu", "cuda"):
        message = f"{backend}.json was recorded from another kernel source"
        findings.append(Finding("stale source", backend, "norms.rmsnorm/float32/s0", message, 12))
    findings += [Finding("ratchet", "live", f"norms.rmsnorm/float32/s{i}", "grew") for i in range(7)]
    return results, findings


def comparison(results, findings):
    about = {"norms.rmsnorm": About("a paper", "zmlx/kernels/norms.py")}
    return Comparison("cpu", {}, {}, tuple(results), tuple(findings), about=about)


def test_one_broken_constant_is_one_group_of_few_lines():
    results, findings = broken_constant()
    assert len(findings) == 33
    both = "12 comparisons of live cpu against oracle; 12 comparisons of live cpu against cuda"
    assert finding_lines(group_findings(comparison(results, findings))) == [
        "FAIL norms.rmsnorm (zmlx/kernels/norms.py): 33 findings, worst 1.01e+03 ULP",
        "  ratchet: the error is more than twice the recorded one in 7 cases",
        "  stale source: another kernel source than that of cpu.json and cuda.json",
        f"  values: outside the tolerance in {both}",
        "  live against oracle: norms.rmsnorm/float32/s11: 4 of 4 elements are outside",
        "    worst element [1011]",
        "  Did you mean to change zmlx/kernels/norms.py? If not, undo the change.",
        "  If you did, record it again, on cpu and on cuda: python -m zmlx golden record --kernel norms.rmsnorm",
        "  More: python -m zmlx golden compare --explain norms.rmsnorm/float32/s11",
    ]


def test_of_a_case_the_message_on_its_worst_part_is_shown():
    value, gradient = result("a.b", "s", 20.0), replace(result("a.b", "s", 90.0), part="gradient of x")
    said = replace(values(gradient), message="live against oracle: a.b/float32/s, gradient of x: wrong")
    for results, message in (
        ([value, gradient], said.message),
        ([replace(value, max_ulp=99.0), gradient], None),
    ):
        (group,) = group_findings(comparison(results, [values(value), said]))
        assert group.worst == (message or values(value).message)
    assert "1 comparison of live cpu against oracle (gradients)" in "\n".join(group.lines())


def test_the_worst_comes_first_and_files_before_all():
    results, findings = broken_constant()
    worse = result("softmax.softmax", "s", 1e6)
    damaged = Finding("file", "metal", "", "metal.json is truncated")
    groups = group_findings(comparison([*results, worse], [*findings, values(worse), damaged]))
    assert [group.op for group in groups] == ["", "softmax.softmax", "norms.rmsnorm"]
    assert finding_lines(groups)[0] == "FAIL file: metal.json is truncated"
    assert groups[1].headline == "softmax.softmax: 1 finding, worst 1e+06 ULP"


def test_findings_that_no_change_of_a_kernel_makes_ask_for_none():
    finding = Finding("fallback", "live", "a.b/float32/s", "a.b/float32/s: no kernel ran")
    (group,) = group_findings(comparison([], [finding]))
    assert finding_lines([group]) == ["FAIL a.b: 1 finding", "  fallback: a.b/float32/s: no kernel ran"]
    (group,) = group_findings(comparison([], [finding] * 5))
    assert group.lines()[-1] == "fallback: 3 more findings of this kind"


def test_summary_lines_are_short_and_count_in_words():
    good = replace(result("a.b", "s", 1.672e-53), identical=True)
    lines = summary_lines(comparison([good], []))
    assert lines[1:3] == [
        "compared              cases  identical      max ULP",
        "live cpu with oracle      1          1  below 0.001",
    ]
    assert lines[-1] == "golden values agree: 1 comparison, nothing outside its tolerance"
    results, findings = broken_constant()
    assert summary_lines(comparison(results, findings[:1]))[-1] == "golden values do not agree: 1 finding"
    assert summary_lines(comparison(results, findings))[-1] == "golden values do not agree: 33 findings"


@pytest.mark.parametrize(
    ("value", "text"),
    [(None, "None"), (0.0, "0"), (1.672e-53, "below 0.001"), (0.4567891, "0.4568"), (9.0, "9")],
)
def test_figures_for_people(value, text):
    assert figure_text(value) == text


def test_counts():
    assert [count(n, "case") for n in (0, 1, 2)] == ["0 cases", "1 case", "2 cases"]


def test_the_file_of_every_kernel_is_known_and_that_of_no_stock_operation():
    for op in op_db:
        wanted = f"kernels/{op.name.partition('.')[0]}.py" if op.kernel else ""
        assert source_file(op).endswith(wanted)
        assert bool(source_file(op)) is op.kernel


@pytest.mark.parametrize("wrapper", ["custom_function", "compile"])
def test_a_kernel_that_mlx_has_wrapped_is_not_in_a_file_of_mlx(wrapper):
    mx = pytest.importorskip("mlx.core")
    op = OpInfo(
        "mine.same", getattr(mx, wrapper)(lambda x: x), lambda x: x, one_sample, "x = x", kernels=("same",)
    )
    assert op.kernel
    assert Path(source_file(op)).name == Path(__file__).name


def one_sample(rng):
    yield SampleInput("one", (rng("one").normal((3,)),))
