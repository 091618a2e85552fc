"""The page in a real browser, which ZMLX_TEST_BROWSER names; ``nox -s report-browser`` finds one."""

from __future__ import annotations

import json
import os
import re
import struct
import subprocess
from html import unescape
from pathlib import Path

import pytest

import zmlx
from zmlx.__main__ import main
from zmlx.testing.leak_figures import HELD, Leaks
from zmlx.testing.leak_figures import Row as LeakRow
from zmlx.testing.verification import Change, Row, Verification

BROWSER = os.environ.get("ZMLX_TEST_BROWSER", "")
#: Where the screenshots go; a temporary folder unless it is set.
SCREENSHOTS = os.environ.get("ZMLX_TEST_SCREENSHOTS", "")

ABOUT = {"device": "a CPU of some make", "mlx": "0.32.4", "date": "2026-01-02"}

pytestmark = [
    pytest.mark.cpu,
    pytest.mark.skipif(not BROWSER, reason="no browser: set ZMLX_TEST_BROWSER, or run nox -s report-browser"),
]

# The page is put in a frame, since a window cannot be made as narrow as a phone. What goes wrong in it is kept.
WRAPPER = """<!doctype html><html><body style="margin:0">
<iframe id="frame" style="width:%(width)dpx;height:900px;border:0"></iframe>
<script>
const failures = [];
const frame = document.getElementById("frame");
addEventListener("message", (event) => failures.push(event.data));
const watch = "<script>"
  + "addEventListener('error', (e) => parent.postMessage('error: ' + e.message, '*'));"
  + "addEventListener('securitypolicyviolation', (e) => parent.postMessage('policy: ' + e.blockedURI, '*'));"
  + "console.error = console.warn = (...text) => parent.postMessage('console: ' + text.join(' '), '*');"
  + "<\\/script>";
frame.addEventListener("load", () => {
  const page = frame.contentDocument;
  const found = (() => { %(script)s })();
  setTimeout(() => {
    document.body.dataset.result = JSON.stringify({ found, failures });
  }, 50);
});
frame.srcdoc = %(page)s.replace("<head>", "<head>" + watch);
</script></body></html>"""


