"""The agreement report: what it says, in all three forms, and that it hides nothing."""

import html.parser
import re
from dataclasses import replace
from pathlib import Path

import pytest

from zmlx.testing.golden.against import Change
from zmlx.testing.golden.case import GoldenCase
from zmlx.testing.golden.comparison import About, CaseResult, Comparison, Finding, Pending, Worst
from zmlx.testing.golden.file import GoldenFile
from zmlx.testing.golden.revisions import Point
from zmlx.testing.report import html as html_page
from zmlx.testing.report.html import render_html
from zmlx.testing.report.model import build_report, figure
from zmlx.testing.report.text import render_markdown, render_readme, render_terminal
from zmlx.testing.report.write import write_report

ENVIRONMENT = {"device": "M<4> & co", "mlx": "0.32.4", "os": "macOS 15.1", "date": "2026-01-31", "tf32": "0"}


def result(subject, against, op, dtype, max_ulp, *, sample="small", identical=False, ok=True):
    case, stock = f"{op}/{dtype}/{sample}", op.startswith("stock.")
    return CaseResult(subject, against, case, op, dtype, max_ulp, max_ulp / 2, 12, identical, ok, stock=stock)


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
CASES = {f"norms.rmsnorm/float32/{name}": GoldenCase("float32", (1,), (0.5,)) for name in ("small", "odd")}
FILES = {name: GoldenFile(name, ENVIRONMENT, CASES) for name in ("cpu", "metal")}


def comparison(findings=(), results=RESULTS, live="cpu", files=FILES):
    return Comparison(live, files, ENVIRONMENT, tuple(results), tuple(findings))


BAD = comparison(
    [Finding("values", "live", "stock.exp/float32/small", "live against cpu: <b>\n  worst element [1]")],
    [*RESULTS, result("live", "metal", "stock.exp", "float32", 1e7, ok=False)],
)


WORST = Worst((1, 2), 0.5, 0.25, (("x", "row [1]: <0.5>"),))
ABOUT = About("Zhang & Sennrich 2019", "zmlx/kernels/norms.py", {"float32": "rtol 1e-6 (a reason)"})
DETAILED = replace(
    comparison(
        results=[
            *(replace(r, share=0.25, bins=(2, 0, 1, 0, 0, 0, 0, 1), worst=WORST) for r in RESULTS),
            replace(RESULTS[7], part="gradient of x", share=0.9),
        ]
    ),
    about={"norms.rmsnorm": ABOUT},
)


def test_the_model_keeps_the_worst_of_each_cell():
    report = build_report(comparison())
    assert [c.name for c in report.columns] == ["live cpu", "metal", "cuda", "cpu"]
    assert [c.name for c in report.absent] == ["cuda"]
    assert [row.op for row in report.kernels] == ["norms.rmsnorm"]
    assert [row.op for row in report.stock] == ["stock.exp"]
    row = report.rows["norms.rmsnorm"]
    assert row.dtypes == ("float32", "bfloat16")
    cell = row.by_dtype["float32", "metal"]
    assert (cell.max_ulp, cell.rms, cell.worst.case, cell.cases) == (
        3.25,
        1.625,
        "norms.rmsnorm/float32/odd",
        2,
    )
    assert row.errors["metal"].cases == 3
    assert row.drift["cpu", "metal"].max_ulp == 2.0
    drift = report.drift_between("metal", "cpu")
    assert drift == report.drift_between("cpu", "metal")
    assert (drift.max_ulp, drift.cases, drift.identical) == (2.0, 2, 1)
    assert report.drift_between("live cpu", "metal") is None


def test_an_error_over_the_tolerance_is_the_worst_however_small():
    over = result("cpu", "oracle", "norms.rmsnorm", "float16", 0.1, ok=False)
    cell = build_report(comparison(results=[*RESULTS, over])).rows["norms.rmsnorm"].errors["cpu"]
    assert (cell.worst.case, cell.ok, cell.max_ulp) == (over.case, False, 0.75)


