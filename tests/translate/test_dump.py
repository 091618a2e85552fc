"""``ZMLX_DUMP``: a file for what each pass makes of a kernel."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

import zmlx
from zmlx.metal.signature import KernelSource
from zmlx.translate import dump, pipeline

pytestmark = pytest.mark.cpu

SOURCE = """
  threadgroup float s[64];
  uint t = thread_position_in_threadgroup.x;
  s[t] = x[t] * 2.0;
  threadgroup_barrier(mem_flags::mem_threadgroup);
  out[t] = s[63 - t];
"""


@pytest.fixture
def dumped(monkeypatch, tmp_path):
    def run(kernel, name, known=()):
        monkeypatch.setenv(dump.DUMP_VARIABLE, str(tmp_path))
        pipeline.run.cache_clear()
        pipeline.run(kernel, name, True, known)
        (folder,) = tmp_path.iterdir()
        return folder

    return run


@pytest.mark.parametrize("name", pipeline.PIPELINES)
def test_each_pass_leaves_a_file(dumped, name):
    folder = dumped(KernelSource("turn", ("x",), ("out",), SOURCE, "// own\n"), name)
    assert folder.name.startswith(f"turn-{name}-")
    steps = ["metal", *(step.name for step in pipeline.PIPELINES[name])]
    assert sorted(file.name for file in folder.iterdir()) == [
        f"{number:02}-{step}.txt" for number, step in enumerate(steps)
    ]
    first = (folder / "00-metal.txt").read_text()
    assert first == f'#line 1 "turn header"\n// own\n\n#line 1 "turn source"\n{SOURCE}\n'


def text_after(folder: Path, step: str) -> str:
    """What that pass has written, whatever its number is."""
    (file,) = folder.glob(f"[0-9][0-9]-{step}.txt")
    return file.read_text()


def test_lines_are_counted_as_the_author_counts(dumped):
    folder = dumped(KernelSource("turn", ("x",), ("out",), SOURCE), "cuda")
    text = text_after(folder, "literals").partition('#line 1 "turn source"\n')[2]
    assert text.splitlines()[3].strip() == "s[t] = x[t] * 2.0f;"


def test_what_is_written_anew_has_the_authors_line_numbers(dumped):
    folder = dumped(KernelSource("turn", ("x",), ("out",), SOURCE), "host-regions")
    assert "#line 4\ns[t] = x[t] * 2.0f;" in text_after(folder, "regions")


def test_names_become_file_names(dumped):
    folder = dumped(KernelSource("a/b: c", ("x",), ("out",), "out[0] = x[0];"), "host-loop")
    assert folder.name.startswith("a_b__c-host-loop-")


def test_a_folder_that_cannot_be_written_to_is_named(monkeypatch, tmp_path):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv(dump.DUMP_VARIABLE, str(tmp_path / "file"))
    pipeline.run.cache_clear()
    with pytest.raises(OSError, match=r"^ZMLX_DUMP=.*file: cannot write there"):
        pipeline.run(KernelSource("k", ("x",), ("out",), "out[0] = x[0];"), "host-loop")


def test_nothing_is_written_unasked(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv(dump.DUMP_VARIABLE, raising=False)
    pipeline.run.cache_clear()
    pipeline.run(KernelSource("k", ("x",), ("out",), "out[0] = x[0];"), "host-loop")
    assert not list(tmp_path.iterdir())


def test_the_page_on_the_architecture_shows_what_is_written(dumped):
    page = (Path(zmlx.__file__).parent.parent / "docs" / "architecture.md").read_text(encoding="utf-8")
    source, literals, regions = re.findall(r"^```cpp\n(.*?)\n```", page, re.DOTALL | re.MULTILINE)
    folder = dumped(
        KernelSource("turn", ("x",), ("out",), f"\n{source}\n"), "host-regions", (("out", False),)
    )
    for shown, step in ((literals, "literals"), (regions, "regions")):
        text = text_after(folder, step).partition('#line 1 "turn source"\n')[2]
        assert [line.rstrip() for line in text.strip("\n").splitlines()] == shown.splitlines()
