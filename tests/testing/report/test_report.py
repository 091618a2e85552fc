"""The agreement report: what it says, in all three forms, and that it hides nothing."""

import html.parser
import re
from dataclasses import replace

import pytest

from zmlx.testing.golden.comparison import CaseResult, Comparison, Finding, Pending
from zmlx.testing.golden.file import GoldenFile
from zmlx.testing.report.html import render_html
from zmlx.testing.report.model import build_report, figure
from zmlx.testing.report.text import render_markdown, render_terminal
from zmlx.testing.report.write import write_report

ENVIRONMENT = {"device": "M<4> & co", "mlx": "0.32.4", "os": "macOS 15.1", "date": "2026-01-31", "tf32": "0"}


def result(subject, against, op, dtype, max_ulp, *, sample="small", identical=False, ok=True):
    return CaseResult(
        subject, against, f"{op}/{dtype}/{sample}", op, dtype, max_ulp, max_ulp / 2, 12, identical, ok
    )


RESULTS = (
    result("metal", "oracle", "norms.rmsnorm", "float32", 1.5),
    result("metal", "oracle", "norms.rmsnorm", "float32", 3.25, sample="odd"),
    result("metal", "oracle", "norms.rmsnorm", "bfloat16", 0.5),
    result("cpu", "oracle", "norms.rmsnorm", "float32", 0.75),
    result("cpu", "oracle", "stock.exp", "float32", 0.25),
    result("cpu", "metal", "norms.rmsnorm", "float32", 2.0),
    result("cpu", "metal", "stock.exp", "float32", 0.0, identical=True),
    result("live", "oracle", "norms.rmsnorm", "float32", 0.75),
    result("live", "cpu", "norms.rmsnorm", "float32", 0.0, identical=True),
)
FILES = {name: GoldenFile(name, ENVIRONMENT) for name in ("cpu", "metal")}


def comparison(findings=(), results=RESULTS, live="cpu", files=FILES):
    return Comparison(live, files, ENVIRONMENT, tuple(results), tuple(findings))


BAD = comparison(
    [Finding("values", "live", "stock.exp/float32/small", "live against cpu: <b>\n  worst element [1]")],
    [*RESULTS, result("live", "metal", "stock.exp", "float32", 1e7, ok=False)],
)


def test_the_model_keeps_the_worst_of_each_cell():
    report = build_report(comparison())
    assert report.subjects == ("live cpu", "metal", "cpu")
    assert report.dtypes == ("float32", "bfloat16")
    assert report.ops == ("norms.rmsnorm", "stock.exp")
    cell = report.errors["norms.rmsnorm", "float32", "metal"]
    assert (cell.max_ulp, cell.rms, cell.worst, cell.cases) == (3.25, 1.625, "norms.rmsnorm/float32/odd", 2)
    drift = report.drift_between("metal", "cpu")
    assert drift == report.drift_between("cpu", "metal")
    assert (drift.max_ulp, drift.cases, drift.identical) == (2.0, 2, 1)
    assert report.drift_between("live cpu", "metal") is None


@pytest.mark.parametrize(
    ("made", "headline"),
    [
        (comparison(), "4 cases agree on metal and cpu"),
        (comparison(files={"cpu": FILES["cpu"]}), "4 cases on cpu are within tolerance of the oracle"),
        (BAD, "1 finding"),
        (comparison(results=(), findings=()), "Nothing was compared"),
        (comparison([Finding("file", "", "", "a"), Finding("file", "", "", "b")]), "2 findings"),
    ],
)
def test_headline(made, headline):
    assert build_report(made).headline == headline


def test_terminal():
    assert render_terminal(build_report(comparison())).splitlines() == [
        "reference: metal.json, and the float64 oracle for each file's own error",
        "",
        "Error against the oracle (max ULP of the output dtype)",
        "                float32               bfloat16",
        "operation      live cpu  metal   cpu     metal",
        "norms.rmsnorm      0.75   3.25  0.75      0.50",
        "stock.exp             -      -  0.25         -",
        "",
        "Drift between back ends (max ULP)",
        "                   live cpu                 metal                   cpu",
        "live cpu                  -                     -     0 (1/1 identical)",
        "metal                     -                     -  2.00 (1/2 identical)",
        "cpu       0 (1/1 identical)  2.00 (1/2 identical)                     -",
        "",
        "live cpu: M<4> & co, MLX 0.32.4, macOS 15.1, 2026-01-31, 1 cases",
        "metal: M<4> & co, MLX 0.32.4, macOS 15.1, 2026-01-31, 0 cases",
        "cpu: M<4> & co, MLX 0.32.4, macOS 15.1, 2026-01-31, 0 cases",
        "PASS: 4 cases agree on metal and cpu",
    ]


def test_terminal_of_a_failure():
    text = render_terminal(build_report(BAD))
    assert "FAIL values: live against cpu: <b>\n  worst element [1]" in text
    assert text.endswith("FAIL: 1 finding\n")
    assert "metal  1e+07 (0/1 identical)" in re.sub(" +", " ", text).replace("- ", "").replace(
        "metal 1", "metal  1"
    )


