"""What an operation launches on a back end that need not be here: forward and backward, nothing run."""

from __future__ import annotations

import math
from collections.abc import Iterable
from fnmatch import fnmatchcase
from functools import partial
from typing import TYPE_CHECKING

from zmlx.testing.differentiation import of_some
from zmlx.testing.opinfo import OpInfo, SampleInput, to_mx

if TYPE_CHECKING:
    from zmlx.launch.records import LaunchRecord


def not_launched(patterns: Iterable[str], launches: Iterable[LaunchRecord], backend: str) -> list[str]:
    """Those of an entry's `kernels` or `grad_kernels` that no launch on `backend` fits; a reference is no launch."""
    names = {r.kernel.name for r in launches if r.backend == backend and r.path != "reference"}
    return [pattern for pattern in patterns if not any(fnmatchcase(name, pattern) for name in names)]


def recorded_launches(
    op: OpInfo, dtype: str, backend: str, samples: Iterable[SampleInput] | None = None
) -> list[LaunchRecord]:
    """The launches of an operation and its gradient, as they would be on a back end; without those of no threads, for
    which nothing is compiled.

    Parameters
    ----------
    op : OpInfo
        The operation.
    dtype : str
        Of its float arrays.
    backend : str
        "metal", "cuda" or "cpu".
    samples : iterable of SampleInput, optional
        All of the operation's unless given.

    Raises
    ------
    ImportError
        MLX does not import.
    """
    import mlx.core as mx

    from zmlx.launch import recording

    with recording(backend) as records:
        for sample in op.sample_inputs() if samples is None else samples:
            arguments = to_mx(sample, dtype)

            call = of_some(partial(op.op, **sample.kwargs), arguments, op.differentiable)
            primals = [arguments[i] for i in op.differentiable]
            outputs = call(*primals)
            several = outputs if isinstance(outputs, (list, tuple)) else [outputs]
            if primals:
                mx.vjp(call, primals, [mx.ones_like(output) for output in several])
    return [record for record in records if math.prod(record.grid)]
