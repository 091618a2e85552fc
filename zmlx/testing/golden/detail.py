"""What a report shows of one comparison beyond its largest error: distribution, share of the tolerance, worst element
and what went into it."""

from __future__ import annotations

import inspect
from typing import Any

import numpy as np
from numpy.typing import NDArray

from zmlx.testing._formats import COMPONENTS, is_float
from zmlx.testing.golden.comparison import Worst, count_in_bins
from zmlx.testing.golden.distances import unravel
from zmlx.testing.opinfo import OpInfo, SampleInput
from zmlx.testing.tolerance import Tolerance, ulp_distance

_SHOWN = 16


def details(
    actual: NDArray[Any],
    desired: NDArray[Any],
    dtype: str,
    tolerance: Tolerance,
    op: OpInfo | None = None,
    sample: SampleInput | None = None,
) -> dict[str, Any]:
    """The fields `share`, `bins` and `worst` of a `CaseResult`.

    Parameters
    ----------
    actual, desired : numpy.ndarray
        Of one shape; complex ones are taken by their parts.
    dtype : str
        The result's.
    tolerance : Tolerance
        What an element may be off.
    op, sample : OpInfo and SampleInput, optional
        Whose inputs are shown.
    """
    if dtype in COMPONENTS:
        actual, desired = _parts(actual), _parts(desired)
        dtype = COMPONENTS[dtype]
    if not actual.size:
        return {"share": 0.0, "bins": count_in_bins(()), "worst": None}
    floor = tolerance.ulp_floor(np.asarray(desired, dtype=np.float64))
    far = ulp_distance(actual, desired, dtype, floor=floor).ravel()
    place = int(np.argmax(far))
    index = unravel(place, actual.shape)
    return {
        "share": _share(actual, desired, dtype, far, tolerance),
        "bins": count_in_bins(far.tolist()),
        "worst": Worst(
            index,
            actual.ravel()[place].item(),
            desired.ravel()[place].item(),
            () if op is None or sample is None else inputs_at(op, sample, index, np.shape(actual)),
        ),
    }


def _parts(array: NDArray[Any]) -> NDArray[Any]:
    return np.stack([np.real(array), np.imag(array)], axis=-1)


def _share(
    actual: NDArray[Any],
    desired: NDArray[Any],
    dtype: str,
    far: NDArray[Any],
    tolerance: Tolerance,
) -> float:
    truth = np.asarray(desired, dtype=np.float64).ravel()
    with np.errstate(all="ignore"):
        apart = np.abs(np.asarray(actual, dtype=np.float64).ravel() - truth)
        bound = tolerance.atol + tolerance.rtol * np.where(np.isfinite(truth), np.abs(truth), 0.0)
        shares = np.where(np.isinf(far), np.inf, apart / bound)
        if not is_float(dtype):
            shares = np.where(far > 0, np.inf if not (tolerance.rtol or tolerance.atol) else shares, 0.0)
        # What is equal takes nothing, also where nothing is allowed and where both are infinite.
        shares = np.where(far == 0, 0.0, shares)
        share = float(np.max(np.where(np.isnan(shares), np.inf, shares)))
        if tolerance.max_ulp:
            share = max(share, float(np.max(far)) / tolerance.max_ulp)
        if tolerance.max_rms:
            share = max(share, float(np.sqrt(np.mean(np.square(far)))) / tolerance.max_rms)
    return share


def inputs_at(
    op: OpInfo, sample: SampleInput, index: tuple[int, ...], shape: tuple[int, ...]
) -> tuple[tuple[str, str], ...]:
    """Name and text of each argument, as far as it goes into one element of the result.

    An argument that has the result's leading dimensions gives the row of the element, a vector as long as the
    result's rows the number in its column, and any other its first values.
    """
    names = argument_names(op, len(sample.args))
    texts = [
        (name, _argument_text(value, index, shape)) for name, value in zip(names, sample.args, strict=True)
    ]
    return (*texts, *((key, repr(value)) for key, value in sample.kwargs.items()))


def argument_names(op: OpInfo, count: int) -> list[str]:
    """The names of an operation's positional arguments, as its oracle has them."""
    kinds = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
    try:
        found = [name for name, p in inspect.signature(op.oracle).parameters.items() if p.kind in kinds]
    except (TypeError, ValueError):  # a function written in C, such as a NumPy ufunc: it has no signature
        found = []
    return [found[i] if i < len(found) else f"argument {i}" for i in range(count)]


def _argument_text(value: Any, index: tuple[int, ...], shape: tuple[int, ...]) -> str:
    if not isinstance(value, np.ndarray):
        return repr(value)
    if not index or not value.ndim:
        return _numbers(value.ravel())
    if value.ndim == 1 and len(shape) > 1 and value.shape[0] == shape[-1]:
        return f"{value[index[-1]].item():.9g} in column {index[-1]}"
    if value.shape == shape and len(shape) == 1:
        return f"{value[index].item():.9g} in place {index[0]} of {_numbers(value)}"
    for rank in (len(shape) - 1, len(shape)):
        if 0 < rank < value.ndim and value.shape[:rank] == shape[:rank]:
            return f"row {list(index[:rank])}: {_numbers(value[index[:rank]].ravel())}"
    return f"{_numbers(value.ravel())}, shape {value.shape}"


def _numbers(values: NDArray[Any]) -> str:
    shown = ", ".join(f"{v:.9g}" for v in values[:_SHOWN].tolist())
    more = f", … ({values.size} numbers)" if values.size > _SHOWN else ""
    return f"[{shown}{more}]"
