"""What `verify` and `leaks` wrote is in every form of the report."""

from dataclasses import replace
from pathlib import Path

import pytest

from zmlx._commands import evidence_dir
from zmlx.testing.evidence import EVIDENCE_DIR, EvidenceError
from zmlx.testing.golden.comparison import CaseResult, Comparison
from zmlx.testing.golden.file import GoldenFile
from zmlx.testing.leak_figures import HELD, Leaks
from zmlx.testing.leak_figures import Row as LeakRow
from zmlx.testing.report.evidence import Evidence, evidence_tables, load_evidence
from zmlx.testing.report.html import render_html
from zmlx.testing.report.model import build_report
from zmlx.testing.report.tables import COLUMNS, aligned_lines
from zmlx.testing.report.text import render_markdown, render_readme, render_terminal
from zmlx.testing.verification import Change, Failure, Row, Verification

pytestmark = pytest.mark.cpu

ABOUT = {"device": "a <CPU>", "mlx": "0.32.4", "zmlx": "1.0", "date": "2026-01-02"}


def row(op, dtype="float32", **changes):
    return Row(op, dtype, 3, (0.5, 0.2), None, (), **changes)


SAME = Change(3, 10)
VERIFIED = Verification(
    "cuda",
    ABOUT,
    (
        row("norms.rmsnorm", repeats=SAME, orders=Change(4, 8)),
        row("norms.rmsnorm", "float16", repeats=SAME, orders=Change(4, 8, 2, 1.5)),
        row("stock.add", repeats=SAME),
        row("stock.sum", repeats=Change(3, 10, 1, 4.0)),
        row("stock.matmul", repeats=SAME, tf32=Change(2, 9, 9, 812.0)),
        row("stock.other", repeats=SAME, tf32=Change(0, note="not on this back end")),
    ),
)
ZERO = dict.fromkeys((held.name for held in HELD), 0)
FLAT = LeakRow("norms.rmsnorm", "forward", 1000, 1000, ZERO, {**ZERO, "rss": 1 << 19})
LEAK = LeakRow("norms.rmsnorm", "gradient", 1000, 3000, ZERO, {**ZERO, "file_handles": 1000})
BROKEN = LeakRow("norms.rmsnorm", "new shapes", 1000, 0, {}, {}, failure="ValueError: a|b")
LEAKS = Leaks("cpu", ABOUT, 1000, 256 << 20, (FLAT, LEAK, BROKEN))


def report(evidence):
    result = CaseResult("cpu", "oracle", "f.g/float32/small", "f.g", "float32", 0.5, 0.2, 8, False, True)
    return build_report(Comparison("", {"cpu": GoldenFile("cpu")}, {}, (result,), ()), evidence=evidence)


def test_files_are_found_and_read(tmp_path):
    assert load_evidence(tmp_path / "nowhere") == Evidence()
    (tmp_path / "cuda-verify.json").write_text(VERIFIED.to_json(), encoding="utf-8")
    (tmp_path / "cpu-leaks.json").write_text(LEAKS.to_json(), encoding="utf-8")
    (tmp_path / "other.json").write_text("no", encoding="utf-8")
    assert load_evidence(tmp_path) == Evidence((VERIFIED,), (LEAKS,))
    (tmp_path / "metal-leaks.json").write_text("{", encoding="utf-8")
    with pytest.raises(EvidenceError, match=r"metal-leaks\.json is damaged: .*`python -m zmlx leaks"):
        load_evidence(tmp_path)


def test_an_operation_has_the_worst_of_its_dtypes():
    (shown,) = evidence_tables(Evidence((VERIFIED,)))
    assert shown.table.title == "Runs, orders of threads and TF32 on cuda"
    assert shown.about == "a <CPU>, MLX 0.32.4, zmlx 1.0, 2026-01-02"
    assert shown.table.header == ("operation", "3 runs", "4 orders of threads", "with TF32 and without")
    assert shown.table.rows == (
        ("norms.rmsnorm", "same bits", "1.5 ULP", "-"),
        ("stock.add", "same bits", "-", "-"),
        ("stock.sum", "4 ULP", "-", "-"),
        ("stock.matmul", "same bits", "-", "812 ULP"),
        ("stock.other", "same bits", "-", "not on this back end"),
    )


