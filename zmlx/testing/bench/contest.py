"""One kernel against its rivals and a copy of as many bytes: checked first, then timed in turn."""

from __future__ import annotations

import contextlib
import itertools
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from zmlx import _compat
from zmlx.testing.bench.bandwidth import WAYS
from zmlx.testing.bench.measurement import (
    Measurement,
    Plan,
    Versus,
    WrongResultError,
    launched_path,
    mlx_stopwatch,
)
from zmlx.testing.bench.peers import BACKEND as PEERS_BACKEND
from zmlx.testing.bench.peers import PEERS, Loaded, PeerRun, load_peers
from zmlx.testing.bench.rivals import Rival, bench_sample, list_rivals
from zmlx.testing.bench.timing import race
from zmlx.testing.differentiation import gradients_of
from zmlx.testing.launches import not_launched
from zmlx.testing.opinfo import OpInfo, SampleInput
from zmlx.testing.tolerance import Tolerance, as_float64, compare

#: Rows of a result that are compared with the oracle, spread over all of it.
CHECKED_ROWS = 16

#: How far a rival's results may be from the oracle's, root mean square over root mean square. MLX may round more
#: often than the kernels do, down to sums in bfloat16: this is enough to tell that it computes the same thing.
SAME_FORMULA = 0.05

FORWARD, BACKWARD = "forward", "backward"


def measure_kernel(op: OpInfo, dtype: str, backend: str, plan: Plan) -> Measurement:
    """Check one kernel in one dtype and time it against its rivals and the copy of as many bytes.

    Raises
    ------
    WrongResultError
        The kernel is not within its tolerance of the oracle, a rival computes something else, or no kernel ran.
    """
    assert op.rivals is not None
    assert op.bytes_moved is not None
    mx = _compat.import_mx()
    name = f"{op.name}/{dtype}"
    arguments = make_arguments(op.rivals.shapes(plan.rows, plan.columns), dtype)
    moved = op.bytes_moved(bench_sample(op.rivals, plan.rows, plan.columns), dtype)
    rivals = list_rivals(op.rivals, mx, dtype)
    path = launched_path(lambda: op.op(*arguments), backend, name)
    rows = arguments[0].shape[0]
    (truth,) = op.expected(SampleInput("bench", _picked(arguments, rows)))
    peers = [PeerRun(peer, arguments) for peer in _peers(op, backend)]
    calls = {which: call(*arguments) for which, call in _calls(op.op, rivals).items()}
    results = {which: some_rows(result, rows) for which, result in calls.items()}
    for which, result in {**results, **{peer.name: peer.result(_step(rows)) for peer in peers}}.items():
        _check(op, dtype, which, result, truth, op.out_dtype(dtype), op.tolerance(dtype), name)
    timed = _race(op.op, rivals, peers, arguments, moved, backend, plan)
    shapes = tuple(tuple(a.shape) for a in arguments)
    return Measurement(op.name, dtype, path, direction=FORWARD, shapes=shapes, **timed)


def measure_gradient(op: OpInfo, dtype: str, backend: str, plan: Plan) -> Measurement:
    """The same for the gradients, by `mx.vjp`. Bytes count as if each argument and the cotangent were read once and
    each gradient written once.

    Raises
    ------
    WrongResultError
        As for `measure_kernel`; or a kernel that the entry names for its gradient did not run.
    """
    assert op.rivals is not None
    from zmlx.launch import watch

    mx = _compat.import_mx()
    name = f"{op.name}/{dtype}, gradient"
    arguments = make_arguments(op.rivals.shapes(plan.rows, plan.columns), dtype)
    ours = gradients_of(op.op, op.differentiable)
    rivals = list_rivals(op.rivals, mx, dtype, op.differentiable)
    result = op.op(*arguments)
    cotangent = mx.random.normal(result.shape, result.dtype)
    mx.eval(cotangent)
    with watch() as launches:
        gradients = ours(*arguments, cotangent)
        mx.eval(gradients)
    absent = not_launched(op.grad_kernels, launches, backend)
    if absent:
        raise WrongResultError(
            f"{name}: expected {', '.join(absent)} to run on {backend}, as the entry's `grad_kernels` says; it did not."
        )
    path = launched_path(lambda: ours(*arguments, cotangent), backend, name)
    moved = sum(a.nbytes for a in (*arguments, cotangent, *gradients))
    peers = [PeerRun(peer, arguments, op.differentiable, cotangent) for peer in _peers(op, backend)]
    calls: dict[str, Callable[..., Any]] = {
        which: (lambda alone, call=call: call(*arguments, alone))
        for which, call in _calls(ours, rivals).items()
    }
    calls.update({peer.name: peer.gradients for peer in peers})
    _check_gradients(op, dtype, arguments, cotangent, calls, name)
    timed = _race(ours, rivals, peers, [*arguments, cotangent], moved, backend, plan)
    shapes = tuple(tuple(a.shape) for a in arguments)
    return Measurement(op.name, dtype, path, direction=BACKWARD, shapes=shapes, **timed)


def _calls(ours: Callable[..., Any], rivals: Iterable[Rival]) -> dict[str, Callable[..., Any]]:
    """By name, ours first."""
    return {"ours": ours, **{rival.name: rival.call for rival in rivals}}


def _peers(op: OpInfo, backend: str) -> list[Loaded]:
    """Those that can be timed here; the table says which cannot."""
    assert op.rivals is not None
    return load_peers(op.rivals.peers)[0] if backend == PEERS_BACKEND else []


