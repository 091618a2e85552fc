"""Translations, and what else a kernel's text tells, kept on disk: a process whose kernels are compiled already need
not translate them to find them.

A translation takes milliseconds, many times what the launch takes. It depends on the kernel, on what the signature
tells of it, and on the code of `zmlx.metal` and `zmlx.translate`; the key of an entry has all of these.
"""

from __future__ import annotations

import dataclasses
import json
import os
from collections.abc import Callable
from functools import lru_cache
from pathlib import Path
from typing import Any

from zmlx.launch.cache import cached, digest, digest_of_files
from zmlx.metal.signature import KernelSource, Signature
from zmlx.metal.statements import Unclear
from zmlx.translate import dump, pipeline, verify
from zmlx.translate.inlining import names_of_globals
from zmlx.translate.unit import KnownTypes, Translation, known_types, may_use_small_floats

_PACKAGE = Path(__file__).parent.parent
#: Where the code is that a translation depends on.
_TRANSLATORS = ("metal", "translate")


def translation(signature: Signature, steps: pipeline.Pipeline) -> Translation:
    """The translation of a signature's kernel by the passes of a pipeline; errors are those of `pipeline.run`.

    Where ``$ZMLX_DUMP`` asks for what each pass does, all of them run.
    """
    if os.environ.get(dump.DUMP_VARIABLE):
        return pipeline.run_signature(signature, steps)
    return _kept(signature.kernel, steps, may_use_small_floats(signature), known_types(signature))


@lru_cache(maxsize=4096)
def _kept(kernel: KernelSource, steps: pipeline.Pipeline, small: bool, known: KnownTypes) -> Translation:
    def translate() -> dict[str, Any]:
        try:
            return dataclasses.asdict(pipeline.run(kernel, steps, small, known))
        except Unclear as reason:  # as good a result: the kernel runs as fibers
            return {"unclear": str(reason)}

    # What was translated without a proof is not taken for proved.
    parts = (kernel.digest, steps, repr((small, known)), str(verify.is_on()))
    found = _on_disk("translation", parts, translate)
    if "unclear" in found:
        raise Unclear(found["unclear"])
    # JSON has no tuples.
    fields: dict[str, Any] = {name: tuple(v) if isinstance(v, list) else v for name, v in found.items()}
    return Translation(**fields)


@lru_cache(maxsize=4096)
def meeting(kernel: KernelSource) -> tuple[bool, bool]:
    """`pipeline.meeting`, kept as well: to see what a kernel reaches takes as long as much of its translation."""
    if not pipeline.may_meet(kernel):
        return False, False
    barrier, simd = _on_disk("meeting", (kernel.header, kernel.source), lambda: pipeline.meeting(kernel))
    return barrier, simd


@lru_cache(maxsize=256)
def globals_of(header: str) -> frozenset[str]:
    """`names_of_globals`, kept likewise."""
    return frozenset(_on_disk("globals", (header,), lambda: sorted(names_of_globals(header))))


def _on_disk(what: str, parts: tuple[str, ...], find: Callable[[], Any]) -> Any:
    """What ``find`` gives, as JSON has it; from the cache, if it was found once of these parts and by this code."""

    def build(path: Path) -> None:
        path.write_text(json.dumps(find()), encoding="utf-8")

    entry = cached("text", digest(what, *parts, _code()), ".txt", build)
    return json.loads(entry.read_text(encoding="utf-8"))


@lru_cache
def _code() -> str:
    """What changes with any change of the translator."""
    files = (file for folder in _TRANSLATORS for file in sorted((_PACKAGE / folder).glob("*.py")))
    return digest_of_files(_PACKAGE, files)