def test_a_terminal_has_what_is_worth_a_row():
    (shown,) = evidence_tables(Evidence((VERIFIED,)))
    assert [line[0] for line in shown.narrow.rows] == [
        *("norms.rmsnorm", "stock.sum", "stock.matmul", "stock.other")
    ]
    assert shown.folded == ("1 more: same bits in 3 runs",)
    assert all(len(line) <= COLUMNS for line in aligned_lines(shown.narrow, COLUMNS))
    alone = replace(VERIFIED, rows=(row("stock.add", repeats=SAME), row("stock.b", repeats=SAME)))
    (shown,) = evidence_tables(Evidence((alone,)))
    assert shown.folded == ("2 operations: same bits in 3 runs",)
    text = render_terminal(report(Evidence((alone,))))
    assert "on cuda (a <CPU>, MLX 0.32.4, zmlx 1.0, 2026-01-02)\n2 operations: same bits in 3 runs\n" in text


def test_a_broken_promise_is_said_and_other_failures_are_not():
    failures = (
        Failure("f.g/float32/all", "repeats", "differs"),
        Failure("f.g/float32/small", "forward", "wrong"),
    )
    (shown,) = evidence_tables(
        Evidence((replace(VERIFIED, rows=(replace(VERIFIED.rows[0], failures=failures),)),))
    )
    assert shown.lines == ("FAIL repeats: differs",)


def test_nothing_asked_for_is_no_table():
    assert evidence_tables(Evidence((replace(VERIFIED, rows=(row("f.g"),)),))) == []


def test_leak_figures():
    (shown,) = evidence_tables(Evidence(leaks=(LEAKS,)))
    assert shown.table.rows == (
        ("norms.rmsnorm", "forward", "1000", "0.0", "0.0 → 0.5", "0", "0", "0", "0", "flat"),
        ("norms.rmsnorm", "gradient", "3000", "0.0", "0.0", "0 → 1000", "0", "0", "0", "LEAK"),
        ("norms.rmsnorm", "new shapes", "0", "-", "-", "-", "-", "-", "-", "FAIL"),
    )
    assert shown.narrow.rows[0] == ("norms.rmsnorm forward", "1000", "0.0 → 0.5", "flat")
    assert shown.lines[0].startswith("LEAK norms.rmsnorm gradient: expected at most 0 more files")
    assert shown.lines[-1].startswith(
        "FAIL: cpu: 1 operation, 4000 launches: not flat: norms.rmsnorm gradient"
    )


def test_every_form_has_the_figures():
    made = report(Evidence((VERIFIED,), (LEAKS,)))
    terminal, page, document = render_terminal(made), render_markdown(made), render_html(made)
    for text in ("same bits", "1.5 ULP", "812 ULP", "0.0 → 0.5", "LEAK", "0 → 1000"):
        assert text in page, text
        assert text in document, text
    assert "812 ULP" in terminal
    assert "0.0 → 0.5" in terminal
    assert terminal.count("not flat: norms.rmsnorm gradient, norms.rmsnorm new shapes") == 1
    assert '<td class="over">LEAK</td>' in document
    assert "a &lt;CPU&gt;, MLX 0.32.4" in document
    assert "a <CPU>" not in document
    assert "| stock.matmul | same bits | - | 812 ULP |" in page
    assert "ValueError: a\\|b" in page
    # What a README has room for is what the golden files say.
    assert render_readme(made) == render_readme(report(Evidence()))
    assert "launches" not in render_terminal(report(Evidence()))


def test_the_folder_is_that_of_the_project_unless_another_is_named(tmp_path, monkeypatch):
    (tmp_path / "pyproject.toml").write_text('[tool.zmlx]\nops = "a:OPS"\n', encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    assert evidence_dir(type("Options", (), {"evidence_dir": None})) == tmp_path / EVIDENCE_DIR
    assert evidence_dir(type("Options", (), {"evidence_dir": Path("here")})) == Path("here")
