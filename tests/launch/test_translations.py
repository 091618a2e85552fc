"""Translations on disk: used again by other processes, and never for another kernel, proof or translator."""

from __future__ import annotations

import pytest

from zmlx.launch import cache, translations
from zmlx.metal.signature import ArrayType, KernelSource, make_signature
from zmlx.metal.statements import Unclear
from zmlx.translate import dump, inlining, pipeline, verify

pytestmark = pytest.mark.cpu

BARRIER = "threadgroup_barrier(mem_flags::mem_threadgroup);"


def signature(source="out[0] = x[0] * 2.0;", name="twice", dtype="float32"):
    kernel = KernelSource(name, ("x",), ("out",), source)
    return make_signature(kernel, [ArrayType(dtype, 1)], [dtype], [])


@pytest.fixture
def runs(tmp_path, monkeypatch):
    """What was translated, for an empty cache; `translations` forgets what it knows when the list is cleared."""
    monkeypatch.setenv(cache.CACHE_VARIABLE, str(tmp_path))
    done = []
    run = pipeline.run

    def counted(kernel, *arguments):
        done.append(kernel.name)
        return run(kernel, *arguments)

    monkeypatch.setattr(pipeline, "run", counted)
    forget()
    yield done
    forget()


def forget():
    """As another process begins."""
    translations._kept.cache_clear()
    translations._code.cache_clear()
    translations.meeting.cache_clear()
    translations.globals_of.cache_clear()


def test_another_process_does_not_translate_again(runs):
    first = translations.translation(signature(), "host-loop")
    assert first == pipeline.run_signature(signature(), "host-loop")
    runs.clear()
    forget()
    assert translations.translation(signature(), "host-loop") == first
    assert runs == []


def test_a_kernel_that_cannot_be_taken_apart_is_known_too(runs):
    unclear = signature("for (auto v : x) { out[0] = v; } " + BARRIER)
    for _ in range(2):
        with pytest.raises(Unclear, match="a `for` over a range"):
            translations.translation(unclear, "host-regions")
        forget()
    assert runs == ["twice"]


@pytest.mark.parametrize(
    "other",
    [
        lambda: translations.translation(signature("out[0] = x[0] * 3.0;"), "host-loop"),
        lambda: translations.translation(signature(name="thrice"), "host-loop"),
        lambda: translations.translation(signature(dtype="float16"), "host-loop"),
        lambda: translations.translation(signature(), "cuda"),
    ],
    ids=["source", "name", "dtype", "pipeline"],
)
def test_what_differs_is_translated_for_itself(runs, other):
    translations.translation(signature(), "host-loop")
    runs.clear()
    other()
    assert len(runs) == 1


def test_a_change_of_the_translator_is_a_new_translation(runs, tmp_path, monkeypatch):
    translations.translation(signature(), "host-loop")
    package = tmp_path / "package"
    (package / "metal").mkdir(parents=True)
    (package / "metal" / "tokens.py").write_text("changed = True\n", encoding="utf-8")
    monkeypatch.setattr(translations, "_PACKAGE", package)
    forget()
    translations.translation(signature(), "host-loop")
    translations._code.cache_clear()
    assert runs == ["twice", "twice"]


def test_what_was_not_proved_is_not_taken_for_proved(runs, monkeypatch):
    monkeypatch.setenv(verify.VERIFY_VARIABLE, "0")
    translations.translation(signature(), "host-loop")
    monkeypatch.setenv(verify.VERIFY_VARIABLE, "1")
    forget()
    translations.translation(signature(), "host-loop")
    assert runs == ["twice", "twice"]


def test_a_dump_shows_the_passes_of_a_kernel_that_is_known(runs, tmp_path, monkeypatch):
    translations.translation(signature(), "host-loop")
    monkeypatch.setenv(dump.DUMP_VARIABLE, str(tmp_path / "dump"))
    translations.translation(signature(), "host-loop")
    assert runs == ["twice", "twice"]


def test_a_damaged_entry_is_made_anew(runs, tmp_path):
    first = translations.translation(signature(), "host-loop")
    (entry,) = (tmp_path / "text").rglob("*.txt")
    entry.write_text("{", encoding="utf-8")
    forget()
    assert translations.translation(signature(), "host-loop") == first
    assert runs == ["twice", "twice"]


@pytest.fixture
def reads(runs, monkeypatch):
    """The sources of kernels that were read whole to see how their threads meet."""
    done = []
    meeting = pipeline.meeting

    def counted(kernel):
        done.append(kernel.source)
        return meeting(kernel)

    monkeypatch.setattr(pipeline, "meeting", counted)
    return done


@pytest.mark.parametrize(
    ("source", "found"),
    [
        (BARRIER, (True, False)),
        ("out[0] = simd_sum(x[0]);", (False, True)),
        (f"{BARRIER} out[0] = quad_sum(x[0]);", (True, True)),
        ("out[0] = 1; // simd_sum", (False, False)),
    ],
    ids=["barrier", "simd", "both", "neither"],
)
def test_another_process_knows_how_threads_meet(reads, source, found):
    kernel = signature(source).kernel
    for _ in range(2):
        assert translations.meeting(kernel) == found
        forget()
    assert reads == [source]


def test_how_threads_meet_is_told_by_both_texts(reads):
    body = "META(x[0]);"
    for header, found in (
        ("#define META(v) simd_sum(v)", (False, True)),
        ("#define META(v) v // simd", (False, False)),
    ):
        kernel = KernelSource("k", ("x",), ("out",), body, header)
        assert translations.meeting(kernel) == found
    assert reads == [body, body]


def test_a_kernel_without_a_sign_of_it_is_not_looked_for(reads, tmp_path):
    assert translations.meeting(signature().kernel) == (False, False)
    assert reads == []
    assert not list(tmp_path.rglob("*.txt"))


def test_a_change_of_the_translator_reads_again(reads, tmp_path, monkeypatch):
    translations.meeting(signature(BARRIER).kernel)
    package = tmp_path / "package"
    (package / "translate").mkdir(parents=True)
    (package / "translate" / "branches.py").write_text("changed = True\n", encoding="utf-8")
    monkeypatch.setattr(translations, "_PACKAGE", package)
    forget()
    translations.meeting(signature(BARRIER).kernel)
    assert reads == [BARRIER, BARRIER]


def test_another_process_knows_what_a_header_defines(runs, monkeypatch):
    header, read = "constant int N = 3; struct S { int m = 1; }; int f() { int local = 2; return local; }", []

    def names_of_globals(text):
        read.append(text)
        return inlining.names_of_globals(text)

    monkeypatch.setattr(translations, "names_of_globals", names_of_globals)
    for _ in range(2):
        assert translations.globals_of(header) & {"N", "S", "m", "local", "f"} == {"N", "S"}
        forget()
    assert translations.globals_of("") == frozenset()
    assert read == [header, ""]
