"""All mutants of a table, several at a time, after the tests have passed without any."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path

from zmlx.testing.mutants.mutant import Mutant, MutantError
from zmlx.testing.mutants.plant import planted, read_source
from zmlx.testing.mutants.trial import Trial, run_pytest, try_mutant
from zmlx.testing.report.tables import Table, aligned_lines

#: Called as ``progress(done, total, name)`` after each mutant.
Progress = Callable[[int, int, str], None]


@dataclass(frozen=True)
class Mutation:
    """What became of all mutants, in the order of the table."""

    trials: tuple[Trial, ...]

    def count(self, state: str) -> int:
        """How many ended in a state."""
        return sum(trial.state == state for trial in self.trials)

    @property
    def exit_code(self) -> int:
        """0 if there are mutants and each was noticed or is declared equivalent and was not; else 1."""
        return 0 if self.trials and all(trial.ok for trial in self.trials) else 1

    def text(self) -> str:
        """A table, the reasons of those that are equivalent, what is wrong, and the counts."""
        rows = tuple(
            (
                trial.mutant.name,
                trial.mutant.operator,
                f"{trial.seconds:.0f} s",
                trial.state,
                trial.by if trial.state == "noticed" else "",
            )
            for trial in self.trials
        )
        table = Table("", ("",) * 5, ("mutant", "operator", "time", "state", "noticed by"), rows)
        parts = aligned_lines(table)
        parts += [
            "",
            *(f"equivalent: {t.mutant.name}: {t.by}" for t in self.trials if t.state == "equivalent"),
        ]
        parts += [f"FAIL {complaint(trial)}" for trial in self.trials if not trial.ok]
        counts = ", ".join(
            f"{self.count(state)} {state}" for state in ("noticed", "equivalent", "survived", "broken")
        )
        return "\n".join([*parts, f"{len(self.trials)} mutants: {counts}"])


def complaint(trial: Trial) -> str:
    """What is wrong with a trial that is not `ok`, and what to do."""
    mutant = trial.mutant
    if trial.state == "survived":
        return (
            f"{mutant.name} survived: no test of {' '.join(mutant.tests)} noticed that {mutant.file} has "
            f"{mutant.replacement!r} for {mutant.pattern!r}. Write a test that does, or say in `equivalent` why none "
            "can."
        )
    if trial.state == "noticed":
        return f"{mutant.name} is declared equivalent, but {trial.by} noticed it. Remove its `equivalent`."
    return f"{mutant.name} proves nothing: {trial.by}"


def select(mutants: Iterable[Mutant], pattern: str) -> tuple[Mutant, ...]:
    """The mutants whose name, operator or file a shell pattern fits.

    Raises
    ------
    MutantError
        None does; the message lists their names.
    """
    table = tuple(mutants)
    found = tuple(m for m in table if any(fnmatchcase(v, pattern) for v in (m.name, m.operator, m.file)))
    if not found:
        known = ", ".join(mutant.name for mutant in table)
        raise MutantError(f"No mutant, operator or file matches {pattern!r}. Known mutants: {known}.")
    return found


def check_table(root: Path, mutants: Iterable[Mutant]) -> None:
    """MutantError unless every mutant can be planted; nothing is run."""
    for mutant in mutants:
        mutant.apply(read_source(root, mutant))


def run_mutants(
    root: Path,
    mutants: Iterable[Mutant],
    backend: str = "cpu",
    *,
    jobs: int | None = None,
    limit: float = 300.0,
    progress: Progress | None = None,
) -> Mutation:
    """Try mutants, each in a copy of the project.

    Parameters
    ----------
    root : pathlib.Path
        The project's folder, which stays as it is.
    mutants : iterable of Mutant
        At least one.
    backend : str
        "metal", "cuda" or "cpu", for pytest's ``--backend``.
    jobs : int, optional
        How many at a time; as many as there are cores unless given.
    limit : float
        Seconds for the tests of one mutant. One that takes longer counts as noticed: it may never end.
    progress : callable, optional
        Called after each.

    Raises
    ------
    MutantError
        A mutant cannot be planted, or the tests fail or run nothing without any.
    """
    table = tuple(mutants)
    check_table(root, table)
    workers = jobs or os.cpu_count() or 1
    with ThreadPoolExecutor(workers) as pool:
        for _ in pool.map(lambda tests: _passes(root, tests, backend), dict.fromkeys(m.tests for m in table)):
            pass
        begun = {pool.submit(try_mutant, root, mutant, backend, limit): mutant for mutant in table}
        for done, future in enumerate(as_completed(begun), 1):
            if progress is not None:
                progress(done, len(table), begun[future].name)
        trials = {mutant.name: future.result() for future, mutant in begun.items()}
    return Mutation(tuple(trials[mutant.name] for mutant in table))


def _passes(root: Path, tests: tuple[str, ...], backend: str) -> None:
    with planted(root, None) as copy:
        outcome = run_pytest(copy, tests, backend, limit=3600.0)
    if outcome.status != 0:
        raise MutantError(
            f"Without any mutant, pytest {' '.join(tests)} ends with status {outcome.status}, expected 0: repair "
            f"{outcome.test or 'that'} first, since nothing could be told from its failing.\n"
            f"{outcome.message or outcome.tail}"
        )
