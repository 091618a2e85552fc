"""One case of a generated test, and what several subjects do with cases."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any, NamedTuple

import numpy as np
import pytest

from zmlx.testing._formats import is_float
from zmlx.testing.differentiation import gradients_of
from zmlx.testing.generated import oracle
from zmlx.testing.generated.latest import Latest
from zmlx.testing.opinfo import OpInfo, SampleInput, as_tuple, part_name, to_mx
from zmlx.testing.tolerance import Tolerance, compare, dtype_name

Ops = tuple[OpInfo, ...]
Record = Callable[..., None]


class Case(NamedTuple):
    """One operation, one dtype, one sample rounded to it."""

    op: OpInfo
    dtype: str
    sample: SampleInput

    def __str__(self) -> str:
        return f"{self.op.name}/{self.dtype}/{self.sample.name}"

    @property
    def has_values(self) -> bool:
        """Whether there is anything to launch a kernel for."""
        return all(np.size(a) for a in self.sample.args)

    @property
    def first(self) -> int:
        """The place of the first argument of the dtype that is tested: indices and labels may stand before it."""
        kinds = "f" if is_float(self.dtype) else "biuf"
        arrays = [i for i, a in enumerate(self.sample.args) if isinstance(a, np.ndarray)]
        return next((i for i in arrays if self.sample.args[i].dtype.kind in kinds), 0)

    def arguments(self, layout: Any = None) -> list[Any]:
        """The positional arguments, as MLX arrays."""
        return list(to_mx(self.sample, self.dtype, layout))

    def call(self, *arguments: Any) -> Any:
        """The operation's result, not yet evaluated."""
        return self.op.op(*arguments, **self.sample.kwargs)

    def run(self, *arguments: Any) -> list[Any]:
        """The results in a list, evaluated; `call` gives one that stands alone by itself."""
        import mlx.core as mx

        made = list(as_tuple(self.call(*arguments)))
        mx.eval(made)
        return made

    def cotangent(self) -> Any:
        """A random cotangent of the results, as MLX arrays."""
        return oracle.cotangent_arrays(self.op, self.sample, self.dtype)

    def gradients(self, arguments: list[Any]) -> list[Any]:
        """The gradients of the differentiable arguments, not yet evaluated."""
        return gradients_of(self.call, self.op.differentiable)(*arguments, self.cotangent())

    def check_results(self, results: Sequence[Any], record: Record) -> None:
        """Compare all results with the oracle's, dtypes with those that the entry promises."""
        __tracebackhide__ = True
        truths = oracle.truths(self.op, self.sample)
        assert len(results) == len(truths), f"{self}: {len(results)} results, the oracle has {len(truths)}"
        promised = self.op.out_dtypes(self.dtype, len(truths))
        for place, (result, truth, dtype) in enumerate(zip(results, truths, promised, strict=True)):
            part = part_name(place, len(truths))
            got = dtype_name(result)
            assert got == dtype, f"{self}{part}: got {got}, the entry promises {dtype}"
            self.check(result, truth, record, place=place, part=part)

    def check(
        self,
        result: Any,
        truth: Any,
        record: Record,
        grad: int | None = None,
        place: int = 0,
        part: str = "",
    ) -> None:
        """Compare one result, or the gradient of one argument, with the oracle."""
        __tracebackhide__ = True
        what = part if grad is None else f" gradient of argument {grad}"
        tolerance = self.op.tolerance(self.dtype, grad=grad is not None, result=place)
        verdict = compare(result, truth, dtype_name(result), tolerance, name=f"{self}{what}")
        if verdict.stats is not None and verdict.stats.count:
            record(self.op.name + what, self.dtype, verdict.stats, f"{self.sample.name}")
        if not verdict:
            pytest.fail(verdict.message, pytrace=False)

    def check_all(self, made: Sequence[Any], record: Record) -> None:
        """Compare what `results` makes: all results, then all gradients."""
        __tracebackhide__ = True
        count = len(made) - len(self.op.differentiable)
        self.check_results(made[:count], record)
        self.check_gradients(made[count:], record)

    def check_gradients(self, gradients: Iterable[Any], record: Record) -> None:
        """Compare the gradients with the oracle's."""
        __tracebackhide__ = True
        if self.op.differentiable:
            truths = oracle.gradient_truths(self.op, self.sample, self.dtype)
            for position, gradient, truth in zip(self.op.differentiable, gradients, truths, strict=True):
                self.check(gradient, truth, record, grad=position)


def claimed_dtypes(op: OpInfo) -> tuple[str, ...]:
    """The dtypes that an operation claims on any back end."""
    if isinstance(op.dtypes, tuple):
        return op.dtypes
    return tuple(dict.fromkeys(dtype for claimed in op.dtypes.values() for dtype in claimed))


