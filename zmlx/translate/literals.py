"""Number literals: ``1.0`` is a float, ``1.0h`` a half, ``1.0bf`` a bfloat."""

from __future__ import annotations

import re

from zmlx.metal.structure import Program

_FLOAT = re.compile(r"(?:[0-9']+\.[0-9']*|\.[0-9']+)(?:[eE][+-]?[0-9]+)?|[0-9']+[eE][+-]?[0-9]+")
_HEX_FLOAT = re.compile(r"0[xX][0-9a-fA-F.']+[pP][+-]?[0-9]+")
_FLOAT_SUFFIXES = {"": "{}f", "h": "half({}f)", "bf": "bfloat({}f)"}


def rewrite_literals(program: Program) -> None:
    """Give floating literals the type that they have in Metal."""
    for fragment in program.fragments:
        for token in fragment.code:
            if token.kind == "number":
                token.text = _literal(token.text)


def _literal(text: str) -> str:
    """Floating literals are float in Metal, and ``h`` (``bf``) makes them half (bfloat)."""
    match = (_HEX_FLOAT if text[:2].lower() == "0x" else _FLOAT).match(text)
    if match is None:
        return text
    form = _FLOAT_SUFFIXES.get(text[match.end() :].lower())
    return form.format(match.group()) if form else text
