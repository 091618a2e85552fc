"""A compiler's output as an error that quotes the author's own lines and says what to do about them."""

from __future__ import annotations

import difflib
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from zmlx.errors import KernelCompileError
from zmlx.metal.signature import ATTRIBUTES, KernelSource
from zmlx.metal.tokens import tokenize

#: ``<kernel> source:12:8: error: …`` (g++, clang) and ``<kernel> source(12): error: …`` (NVRTC).
_MESSAGE = re.compile(
    r"^(?P<part>.*) (?P<text>header|source)(?::(\d+)(?::\d+)?:|\((\d+)\):) (?:fatal )?error:? ?(?P<what>.*)$"
)
#: A check of the runtime's headers, and the author's line that did not pass it.
_ASSERTION = re.compile(
    r"error: static assertion failed(?: due to requirement .*)?(?:: | with )\"?(?P<what>.*?)\"?$"
)
_REQUIRED = re.compile(
    r"^(?P<part>.*) (?P<text>header|source)(?::(\d+)(?::\d+)?:|\((\d+)\):?)\s*"
    r"(?:required from here|note: in instantiation)"
)


@dataclass(frozen=True)
class _Line:
    """One error: where it is, what the compiler says, and the author's line."""

    part: str
    number: int
    what: str
    quoted: str


def compile_error(kernel: KernelSource, log: str, summary: str, limit: int = 5) -> KernelCompileError:
    """A compiler's output as an error that quotes the kernel's own lines, with hints where the cause is known."""
    found = list(_lines(kernel, log))
    texts = [f"  {line.part} line {line.number}: {line.what}\n    {line.quoted}" for line in found]
    shown = "\n".join(texts[:limit]) if found else "\n".join(log.strip().splitlines()[:20])
    more = f"\n  … and {len(found) - limit} more errors" if len(found) > limit else ""
    hints = dict.fromkeys(hint for line in found for hint in _hints(kernel, line))
    advice = "".join(f"\n  What to do: {hint}" for hint in list(hints)[:limit])
    return KernelCompileError(
        f"[metal_kernel] Kernel {kernel.name!r} does not compile ({summary}):\n{shown}{more}{advice}\n"
        "The whole output is in this error's `log`.",
        log,
    )


def _lines(kernel: KernelSource, log: str) -> Iterator[_Line]:
    texts = {"header": kernel.header.split("\n"), "source": kernel.source.split("\n")}
    required: re.Match[str] | None = (
        None  # g++ names the author's line before the check that it does not pass,
    )
    asserted = ""  # and clang behind it
    for line in log.splitlines():
        match = _MESSAGE.match(line)
        what = match["what"] if match is not None else ""
        if match is None:
            place, failed = _REQUIRED.match(line), _ASSERTION.search(line)
            if place is not None and place["part"].endswith(kernel.name):
                required = place
            if failed is not None:
                asserted = failed["what"]
            if required is None or not asserted:
                continue
            match, what = required, asserted
        if not match["part"].endswith(kernel.name):
            continue
        required, asserted = None, ""
        lines = texts[match["text"]]
        number = _missing_semicolon(lines, int(match[3] or match[4]), what)
        quoted = lines[number - 1].strip() if 0 < number <= len(lines) else ""
        yield _Line(match["text"], number, what, quoted)


def _missing_semicolon(lines: list[str], number: int, what: str) -> int:
    """The line that lacks its ``;``: compilers name the line of what comes next."""
    missing = _SEMICOLON.match(what)
    if missing is None or not 1 < number <= len(lines):
        return number
    here = [token.text for token in tokenize(lines[number - 1]) if token.is_code]
    if missing["next"] is not None and here[:1] != [next(iter(_words(missing["next"])), "")]:
        return number
    before = (k for k in range(number - 1, 0, -1) if any(t.is_code for t in tokenize(lines[k - 1])))
    return next(before, number)


def _words(text: str) -> Iterator[str]:
    return (token.text for token in tokenize(text) if token.is_code)


#: The quotation marks of compilers: g++ writes typographic ones where the locale has them.
_OPENED, _CLOSED = "['\"`\u2018]", "['\"`\u2019]"
_SEMICOLON = re.compile(
    rf"expected (?:{_OPENED}?,{_CLOSED}? or )?{_OPENED}?;{_CLOSED}?(?: before {_OPENED}(?P<next>.+?){_CLOSED})?"
)
_NAME = rf"{_OPENED}(?P<name>[A-Za-z_]\w*){_CLOSED}"
_UNDECLARED = re.compile(
    rf"{_NAME} was not declared in this scope|{_NAME.replace('name', 'type')} does not name a type|"
    rf"use of undeclared identifier {_NAME.replace('name', 'clang')}|"
    rf"unknown type name {_NAME.replace('name', 'clang_type')}|"
    rf"identifier {_NAME.replace('name', 'nvrtc')} is undefined|"
    rf"{_NAME.replace('name', 'early')} has not been declared"
)


def _undeclared(kernel: KernelSource, line: _Line) -> str | None:
    match = _UNDECLARED.search(line.what)
    if match is None:
        return None
    name = next(group for group in match.groups() if group)
    known = [*ATTRIBUTES, *kernel.input_names, *kernel.output_names]
    known += [f"{array}_{what}" for array in kernel.input_names for what in ("shape", "strides", "ndim")]
    close = difflib.get_close_matches(name, known, n=1, cutoff=0.8)
    if close:
        return f"`{name}` is nothing here; did you mean `{close[0]}`?"
    if re.fullmatch(r"[A-Z]\w*", name):
        return f'if `{name}` is a template argument, pass it with the call: template=[("{name}", …)].'
    return None


def _atomic(kernel: KernelSource, line: _Line) -> str | None:
    if kernel.atomic_outputs or "atomic_" not in line.what or not re.search(r"match|instance", line.what):
        return None
    named = [name for name in kernel.output_names if re.search(rf"\b{re.escape(name)}\b", line.quoted)]
    if not named:
        return None
    return f"`{named[0]}` holds plain numbers; atomics need metal_kernel(…, atomic_outputs=True)."


def _scalar(kernel: KernelSource, line: _Line) -> str | None:
    subscript = r"for array subscript|subscripted value is not|must have pointer-to-object"
    if not re.search(subscript, line.what):
        return None
    named = [name for name in kernel.input_names if re.search(rf"\b{re.escape(name)}\s*\[", line.quoted)]
    if not named:
        return None
    listed = ", ".join(f"`{name}`" for name in named)
    return (
        f"of {listed}, one is a Python number or a 0-d array, which is a value in Metal and no array: write "
        "its name without a subscript, or pass an array of one element."
    )


_HINTS: tuple[Callable[[KernelSource, _Line], str | None], ...] = (_undeclared, _atomic, _scalar)


def _hints(kernel: KernelSource, line: _Line) -> Iterator[str]:
    return (hint for find in _HINTS if (hint := find(kernel, line)) is not None)
