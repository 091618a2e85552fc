"""Results of an operation under what should not change them: another run, other orders of threads, TF32."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

import numpy as np

from zmlx import _compat
from zmlx.testing.differentiation import make_cotangent
from zmlx.testing.gradients import gradient_call
from zmlx.testing.opinfo import OpInfo, SampleInput
from zmlx.testing.tolerance import as_float64, dtype_name, error_stats
from zmlx.testing.verification import Change

#: Larger samples are left out of what the checker runs, one thread after the other.
MOST_VALUES = 4096

#: Makes the results, evaluated: outputs, then gradients.
Results = Callable[[], list[Any]]


def results_of(op: OpInfo, sample: SampleInput, dtype: str) -> list[Any]:
    """Outputs and gradients of a `cast` sample: MLX arrays, evaluated."""
    mx = _compat.import_mx()
    outputs = list(op.run(sample, dtype))
    gradients: list[Any] = []
    if op.differentiable:
        truths = op.expected(sample)
        cotangent = make_cotangent(op, sample, dtype, truths)
        call, arguments = gradient_call(op, sample, dtype, truths, cotangent)
        gradients = call(*arguments)
        mx.eval(gradients)
    return [*outputs, *gradients]


class _Differences:
    """Adds up how arrays differ from those of a first run."""

    def __init__(self) -> None:
        self.elements = self.differing = 0
        self.max_ulp = 0.0

    def add(self, runs: Sequence[Sequence[Any]]) -> None:
        """The runs of one sample."""
        for arrays in zip(*runs, strict=True):
            first, *others = (_bits(array) for array in arrays)
            changed = np.zeros(first.shape, bool)
            for array, bits in zip(arrays[1:], others, strict=True):
                different = bits != first
                if different.any():
                    stats = error_stats(array, as_float64(arrays[0]), dtype_name(array) or "float64")
                    self.max_ulp = max(self.max_ulp, stats.typical[0])
                changed |= different
            self.elements += changed.size
            self.differing += int(changed.sum())

    def change(self, runs: int) -> Change:
        """What they come to."""
        return Change(runs, self.elements, self.differing, self.max_ulp)


def _bits(array: Any) -> Any:
    """The exact contents of an MLX or NumPy array, as unsigned integers."""
    if isinstance(array, np.ndarray):
        return np.ascontiguousarray(array).view(f"u{array.itemsize}")
    mx = _compat.import_mx()
    unsigned = {1: mx.uint8, 2: mx.uint16, 4: mx.uint32, 8: mx.uint64}[array.dtype.size]
    return np.asarray(mx.contiguous(array).view(unsigned)) if array.size else np.zeros(array.shape, np.uint8)


def repeat_runs(op: OpInfo, samples: Iterable[SampleInput], dtype: str, runs: int) -> Change:
    """Every sample in several runs, forward and gradient.

    Parameters
    ----------
    op : OpInfo
        The operation.
    samples : iterable of SampleInput
        Cast to `dtype`.
    dtype : str
        Of their float arrays.
    runs : int
        Two or more.
    """
    found = _Differences()
    for sample in samples:
        found.add([results_of(op, sample, dtype) for _ in range(runs)])
    return found.change(runs)


def reorder_threads(op: OpInfo, samples: Iterable[SampleInput], dtype: str) -> Change:
    """Every small sample with the threads of each launch in several orders, on the CPU by the checker, as on a GPU if
    the entry says how.

    Raises
    ------
    zmlx.check.findings.KernelCheckError
        The checker has findings.
    """
    from zmlx.check.ordered import ORDERS, Ordered
    from zmlx.launch.hook import intercepting

    mx = _compat.import_mx()
    found, previous = _Differences(), mx.default_device()
    shape = op.gpu_shape or contextlib.nullcontext
    mx.set_default_device(mx.cpu)
    try:
        for sample in small(samples):
            runs = []
            for order in ORDERS:
                with intercepting(Ordered(order)), shape():
                    runs.append(results_of(op, sample, dtype))
            found.add(runs)
    finally:
        mx.set_default_device(previous)
    return found.change(len(ORDERS))


def small(samples: Iterable[SampleInput]) -> Iterator[SampleInput]:
    """Those whose arrays have values, and not many."""
    return (s for s in samples if all(0 < np.size(a) <= MOST_VALUES for a in s.args))


def between(runs: Sequence[Sequence[Any]]) -> Change:
    """How the arrays of several runs differ from the first's."""
    found = _Differences()
    found.add(runs)
    return found.change(len(runs))