@pytest.mark.parametrize(
    ("made", "headline"),
    [
        (comparison(), "1 kernel agrees on metal and cpu"),
        (comparison(files={"cpu": FILES["cpu"]}), "1 kernel on cpu is within tolerance of the oracle"),
        (
            comparison(
                results=[replace(RESULTS[0], share=0.25), replace(RESULTS[0], op="norms.other", share=0.5)]
            ),
            "2 kernels agree on metal and cpu, using at most 50 % of a tolerance",
        ),
        (BAD, "1 finding on stock.exp"),
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
        "operation      live cpu  metal   cpu",
        "norms.rmsnorm      0.75   3.25  0.75",
        "",
        "Drift between back ends",
        "back ends       cases  identical  max ULP",
        "cpu - metal         2          1     2.00",
        "live cpu - cpu      1          1        0",
        "",
        "Drift by operation (max ULP)",
        "operation      cpu-metal  live cpu-cpu",
        "norms.rmsnorm       2.00             0",
        "",
        "MLX's own operations, for comparison: 1 operation, at most 0.25 ULP off (stock.exp on cpu)",
        "",
        "live cpu (computed just now): M<4> & co, MLX 0.32.4, macOS 15.1, 2026-01-31, 1 case",
        "metal: M<4> & co, MLX 0.32.4, macOS 15.1, 2026-01-31, 2 cases",
        "cuda: not recorded; on such a machine: python -m zmlx golden record --backend cuda",
        "cpu: M<4> & co, MLX 0.32.4, macOS 15.1, 2026-01-31, 2 cases",
        "PASS: 1 kernel agrees on metal and cpu",
    ]


def test_terminal_shows_shares_and_gradients():
    results = [replace(RESULTS[3], share=0.004), replace(RESULTS[7], part="gradient of weight", share=1.5)]
    text = render_terminal(build_report(comparison(results=results)))
    assert "How much of the tolerance that is\noperation      live cpu  metal        cpu\n" in text
    assert "norms.rmsnorm         -      -  below 1 %" in text
    assert "norms.rmsnorm weight    float32     0.75  150 %" in text


def test_tables_are_60_columns_wide_and_keep_the_end_of_long_names():
    name = "activations.a_function_with_a_very_long_name_indeed"
    long = [replace(r, op=name, stock=False) for r in RESULTS]
    text = render_terminal(build_report(comparison(results=long)))
    tables = [line for line in text.splitlines()[1:] if "  " in line]
    assert tables
    assert max(map(len, tables)) <= 60
    assert "…unction_with_a_very_long_name_indeed  " in text


def test_terminal_of_a_failure():
    text = render_terminal(build_report(BAD))
    assert "FAIL stock.exp: 1 finding, worst 1e+07 ULP\n" in text
    assert "  live against cpu: <b>\n    worst element [1]" in text
    assert text.endswith("FAIL: 1 finding on stock.exp\n")


def test_what_was_left_out_and_what_is_pending_is_said():
    waits = Pending("cuda", ("norms.rmsnorm/float32/small",))
    report = build_report(replace(comparison(), pending=(waits,), notes=("MLX does not import here",)))
    assert report.ok
    for text in (render_terminal(report), render_markdown(report), render_html(report)):
        assert "MLX does not import here" in text
        assert "1 case that no one with cuda has recorded yet" in text


def test_markdown():
    text = render_markdown(build_report(comparison()))
    assert text.startswith("## ✅ zmlx: 1 kernel agrees on metal and cpu\n")
    assert "| operation | live cpu | metal | cuda | cpu | cpu - metal | live cpu - cpu |\n|---|---:|" in text
    assert "| norms.rmsnorm | 0.75 | 3.25 | not recorded | 0.75 | 2.00 | 0 |" in text
    assert "cuda: not recorded; on such a machine: python -m zmlx golden record --backend cuda" in text
    assert "| metal | 2 | M\\<4\\> & co | 0.32.4 | macOS 15.1 | ? | 0 | 2026-01-31 |" in text


def test_stock_operations_are_folded_away_in_markdown_and_not_in_the_readme():
    text = render_markdown(build_report(comparison()))
    assert (
        text.index("| norms.rmsnorm") < text.index("<details><summary>MLX's own") < text.index("| stock.exp")
    )
    assert "stock.exp" not in render_readme(build_report(comparison()))


def test_markdown_of_a_failure_shows_findings_first():
    text = render_markdown(build_report(BAD))
    assert text.startswith("## ❌ zmlx: 1 finding on stock.exp\n")
    finding = text.index("- **stock.exp: 1 finding, worst 1e+07 ULP**")
    assert finding < text.index("live against cpu: \\<b\\>") < text.index("### Error against the oracle")


class Outline(html.parser.HTMLParser):
    """Tags that open and close, text, and the attributes that matter."""

    VOID = ("meta", "link", "br", "img", "input")

    def __init__(self):
        super().__init__()
        self.open, self.tags, self.attributes, self.text = [], [], [], []

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.attributes += attrs
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.tags.append(tag)
        self.attributes += attrs

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.text.append(data)


def outline(made):
    points = (Point("cpu", "abc1234", "2026-01-30", {"norms.rmsnorm": 1.5}),)
    changes = (Change("cpu", "norms.rmsnorm/float32/odd", "worse", 0.5, 2.0),)
    more = {"history": points, "changes": changes, "revision": "main"} if made is DETAILED else {}
    parsed = Outline()
    parsed.feed(render_html(build_report(made, **more)))
    parsed.close()
    assert parsed.open == []
    return parsed


def test_html_is_one_well_formed_file_without_external_assets():
    parsed = outline(comparison())
    assert not {"link", "img", "iframe"} & set(parsed.tags)
    assert parsed.tags.count("script") == 1
    names = {name for name, _ in parsed.attributes}
    assert "src" not in names
    assert all(value.startswith("#") for name, value in parsed.attributes if name == "href")
    text = render_html(build_report(comparison()))
    assert "default-src 'none'" in text
    assert "http:" not in text
    assert "https:" not in text
    assert "@import" not in text
    assert set(re.findall(r"url\((.)", text)) == {"#"}
    assert len(text) < 40_000


def test_every_link_of_the_page_has_its_target():
    parsed = outline(comparison())
    targets = {value.removeprefix("#") for name, value in parsed.attributes if name == "href"}
    ids = [value for name, value in parsed.attributes if name == "id"]
    assert targets
    assert targets <= set(ids)
    assert len(ids) == len(set(ids))


def test_html_shows_every_figure_and_source():
    text = "\n".join(outline(DETAILED).text)
    for expected in (
        "1 kernel agrees on metal and cpu",
        "3.25",
        "RMS 1.62",
        "0 of 1 equal",
        "M<4> & co",
        "macOS 15.1",
        "norms.rmsnorm/float32/odd",
        "not recorded",
        "computed just now, on this machine; cpu is what its file has recorded",
        "Zhang & Sennrich",
        "zmlx/kernels/norms.py",
        "rtol 1e-6 (a reason)",
        "[1, 2]",
        "row [1]: <0.5>",
        "✓ 25 %",
        "▲ 90 %",
        "2026-01-30 abc1234",
        "Cases by their recorded error",
    ):
        assert expected in text, expected


def test_the_distribution_is_drawn_and_told():
    parsed = outline(DETAILED)
    labels = [value for name, value in parsed.attributes if name == "aria-label"]
    assert any("50% 0 ULP, 25% to 0.5 ULP, 25% over 16 ULP" in label for label in labels)
    assert any("cpu 2026-01-30 abc1234: 1.50 ULP" in label for label in labels)


def test_what_is_wrong_stands_first():
    bad = result("cpu", "oracle", "transformer.last", "float32", 50.0, ok=False)
    report = build_report(comparison(results=[*RESULTS, replace(bad, share=3.0)]))
    assert [row.op for row in report.kernels] == ["transformer.last", "norms.rmsnorm"]
    assert "✗ 300 %" in render_html(report)


def test_stock_operations_are_never_in_alarm_colour_for_being_imprecise():
    imprecise = replace(RESULTS[4], max_ulp=900.0, share=0.99)
    text = render_html(build_report(comparison(results=[RESULTS[3], imprecise])))
    (row,) = re.findall(r'<tr data-name="stock.exp".*?</tr>', text)
    assert 'class="plain"' in row
    assert not re.search('class="(near|over)"', row)


def test_html_is_accessible_and_adapts_to_the_dark():
    parsed = outline(DETAILED)
    assert ("lang", "en") in parsed.attributes
    assert parsed.tags.count("caption") == parsed.tags.count("table") > 4
    assert {value for name, value in parsed.attributes if name == "scope"} == {"col", "row"}
    assert "prefers-color-scheme:dark" in render_html(build_report(comparison()))


def luminance(colour):
    colour = "".join(2 * c for c in colour) if len(colour) == 3 else colour
    parts = [int(colour[i : i + 2], 16) / 255 for i in (0, 2, 4)]
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in parts]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


