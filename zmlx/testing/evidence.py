"""JSON files of what was measured (benchmarks, leaks, repeats), read back: a damaged one is an error in one line."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

#: Where commands write such files and `report` looks for them, in a project's folder.
EVIDENCE_DIR = Path("build") / "evidence"


class EvidenceError(RuntimeError):
    """A file of measurements cannot be used; the message says why and what to do."""


@dataclass(frozen=True)
class Form:
    """What a kind of file looks like.

    Attributes
    ----------
    what : str
        What it is called: "a benchmark file".
    schema : int
        The only one that is read.
    keys : mapping of str to type
        What it must have at the top, besides `schema`.
    advice : str
        The command that writes one.
    """

    what: str
    schema: int
    keys: Mapping[str, type]
    advice: str


@contextmanager
def reading(what: str, path: Path, form: Form) -> Iterator[None]:
    """Whatever is wrong with the contents of a part of a file is an `EvidenceError` that names it."""
    try:
        yield
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise EvidenceError(
            f"{path}: {what} is damaged ({type(error).__name__}: {error}). {form.advice}"
        ) from error


def _no_constant(text: str) -> float:
    raise ValueError(f"{text} is not JSON")


def read_form(path: Path, form: Form) -> dict[str, Any]:
    """The contents of a file of a kind.

    Parameters
    ----------
    path : pathlib.Path
        The file.
    form : Form
        Its kind.

    Raises
    ------
    EvidenceError
        It cannot be read, is damaged, is something else, or has another schema.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError as error:
        raise EvidenceError(f"There is no {path}. {form.advice}") from error
    except OSError as error:
        raise EvidenceError(f"{path} cannot be read: {error.strerror or error}. {form.advice}") from error
    except UnicodeDecodeError as error:
        raise EvidenceError(f"{path} is damaged: byte {error.start} is not UTF-8. {form.advice}") from error
    try:
        raw = json.loads(text, parse_constant=_no_constant)
    except json.JSONDecodeError as error:
        where = f"line {error.lineno}, column {error.colno}"
        raise EvidenceError(f"{path} is damaged: {error.msg} in {where}. {form.advice}") from error
    except (ValueError, RecursionError) as error:
        raise EvidenceError(f"{path} is damaged: {error}. {form.advice}") from error
    if not isinstance(raw, dict) or "schema" not in raw:
        raise EvidenceError(f"{path} is not {form.what}: it has no `schema`. {form.advice}")
    if raw["schema"] != form.schema:
        raise EvidenceError(
            f"{path}: expected schema {form.schema}, got {raw['schema']!r}: another version of zmlx wrote it. "
            f"{form.advice}"
        )
    for key, kind in form.keys.items():
        if not isinstance(raw.get(key), kind):
            raise EvidenceError(
                f"{path} is not {form.what}: expected {key!r} to be of type {kind.__name__}, got "
                f"{type(raw.get(key)).__name__}. {form.advice}"
            )
    return raw
