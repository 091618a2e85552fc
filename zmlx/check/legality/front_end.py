"""libclang, imported when it is first needed: parses texts and gives back what it complained about."""

from __future__ import annotations

import atexit
import ctypes
import importlib
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from importlib import resources
from pathlib import Path
from typing import Any

from zmlx.check.legality.text import MAIN, PRELUDE
from zmlx.launch.cache import cached, digest

#: What to say where there is no libclang.
MISSING = (
    "what Metal's compiler refuses is looked for by simple rules only: there is no libclang here. "
    "`pip install '.[lint]'` adds the type check."
)

# A target without features, to which those are added that Metal has too: program-scope variables then have to be
# `constant`, as in Metal, and what has no address space may be in any.
_FEATURES = ",".join(
    (
        "+cl_khr_fp16",
        "+__opencl_c_generic_address_space",
        "+__opencl_c_int64",
        "+__cl_clang_function_pointers",
        "+__cl_clang_bitfields",
    )
)
_ARGUMENTS = (
    "-x",
    "cl",
    "-cl-std=clc++2021",
    "-target",
    "x86_64-unknown-linux-gnu",
    "-Xclang",
    f"-cl-ext=-all,{_FEATURES}",
    "-cl-no-stdinc",
    "-cl-single-precision-constant",
    "-fsyntax-only",
    "-ferror-limit=0",
    "-ftemplate-backtrace-limit=0",
    "-fno-spell-checking",
    "-fno-elide-type",
    "-Wno-everything",
    "-Wimplicit-float-conversion",
)
_ERROR = 3
#: CXTranslationUnit_Incomplete: templates of the prelude are instantiated by what includes it.
_INCOMPLETE = 0x02


@dataclass(frozen=True)
class Complaint:
    """What the front end complains about, where, the author's text from there to the end of the line, and notes on it.

    Not an error is a conversion to bfloat that loses precision, which is one in Metal.
    """

    message: str
    file: str
    line: int
    text: str = ""
    notes: tuple[Complaint, ...] = ()
    error: bool = True


@lru_cache
def _index() -> Any | None:
    """libclang's index, or None where it cannot be loaded."""
    try:
        cindex = importlib.import_module("clang.cindex")
    except ImportError:
        return None
    try:
        index = cindex.Index.create()
    except cindex.LibclangError:
        return None
    # It is closed through its library, which the end of the process takes away first.
    atexit.register(_index.cache_clear)
    return index


def available() -> bool:
    """Whether there is a libclang that loads."""
    return _index() is not None


def _prelude() -> tuple[str, str]:
    """The prelude's name and text."""
    text = resources.files("zmlx.runtime").joinpath("check/legality.h").read_text(encoding="utf-8")
    return PRELUDE, text


class _String(ctypes.Structure):
    """libclang's CXString."""

    _fields_ = (("data", ctypes.c_void_p), ("flags", ctypes.c_uint))


def _version() -> str:
    """Of libclang; its Python half asks for it in new releases only."""
    library = importlib.import_module("clang.cindex").conf.lib
    # Taken by name, these are functions of our own: the types of those that are attributes are libclang's to set.
    version, text = library["clang_getClangVersion"], library["clang_getCString"]
    version.restype, text.restype, text.argtypes = _String, ctypes.c_char_p, [_String]
    return str(text(version()).decode())


@lru_cache
def _precompiled() -> Path:
    """The prelude, parsed once and for all: it takes five times as long as a kernel."""
    prelude = _prelude()

    def build(path: Path) -> None:
        index = _index()
        assert index is not None
        unit = index.parse(PRELUDE, args=list(_ARGUMENTS), unsaved_files=[prelude], options=_INCOMPLETE)
        unit.save(str(path))

    key = digest("legality", *prelude, *_ARGUMENTS, _version(), str(_INCOMPLETE))
    return cached("header", key, ".pch", build)


def parse(texts: Mapping[str, str]) -> list[Complaint]:
    """The errors in `MAIN`, which begins where the prelude ends, and in what it includes.

    Raises
    ------
    RuntimeError
        There is no libclang.
    """
    index = _index()
    if index is None:
        raise RuntimeError(f"[metal_kernel] {MISSING}")
    arguments = [*_ARGUMENTS, "-include-pch", str(_precompiled())]
    unit = index.parse(MAIN, args=arguments, unsaved_files=[_prelude(), *texts.items()])
    complaints = [_complaint(found, texts) for found in unit.diagnostics]
    return [c for c in complaints if c.error or _is_assigned(c, texts)]


def _is_assigned(warning: Complaint, texts: Mapping[str, str]) -> bool:
    """Whether a warning of a conversion is in the author's text, and not of `b += f`, which Metal may allow."""
    if warning.file not in texts or any("macro" in note.message for note in warning.notes):
        return False
    return warning.text[1:2] != "="


def _complaint(diagnostic: Any, texts: Mapping[str, str]) -> Complaint:
    place = diagnostic.location
    file = place.file.name if place.file is not None else ""
    # Offsets count bytes.
    rest = texts.get(file, "").encode()[place.offset :].partition(b"\n")[0].decode(errors="replace")
    notes = tuple(_complaint(note, texts) for note in diagnostic.children)
    return Complaint(diagnostic.spelling, file, place.line, rest, notes, diagnostic.severity >= _ERROR)
