"""The text of a Metal file as `metal_library` reads it: included files in their places, macros written out."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from os import PathLike
from pathlib import Path
from typing import Any

from zmlx.errors import ArgumentTypeError
from zmlx.launch import arguments as checks
from zmlx.metal.constants import literal, plain_number, with_values
from zmlx.metal.entry_points import EntryPoint, entry_points
from zmlx.metal.includes import follow_includes, read_source
from zmlx.metal.preprocessor import preprocess
from zmlx.metal.structure import unbalanced

_DEFINES = "[metal_library] Expected `defines` to"


def library_text(
    source: str | PathLike[str],
    include_dirs: Sequence[str | PathLike[str]],
    defines: Mapping[str, Any] | None,
    constants: Mapping[str, Any] | None,
) -> tuple[str, str]:
    """The preprocessed text of a library, and what messages call it; see `metal_library` for what it raises."""
    if isinstance(include_dirs, str | PathLike):
        raise ArgumentTypeError(
            f"[metal_library] Expected `include_dirs` to be a list of folders but got {checks.shown(include_dirs)}. "
            f"Write [{str(include_dirs)!r}]."
        )
    folders = [Path(folder) for folder in include_dirs]
    if isinstance(source, PathLike):
        path = Path(source)
        text, what = read_source(path, path.name), path.name
        folders = [path.parent, *folders]
    else:
        text, what = source, "the library"
    checks.check_text("source", text)
    macros = _texts({} if defines is None else defines)
    if folders:
        text = follow_includes(text, folders, what)
    try:
        text = preprocess(text, macros)
    except ValueError as error:
        raise ValueError(f"[metal_library] {what}, {error}") from error
    if problem := unbalanced(text):
        raise ValueError(f"[metal_library] {what}, {problem}")
    return with_values(text, {} if constants is None else constants, what), what


def library_kernels(
    text: str, what: str, source: object, constants: Mapping[str, Any] | None
) -> list[EntryPoint]:
    """The kernels of a library's text, each of a name of its own."""
    entries = [_with_given(entry, constants or {}) for entry in entry_points(text)]
    if not entries:
        named = isinstance(source, str) and "\n" not in source and source.endswith(".metal")
        hint = f" To read a file, pass Path({source!r})." if named else ""
        raise ValueError(
            f"[metal_library] Expected {what} to have kernels, `kernel void name(…)` or `[[kernel]] void name(…)`, but "
            'it has none. Of a template, what is instantiated is one: `template [[host_name("f_float")]] [[kernel]] '
            f"decltype(f<float>) f<float>;`.{hint}"
        )
    lines: dict[str, int] = {}
    for entry in entries:
        if entry.name in lines:
            places = sorted({lines[entry.name], entry.line})
            raise ValueError(
                f"[metal_library] Expected the kernels of {what} to have names of their own, but {entry.name!r} is "
                f"there twice (line {' and '.join(map(str, places))}). Give one another name, as with "
                '[[host_name("…")]].'
            )
        lines[entry.name] = entry.line
    return entries


def _with_given(entry: EntryPoint, constants: Mapping[str, Any]) -> EntryPoint:
    """A kernel whose buffers that a function constant of value true keeps are buffers like any other."""
    kept = {str(name) for name, value in constants.items() if value}
    return dataclasses.replace(
        entry,
        arguments=tuple(
            dataclasses.replace(
                a, attributes=tuple(pair for pair in a.attributes if pair[0] != "function_constant")
            )
            if a.attribute("function_constant") in kept
            else a
            for a in entry.arguments
        ),
    )


def _texts(defines: Any) -> dict[str, str]:
    """The texts of macros by their names."""
    if not isinstance(defines, Mapping):
        raise ArgumentTypeError(
            f"{_DEFINES} be texts by name, {{'TILE': 32}}, but got {checks.shown(defines)}."
        )
    found = {}
    for name, given in defines.items():
        if not isinstance(name, str) or not name.isidentifier():
            raise ValueError(f"{_DEFINES} have identifiers as names but got {name!r}.")
        value = given if isinstance(given, str) else plain_number(given)
        if value is None:
            raise ArgumentTypeError(
                f"[metal_library] Expected defines[{name!r}] to be a text, a number or a bool but got {given!r}."
            )
        if isinstance(value, bool):
            value = int(value)
        found[name] = value if isinstance(value, str) else literal(value)
    return found
