"""Templates: text files with @name@ for what changes."""

from __future__ import annotations

import keyword
import re
from collections.abc import Mapping
from importlib.resources import files

_MARK = re.compile(r"@([a-z-]+)@")


class ScaffoldError(ValueError):
    """A name cannot be used, or something is in the way; the message says what to do."""


def render(template: str, values: Mapping[str, str]) -> str:
    """The text of ``templates/<template>.txt`` with `values` put in; KeyError for one that is missing."""
    text = (files("zmlx.scaffold") / "templates" / f"{template}.txt").read_text(encoding="utf-8")
    return _MARK.sub(lambda mark: values[mark[1]], text)


def check_name(name: str, what: str) -> str:
    """`name`, if Python can import something of that name.

    Raises
    ------
    ScaffoldError
        It is no identifier, or a keyword.
    """
    if not name.isidentifier() or keyword.iskeyword(name) or name.startswith("_"):
        raise ScaffoldError(f"{what}: expected a name such as my_kernels, got {name!r}.")
    return name
