"""Suppression files: what they cover, what is wrong with them, and that unneeded entries fail."""

from __future__ import annotations

import pytest
from wrong_kernels import CASES

import zmlx
from zmlx.check.suppressions import load_suppressions

pytestmark = pytest.mark.cpu

BY_NAME = {case.name: case for case in CASES}
ENTRY = "[known]\nkernel = mem_*\nkind = memory-order\nreason = fixed in the next release\nlink = https://example.org/1\n"


@pytest.fixture
def suppress(tmp_path):
    def write(text):
        path = tmp_path / "known.ini"
        path.write_text(text)
        return path

    return write


def test_a_covered_finding_is_none(suppress):
    with zmlx.checked(suppressions=suppress(ENTRY)) as check:
        BY_NAME["mem_none"].run()
    assert check.findings == []


def test_others_are_still_found(suppress):
    with pytest.raises(zmlx.KernelCheckError, match="data-race"), zmlx.checked(suppressions=suppress(ENTRY)):
        BY_NAME["no_barrier"].run()


@pytest.mark.parametrize(
    ("extra", "covered"),
    [("array = s\n", True), ("array = t\n", False), ("line = 4\n", True), ("line = 9\n", False)],
)
def test_array_and_line_narrow_an_entry(suppress, extra, covered):
    with zmlx.checked(raise_on_finding=False, suppressions=suppress(ENTRY + extra)) as check:
        BY_NAME["mem_none"].run()
    assert (check.findings == []) == covered


def test_an_unneeded_entry_fails(suppress):
    path = suppress(ENTRY)
    with pytest.raises(zmlx.KernelCheckError) as raised, zmlx.checked(suppressions=path):
        BY_NAME["mem_none"].repaired().run()
    # The name of the repaired kernel fits the pattern; there is just nothing to find.
    assert str(raised.value) == (
        f"{path}: the entry [known] suppressed nothing: no memory-order was found in 'mem_*'. Remove it."
    )


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[a]\nkernel = k\nkind = data-race\n", r"the entry \[a\] lacks 'reason'"),
        (ENTRY + "who = me\n", r"the entry \[known\] has an unknown key 'who'"),
        (
            ENTRY.replace("memory-order", "races"),
            r"has kind 'races'; expected one of out-of-bounds, data-race",
        ),
        (ENTRY + "line = x\n", r"has line 'x'; expected a number"),
        ("kernel = k\n", "Cannot read the suppressions"),
    ],
)
def test_what_is_wrong_with_a_file_is_said(suppress, text, message):
    with pytest.raises(ValueError, match=message):
        load_suppressions(suppress(text))


def test_a_missing_file_is_an_error(tmp_path):
    with pytest.raises(ValueError, match="Cannot read the suppressions"):
        load_suppressions(tmp_path / "none.ini")
