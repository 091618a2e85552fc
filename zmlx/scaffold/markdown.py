"""Markdown from Python sources."""

from __future__ import annotations

import ast
import re
from collections.abc import Sequence


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A table of GitHub's Markdown."""
    lines = [head, ["---"] * len(head), *rows]
    return (
        "\n".join(f"| {' | '.join(line)} |" for line in lines)
        .replace("| --- ", "|---")
        .replace("|--- |", "|---|")
    )


def functions(text: str) -> list[ast.FunctionDef]:
    """The functions that a module's source defines, without those in classes and functions."""
    return [node for node in ast.parse(text).body if isinstance(node, ast.FunctionDef)]


def first_sentence(docstring: str) -> str:
    """Of a docstring, without its full stop; where it begins with a signature, of what follows that."""
    paragraphs = docstring.split("\n\n")
    text = " ".join(next((p for p in paragraphs if p.rstrip().endswith(".")), paragraphs[0]).split())
    # The dots of an ellipsis end no sentence.
    return re.split(r"(?<!\.)\. ", text)[0].rstrip(".").replace("``", "`").replace("|", "\\|")
