"""The golden cases as the table of operations has them today, and what they give on this machine."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from zmlx import _compat
from zmlx.testing._formats import is_float
from zmlx.testing.environment import TF32_VARIABLE
from zmlx.testing.golden.case import STOCK_SOURCE, GoldenCase
from zmlx.testing.golden.file import GoldenError
from zmlx.testing.opinfo import OpInfo, SampleInput, case_name, cases, part_name
from zmlx.testing.selection import project_ops
from zmlx.testing.tolerance import Agreement, Tolerance, as_float64, compare, dtype_name


@dataclass(frozen=True)
class Expectation:
    """A golden case as op_db has it today: one result of a call.

    Attributes
    ----------
    name : str
        "transformer.swiglu/float16/small"; with several results "…/small:0", "…/small:1".
    op, dtype, sample
        The operation, the dtype of its inputs, and the sample rounded to it.
    oracle : numpy.ndarray
        The truth, in float64 (or integers).
    input_hash : str
        sha256 of everything that goes in.
    result, results : int
        Which of how many results of the call, from 0 on.
    """

    name: str
    op: OpInfo
    dtype: str
    sample: SampleInput
    oracle: NDArray[Any]
    input_hash: str
    result: int = 0
    results: int = 1

    @property
    def out_dtype(self) -> str:
        """What the entry promises of the result."""
        return self.op.out_dtypes(self.dtype, self.results)[self.result]

    @property
    def tolerance(self) -> Tolerance:
        """Against the oracle."""
        return self.op.tolerance(self.dtype, result=self.result)

    @property
    def pair_tolerance(self) -> Tolerance:
        """Between two back ends.

        Two results that agree with the oracle to `max_ulp` may be twice that from each other, so `max_ulp`
        counts double; `rtol` and `atol` are what "agree" means, and stay.
        """
        own = self.tolerance
        doubled = None if own.max_ulp is None else 2 * own.max_ulp
        return replace(own, max_ulp=doubled, max_rms=None)

    def source_hash(self, backend: str) -> str:
        """sha256 of the kernel sources that a call launches on `backend`, which need not be here."""
        from zmlx.launch import recording

        if not self.op.kernel:
            return STOCK_SOURCE
        with recording(backend) as launches:
            self.op.run(self.sample, self.dtype)
        return _sources_digest(launches)

    def other_sources(self, backend: str, own: str) -> dict[str, str]:
        """By back end, the `source_hash` of those that launch other kernels than `backend`, whose hash is `own`."""
        others = [
            name for name in _compat.BACKENDS if name != backend and self.dtype in self.op.dtypes_on(name)
        ]
        return {name: found for name in others if (found := self.source_hash(name)) != own}


class Catalogue:
    """The golden cases of some operations; each oracle runs once, whichever back ends are compared."""

    def __init__(self, ops: Iterable[OpInfo] | None = None) -> None:
        self.ops = project_ops(ops)
        self._made: dict[str, tuple[Expectation, ...]] = {}

    def on(self, backend: str) -> dict[str, Expectation]:
        """By name, those that apply on a back end."""
        found = {}
        for op, dtype, sample in cases(self.ops, backend, golden=True):
            name = case_name(op, dtype, sample)
            if name not in self._made:
                self._made[name] = _expect(op, dtype, sample, name)
            found.update({expected.name: expected for expected in self._made[name]})
        return found


def _expect(op: OpInfo, dtype: str, sample: SampleInput, name: str) -> tuple[Expectation, ...]:
    rounded = sample.cast(dtype)
    outputs, digest = op.expected(rounded), _input_hash(rounded, dtype)
    count = len(outputs)
    return tuple(
        Expectation(name + part_name(i, count), op, dtype, rounded, np.asarray(output), digest, i, count)
        for i, output in enumerate(outputs)
    )


def _input_hash(sample: SampleInput, dtype: str) -> str:
    digest = hashlib.sha256()

    def add(*parts: object) -> None:
        digest.update(json.dumps(parts, sort_keys=True).encode() + b"\n")

    add(dtype, sample.layout, dict(sample.kwargs))
    for arg in sample.args:
        if isinstance(arg, np.ndarray):
            # Of a fixed width and byte order: rounded values are the same numbers on every platform.
            fixed = arg.astype("<f8" if arg.dtype.kind == "f" else "<i8")
            add(arg.dtype.kind, arg.shape)
            digest.update(fixed.tobytes("C"))
        else:
            add("value", arg)
    return digest.hexdigest()


def _sources_digest(launches: Iterable[Any]) -> str:
    digests = sorted({launch.kernel.digest for launch in launches})
    return hashlib.sha256("\n".join(digests).encode()).hexdigest()


@contextlib.contextmanager
def working_on(backend: str) -> Iterator[None]:
    """MLX's default device is that of `backend`, and TF32 is off unless the user has chosen it."""
    mx = _compat.import_mx()
    previous, tf32 = mx.default_device(), os.environ.get(TF32_VARIABLE)
    mx.set_default_device(_compat.device_for(backend))
    os.environ.setdefault(TF32_VARIABLE, "0")
    try:
        yield
    finally:
        mx.set_default_device(previous)
        if tf32 is None:
            del os.environ[TF32_VARIABLE]


@dataclass(frozen=True)
class Measured:
    """A live result and what the oracle says of it."""

    case: GoldenCase
    verdict: Agreement


def measure(expected: Expectation, backend: str) -> Measured:
    """Run a case on `backend`, MLX's default device.

    Raises
    ------
    GoldenError
        If a zmlx kernel did not launch there: a fallback's values would be recorded, or compared, as its own.
    """
    from zmlx.launch import watch

    with watch() as launches:
        outputs = expected.op.run(expected.sample, expected.dtype)
    if len(outputs) != expected.results:
        raise GoldenError(f"{expected.name}: {len(outputs)} results, the oracle has {expected.results}.")
    output = outputs[expected.result]
    source = STOCK_SOURCE
    if expected.op.kernel:
        ran = [launch for launch in launches if launch.backend == backend and launch.path != "reference"]
        if not ran:
            seen = sorted({f"{launch.backend}/{launch.path}" for launch in launches}) or ["no launch"]
            raise GoldenError(
                f"{expected.name}: no kernel ran on {backend} ({', '.join(seen)}); a fallback took its place."
            )
        source = _sources_digest(launches)
    dtype = dtype_name(output) or "float64"
    values = as_float64(output) if is_float(dtype) else np.asarray(output)
    verdict = compare(
        values, expected.oracle, dtype, expected.tolerance, name=f"{expected.name} on {backend}"
    )
    known: dict[str, Any] = {"input_hash": expected.input_hash, "source_hash": source}
    if expected.op.oracle_precision != "float64":
        known["oracle"] = expected.op.oracle_precision
    if verdict.stats is not None:
        known.update(max_ulp=verdict.stats.max_ulp, rms=verdict.stats.rms)
    return Measured(GoldenCase.from_array(values, dtype, **known), verdict)
