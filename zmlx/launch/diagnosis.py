"""A compiler's output as an error that quotes the author's own lines and says what to do about them."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

from zmlx.errors import KernelCompileError
from zmlx.launch.hints import Line, hints
from zmlx.metal.signature import KernelSource, Signature
from zmlx.metal.structure import Program
from zmlx.metal.tokens import tokenize

#: What Metal's `maxThreadgroupMemoryLength` is on Apple's GPUs, in bytes.
MAX_THREADGROUP_MEMORY = 32768

#: ``<kernel> source:12:8: error: …`` (g++, clang) and ``<kernel> source(12): error: …`` (NVRTC).
_MESSAGE = re.compile(
    r"^(?P<part>.*) (?P<text>header|source)(?::(\d+)(?::(?P<column>\d+))?:|\((\d+)\):) "
    r"(?:fatal )?error:? ?(?P<what>.*)$"
)
#: An error in the runtime's headers, as a rule of a check, and the author's line that led there.
_ELSEWHERE = re.compile(
    r"^(?!zmlx entry).*: error: "
    r"(?:static assertion failed(?: due to requirement .*)?(?:: | with )\"?)?(?P<what>.*?)\"?$"
)
_REQUIRED = re.compile(
    r"^(?P<part>.*) (?P<text>header|source)(?::(\d+)(?::(?P<column>\d+))?:|\((\d+)\):?)\s*"
    r"(?:required from|note: in instantiation)"
)
#: The same behind the check, in NVRTC's words: ``… at line 2 of wrong source``.
_INSTANTIATED = re.compile(
    r"instantiation of .* at line (?P<line>\d+) of (?P<part>.*) (?P<text>header|source)$"
)
#: ptxas counts the shared memory of a whole kernel.
_SHARED = re.compile(r"uses too much shared data \(0x(?P<bytes>[0-9a-f]+) bytes")

#: The quotation marks of compilers: g++ writes typographic ones where the locale has them.
_OPENED, _CLOSED = "['\"`\u2018]", "['\"`\u2019]"
_SEMICOLON = re.compile(
    rf"expected (?:{_OPENED}?,{_CLOSED}? or |a )?{_OPENED}?;{_CLOSED}?|expected initializer before"
)


@dataclass(frozen=True)
class _Place:
    """Where a compiler is: the part of the kernel, its line, and whether that is all in front of its first word."""

    part: str
    number: int
    at_start: bool


def compile_error(signature: Signature, log: str, summary: str, limit: int = 5) -> KernelCompileError:
    """A compiler's output as an error that quotes the kernel's own lines, with hints where the cause is known."""
    kernel = signature.kernel
    # Of what is wrong with brackets, compilers tell elsewhere, and in other words.
    found = [*_open_brackets(kernel), *_lines(kernel, log), *_too_much_shared(log)]
    texts = [
        f"  {line.part} line {line.number}: {line.what}\n    {line.quoted}" if line.part else f"  {line.what}"
        for line in found
    ]
    shown = "\n".join(texts[:limit]) if found else "\n".join(log.strip().splitlines()[:20])
    more = f"\n  … and {len(found) - limit} more errors" if len(found) > limit else ""
    advice = "".join(f"\n  What to do: {hint}" for hint in list(hints(signature, found))[:limit])
    return KernelCompileError(
        f"[metal_kernel] Kernel {kernel.name!r} does not compile ({summary}):\n{shown}{more}{advice}\n"
        "The whole output is in this error's `log`.",
        log,
    )


def too_much_memory(size: int) -> str:
    """What is said of a kernel with so many bytes of threadgroup memory."""
    return (
        f"declares {size} bytes of threadgroup memory; Metal has {MAX_THREADGROUP_MEMORY} bytes a threadgroup"
    )


def _lines(kernel: KernelSource, log: str) -> Iterator[Line]:
    texts = {"header": kernel.header.split("\n"), "source": kernel.source.split("\n")}
    required: _Place | None = None  # g++ names the author's line before the error in a header,
    elsewhere = ""  # and clang and NVRTC behind it
    output = log.splitlines()
    for index, line in enumerate(output):
        match = _MESSAGE.match(line)
        if match is not None:
            place, what = _place(kernel, match, output[index + 1 : index + 3]), match["what"]
        else:
            failed = _ELSEWHERE.match(line)
            elsewhere = failed["what"] if failed is not None else elsewhere
            required = _required(kernel, line) or required
            place, what = (required, elsewhere) if required is not None and elsewhere else (None, "")
        if place is None:
            continue
        required, elsewhere = None, ""
        part, number = place.part, _missing_semicolon(texts[place.part], place, what)
        yield Line(part, number, _plain(what), _quoted(texts[part], number))


def _place(kernel: KernelSource, match: re.Match[str], behind: list[str]) -> _Place | None:
    if not match["part"].endswith(kernel.name):
        return None
    number = int(next(group for group in match.groups()[2:] if group and group.isdecimal()))
    text = kernel.source if match["text"] == "source" else kernel.header
    lines = text.split("\n")
    line = lines[number - 1] if 0 < number <= len(lines) else ""
    if match["column"] is not None:
        indent = len(line.expandtabs(8)) - len(line.expandtabs(8).lstrip())
        return _Place(match["text"], number, int(match["column"]) <= indent + 1)
    # NVRTC shows the line, and under it a caret.
    shown = len(behind) == 2 and behind[1].strip() == "^"
    return _Place(
        match["text"], number, shown and behind[1].index("^") <= len(behind[0]) - len(behind[0].lstrip())
    )


def _required(kernel: KernelSource, line: str) -> _Place | None:
    match = _REQUIRED.match(line)
    if match is not None:
        return _place(kernel, match, [])
    match = _INSTANTIATED.search(line)
    if match is None or not match["part"].endswith(kernel.name):
        return None
    return _Place(match["text"], int(match["line"]), False)


def _missing_semicolon(lines: list[str], place: _Place, what: str) -> int:
    """The line that lacks its ``;``: compilers name the line of what comes next, if that stands first there."""
    if not place.at_start or _SEMICOLON.match(what) is None:
        return place.number
    before = range(min(place.number - 1, len(lines)), 0, -1)
    return next((k for k in before if any(t.is_code for t in tokenize(lines[k - 1]))), place.number)


def _quoted(lines: list[str], number: int) -> str:
    return lines[number - 1].strip() if 0 < number <= len(lines) else ""


#: g++ suggests what is not the author's: names of the runtime, and of C++.
_SUGGESTION = re.compile(rf"; did you mean {_OPENED}(?:\w+::)*(?:_\w+|zmlx\w*|ZMLX\w*){_CLOSED}\?")


def _plain(what: str) -> str:
    return _SUGGESTION.sub("", what)


def _too_much_shared(log: str) -> Iterator[Line]:
    found = _SHARED.search(log)
    if found is not None:
        yield Line("", 0, f"the kernel {too_much_memory(int(found['bytes'], 16))}", "")


def _open_brackets(kernel: KernelSource) -> Iterator[Line]:
    """The brackets without a partner, of which compilers tell at the end of everything."""
    for source in Program(kernel.header, kernel.source).sources:
        if any(directive.word.startswith("if") for directive in source.directives):
            continue  # its branches may hold one half each
        text = kernel.source if source.part == "source" else kernel.header
        for index, token in enumerate(source.main.code):
            if token.text in "()[]{}" and source.main.partner(index) < 0:
                what = (
                    f"`{token.text}` is never closed"
                    if token.text in "([{"
                    else f"`{token.text}` closes nothing"
                )
                yield Line(source.part, token.line, what, _quoted(text.split("\n"), token.line))
