"""Launch every kernel very often, and look at what the process holds before and after."""

from __future__ import annotations

import contextlib
import itertools
import math
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from fnmatch import fnmatchcase
from functools import partial
from typing import Any

import numpy as np

from zmlx import _compat
from zmlx.testing.differentiation import gradients_of, with_cotangents
from zmlx.testing.environment import describe_environment
from zmlx.testing.golden.catalogue import working_on
from zmlx.testing.golden.comparison import Progress
from zmlx.testing.leak_figures import Leaks, Row
from zmlx.testing.leaks.figures import take_figures
from zmlx.testing.opinfo import OpInfo, SampleInput, to_mx
from zmlx.testing.selection import matches, resolve
from zmlx.testing.variations import Bounds

#: Calls of each row.
LAUNCHES = 10_000

#: Samples with larger arrays take time and show nothing more.
MOST_VALUES = 4096

#: A call is warm after so many of each sample: what is compiled, looked up or started once is there.
WARM = 20

#: What MLX's cache of free buffers may hold meanwhile: more than the samples need, so that a bound is seen to hold.
CACHE_LIMIT = 256 << 20

#: Makes the next call. Nothing of it is kept.
Step = Callable[[], None]


class LeaksError(ValueError):
    """The selection makes no sense. The message lists what there is."""


class NotLaunchedError(RuntimeError):
    """The kernels that an entry names did not run."""


def select(ops: Iterable[OpInfo], backend: str, kernel: str = "*") -> list[OpInfo]:
    """The operations with kernels that a pattern means on a back end.

    Raises
    ------
    LeaksError
        Nothing matches; the message lists what there is.
    """
    every = [op for op in ops if op.kernel and op.dtypes_on(backend)]
    found = [op for op in every if matches(op.name, kernel)]
    if not found:
        known = ", ".join(op.name for op in every) or "none"
        raise LeaksError(f"No operation with a kernel on {backend} matches {kernel!r}. Known: {known}.")
    return found


def _samples(op: OpInfo) -> list[SampleInput]:
    """Those that launch something and are not large; the smallest, if all are."""
    full = [s for s in op.sample_inputs() if all(np.size(a) for a in s.args)]
    if not full:
        raise LeaksError(
            f"{op.name}: all samples are empty, so that nothing is launched. Add one with values."
        )
    sizes = {s.name: max(np.size(a) for a in s.args) for s in full}
    return [s for s in full if sizes[s.name] <= MOST_VALUES] or [min(full, key=lambda s: sizes[s.name])]


def forward(op: OpInfo, backend: str) -> Iterator[Step]:
    """Calls, sample by sample and dtype by dtype, round and round."""
    mx = _compat.import_mx()
    cases = [(to_mx(s, dtype), s.kwargs) for dtype in op.dtypes_on(backend) for s in _samples(op)]
    for arguments, kwargs in itertools.cycle(cases):
        yield lambda arguments=arguments, kwargs=kwargs: mx.eval(op.op(*arguments, **kwargs))  # type: ignore[misc]


def gradient(op: OpInfo, backend: str) -> Iterator[Step]:
    """The same of `mx.vjp`."""
    mx = _compat.import_mx()
    cases = []
    for dtype in op.dtypes_on(backend):
        for sample in _samples(op):
            arguments = to_mx(sample, dtype)
            call = partial(op.op, **sample.kwargs)
            cotangents = tuple(mx.ones_like(r) for r in with_cotangents(call(*arguments)))
            mx.eval(cotangents)
            cases.append((gradients_of(call, op.differentiable), (*arguments, cotangents)))
    for gradients, given in itertools.cycle(cases):
        yield lambda gradients=gradients, given=given: mx.eval(gradients(*given))  # type: ignore[misc]


def new_shapes(op: OpInfo, backend: str) -> Iterator[Step]:
    """Calls with one more row each time, as far as the entry's extents go and then from the least on. As in variations
    of samples, equal extents stay equal: labels have one more number too, and so has a matrix that is square."""
    mx = _compat.import_mx()
    dtype = op.dtypes_on(backend)[0]
    sample = min((s for s in _samples(op) if _has_rows(s)), key=_row_cost)
    rows = sample.args[0].shape[0]
    low, high = Bounds(op.extents, op.axis_extents).of(sample)[rows]
    arguments = list(to_mx(sample, dtype))
    for position, (counted, axis) in op.indices.items():
        if sample.args[counted].shape[axis] == rows:  # of which there may be one only
            arguments[position] = mx.minimum(arguments[position], 0)

    def make(count: int) -> None:
        given = [_with_rows(a, rows, count) if isinstance(a, mx.array) else a for a in arguments]
        mx.eval(op.op(*given, **sample.kwargs))

    for count in itertools.cycle(range(low, high + 1)):
        yield lambda count=count: make(count)  # type: ignore[misc]


