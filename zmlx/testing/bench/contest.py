"""One kernel against its rivals and a copy of as many bytes: checked first, then timed in turn."""

from __future__ import annotations

import contextlib
import itertools
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np

from zmlx import _compat
from zmlx.testing.bench.arguments import (
    CHECKED_ROWS,
    another,
    arguments_of,
    bench_sample,
    make_arguments,
    picked,
    some_rows,
    step_of,
)
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
from zmlx.testing.bench.rivals import Rival, list_rivals
from zmlx.testing.bench.timing import race
from zmlx.testing.differentiation import gradients_of, with_cotangents
from zmlx.testing.launches import not_launched
from zmlx.testing.opinfo import OpInfo, SampleInput, as_tuple, part_name
from zmlx.testing.rivals import Argument
from zmlx.testing.tolerance import Tolerance, as_float64, compare

#: How far a rival's results may be from the oracle's, root mean square over root mean square: enough to tell that it
#: computes the same thing.
SAME_FORMULA = 0.1
#: In dtypes in which MLX may round more often than the kernels do, down to sums in bfloat16. The most that was seen is
#: 0.14, on CUDA: the gradient of logsumexp under mx.compile, with sums of 4096 numbers.
ROUNDED_FORMULA = {"float16": 0.25, "bfloat16": 0.25}

#: Rows of a cotangent that gradients are checked by where rows do not stand for themselves.
FEW_ROWS = 64

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
    specs = arguments_of(op.rivals, plan.rows, plan.columns)
    arguments = make_arguments(specs, dtype)
    moved = op.bytes_moved(bench_sample(op.rivals, plan.rows, plan.columns), dtype)
    ours = partial(op.op, **op.rivals.kwargs)
    path = launched_path(lambda: ours(*arguments), backend, name)
    step = step_of(op.rivals, arguments[0])
    truths = op.expected(SampleInput("bench", picked(specs, arguments, step), op.rivals.kwargs))
    outs = op.out_dtypes(dtype, len(truths))
    rivals = list_rivals(op.rivals, mx, dtype, outs)
    peers = [PeerRun(peer, arguments) for peer in _peers(op, backend)]
    results = {
        which: [some_rows(result, step) for result in as_tuple(call(*arguments))]
        for which, call in _calls(ours, rivals).items()
    }
    for which, found in {**results, **{peer.name: peer.results(step) for peer in peers}}.items():
        if len(found) != len(truths):
            raise WrongResultError(
                f"{name}: {which} gives {len(found)} results, the oracle has {len(truths)}."
            )
        for place, (result, truth, out) in enumerate(zip(found, truths, outs, strict=True)):
            what = f"{name}{part_name(place, len(truths))}"
            _check(op, dtype, which, result, truth, out, op.tolerance(dtype, result=place), what)
    timed = _race(ours, rivals, peers, arguments, moved, backend, plan)
    shapes = tuple(tuple(a.shape) for a in arguments)
    return Measurement(op.name, dtype, path, direction=FORWARD, shapes=shapes, **timed)


