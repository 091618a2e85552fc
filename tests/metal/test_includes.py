"""Includes that are followed in the text: where files are looked for, once or more, and what is wrong with them."""

from __future__ import annotations

from pathlib import Path

import pytest

from zmlx.metal.includes import follow_includes

pytestmark = pytest.mark.cpu


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "sub").mkdir()
    (tmp_path / "a.h").write_text('#pragma once\n#include "sub/b.h"\nint a;')
    (tmp_path / "sub" / "b.h").write_text('#include "c.h"\nint b;')
    (tmp_path / "sub" / "c.h").write_text("int c;")
    return tmp_path


def followed(text: str, *folders: Path) -> list[str]:
    return [line for line in follow_includes(text, folders, "the header of 'k'").split("\n") if line]


def test_files_take_the_place_of_their_lines(folder: Path) -> None:
    assert followed('int x;\n#include "a.h"\nint y;', folder) == [
        "int x;",
        "int c;",
        "int b;",
        "int a;",
        "int y;",
    ]


def test_once_is_once_and_others_are_as_often_as_they_are_included(folder: Path) -> None:
    twice = '#include "a.h"\n  #  include "a.h"\n#include "sub/c.h"\n#include "sub/c.h"'
    assert followed(twice, folder) == ["int c;", "int b;", "int a;", "int c;", "int c;"]


def test_the_first_folder_wins(folder: Path, tmp_path: Path) -> None:
    other = tmp_path / "other"
    other.mkdir()
    (other / "a.h").write_text("int other;")
    assert followed('#include "a.h"', other, folder) == ["int other;"]


def test_what_is_in_no_folder_stays(folder: Path) -> None:
    lines = ['#include "nowhere.h"', "#include <metal_stdlib>"]
    assert followed("\n".join(lines), folder) == lines


def test_what_mlx_puts_in_front_is_left_out_but_for_what_it_includes(tmp_path: Path) -> None:
    kernels = tmp_path / "mlx" / "backend" / "metal" / "kernels"
    kernels.mkdir(parents=True)
    (kernels / "utils.h").write_text('#include "mlx/backend/metal/kernels/defines.h"\nint twice_defined;')
    (kernels / "defines.h").write_text("#define MINE 1")
    assert followed('#include "mlx/backend/metal/kernels/utils.h"', tmp_path) == ["#define MINE 1"]


def test_a_circle_is_named(folder: Path) -> None:
    (folder / "p.h").write_text('#include "q.h"')
    (folder / "q.h").write_text('#include "p.h"')
    with pytest.raises(
        ValueError,
        match=r"^\[metal_kernel\] the header of 'k': files include each other in a circle: p\.h -> q\.h -> p\.h\.$",
    ):
        followed('#include "p.h"', folder)


def test_a_file_that_is_not_utf_8_is_named(folder: Path) -> None:
    (folder / "latin.h").write_bytes(b"// \xe9")
    with pytest.raises(ValueError, match=r"latin\.h is not UTF-8"):
        followed('#include "latin.h"', folder)


def test_a_folder_that_is_none(folder: Path) -> None:
    with pytest.raises(
        FileNotFoundError, match=r"Expected `include_dirs` to be folders, got '.*a\.h', which is none\."
    ):
        followed("", folder / "a.h")