def make_arguments(shapes: Iterable[tuple[int, ...]], dtype: str) -> list[Any]:
    """Random arrays, made on the device: the masters of a `SampleInput` would take gigabytes here."""
    mx = _compat.import_mx()
    mx.random.seed(0)
    arrays = [mx.random.normal(shape, getattr(mx, dtype)) for shape in shapes]
    mx.eval(arrays)
    return arrays


def some_rows(array: Any, rows: int) -> Any:
    """`CHECKED_ROWS` of the rows of an array, from all over it, as an array of its own."""
    if isinstance(array, np.ndarray):
        return array[:: _step(rows)]
    return _compat.import_mx().contiguous(array[:: _step(rows)])


def _step(rows: int) -> int:
    return max(1, rows // CHECKED_ROWS)


def _picked(arguments: Sequence[Any], rows: int) -> tuple[Any, ...]:
    """What makes the rows that are checked: those rows of arrays that have rows, and weights whole."""
    return tuple(as_float64(some_rows(a, rows)) if a.ndim > 1 else as_float64(a) for a in arguments)


def _in_turn(call: Callable[..., Any], inputs: list[list[Any]]) -> Callable[[], Any]:
    """`call` without arguments: each time on the next of the inputs."""
    ring = itertools.cycle(inputs)
    return lambda: call(*next(ring))


def _race(
    ours: Callable[..., Any],
    rivals: Sequence[Rival],
    peers: Sequence[PeerRun],
    arguments: list[Any],
    moved: int,
    backend: str,
    plan: Plan,
) -> dict[str, Any]:
    """Time all of them in turn: a measurement's timing, work, unit, share of the copy, and rivals."""
    batch, read = plan.batch(moved), sum(a.nbytes for a in arguments)
    inputs = [arguments, *([a + 0 for a in arguments] for _ in range(plan.copies(read) - 1))]
    _compat.import_mx().eval(inputs)
    stopwatches = {
        which: mlx_stopwatch(_in_turn(call, inputs), batch, plan.lazy)
        for which, call in _calls(ours, rivals).items()
    }
    stopwatches.update({peer.name: peer.stopwatch(plan.copies(read), batch) for peer in peers})
    half = math.ceil(moved / 2)  # a copy reads as many bytes as it writes
    with contextlib.ExitStack() as stack:
        copies = {
            f"copy {which}": stack.enter_context(way(half, plan.copies(half), batch))
            for which, way in WAYS[backend].items()
        }
        timings = race({**stopwatches, **copies}, plan.rounds, plan.seconds)
    own = timings["ours"]
    columns = {**{rival.name: rival.column for rival in rivals}, **{peer.name: PEERS for peer in peers}}
    versus = tuple(
        Versus(column, which, timings[which], timings[which].times_slower_than(own))
        for which, column in columns.items()
    )
    copy = min((timings[which] for which in copies), key=lambda timing: timing.median)
    share = copy.relative_to(own)
    return {
        "timing": own,
        "work": moved,
        "unit": "GB/s",
        "of_copy": share.median,
        "of_copy_spread": share.spread,
        "versus": versus,
    }


def _check_gradients(
    op: OpInfo,
    dtype: str,
    arguments: list[Any],
    cotangent: Any,
    calls: Mapping[str, Callable[..., Any]],
    name: str,
) -> None:
    """WrongResultError unless gradients are the oracle's, of a cotangent that is zero but in the rows that are checked:
    then weights, whose gradients are sums over all rows, can be checked too."""
    mx = _compat.import_mx()
    rows = arguments[0].shape[0]
    checked = (mx.arange(rows) % _step(rows) == 0).reshape(rows, *[1] * (cotangent.ndim - 1))
    alone = mx.where(checked, cotangent, mx.zeros_like(cotangent))
    picked = SampleInput("bench", _picked(arguments, rows))
    truths = op.expected_vjp(picked, as_float64(some_rows(cotangent, rows)))
    for which, call in calls.items():
        gradients = call(alone)
        for position, gradient, truth in zip(op.differentiable, gradients, truths, strict=True):
            result = some_rows(gradient, rows) if gradient.ndim > 1 else gradient
            what = f"{name} of argument {position}"
            _check(op, dtype, which, result, truth, dtype, op.tolerance(dtype, grad=True), what)


def _check(
    op: OpInfo, dtype: str, which: str, result: Any, truth: Any, out: str, tolerance: Tolerance, name: str
) -> None:
    """WrongResultError unless a result is what the oracle says, that of "ours" within its tolerance."""
    if which == "ours":
        verdict = compare(result, truth, out, tolerance, name=name)
        if not verdict.ok:
            more = f"`python -m zmlx verify --kernel {op.name} --dtype {dtype}` tells more."
            raise WrongResultError(f"{verdict.message}\n  {more}")
        return
    got = as_float64(result)
    if got.shape != np.shape(truth):
        raise WrongResultError(f"{name}: {which} should give shape {np.shape(truth)}, got {got.shape}.")
    error = float(np.sqrt(np.mean((got - truth) ** 2) / np.mean(np.square(truth))))
    if not error <= SAME_FORMULA:
        raise WrongResultError(
            f"{name}: {which} differs from the oracle by {error:.2g} of the root mean square; at most "
            f"{SAME_FORMULA:g} was expected. Does op_db give the kernel a rival that computes something else?"
        )
