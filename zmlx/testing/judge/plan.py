"""What a candidate is asked: shapes, values, dtypes and layouts drawn for this run, with the oracle's answers.

Everything is drawn from a secret of this run, so that nobody can know it before. An OpInfo has samples of fixed shapes;
here their extents are replaced, equal ones by equal ones, until the table's own operation takes them. An OpInfo with a
`strategy` says that this breaks its arguments: its samples keep their shapes, with values drawn for this run. A case
that the table's own operation does not get right is not asked.
"""

from __future__ import annotations

import random
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from zmlx.testing._formats import float_format, is_float
from zmlx.testing.judge.arrays import Raw, raw_of_numpy
from zmlx.testing.judge.ranks import leading_of, of_rank
from zmlx.testing.large import Way, extents_of, many_elements
from zmlx.testing.layouts import Layout, repeat_first
from zmlx.testing.opinfo import OpInfo, SampleInput, SampleRng
from zmlx.testing.tolerance import compare, dtype_name
from zmlx.testing.variations import (
    MAX_ELEMENTS,
    REFUSALS,
    Bounds,
    arrays_of,
    draw_extents,
    full,
    planted,
    resized,
    with_arrays,
)

#: How often extents are drawn anew before the sample's own are taken, and values before a case is left out.
ATTEMPTS = 12

HIDDEN = "hidden shape"

#: Powers of two that values are multiplied by at random, as shares of a dtype's largest exponent.
SPREADS = (0.9, 0.4, 0.2, 0.1)


@dataclass(frozen=True)
class Question:
    """One call: its arguments, rounded to the dtype, and what must come back."""

    sample: SampleInput
    reuse: bool
    expected: tuple[NDArray[Any], ...]
    dtypes: tuple[str, ...]

    def arrays(self, dtype: str) -> list[Raw]:
        """The arrays among the arguments, in order."""
        return [
            raw_of_numpy(a, dtype if a.dtype.kind == "f" else a.dtype.name)
            for a in self.sample.args
            if isinstance(a, np.ndarray)
        ]


@dataclass(frozen=True)
class Case:
    """Calls that differ in their values only: two with arrays of their own, and, where `Question.reuse` is set, one
    with the arrays of the call before, in which two elements have changed places."""

    name: str
    dtype: str
    layout: Layout
    questions: tuple[Question, ...]

    @property
    def is_hidden(self) -> bool:
        """Whether it has a shape drawn for this run: the one kind that no dtype is accepted without."""
        return self.name.startswith(HIDDEN)

    @property
    def has_elements(self) -> bool:
        """Whether a result has elements, so that a kernel must have run."""
        return any(e.size for e in self.questions[0].expected)


def draw(op: OpInfo, seeds: int, secret: str, skipped: list[str] | None = None) -> Iterator[Case]:
    """The cases of one run.

    Parameters
    ----------
    op : OpInfo
        What the candidate is to compute.
    seeds : int
        How many hidden shapes are drawn for each dtype.
    secret : str
        What everything is drawn from.
    skipped : list of str, optional
        Gets the names of cases that are not asked, for the table's own operation does not get them right.
    """
    for name, case in _drawn_cases(op, seeds, secret):
        if case is not None:
            yield case
        elif skipped is not None:
            skipped.append(name)


def _drawn_cases(op: OpInfo, seeds: int, secret: str) -> Iterator[tuple[str, Case | None]]:
    rng = random.Random(secret)
    samples = _samples(op, f"{secret}/samples")
    dtypes = op.dtypes_on("cpu")
    hidden = {dtype: [_hidden(op, samples, dtype, rng) for _ in range(seeds)] for dtype in dtypes}
    for dtype, found in hidden.items():
        for number, sample in enumerate(found):
            yield _case(op, f"{HIDDEN} {number + 1}", sample, dtype, "row", rng, reuse=True)
    for dtype in dtypes:
        if is_float(dtype):
            yield _special_case(op, hidden[dtype][0], dtype, rng)
            yield _spread_case(op, hidden[dtype][0], dtype, rng)
        yield _case(op, "edge shape", _edge(op, samples, dtype, rng), dtype, "row", rng)
    dtype = rng.choice(dtypes)
    ways: tuple[tuple[str, Way], ...] = (("a long row", "columns"), ("many rows", "rows"))
    for name, way in ways:
        many = _many(op, samples, dtype, way, rng)
        if many is not None:
            yield _case(op, name, many, dtype, "row", rng)
    for sample in _other_ranks(op, samples, dtype, rng):
        yield _case(op, "another rank", sample, dtype, "row", rng)
    empty = [s for s in samples if any(a.size == 0 for a in arrays_of(s))]
    for sample in empty[:1]:
        yield _case(op, "no elements", sample, rng.choice(dtypes), "row", rng)
    for layout in op.layouts:
        dtype = rng.choice(dtypes)
        for sample in (hidden[dtype][0], *rng.sample(samples, len(samples))):
            if layout != "row" and layout in sample.layouts():
                yield _case(op, f"{layout} layout", sample, dtype, layout, rng)
                break


