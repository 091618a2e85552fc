"""Names of cases, "transformer.swiglu/float16/small": made of an operation, a dtype and a sample, and taken apart."""

from __future__ import annotations

from typing import NamedTuple


class CaseName(NamedTuple):
    """The parts of a case's name; ``str`` puts them together."""

    op: str
    dtype: str = ""
    sample: str = ""

    def __str__(self) -> str:
        return "/".join(self)


def split_case(name: str) -> CaseName:
    """The parts of a name. What it lacks is empty, as the dtype of a value that a test registered may be."""
    return CaseName(*name.split("/", 2))