def chromium(profile, *arguments):
    done = subprocess.run(
        [
            BROWSER,
            "--headless=new",
            "--no-sandbox",
            "--disable-gpu",
            "--disable-background-networking",
            "--no-first-run",
            "--hide-scrollbars",
            f"--user-data-dir={profile}",
            *arguments,
        ],
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    return done.stdout


@pytest.fixture(scope="module")
def page(tmp_path_factory):
    """The page of a live comparison on the CPU: it has everything that a page can have."""
    folder = tmp_path_factory.mktemp("page")
    held = dict.fromkeys((one.name for one in HELD), 123_456_789)
    rows = (LeakRow("norms.rmsnorm", "new shapes", 10_000, 10_000, held, {**held, "rss": 234_567_890}),)
    change = Change(3, 10, 4, 812.0)
    changed = Row("norms.rmsnorm", "float32", 3, (0.5, 0.2), None, (), "float64", change, change, change)
    for name, found in (
        ("cuda-verify", Verification("cuda", ABOUT, (changed,))),
        ("cpu-leaks", Leaks("cpu", ABOUT, 10_000, 1 << 28, rows)),
    ):
        (folder / f"{name}.json").write_text(found.to_json(), encoding="utf-8")
    golden = Path(zmlx.__file__).parent.parent / "golden_values"
    assert (
        main(
            [
                "golden",
                "compare",
                "--backend",
                "cpu",
                "--golden-dir",
                str(golden),
                *("--report-dir", str(folder), "--evidence-dir", str(folder)),
            ]
        )
        == 0
    )
    return folder / "report.html"


@pytest.fixture
def in_browser(page, tmp_path):
    """Run JavaScript that returns something, with `page` as the document, in a frame of a width."""

    def run(script, width=1200, text=None):
        text = page.read_text(encoding="utf-8") if text is None else text
        wrapper = tmp_path / "wrapper.html"
        quoted = json.dumps(text).replace("</", "<\\/")
        wrapper.write_text(WRAPPER % {"width": width, "script": script, "page": quoted}, encoding="utf-8")
        dom = chromium(tmp_path / "profile", "--virtual-time-budget=4000", "--dump-dom", wrapper.as_uri())
        match = re.search(r'data-result="([^"]*)"', dom)
        assert match, dom[-500:]
        result = json.loads(unescape(match[1]))
        return result["found"], result["failures"]

    return run


NAMES = """
const names = () => [...page.querySelectorAll("#matrix tbody tr")].filter((r) => !r.hidden).map((r) => r.dataset.name);
"""


def test_a_column_sorts_both_ways_by_its_numbers(in_browser):
    found, failures = in_browser(
        NAMES
        + """
        const heads = [...page.querySelectorAll("#matrix thead th")];
        const column = heads.findIndex((h) => h.textContent.startsWith("cuda"));
        const numbers = () => [...page.querySelectorAll("#matrix tbody tr")].map((r) => +r.cells[column].dataset.v);
        const all = { before: names() };
        heads[column].querySelector("button").click();
        all.down = numbers(); all.sort = heads[column].getAttribute("aria-sort");
        heads[column].querySelector("button").click();
        all.up = numbers();
        heads[0].querySelector("button").click();
        all.named = names(); all.other = heads[column].getAttribute("aria-sort");
        return all;
        """
    )
    assert failures == []
    assert len(found["before"]) == 6
    assert found["down"] == sorted(found["down"], reverse=True) != found["up"]
    assert found["up"] == sorted(found["up"])
    assert found["sort"] == "descending"
    assert found["other"] is None
    assert found["named"] == sorted(found["before"])


def test_the_filter_hides_rows_sections_and_comparisons(in_browser):
    found, failures = in_browser(
        NAMES
        + """
        const box = page.getElementById("filter");
        const visible = (selector) => [...page.querySelectorAll(selector)].filter((e) => !e.hidden).length;
        const type = (text) => { box.value = text; box.dispatchEvent(new Event("input")); };
        const all = { tools: page.getElementById("tools").hidden };
        type("NORMS layer");
        all.names = names(); all.sections = visible("section.kernel");
        all.said = page.getElementById("shown").textContent;
        type("no such kernel");
        all.none = names().length;
        type("");
        all.again = names().length;
        page.getElementById("close").click();
        all.close = names().length;
        return all;
        """
    )
    assert failures == []
    assert found == {
        "tools": False,
        "names": ["norms.layernorm"],
        "sections": 1,
        "said": "1 of 6 kernels",
        "none": 0,
        "again": 6,
        "close": 0,
    }


WIDTHS = """
const root = page.documentElement;
page.querySelectorAll("details").forEach((d) => (d.open = true));
const wide = [...page.querySelectorAll("main *")].filter(
  (e) => !e.closest(".scroll, .offscreen") && e.getBoundingClientRect().right > root.clientWidth + 1);
return { page: root.scrollWidth, window: root.clientWidth, wide: wide.map((e) => e.outerHTML.slice(0, 80)),
  scrolls: [...page.querySelectorAll(".scroll")].some((e) => e.scrollWidth > e.clientWidth) };
"""


@pytest.mark.parametrize("width", [360, 768, 1280])
def test_the_page_never_scrolls_sideways(in_browser, width):
    found, failures = in_browser(WIDTHS, width)
    assert failures == []
    assert found["window"] == width
    assert found["page"] <= width
    assert found["wide"] == []
    if width == 360:
        assert found["scrolls"], "tables scroll in boxes of their own"


def test_what_is_too_wide_would_be_found(in_browser, page):
    text = page.read_text(encoding="utf-8").replace("<h2>", '<div style="width:500px">x</div><h2>', 1)
    found, _ = in_browser(WIDTHS, 360, text)
    assert found["page"] > 360
    assert len(found["wide"]) == 1


def test_a_mistake_in_the_script_would_be_found(in_browser, page):
    text = page.read_text(encoding="utf-8").replace('"use strict";', '"use strict"; nowhere();', 1)
    _, failures = in_browser("return 0;", 1200, text)
    assert any("nowhere is not defined" in failure for failure in failures)


def test_the_page_is_whole_without_javascript(in_browser, page):
    text = re.sub(r"<script>.*?</script>", "", page.read_text(encoding="utf-8"), flags=re.S)
    found, failures = in_browser(
        NAMES
        + """return { rows: names().length, tools: page.getElementById("tools").hidden,
        sections: page.querySelectorAll("section.kernel").length, buttons: page.querySelectorAll("button").length };""",
        1200,
        text,
    )
    assert failures == []
    assert found == {"rows": 6, "tools": True, "sections": 6, "buttons": 0}


@pytest.mark.parametrize(("name", "size"), [("report.png", (1240, 1400)), ("report-phone.png", (500, 1400))])
def test_screenshot(page, tmp_path, name, size):
    folder = Path(SCREENSHOTS) if SCREENSHOTS else tmp_path
    folder.mkdir(parents=True, exist_ok=True)
    target = folder.resolve() / name
    chromium(
        tmp_path / "profile", f"--window-size={size[0]},{size[1]}", f"--screenshot={target}", page.as_uri()
    )
    head = target.read_bytes()[:24]
    assert head.startswith(b"\x89PNG")
    assert struct.unpack(">II", head[16:24]) == size
