"""Pragmas about floating point: whether a product and a sum may become one operation that rounds once.

============================================  ===========================================================
in the source, before what it speaks of       meaning
============================================  ===========================================================
``#pragma clang fp contract(off)``            no product and sum are fused
``#pragma METAL fp contract(off)``            the same
``#pragma STDC FP_CONTRACT OFF``              the same
``#pragma METAL fp math_mode(safe)``          ``contract(on)``, which is what MLX compiles with anyway
============================================  ===========================================================

Without a pragma Metal may fuse within an expression (``contract(on)``, also in its safe mode), CUDA fuses across
statements too, and the CPU never does. NVRTC knows one option for all of a kernel and no pragma: one ``off``, wherever
it stands, is for the whole kernel there. On the CPU there is nothing left to switch off. The lines themselves go:
clang would fuse on the CPU where one says ``on``.
"""

from __future__ import annotations

import re
from functools import lru_cache

from zmlx.metal.signature import KernelSource
from zmlx.metal.structure import Program
from zmlx.metal.tokens import Token, join

_FLOATING = re.compile(
    r"\s*(?:(?:clang|METAL)\s+fp\b|STDC\s+FP_CONTRACT\b|fp_contract\b)(?P<what>.*)", re.DOTALL
)
_OFF = re.compile(r"contract\s*\(\s*off\s*\)|^\s*OFF\b")


@lru_cache(maxsize=4096)
def forbids_contraction(kernel: KernelSource) -> bool:
    """Whether a pragma, anywhere in the kernel's header or body, says that products and sums must not be fused."""
    found = (pragma for _, pragma in _floating_pragmas(Program(kernel.header, kernel.source)))
    return any(_OFF.search(pragma) for pragma in found)


def drop_floating_pragmas(program: Program) -> None:
    """Remove these pragmas; line breaks stay."""
    for tokens, _ in _floating_pragmas(program):
        for token in tokens:
            token.before = token.after = ""
            token.text = "\n" * token.text.count("\n")


def _floating_pragmas(program: Program) -> list[tuple[list[Token], str]]:
    """Each pragma about floating point: its tokens, and what it says."""
    found = []
    for source in program.sources:
        for directive in source.directives:
            if directive.word == "pragma":
                code = [token for token in directive.rest if token.kind != "comment"]
                match = _FLOATING.match(join(code).replace("\\\n", " "))
                if match:
                    found.append(([directive.token, *directive.rest], match["what"]))
    for fragment in program.fragments:
        for i in range(len(fragment)):
            if (
                fragment.text(i) == "_Pragma"
                and fragment.text(i + 1) == "("
                and fragment.partner(i + 1) == i + 3
            ):
                match = _FLOATING.match(fragment.text(i + 2).strip('"'))
                if match:
                    found.append((fragment.tokens(i, i + 3), match["what"]))
    return found