def _samples(op: OpInfo, secret: str) -> list[SampleInput]:
    """The operation's samples with values of this run, without the large ones unless there are no others."""
    made = list(op.samples(lambda name: SampleRng(f"{secret}/{name}")))
    small = [s for s in made if all(a.size <= MAX_ELEMENTS for a in arrays_of(s))]
    return small or sorted(made, key=lambda s: sum(a.size for a in arrays_of(s)))[:1]


def _hidden(op: OpInfo, samples: list[SampleInput], dtype: str, rng: random.Random) -> SampleInput:
    """A sample with extents of this run that the operation takes; in the end, one with its own."""
    having = full(samples) or samples
    # Samples of several rows show more than a single number.
    having = [s for s in having if any(a.size > 1 for a in arrays_of(s))] or having
    bounds = Bounds(op.extents, op.axis_extents)
    for attempt in range(ATTEMPTS if op.strategy is None else 0):
        sample = rng.choice(having)
        new = draw_extents(
            bounds.of(sample),
            lambda old: rng.randint(2, 3 * min(old, 40) + 5),
            ratios=attempt % 2 == 1,
            parity=True,
        )
        # Special values have a case of their own: what becomes of one beside another is more than most oracles say.
        made = op.in_range(resized(sample, new, rng.getrandbits(64), ordinary=True))
        if (
            all(a.size <= MAX_ELEMENTS for a in arrays_of(made))
            and _answers(op, made, dtype, "row") is not None
        ):
            return made
    return rng.choice(having)


def _edge(op: OpInfo, samples: list[SampleInput], dtype: str, rng: random.Random) -> SampleInput:
    """A sample with the smallest extents that the operation takes."""
    having = full(samples) or samples
    sample = rng.choice(having)
    least = {old: low for old, (low, _) in Bounds(op.extents, op.axis_extents).of(sample).items()}
    even = {old: low + (low + old) % 2 for old, low in least.items()}
    for extents in (least, even) if op.strategy is None else ():
        made = op.in_range(resized(sample, extents, rng.getrandbits(64)))
        if _answers(op, made, dtype, "row") is not None:
            return made
    return min(having, key=lambda s: sum(a.size for a in arrays_of(s)))


def _many(
    op: OpInfo, samples: list[SampleInput], dtype: str, way: Way, rng: random.Random
) -> SampleInput | None:
    """A sample with an array of more elements than 16 bits count to, if the operation takes one: in rows as long as it
    can be, or in as many rows, where a sample has such."""
    having = full(samples) if op.strategy is None else []
    # Those first that tell rows from columns.
    for sample in sorted(rng.sample(having, len(having)), key=lambda s: not extents_of(s, way)):
        limits = Bounds(op.extents, op.axis_extents).of(sample)
        extents = many_elements(sample, limits, rng, extents_of(sample, way))
        if extents is not None:
            made = op.in_range(resized(sample, extents, rng.getrandbits(64)))
            if _answers(op, made, dtype, "row") is not None:
                return made
    return None


def _other_ranks(
    op: OpInfo, samples: list[SampleInput], dtype: str, rng: random.Random
) -> Iterator[SampleInput]:
    """Samples of ranks that the others lack, where those show that the operation takes them, and it does."""
    leading = leading_of(samples)
    if leading is None:
        return
    for rank in leading.lacking:
        sample = of_rank(full(samples) or samples, leading, rank, rng, op.extents)
        if sample is not None and _answers(op, sample, dtype, "row") is not None:
            yield sample


def _special_values(dtype: str) -> dict[str, tuple[float, ...]]:
    """Kinds of special values, the hardest first."""
    form = float_format(dtype)
    zeros = (0.0, -0.0, form.smallest_normal, form.smallest_normal * form.eps)
    infinities = (np.nan, np.inf, -np.inf)
    return {
        "special values": (*infinities, *zeros, form.max, -form.max),
        "special values but the largest": (*infinities, *zeros),
        "zeros and the smallest": zeros,
    }


def _special_case(op: OpInfo, sample: SampleInput, dtype: str, rng: random.Random) -> tuple[str, Case | None]:
    """With the hardest of the special values that the table's own operation gets right."""
    return _first(
        _case(op, kind, sample, dtype, "row", rng, special=values)
        for kind, values in _special_values(dtype).items()
    )


def _spread_case(op: OpInfo, sample: SampleInput, dtype: str, rng: random.Random) -> tuple[str, Case | None]:
    """With values of the most magnitudes that the table's own operation gets right."""
    largest = float_format(dtype).max_exponent
    return _first(
        _case(op, "values of many magnitudes", sample, dtype, "row", rng, power=int(share * largest))
        for share in SPREADS
    )


def _first(attempts: Iterable[tuple[str, Case | None]]) -> tuple[str, Case | None]:
    """The first attempt that makes a case, or the last."""
    found: tuple[str, Case | None] = ("", None)
    for found in attempts:
        if found[1] is not None:
            break
    return found