def _with_rows(array: Any, rows: int, count: int) -> Any:
    """The first entry of each axis of `rows` in the place of `count`."""
    mx = _compat.import_mx()
    axes = [axis for axis, extent in enumerate(array.shape) if extent == rows]
    first = array[tuple(slice(1) if axis in axes else slice(None) for axis in range(array.ndim))]
    return mx.broadcast_to(first, tuple(count if n == rows else n for n in array.shape))


def _row_cost(sample: SampleInput) -> tuple[bool, int]:
    """Of those samples whose rows are told from their columns, the one with the shortest."""
    rows, *others = sample.args[0].shape
    return rows in others, math.prod(others)


def _has_rows(sample: SampleInput) -> bool:
    first = sample.args[0]
    return isinstance(first, np.ndarray) and first.ndim > 1 and first.shape[0] > 1


#: Each direction: its calls, and the entry's names of what they must launch.
DIRECTIONS: dict[str, tuple[Callable[[OpInfo, str], Iterator[Step]], Callable[[OpInfo], Sequence[str]]]] = {
    "forward": (forward, lambda op: op.kernels),
    "gradient": (gradient, lambda op: op.grad_kernels),
    "new shapes": (new_shapes, lambda op: op.kernels),
}


def directions_of(op: OpInfo) -> list[str]:
    """Those that an operation has: a gradient if it launches kernels, and new shapes if a sample has rows. Where the
    entry has a `strategy`, or `large` samples of its own, extents belong together in a way that rows do not show."""
    together = op.strategy is not None or op.large is not None
    has = {
        "forward": True,
        "gradient": bool(op.grad_kernels),
        "new shapes": not together and any(_has_rows(s) for s in _samples(op)),
    }
    return [direction for direction, there in has.items() if there]


def _counts(backend: str) -> Counter[str]:
    from zmlx.launch import launch_counts

    counts: Counter[str] = Counter()
    for key, count in launch_counts().items():
        if key.backend == backend and key.path != "reference":
            counts[key.kernel] += count
    return counts


def measure_row(op: OpInfo, direction: str, backend: str, launches: int) -> Row:
    """What is held before and after so many calls.

    Raises
    ------
    NotLaunchedError
        A kernel that the entry names, or any if it names none, did not run on the back end in them.
    """
    mx = _compat.import_mx()
    make, patterns = DIRECTIONS[direction]
    steps = make(op, backend)
    for step in itertools.islice(steps, WARM * len(_samples(op)) * len(op.dtypes_on(backend))):
        step()
    counts = _counts(backend)
    most = 0
    take_figures()  # what taking them needs itself is there before
    before = take_figures()
    for step in itertools.islice(steps, launches):
        step()
        most = max(most, mx.get_cache_memory())
    del step
    after = take_figures()
    ran = _counts(backend) - counts
    for pattern in patterns(op) or ("*",):
        if not any(fnmatchcase(name, pattern) for name in ran):
            raise NotLaunchedError(
                f"expected {'a kernel' if pattern == '*' else pattern} to run on {backend} in {launches} calls, got "
                f"{', '.join(ran) or 'no launch'}."
            )
    return Row(op.name, direction, launches, ran.total(), before, after, most)


@contextlib.contextmanager
def _cache_limited() -> Iterator[None]:
    mx = _compat.import_mx()
    previous = mx.set_cache_limit(CACHE_LIMIT)
    try:
        yield
    finally:
        mx.set_cache_limit(previous)


def find_leaks(
    backend: str | None = None,
    kernel: str = "*",
    launches: int = LAUNCHES,
    *,
    ops: Iterable[OpInfo] | None = None,
    progress: Progress | None = None,
) -> Leaks:
    """Launch kernels very often on one back end of this machine.

    Parameters
    ----------
    backend : str, optional
        "metal", "cuda" or "cpu"; that of :func:`zmlx._compat.detect_backend` unless given.
    kernel : str
        A shell pattern for the operation's name, with or without its family.
    launches : int
        Calls for each operation and direction.
    ops : iterable of OpInfo, optional
        Instead of the project's.
    progress : callable, optional
        Called as ``progress(done, total, row)`` before each row.

    Raises
    ------
    ImportError
        MLX does not import.
    zmlx._compat.BackendUnavailableError
        The back end is not available here.
    LeaksError
        Nothing matches `kernel`, or `launches` is not positive.
    """
    if launches < 1:
        raise LeaksError(f"--launches: expected 1 or more, got {launches}.")
    name, entries = resolve(backend, ops)
    cases = [(op, direction) for op in select(entries, name, kernel) for direction in directions_of(op)]
    rows = []
    with working_on(name), _cache_limited():
        environment = describe_environment(name)
        for done, (op, direction) in enumerate(cases):
            if progress is not None:
                progress(done, len(cases), f"{op.name} {direction}")
            try:
                rows.append(measure_row(op, direction, name, launches))
            except Exception as error:  # noqa: BLE001 - a row that raises has failed; the others run
                failure = f"{type(error).__name__}: {error}"
                rows.append(Row(op.name, direction, launches, 0, {}, {}, failure=failure))
    return Leaks(name, environment, launches, CACHE_LIMIT, tuple(rows))
