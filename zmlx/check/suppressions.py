"""Findings that are known and meant: a file that names them, with the reason.

An INI file; every section is an entry, and its title is free::

    [the race in mlx-lm's loss]
    kernel = ce_loss_*
    kind = data-race
    reason = fixed upstream, waiting for a release
    link = https://github.com/ml-explore/mlx-lm/issues/1700

``kernel`` is a name or a pattern; ``array`` and ``line`` may narrow an entry down. An entry that suppresses nothing is
an error of its own, so that the file cannot outlive its reasons.
"""

from __future__ import annotations

import configparser
import os
from collections.abc import Sequence
from dataclasses import dataclass, field
from fnmatch import fnmatchcase

from zmlx.check.findings import KINDS, Finding

_REQUIRED = ("kernel", "kind", "reason")
_ALLOWED = (*_REQUIRED, "link", "array", "line")


@dataclass(frozen=True)
class Suppression:
    """One entry."""

    title: str
    kernel: str
    kind: str
    reason: str
    link: str = ""
    array: str = ""
    line: int | None = None

    def covers(self, finding: Finding) -> bool:
        return (
            finding.kind == self.kind
            and fnmatchcase(finding.kernel, self.kernel)
            and self.array in ("", finding.array)
            and (self.line is None or self.line in finding.lines)
        )


@dataclass
class Suppressions:
    """The entries of a file, and which of them were needed."""

    path: str = ""
    entries: Sequence[Suppression] = ()
    used: set[str] = field(default_factory=set)

    def keep(self, findings: Sequence[Finding]) -> list[Finding]:
        """The findings that no entry covers."""
        kept = []
        for finding in findings:
            covering = [entry for entry in self.entries if entry.covers(finding)]
            self.used.update(entry.title for entry in covering)
            if not covering:
                kept.append(finding)
        return kept

    def unneeded(self) -> list[str]:
        """A sentence for each entry that suppressed nothing."""
        return [
            f"{self.path}: the entry [{entry.title}] suppressed nothing: no {entry.kind} was found in "
            f"{entry.kernel!r}. Remove it."
            for entry in self.entries
            if entry.title not in self.used
        ]


def load_suppressions(path: str | os.PathLike[str]) -> Suppressions:
    """Read a suppression file.

    Raises
    ------
    ValueError
        The file cannot be read, or an entry lacks a key, has an unknown one, or names an unknown kind.
    """
    parser = configparser.ConfigParser(interpolation=None)
    try:
        with open(path, encoding="utf-8") as file:
            parser.read_file(file)
    except (OSError, UnicodeDecodeError, configparser.Error) as error:
        raise ValueError(f"Cannot read the suppressions {str(path)!r}: {error}") from error
    entries = []
    for title in parser.sections():
        values = dict(parser[title])
        missing = [key for key in _REQUIRED if not values.get(key)]
        unknown = [key for key in values if key not in _ALLOWED]
        if missing or unknown:
            what = f"lacks {missing[0]!r}" if missing else f"has an unknown key {unknown[0]!r}"
            raise ValueError(f"{path}: the entry [{title}] {what}; expected {', '.join(_ALLOWED)}.")
        if values["kind"] not in KINDS:
            raise ValueError(
                f"{path}: [{title}] has kind {values['kind']!r}; expected one of {', '.join(KINDS)}."
            )
        line = values.pop("line", "")
        if line and not line.isdecimal():
            raise ValueError(f"{path}: [{title}] has line {line!r}; expected a number.")
        entries.append(Suppression(title=title, line=int(line) if line else None, **values))
    return Suppressions(str(path), tuple(entries))
