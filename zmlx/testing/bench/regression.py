"""Two benchmarks of one machine: what has become slower beyond the noise of both. Needs neither MLX nor NumPy."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, replace

from zmlx.testing.bench.kept import KeptRow, KeptRun, Key
from zmlx.testing.project import matches

#: A drop of more than this part of the speed is a loss, once the noise is taken off.
TOLERANCE = 0.10

#: The noise of fewer rounds than this is not known, and taken to be this part of the speed at least.
FEW_ROUNDS, NOISE_OF_FEW = 10, 0.10

#: What must be the same for times to be comparable.
MACHINE = ("device", "architecture", "machine", "threads")

#: What is worth saying where it differs.
CIRCUMSTANCES = ("zmlx", "mlx", "numpy", "python", "os", "tf32")

SAME, FASTER, SLOWER, UNCLEAR = "same", "faster", "SLOWER", "unclear"
FAILED, GONE, NEW, MACHINE_ONLY = "FAILED", "GONE", "new", "machine"

#: Each verdict: whether it fails the comparison, and what it means.
VERDICTS: Mapping[str, tuple[bool, str]] = {
    SLOWER: (True, "the speed dropped by more than the tolerance and the noise of both runs together"),
    FAILED: (True, "has no time any more: it raised, or computed something else"),
    GONE: (True, "is not measured any more, though it was selected"),
    UNCLEAR: (False, "dropped by more than the tolerance, but not by more than the noise: measure again"),
    FASTER: (False, "gained more than the tolerance and the noise"),
    NEW: (False, "was not measured before"),
    MACHINE_ONLY: (False, "measures the machine and no kernel; it is not judged"),
    SAME: (False, "neither"),
}

#: Rows that say how fast the memory is.
_MACHINE_ROWS = ("engine.copy",)


class DifferentRunsError(ValueError):
    """The two runs cannot be compared; the message says what differs and what to do."""


@dataclass(frozen=True)
class Compared:
    """One row of both.

    Attributes
    ----------
    key : Key
        What is measured.
    old, new : KeptRow or None
        None where a run lacks it.
    ratio : float or None
        The new speed by the old: below 1 it became slower. See `compare_runs`.
    noise : float
        How far off the medians of both runs may be together, as a part of the speed.
    verdict : str
        One of `VERDICTS`.
    """

    key: Key
    old: KeptRow | None
    new: KeptRow | None
    ratio: float | None
    noise: float
    verdict: str

    @property
    def fails(self) -> bool:
        """Whether it fails the comparison."""
        return VERDICTS[self.verdict][0]


@dataclass(frozen=True)
class Regression:
    """What became of every row; `notes` say what else differs between the runs."""

    old: KeptRun
    new: KeptRun
    tolerance: float
    rows: tuple[Compared, ...]
    notes: tuple[str, ...]

    @property
    def counts(self) -> Counter[str]:
        """Rows by verdict."""
        return Counter(row.verdict for row in self.rows)

    @property
    def exit_code(self) -> int:
        """0 if something was compared and nothing was lost, else 1."""
        judged = [row for row in self.rows if row.ratio is not None]
        return 0 if judged and not any(row.fails for row in self.rows) else 1


def compare_runs(
    old: KeptRun, new: KeptRun, tolerance: float = TOLERANCE, *, any_machine: bool = False
) -> Regression:
    """Compare two benchmarks, row by row.

    A kernel is compared twice: by its time, and by its share of the speed of a copy that was timed in turn with it. The
    ratio that is nearer to 1 counts, and 1 if one says slower and the other faster: on a busy machine the time is worse
    and the share is not; where only the copy was faster than before, the share is worse and the time is not. Of two
    machines only the shares count; what has no copy beside it is compared by its time. Of the old run only what the new
    one selected counts, and of a new run that was stopped before its end only what it reached.

    Parameters
    ----------
    old, new : KeptRun
        From `zmlx.testing.bench.kept.read_run`.
    tolerance : float
        The part of the speed that may be lost, beyond the noise.
    any_machine : bool
        Compare also what two machines, or two back ends, measured.

    Raises
    ------
    DifferentRunsError
        The machines or back ends differ, or the sizes that were measured do, or no row is in both.
    ValueError
        `tolerance` is negative.
    """
    if not tolerance >= 0:
        raise ValueError(f"--tolerance: expected a part of the speed, 0 or more, got {tolerance:g}.")
    differing = _differences(old, new)
    if differing and not any_machine:
        raise DifferentRunsError(
            f"{old.path} and {new.path} were not measured on one machine: {'; '.join(differing)}. Measure both on one, "
            "or add --any-machine to compare them for what that is worth."
        )
    sizes = [
        f"{name} {old.sizes[name]} and {new.sizes[name]}"
        for name in old.sizes
        if old.sizes[name] != new.sizes[name]
    ]
    if sizes and old.backend == new.backend:
        raise DifferentRunsError(
            f"{old.path} and {new.path} were measured at different sizes: {', '.join(sizes)}. Measure both with "
            "--quick or both without."
        )
    before, after = old.rows, new.rows
    if old.backend != new.backend:  # each back end has sizes of its own
        before, after = _without_shapes(before), _without_shapes(after)
    before = {
        key: row for key, row in before.items() if _selected(new, key) and (key in after or not new.missing)
    }
    rows = [
        _compare(key, before.get(key), after.get(key), tolerance, not differing)
        for key in {**before, **after}
    ]
    if not any(row.ratio is not None for row in rows):
        raise DifferentRunsError(
            f"{old.path} and {new.path} have no row in common: the first has {_names(old)}, the second {_names(new)}."
        )
    notes = [
        f"{name}: {was} before, {now} now"
        for name in CIRCUMSTANCES
        for was, now in [(old.environment.get(name, "unknown"), new.environment.get(name, "unknown"))]
        if was != now
    ]
    rounds = min(row.rounds for run in (old, new) for row in run.rows.values() if not row.failure)
    if rounds < FEW_ROUNDS:
        notes.append(
            f"some rows have {rounds} rounds only, of which the noise is not known; it is taken to be "
            f"{NOISE_OF_FEW:.0%}"
        )
    notes += [
        f"{run.path} was stopped before its end: {run.missing} of its benchmarks are not in it"
        for run in (old, new)
        if run.missing
    ]
    if differing:
        notes.insert(0, f"two machines: {'; '.join(differing)}")
    return Regression(old, new, tolerance, tuple(rows), tuple(notes))


def _differences(old: KeptRun, new: KeptRun) -> list[str]:
    pairs = [("back end", old.backend, new.backend)]
    pairs += [
        (name, old.environment.get(name, "unknown"), new.environment.get(name, "unknown")) for name in MACHINE
    ]
    return [f"{name} {was!r} and {now!r}" for name, was, now in pairs if was != now]


def _without_shapes(rows: Mapping[Key, KeptRow]) -> dict[Key, KeptRow]:
    return {replace(key, shape=""): row for key, row in rows.items()}


def _selected(run: KeptRun, key: Key) -> bool:
    bare = key.name.partition(" (")[0]  # of "engine.launch (1000 elements)"
    return matches(bare, run.kernel) and run.dtype in (None, key.dtype or "float32")


def _names(run: KeptRun) -> str:
    return ", ".join(dict.fromkeys(key.name for key in run.rows)) or "none"


def _compare(
    key: Key, old: KeptRow | None, new: KeptRow | None, tolerance: float, one_machine: bool
) -> Compared:
    if new is None:
        # One that had failed before and is gone now is no loss.
        return Compared(key, old, new, None, 0.0, SAME if old is None or old.failure else GONE)
    if new.failure:
        return Compared(key, old, new, None, 0.0, FAILED)
    if old is None or old.failure:
        return Compared(key, old, new, None, 0.0, NEW)
    ratio, noise = _ratio(old, new, one_machine)
    return Compared(key, old, new, ratio, noise, _verdict(key, ratio, noise, tolerance))


def _ratio(old: KeptRow, new: KeptRow, one_machine: bool) -> tuple[float, float]:
    """The ratio that counts, and the noise of what it was made of."""

    def noise(one: float, other: float) -> float:
        few = NOISE_OF_FEW if min(old.rounds, new.rounds) < FEW_ROUNDS else 0.0
        return max(one * _of_median(old.rounds) + other * _of_median(new.rounds), few)

    by_time = old.seconds / new.seconds, noise(old.spread, new.spread)
    if old.of_copy is None or new.of_copy is None:
        return by_time
    by_share = new.of_copy / old.of_copy, noise(old.of_copy_spread, new.of_copy_spread)
    if not one_machine:
        return by_share
    if (by_time[0] < 1) != (by_share[0] < 1):
        return 1.0, max(by_time[1], by_share[1])
    return min(by_time, by_share, key=lambda pair: abs(math.log(pair[0])))


def _of_median(rounds: int) -> float:
    """What part of the spread of single rounds the median of so many has, at a level of 95 % (McGill, Tukey and Larsen
    1978, Variations of Box Plots: 1.57 times the distance of the quartiles, by the root of their number)."""
    return min(1.0, 2 * 1.57 / math.sqrt(rounds))


def _verdict(key: Key, ratio: float, noise: float, tolerance: float) -> str:
    if key.name.startswith(_MACHINE_ROWS):
        return MACHINE_ONLY
    if ratio < 1 - tolerance - noise:
        return SLOWER
    if ratio < 1 - tolerance:
        return UNCLEAR
    return FASTER if ratio > 1 + tolerance + noise else SAME
