"""``[tool.zmlx]``: what it may hold, and what is said of what it may not."""

from __future__ import annotations

import datetime
from pathlib import Path

import pytest

from zmlx._settings import KEYS, Settings, SettingsError, find_settings, read_settings

pytestmark = pytest.mark.cpu


def write(folder: Path, text: str) -> Path:
    file = folder / "pyproject.toml"
    file.write_text(text, encoding="utf-8")
    return file


def test_every_key(tmp_path: Path) -> None:
    file = write(
        tmp_path,
        """
        [tool.zmlx]
        ops = ["mine.ops:OPS", "mine.more:TABLES.second"]
        golden-dir = "data/golden"
        pending-until = "2027-01-01"
        zmlx-from = "../zmlx"
        [tool.zmlx.tolerances]
        "mine.*" = { float16 = { rtol = 1e-2, atol = 1e-4, max-ulp = 8, reason = "a table" } }
        """,
    )
    assert read_settings(file) == Settings(
        file,
        ops=("mine.ops:OPS", "mine.more:TABLES.second"),
        golden_dir=tmp_path / "data" / "golden",
        pending_until=datetime.date(2027, 1, 1),
        zmlx_from=str(tmp_path.parent / "zmlx"),
        tolerances={"mine.*": {"float16": {"rtol": 1e-2, "atol": 1e-4, "max-ulp": 8, "reason": "a table"}}},
    )
    assert set(KEYS) == {"ops", "golden-dir", "pending-until", "zmlx-from", "tolerances"}


def test_defaults(tmp_path: Path) -> None:
    assert read_settings(write(tmp_path, "[tool.zmlx]\n")) == Settings(
        tmp_path / "pyproject.toml", golden_dir=tmp_path / "golden_values"
    )


def test_a_date_and_a_url_are_taken_as_they_are(tmp_path: Path) -> None:
    file = write(
        tmp_path, '[tool.zmlx]\npending-until = 2027-01-01\nzmlx-from = "git+https://host/zmlx.git"\n'
    )
    found = read_settings(file)
    assert found is not None
    assert (found.pending_until, found.zmlx_from) == (datetime.date(2027, 1, 1), "git+https://host/zmlx.git")


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        (
            "op = 'a.b:C'",
            (
                "key 'op' is not known. Did you mean 'ops'? Known: ops, golden-dir, pending-until, zmlx-from, "
                "tolerances."
            ),
        ),
        ("golden_dir = 'x'", "key 'golden_dir' is not known. Did you mean 'golden-dir'? Known: "),
        ("zebra = 1", "key 'zebra' is not known. Known: ops, "),
        (
            "ops = 'mine.ops'",
            (
                'ops: expected "package.module:NAME", such as "mypackage.ops:OPS", or a list of such; '
                "got 'mine.ops'."
            ),
        ),
        ("ops = []", "or a list of such; got []."),
        ("ops = 3", "or a list of such; got 3."),
        ("golden-dir = 3", 'golden-dir: expected a folder, such as "golden_values"; got 3.'),
        ("pending-until = 'soon'", "pending-until: expected a date, such as \"2027-01-01\"; got 'soon'."),
        ("pending-until = 2027-01-01T00:00:00", "pending-until: expected a date"),
        ("zmlx-from = ''", 'zmlx-from: expected a folder or a URL, such as "../zmlx" or '),
        ("tolerances = 1", 'tolerances: expected { "mypackage.*" = '),
        (
            "tolerances = {a = {float61 = {}}}",
            "tolerances.'a', dtype 'float61' is not known. Did you mean 'float16'?",
        ),
        ("tolerances = {a = {float16 = {rtol = 1}}}", "expected rtol and atol in tolerances.'a'.float16"),
        (
            "tolerances = { 'mine.*' = { float16 = { rtol = inf, atol = 0, reason = 'all' } } }",
            "expected a finite number of zero or more for rtol",
        ),
        ("tolerances = { 'mine.*' = {} }", "tolerances: expected { "),
        (
            "tolerances = {a = {float16 = {rtol = 1, atol = -1}}}",
            "expected a finite number of zero or more for atol",
        ),
        (
            "tolerances = {a = {float16 = {rtol = 1, atol = true}}}",
            "expected a finite number of zero or more for atol",
        ),
        (
            "tolerances = {a = {float16 = {rtol = 1, atol = 1, max_ulp = 1}}}",
            ("key 'max_ulp' is not known. Did you mean 'max-ulp'?"),
        ),
        ("tolerances = {a = {float16 = {rtol = 1, atol = 1, reason = 1}}}", "expected text for reason"),
    ],
)
def test_what_is_refused(tmp_path: Path, text: str, complaint: str) -> None:
    file = write(tmp_path, f"[tool.zmlx]\n{text}\n")
    with pytest.raises(SettingsError) as caught:
        read_settings(file)
    assert str(caught.value).startswith(f"{file}, [tool.zmlx]: ")
    assert complaint in str(caught.value)


def test_a_section_that_is_no_table(tmp_path: Path) -> None:
    file = write(tmp_path, "tool.zmlx = 1\n")
    with pytest.raises(SettingsError, match=r"expected a table \[tool.zmlx\], got 1"):
        read_settings(file)


@pytest.mark.parametrize("text", ["", "[project]\nname = 'x'\n", "[tool.ruff]\n", "not TOML"])
def test_other_projects_are_left_alone(tmp_path: Path, text: str) -> None:
    assert read_settings(write(tmp_path, text)) is None


def test_broken_toml(tmp_path: Path) -> None:
    file = write(tmp_path, "[tool.zmlx\n")
    with pytest.raises(SettingsError, match=r"pyproject\.toml cannot be read: .*line 1"):
        read_settings(file)


def test_the_nearest_section_counts(tmp_path: Path) -> None:
    write(tmp_path, "[tool.zmlx]\nops = 'outer:OPS'\n")
    inner = tmp_path / "inner"
    deep = inner / "deep"
    deep.mkdir(parents=True)
    write(inner, "[project]\nname = 'inner'\n")
    found = find_settings(deep)
    assert found is not None
    assert (found.root, found.ops) == (tmp_path, ("outer:OPS",))
    write(inner, "[tool.zmlx]\nops = 'inner:OPS'\n")
    found = find_settings(deep)
    assert found is not None
    assert (found.root, found.ops) == (inner, ("inner:OPS",))