@pytest.mark.parametrize("scheme", [0, 1], ids=["light", "dark"])
def test_colours_have_the_contrast_that_wcag_asks_for(scheme):
    css = (Path(html_page.__file__).parent / "page.css").read_text(encoding="utf-8")
    colours = dict(re.findall(r"--(\w+):#(\w+)", re.findall(r":root\{(.*?)\}", css, re.S)[scheme]))

    def contrast(one, other):
        light, dark = sorted((luminance(colours[one]), luminance(colours[other])), reverse=True)
        return (light + 0.05) / (dark + 0.05)

    for text in ("ink", "soft", "good", "near", "bad"):
        for ground in ("bg", "card"):
            assert contrast(text, ground) >= 4.5, (text, ground)
    for bar in ("s0", "s1", "s2", "s3"):
        assert contrast(bar, "card") >= 3, bar


def test_html_of_a_failure_says_so_in_words():
    text = "\n".join(outline(BAD).text)
    assert "Not in agreement" in text
    assert "live against cpu: <b>" in text
    assert "✗ over tolerance" in text
    assert "Did you mean to change it? If not, undo the change." in text


@pytest.mark.parametrize("made", [comparison(results=(), files={}, live=""), BAD, comparison(live="")])
def test_every_form_of_every_report_renders(made):
    report = build_report(made)
    outline(made)
    assert render_terminal(report)
    assert render_markdown(report)


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0, "0"),
        (1.672e-53, "<0.01"),
        (0.0049, "<0.01"),
        (0.005, "0.01"),
        (0.499, "0.50"),
        (12.345, "12.35"),
        (140.2, "140"),
        (1.2e6, "1e+06"),
        (float("inf"), "inf"),
    ],
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