def measure_gradient(op: OpInfo, dtype: str, backend: str, plan: Plan) -> Measurement:
    """The same for the gradients, by `mx.vjp`. Bytes count as if each argument and each cotangent were read once and
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
    specs = arguments_of(op.rivals, plan.rows, plan.columns)
    arguments = make_arguments(specs, dtype)
    call = partial(op.op, **op.rivals.kwargs)
    ours = gradients_of(call, op.differentiable)
    results = as_tuple(call(*arguments))
    rivals = list_rivals(op.rivals, mx, dtype, op.out_dtypes(dtype, len(results)), op.differentiable)
    cotangents = tuple(mx.random.normal(r.shape, r.dtype) for r in with_cotangents(results))
    cotangent = cotangents[0] if len(cotangents) == 1 else cotangents
    mx.eval(cotangents)
    with watch() as launches:
        gradients = ours(*arguments, cotangent)
        mx.eval(gradients)
    absent = not_launched(op.grad_kernels, launches, backend)
    if absent:
        raise WrongResultError(
            f"{name}: expected {', '.join(absent)} to run on {backend}, as the entry's `grad_kernels` says; it did not."
        )
    path = launched_path(lambda: ours(*arguments, cotangent), backend, name)
    moved = sum(a.nbytes for a in (*arguments, *cotangents, *gradients))
    peers = [PeerRun(peer, arguments, op.differentiable, cotangent) for peer in _peers(op, backend)]
    calls: dict[str, Callable[..., Any]] = {
        which: (lambda alone, call=call: call(*arguments, alone))
        for which, call in _calls(ours, rivals).items()
    }
    calls.update({peer.name: peer.gradients for peer in peers})
    _check_gradients(op, dtype, specs, arguments, cotangent, calls, name)
    flat = [replace(rival, call=_flat(rival.call, len(arguments))) for rival in rivals]
    given = [*arguments, *cotangents]
    timed = _race(_flat(ours, len(arguments)), flat, peers, given, moved, backend, plan)
    shapes = tuple(tuple(a.shape) for a in arguments)
    return Measurement(op.name, dtype, path, direction=BACKWARD, shapes=shapes, **timed)


def _calls(ours: Callable[..., Any], rivals: Iterable[Rival]) -> dict[str, Callable[..., Any]]:
    """By name, ours first."""
    return {"ours": ours, **{rival.name: rival.call for rival in rivals}}


def _peers(op: OpInfo, backend: str) -> list[Loaded]:
    """Those that can be timed here; the table says which cannot."""
    assert op.rivals is not None
    return load_peers(op.rivals.peers)[0] if backend == PEERS_BACKEND else []


def _flat(gradients: Callable[..., Any], count: int) -> Callable[..., Any]:
    """The gradients as a function of `count` arguments and then of each cotangent."""

    def call(*given: Any) -> Any:
        arguments, cotangents = given[:count], given[count:]
        return gradients(*arguments, cotangents[0] if len(cotangents) == 1 else cotangents)

    return call


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
    inputs = [arguments, *(list(map(another, arguments)) for _ in range(plan.copies(read) - 1))]
    _compat.import_mx().eval(inputs)
    stopwatches = {
        which: mlx_stopwatch(_in_turn(call, inputs), batch, plan.lazy, plan.lead)
        for which, call in _calls(ours, rivals).items()
    }
    stopwatches.update({peer.name: peer.stopwatch(plan.copies(read), batch, plan.lead) for peer in peers})
    half = math.ceil(moved / 2)  # a copy reads as many bytes as it writes
    with contextlib.ExitStack() as stack:
        copies = {
            f"copy {which}": stack.enter_context(way(half, plan.copies(half), batch, plan.lead))
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
    specs: Sequence[Argument],
    arguments: list[Any],
    cotangent: Any,
    calls: Mapping[str, Callable[..., Any]],
    name: str,
) -> None:
    """WrongResultError unless gradients are the oracle's, of a cotangent that is zero but in the rows that are checked:
    then weights, whose gradients are sums over all rows, can be checked too, and the sums do not cancel."""
    assert op.rivals is not None
    step = step_of(op.rivals, arguments[0])
    if op.rivals.by_rows:
        few = [_few_rows(c, CHECKED_ROWS // 2, first=1) for c in as_tuple(cotangent)]
        alone = tuple(_zero_between(c, step) for c in few)
        some = tuple(as_float64(some_rows(c, step)) for c in few)
    else:
        alone = tuple(_few_rows(c, FEW_ROWS) for c in as_tuple(cotangent))
        some = tuple(map(as_float64, alone))
    sample = SampleInput("bench", picked(specs, arguments, step), op.rivals.kwargs)
    truths = op.expected_vjp(sample, some if len(some) > 1 else some[0])
    for which, call in calls.items():
        gradients = call(alone if len(alone) > 1 else alone[0])
        for position, gradient, truth in zip(op.differentiable, gradients, truths, strict=True):
            result = some_rows(gradient, step) if specs[position].has_rows else gradient
            what = f"{name} of argument {position}"
            _check(op, dtype, which, result, truth, dtype, op.tolerance(dtype, grad=True), what)


def _zero_between(cotangent: Any, step: int, first: int = 0, last: int = 1) -> Any:
    """A cotangent that is what it is in every `step`-th of the rows that its axes from `first` to before `last` count,
    and zero in others."""
    mx, counted = _compat.import_mx(), cotangent.shape[first:last]
    checked = mx.arange(math.prod(counted)) % step == 0
    checked = checked.reshape(*[1] * first, *counted, *[1] * (cotangent.ndim - last))
    return mx.where(checked, cotangent, mx.zeros_like(cotangent))


def _few_rows(cotangent: Any, count: int, first: int = 0) -> Any:
    """A cotangent that is zero but in about `count` of its rows, which all its axes but the last count, from `first`
    on."""
    last = cotangent.ndim - 1
    if last <= first:
        return cotangent
    # Odd, so that the rows are not all of one column of an image.
    step = max(1, math.prod(cotangent.shape[first:last]) // count) | 1
    return _zero_between(cotangent, step, first, last)


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
    # An infinity that is where it should be is no difference, and no measure for others.
    infinite = np.isinf(truth)
    right = infinite & (got == truth)
    difference = np.where(right, 0.0, got) - np.where(right, 0.0, truth)
    error = float(np.sqrt(np.mean(difference**2) / np.mean(np.square(np.where(infinite, 0.0, truth)))))
    most = ROUNDED_FORMULA.get(dtype, SAME_FORMULA)
    if not error <= most:
        raise WrongResultError(
            f"{name}: {which} differs from the oracle by {error:.2g} of the root mean square; at most "
            f"{most:g} was expected. Does op_db give the kernel a rival that computes something else?"
        )
