"""One fault: what it is, where it goes, and what should notice it."""

from __future__ import annotations

import runpy
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

#: What a table's file calls it.
TABLE_NAME = "MUTANTS"


class MutantError(ValueError):
    """A table of mutants, or a mutant in it, cannot be used; the message says which and what to do."""


@dataclass(frozen=True)
class Mutant:
    """One fault.

    Parameters
    ----------
    name : str
        Unique in the table, and good for a file name: "rmsnorm_eps_outside_the_root".
    operator : str
        The kind of fault, such as "eps placement" or "removed barrier".
    file : str
        The file that it goes to, from the project's folder, with slashes.
    pattern, replacement : str
        Text of the file, as it stands there, and what takes its place.
    tests : tuple of str
        Arguments of pytest: the tests that should notice.
    occurrence : int
        Which of several places the pattern means, counted from 1; 0: there is one, and more are an error; -1: all.
    equivalent : str
        Why no test can notice it; "" for a mutant that one must notice.
    """

    name: str
    operator: str
    file: str
    pattern: str
    replacement: str
    tests: tuple[str, ...]
    occurrence: int = 0
    equivalent: str = ""

    def apply(self, text: str) -> str:
        """The file's text with the fault.

        Raises
        ------
        MutantError
            The pattern is not there, or not as often as `occurrence` needs, or the fault changes nothing.
        """
        found = text.count(self.pattern) if self.pattern else 0
        if found == 0:
            raise MutantError(
                f"mutant {self.name}: {self.file} has no {self.pattern!r}. The source has changed: give the mutant the "
                "pattern that it has now, or remove it with the code that it was for."
            )
        if self.occurrence == 0 and found > 1:
            raise MutantError(
                f"mutant {self.name}: {self.file} has {self.pattern!r} {found} times, expected once. Make the pattern "
                "longer, or say which with `occurrence`."
            )
        if self.occurrence > found or self.occurrence < -1:
            raise MutantError(
                f"mutant {self.name}: {self.file} has {self.pattern!r} {found} times, there is no occurrence "
                f"{self.occurrence}."
            )
        if self.occurrence == -1:
            mutated = text.replace(self.pattern, self.replacement)
        else:
            parts = text.split(self.pattern)
            at = max(self.occurrence, 1)
            before, after = self.pattern.join(parts[:at]), self.pattern.join(parts[at:])
            mutated = before + self.replacement + after
        if mutated == text:
            raise MutantError(
                f"mutant {self.name}: the replacement is what the pattern is, which is no fault."
            )
        return mutated


def load_table(path: Path) -> tuple[Mutant, ...]:
    """The `MUTANTS` of a Python file.

    Raises
    ------
    MutantError
        There is no such file or no such table, it is empty, or two mutants have one name.
    """
    if not path.is_file():
        raise MutantError(f"{path}: there is no such file. Expected a Python file that defines {TABLE_NAME}.")
    table = runpy.run_path(str(path)).get(TABLE_NAME)
    if not isinstance(table, Iterable):
        raise MutantError(f"{path}: expected {TABLE_NAME}, a tuple of Mutant, got {type(table).__name__}.")
    mutants = tuple(table)
    if not mutants:
        raise MutantError(f"{path}: {TABLE_NAME} is empty, which would prove nothing.")
    names = [mutant.name for mutant in mutants]
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise MutantError(f"{path}: two mutants are called {', '.join(twice)}. Give each a name of its own.")
    return mutants