def all_cases(op: OpInfo, dtype: str) -> list[Case]:
    """The cases of one operation in one dtype."""
    found: list[Case] = _cases.of((op, dtype), lambda: _cast(op, dtype, op.sample_inputs()))
    return list(found)


_cases = Latest()


def _cast(op: OpInfo, dtype: str, samples: Iterable[SampleInput]) -> list[Case]:
    return [Case(op, dtype, sample.cast(dtype)) for sample in samples]


def first_of_each(cases: Iterable[Case], key: Callable[[Case], str]) -> list[Case]:
    """The first case of each key, in their order."""
    found: dict[str, Case] = {}
    for case in cases:
        found.setdefault(key(case), case)
    return list(found.values())


def keywords_of(case: Case) -> str:
    """A case's keyword arguments, as a key."""
    return repr(sorted(case.sample.kwargs.items()))


def of_each_shape(cases: Iterable[Case]) -> list[Case]:
    """One case of each shape and set of keyword arguments, for what depends on where values lie and not on them."""

    def key(case: Case) -> str:
        shapes = [a.shape if isinstance(a, np.ndarray) else a for a in case.sample.args]
        return f"{shapes} {keywords_of(case)} {case.sample.layout}"

    return first_of_each(cases, key)


def first_case(op: OpInfo, dtype: str | None = None) -> Case:
    """The first sample, in the first dtype that the operation claims unless one is given."""
    return all_cases(op, dtype if dtype is not None else claimed_dtypes(op)[0])[0]


def cases_of(ops: Iterable[OpInfo]) -> list[Any]:
    """Parameters ``case``: every operation x dtype x sample."""
    return [
        pytest.param(case, id=f"{op.name}-{dtype}-{case.sample.name}")
        for op in ops
        for samples in (op.sample_inputs(),)
        for dtype in claimed_dtypes(op)
        for case in _cast(op, dtype, samples)
    ]


def typed_by_size(ops: Iterable[OpInfo]) -> list[Any]:
    """Parameters ``op, dtype``, for what depends on where values lie and not on what they are: without float16, where
    bfloat16, which is as large, is claimed too."""
    return [
        _typed(op, dtype)
        for op in ops
        for claimed in (claimed_dtypes(op),)
        for dtype in claimed
        if dtype != "float16" or "bfloat16" not in claimed
    ]


def in_one_dtype(ops: Iterable[OpInfo]) -> list[Any]:
    """Parameters ``op, dtype``, the first that is claimed, for what MLX does with calls, of whatever dtype they are."""
    return [_typed(op, dtype) for op in ops for dtype in claimed_dtypes(op)[:1]]


def _typed(op: OpInfo, dtype: str) -> Any:
    return pytest.param(op, dtype, id=f"{op.name}-{dtype}")


def kernels_of(ops: Iterable[OpInfo]) -> Ops:
    """Those whose launches are counted."""
    return tuple(op for op in ops if op.kernel)


def differentiable_of(ops: Iterable[OpInfo]) -> Ops:
    """Those with gradients."""
    return tuple(op for op in ops if op.differentiable)


def bits(array: Any) -> Any:
    """The exact contents of an array, for comparisons that know no tolerance; what is no array is what it is."""
    import mlx.core as mx

    if not isinstance(array, mx.array):
        return array
    buffer: Any = array  # which MLX's stubs do not say
    return memoryview(buffer).tobytes()  # in the order of its indices, however it lies in memory


def same_bits(actual: list[Any], desired: list[Any], what: str) -> None:
    """Fail unless two lists of arrays agree to the bit."""
    __tracebackhide__ = True
    import mlx.core as mx

    mx.eval(actual, desired)
    assert [a.shape for a in actual] == [d.shape for d in desired], f"{what}: shapes differ"
    for index, (a, d) in enumerate(zip(actual, desired, strict=True)):
        if a.size and bits(a) != bits(d):
            verdict = compare(a, np.asarray(d.astype(mx.float32)), name=f"{what}, result {index}")
            pytest.fail(verdict.message or f"{what}, result {index}: not the same bits", pytrace=False)


def within_tolerance(actual: list[Any], desired: list[Any], tolerance: Tolerance, what: str) -> None:
    """Fail unless two lists of arrays agree as an array and its oracle must."""
    __tracebackhide__ = True
    import mlx.core as mx

    for index, (a, d) in enumerate(zip(actual, desired, strict=True)):
        verdict = compare(
            a, np.asarray(d.astype(mx.float32)), tolerance=tolerance, name=f"{what}, result {index}"
        )
        if verdict.message:
            pytest.fail(verdict.message, pytrace=False)


def results(case: Case, layout: Any = None) -> list[Any]:
    """The result, and the gradients where there are any, evaluated."""
    import mlx.core as mx

    arguments = case.arguments(layout)
    made = [*as_tuple(case.call(*arguments))]
    if case.op.differentiable:
        made += case.gradients(arguments)
    mx.eval(made)
    return made
