"""The tables of the documentation, between their comments."""

from __future__ import annotations

from pathlib import Path

import pytest

from zmlx.scaffold import tables
from zmlx.scaffold.render import ScaffoldError

pytestmark = pytest.mark.cpu

BEGIN, END = "<!-- zmlx one: begin -->", "<!-- zmlx one: end -->"


def test_what_stands_between_the_comments_is_replaced() -> None:
    text = f"before\n{BEGIN}\nold\n{END}\nafter\n"
    assert tables.replaced(text, "one", "| new |", "x.md") == f"before\n{BEGIN}\n| new |\n{END}\nafter\n"


@pytest.mark.parametrize(
    "text", ["", BEGIN, f"{END}{BEGIN}", f"{BEGIN}{BEGIN}{END}", f"{BEGIN}{END}{END}"], ids=range(5)
)
def test_comments_that_do_not_pair(text: str) -> None:
    with pytest.raises(
        ScaffoldError, match=r"^x\.md needs one line '<!-- zmlx one: begin -->' and after it one line"
    ):
        tables.replaced(text, "one", "new", "x.md")


def test_only_stale_files_are_rewritten(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("a.md", "b.md"):
        (tmp_path / name).write_text(f"{BEGIN}\nold\n{END}\n")
    made = {("a.md", "one"): lambda root: "new", ("b.md", "one"): lambda root: "old"}
    monkeypatch.setattr(tables, "TABLES", made)
    assert tables.rewrite(tmp_path) == ["a.md"]
    assert (tmp_path / "a.md").read_text() == f"{BEGIN}\nnew\n{END}\n"
    assert tables.rewrite(tmp_path) == []
