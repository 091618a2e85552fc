"""Translations, and how threads meet, kept on disk: a process whose kernels are compiled already need not translate
them to find them.

A translation takes milliseconds, many times what the launch takes. It depends on the kernel, on what the signature
tells of it, and on the code of `zmlx.metal` and `zmlx.translate`; the key of an entry has all of these.
"""

from __future__ import annotations

import dataclasses
import json
import os
from functools import lru_cache
from pathlib import Path
from typing import Any

from zmlx.launch.cache import cached, digest, digest_of_files
from zmlx.metal.signature import KernelSource, Signature
from zmlx.metal.statements import Unclear
from zmlx.translate import dump, pipeline, verify
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
    def build(path: Path) -> None:
        try:
            found: dict[str, Any] = dataclasses.asdict(pipeline.run(kernel, steps, small, known))
        except Unclear as reason:  # as good a result: the kernel runs as fibers
            found = {"unclear": str(reason)}
        path.write_text(json.dumps(found), encoding="utf-8")

    # What was translated without a proof is not taken for proved.
    key = digest("translation", kernel.digest, steps, repr((small, known)), str(verify.is_on()), _code())
    found = json.loads(cached("text", key, ".txt", build).read_text(encoding="utf-8"))
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

    def build(path: Path) -> None:
        path.write_text(json.dumps(pipeline.meeting(kernel)), encoding="utf-8")

    key = digest("meeting", kernel.header, kernel.source, _code())
    barrier, simd = json.loads(cached("text", key, ".txt", build).read_text(encoding="utf-8"))
    return barrier, simd


@lru_cache
def _code() -> str:
    """What changes with any change of the translator."""
    files = (file for folder in _TRANSLATORS for file in sorted((_PACKAGE / folder).glob("*.py")))
    return digest_of_files(_PACKAGE, files)