def test_one_trouble_of_an_operation_is_told_once_the_worst_first():
    made = []
    for op, sizes in (("norms.rmsnorm", (10.0, 30.0, 20.0)), ("stock.exp", (1e6,))):
        for i, size in enumerate(sizes):
            made.append(result("cpu", "oracle", op, "float32", size, sample=f"s{i}", ok=False))
    findings = [Finding("values", "cpu", r.case, f"cpu: {r.case} is off by {r.max_ulp:g}") for r in made]
    findings.append(Finding("file", "", "", "metal.json is damaged"))
    report = build_report(comparison(findings, made, live="", files={"cpu": FILES["cpu"]}))
    assert report.failures == (
        "FAIL file: metal.json is damaged",
        "FAIL values: cpu: stock.exp/float32/s0 is off by 1e+06",
        "FAIL values: cpu: norms.rmsnorm/float32/s1 is off by 30",
        "     and 2 more findings of this kind on norms.rmsnorm: norms.rmsnorm/float32/s2, norms.rmsnorm/float32/s0",
    )
    assert report.headline == "5 findings"
    assert all(line in render_terminal(report).splitlines() for line in report.failures)


def test_what_was_left_out_and_what_is_pending_is_said():
    waits = Pending("cuda", ("norms.rmsnorm/float32/small",))
    made = replace(comparison(), pending=(waits,), notes=("MLX does not import here",))
    report = build_report(made)
    assert report.ok
    assert report.remarks == ("note: MLX does not import here", f"pending: {waits.message()}")
    for text in (render_terminal(report), render_markdown(report), render_html(report)):
        assert "MLX does not import here" in text
        assert "1 case that no one with cuda has recorded yet" in text


def test_markdown():
    text = render_markdown(build_report(comparison()))
    assert text.startswith("## ✅ zmlx: 4 cases agree on metal and cpu\n")
    assert (
        "| operation | float32 live cpu | float32 metal | float32 cpu | bfloat16 metal |\n|---|---:|" in text
    )
    assert "| norms.rmsnorm | 0.75 | 3.25 | 0.75 | 0.50 |" in text
    assert "| metal | 0 | M\\<4\\> & co | 0.32.4 | macOS 15.1 | ? | 0 | 2026-01-31 |" in text


def test_markdown_of_a_failure_shows_findings_first():
    text = render_markdown(build_report(BAD))
    assert text.startswith("## ❌ zmlx: 1 finding\n")
    finding = text.index("- **values** live against cpu: \\<b\\><br>  worst element \\[1\\]")
    assert finding < text.index("### Error against the oracle")


class Outline(html.parser.HTMLParser):
    """Tags that open and close, text, and the attributes that matter."""

    VOID = ("meta", "link", "br", "img")

    def __init__(self):
        super().__init__()
        self.open, self.tags, self.attributes, self.text = [], [], [], []

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.attributes += attrs
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.text.append(data)


def outline(made):
    parsed = Outline()
    parsed.feed(render_html(build_report(made)))
    parsed.close()
    assert parsed.open == []
    return parsed


def test_html_is_one_well_formed_file_without_external_assets():
    parsed = outline(comparison())
    assert not {"script", "link", "img", "iframe"} & set(parsed.tags)
    assert not {"src", "href"} & {name for name, _ in parsed.attributes}
    text = render_html(build_report(comparison()))
    assert "http" not in text
    assert "@import" not in text
    assert "url(" not in text
    assert len(text) < 20_000


def test_html_shows_every_figure_and_source():
    text = "\n".join(outline(comparison()).text)
    for expected in (
        "4 cases agree on metal and cpu",
        "3.25",
        "RMS 1.62",
        "1 of 2 identical",
        "M<4> & co",
        "macOS 15.1",
        "norms.rmsnorm/float32/odd",
    ):
        assert expected in text


def test_html_is_accessible_and_adapts_to_the_dark():
    parsed = outline(comparison())
    assert ("lang", "en") in parsed.attributes
    assert parsed.tags.count("caption") == parsed.tags.count("table") == 4
    assert {value for name, value in parsed.attributes if name == "scope"} == {"col", "colgroup", "row"}
    assert "prefers-color-scheme:dark" in render_html(build_report(comparison()))


def test_html_of_a_failure_says_so_in_words():
    text = "\n".join(outline(BAD).text)
    assert "Not in agreement" in text
    assert "live against cpu: <b>\n  worst element [1]" in text
    assert "over tolerance" in text


@pytest.mark.parametrize("made", [comparison(results=(), files={}, live=""), BAD, comparison(live="")])
def test_every_form_of_every_report_renders(made):
    report = build_report(made)
    outline(made)
    assert render_terminal(report)
    assert render_markdown(report)


@pytest.mark.parametrize(
    ("value", "text"),
    [(0, "0"), (0.499, "0.50"), (12.345, "12.35"), (140.2, "140"), (1.2e6, "1e+06"), (float("inf"), "inf")],
)
def test_figure(value, text):
    assert figure(value) == text


@pytest.mark.parametrize(
    ("name", "beginning"), [("r.html", "<!doctype html>"), ("r.md", "## "), ("r.txt", "reference: ")]
)
def test_write_report(tmp_path, name, beginning):
    path = write_report(build_report(comparison()), tmp_path / "new" / name)
    assert path.read_text(encoding="utf-8").startswith(beginning)


def test_write_report_refuses_other_forms(tmp_path):
    with pytest.raises(
        ValueError, match=r"Expected a report file ending in \.html, \.md, \.txt, got 'r\.pdf'"
    ):
        write_report(build_report(comparison()), tmp_path / "r.pdf")