def _spread(sample: SampleInput, power: int, rng: random.Random) -> SampleInput:
    """The sample, each float multiplied by a power of two from ``2**-power`` to ``2**power``."""
    drawn = np.random.default_rng(rng.getrandbits(64))
    return with_arrays(
        sample,
        [
            np.ldexp(a, drawn.integers(-power, power, a.shape, endpoint=True)) if a.dtype.kind == "f" else a
            for a in arrays_of(sample)
        ],
    )


def _special(sample: SampleInput, values: tuple[float, ...], rng: random.Random) -> SampleInput:
    """The sample with special values, each at one place of its first float array."""
    for position, array in enumerate(sample.args):
        if isinstance(array, np.ndarray) and array.dtype.kind == "f" and array.size:
            places = rng.sample(range(array.size), min(array.size, len(values)))
            drawn = rng.sample(values, len(values))
            return planted(sample, [(position, *pair) for pair in zip(places, drawn, strict=False)])
    return sample


def _swapped(sample: SampleInput, rng: random.Random) -> SampleInput | None:
    """The sample with two different elements of its first float array in each other's place."""
    arrays = [a.copy() for a in arrays_of(sample)]
    for array in arrays:
        flat = array.reshape(-1)
        different = np.flatnonzero(flat != flat[:1])
        if array.dtype.kind == "f" and different.size:
            first = int(rng.choice(different.tolist()))
            second = int(rng.choice(np.flatnonzero(flat != flat[first]).tolist()))
            flat[[first, second]] = flat[[second, first]]
            return with_arrays(sample, arrays)
    return None


def _with_other_values(op: OpInfo, sample: SampleInput, rng: random.Random) -> SampleInput:
    """The sample with values like its own. Where an entry's `strategy` says that values belong together, only the
    entry itself can draw others: its sample of that name, from another secret."""
    secret = rng.getrandbits(64)
    if op.strategy is None:
        return resized(sample, {}, secret, ordinary=True)
    drawn = op.samples(lambda name: SampleRng(f"{secret}/{name}"))
    return next(made for made in drawn if made.name == sample.name)


def _answers(
    op: OpInfo, sample: SampleInput, dtype: str, layout: Layout
) -> tuple[tuple[NDArray[Any], ...], tuple[str, ...]] | None:
    """What the oracle says, and the dtypes of results; None where the table's own operation does not agree."""
    rounded = sample.cast(dtype)
    try:
        with np.errstate(all="ignore"):
            truths = op.expected(rounded)
            results = op.run(rounded, dtype, layout)
    except REFUSALS:
        return None  # no arguments of this operation
    if len(truths) != len(results):
        return None
    dtypes = tuple(str(dtype_name(result)) for result in results)
    for place, (result, truth) in enumerate(zip(results, truths, strict=True)):
        if not compare(result, truth, None, op.tolerance(dtype, result=place)):
            return None
    return tuple(np.asarray(truth) for truth in truths), dtypes


def _case(
    op: OpInfo,
    name: str,
    sample: SampleInput,
    dtype: str,
    layout: Layout,
    rng: random.Random,
    *,
    special: tuple[float, ...] = (),
    power: int = 0,
    reuse: bool = False,
) -> tuple[str, Case | None]:
    shapes = " ".join(str(list(a.shape)) for a in arrays_of(sample))
    name = f"{name}, {dtype} {shapes}"
    # Of ordinary values some are drawn now and then that a function which jumps, such as a sign, is at a jump of: the
    # others are asked. Special ones have others to fall back on.
    for _ in range(1 if special or power else ATTEMPTS):
        questions = _questions(op, sample, dtype, layout, rng, special=special, power=power, reuse=reuse)
        if questions is not None:
            return name, Case(name, dtype, layout, questions)
    return name, None


def _questions(
    op: OpInfo,
    sample: SampleInput,
    dtype: str,
    layout: Layout,
    rng: random.Random,
    *,
    special: tuple[float, ...],
    power: int,
    reuse: bool,
) -> tuple[Question, ...] | None:
    """What a case asks, with the answers; None where the table's own operation gets one of them wrong."""
    asked: list[tuple[SampleInput, bool]] = []
    for _ in range(2):
        made = _with_other_values(op, sample, rng)
        if special:
            made = _special(made, special, rng)
        if power:
            made = _spread(made, power, rng)
        if layout == "broadcast":
            arrays = [repeat_first(a) if a.ndim > 1 and a.shape[0] > 1 else a for a in arrays_of(made)]
            made = with_arrays(made, arrays)
        asked.append((made.cast(dtype), False))
    near = _swapped(asked[-1][0], rng) if reuse else None
    if near is not None:
        asked.append((near, True))
    questions = []
    for made, again in asked:
        answers = _answers(op, made, dtype, layout)
        if answers is None:
            return None
        questions.append(Question(made, again, *answers))
    return tuple(questions)


def slots(args: tuple[Any, ...]) -> list[dict[str, Any]]:
    """Positional arguments for the wire: the number of an array, or a value."""
    found: list[dict[str, Any]] = []
    count = 0
    for value in args:
        if isinstance(value, np.ndarray):
            found.append({"array": count})
            count += 1
        else:
            found.append({"value": value})
    return found
