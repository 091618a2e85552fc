"""What every pass promises: that a pass which breaks a promise is found."""

from __future__ import annotations

import contextlib

import pytest

from zmlx.metal.signature import KernelSource
from zmlx.metal.statements import Unclear
from zmlx.translate import pipeline, verify
from zmlx.translate.passes import Pass
from zmlx.translate.unit import Unit
from zmlx.translate.verify import PassError

pytestmark = pytest.mark.cpu

SOURCE = "float v = x[0];\nout[0] = v * (2 + 1);\n"


def unit(source: str = SOURCE) -> Unit:
    return Unit(KernelSource("k", ("x",), ("out",), source, "// header\n"), "host", True)


def put(before: str = "", after: str = "", text: str | None = None):
    """A pass that spoils the first token of the second line."""

    def run(spoiled: Unit) -> None:
        token = next(t for t in spoiled.program.body.tokens if t.line == 2 and t.is_code)
        token.before, token.after = before, after
        token.text = token.text if text is None else text

    return run


def write_anew(text: str):
    def run(spoiled: Unit) -> None:
        spoiled.group_body = text

    return run


@pytest.mark.parametrize(
    ("step", "message"),
    [
        (Pass("p", put(before="\n")), "the pass 'p', in the source of 'k': expected 3 lines, got 4"),
        (Pass("p", put(after="(")), "expected brackets left open (0, 0, 0) for () [] {}, got (1, 0, 0)"),
        (Pass("p", put(text="{")), "got (0, 0, 1)"),
        (Pass("p", write_anew("#line 7\nx"), moves_lines=True), "expected #line from 1 to 3, got 7"),
        (Pass("p", write_anew("{"), moves_lines=True), "got (0, 0, 1)"),
    ],
)
def test_a_broken_promise_is_an_error(monkeypatch, step, message):
    monkeypatch.setenv(verify.VERIFY_VARIABLE, "1")
    spoiled = unit()
    before = verify.promises(spoiled)
    step.run(spoiled)
    with pytest.raises(PassError) as error:
        verify.check(before, spoiled, step.name, step.moves_lines)
    assert message in str(error.value)


def test_words_stay_in_their_lines(monkeypatch):
    monkeypatch.setenv(verify.VERIFY_VARIABLE, "1")
    spoiled = unit()
    before = verify.promises(spoiled)
    tokens = spoiled.program.body.tokens
    space = next(t for t in tokens if t.text == "\n")
    space.text = " "
    tokens[-1].text += "\n"
    with pytest.raises(PassError, match="'out' of line 2 stands in line 1"):
        verify.check(before, spoiled, "p")


def test_the_authors_own_open_bracket_is_no_broken_promise(monkeypatch):
    monkeypatch.setenv(verify.VERIFY_VARIABLE, "1")
    assert (
        pipeline.run(KernelSource("open", ("x",), ("out",), "out[0] = (x[0];"), "cuda").body
        == "out[0] = (x[0];"
    )


def test_verification_is_on_in_these_tests_and_off_otherwise(monkeypatch):
    assert verify.promises(unit()) is not None
    monkeypatch.delenv(verify.VERIFY_VARIABLE)
    assert verify.promises(unit()) is None
    verify.check(None, unit(), "p")


def test_the_pipeline_verifies_each_pass(monkeypatch):
    monkeypatch.setitem(pipeline.PIPELINES, "cuda", (Pass("spoils", put(before="\n")),))
    pipeline.run.cache_clear()
    with pytest.raises(PassError, match="the pass 'spoils'"):
        pipeline.run(KernelSource("k", ("x",), ("out",), SOURCE), "cuda")


@pytest.mark.parametrize(
    ("header", "source"),
    [
        (
            (
                "#define TILES(n) for (uint k = 0; k < n; ++k) {\n"
                "#define END threadgroup_barrier(mem_flags::mem_threadgroup); }\n"
            ),
            "TILES(4)\nout[0] += x[k];\nEND\n",
        ),
        ("#define OPEN threadgroup_barrier(mem_flags::mem_none); {\n", "OPEN\nout[0] = 1;\n}\n"),
        ("", "out[0] = x[0] /* was\n#line 9999\n*/ + 1;\nthreadgroup_barrier(mem_flags::mem_none);\n"),
    ],
)
def test_no_false_alarm(header, source):
    kernel = KernelSource("fine", ("x",), ("out",), source, header)
    for name in pipeline.PIPELINES:
        with contextlib.suppress(Unclear):
            pipeline.run(kernel, name)
