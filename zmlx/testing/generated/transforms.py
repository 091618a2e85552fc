"""MLX's transformations of a kernel: mx.vmap and mx.compile, gradients included."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest

from zmlx.testing.differentiation import gradients_of
from zmlx.testing.generated.case import (
    Case,
    Ops,
    Record,
    all_cases,
    claimed_dtypes,
    first_case,
    first_of_each,
    in_one_dtype,
    kernels_of,
    keywords_of,
    same_bits,
)
from zmlx.testing.opinfo import OpInfo, as_tuple


def check_vmap(op: OpInfo, dtype: str, axis: int, backend: str) -> None:
    """Fail unless mapping over the first argument of the dtype gives what a loop gives; on a GPU, MLX says that it
    cannot."""
    __tracebackhide__ = True
    import mlx.core as mx

    case = first_case(op, dtype)
    arguments = case.arguments()
    x = arguments[case.first]
    others = [2 * x, x - 1] if mx.issubdtype(x.dtype, mx.floating) else [x[::-1], x]
    stacked = mx.stack([x, *others], axis=axis)

    def given(x: Any) -> list[Any]:
        return [*arguments[: case.first], x, *arguments[case.first + 1 :]]

    def call(x: Any) -> tuple[Any, ...]:
        return as_tuple(case.call(*given(x)))

    if backend != "cpu":
        with pytest.raises(ValueError, match="Not implemented for CustomKernel"):
            mx.vmap(call, in_axes=axis)(stacked)
        return

    entries = [mx.take(stacked, mx.array(i), axis=axis) for i in range(3)]
    mapped = mx.vmap(call, in_axes=axis)(stacked)
    looped = zip(*map(call, entries), strict=True)
    same_bits(list(mapped), [mx.stack(list(column)) for column in looped], f"{case}, vmap")
    if not op.differentiable:
        return

    def gradients(x: Any) -> list[Any]:
        return case.gradients(given(x))

    mapped_gradients = mx.vmap(gradients, in_axes=axis)(stacked)
    loop = [gradients(entry) for entry in entries]
    expected = [mx.stack(list(column)) for column in zip(*loop, strict=True)]
    same_bits(mapped_gradients, expected, f"{case}, vmap of the gradient")


def check_compile(op: OpInfo, backend: str, record: Record) -> None:
    """Fail unless mx.compile takes the kernel, and the oracle's values come out, with each set of keyword arguments.

    On the CPU the values must be, to the bit, those of a call outside of mx.compile. Where launches cannot be part of
    MLX's graph there, it must take the reference; for an entry that says ``supports_compile=False`` it must refuse.
    """
    __tracebackhide__ = True
    for case in _one_for_each_kwargs(op):
        _check_compiled(case, backend, record)


def _one_for_each_kwargs(op: OpInfo) -> list[Case]:
    """The first case with values of every set of keyword arguments: a reference could leave one of them out."""
    cases = all_cases(op, claimed_dtypes(op)[0])
    return first_of_each((case for case in cases if case.has_values), keywords_of)


def _check_compiled(case: Case, backend: str, record: Record) -> None:
    __tracebackhide__ = True
    import mlx.core as mx

    from zmlx.launch import primitive, watch
    from zmlx.launch.kernel import why_not_lazy

    op = case.op
    arguments = case.arguments()
    by_reference = backend == "cpu" and bool(why_not_lazy())
    if by_reference and not op.supports_compile:
        with pytest.raises(ValueError, match="reference="):
            mx.eval(mx.compile(case.call)(*arguments))
        return
    with watch() as launches:
        result = mx.compile(case.call)(*arguments)
        # The cotangent is an argument: of a linear operation the gradient depends on nothing else.
        backward = mx.compile(gradients_of(case.call, op.differentiable))
        gradients = backward(*arguments, case.cotangent()) if op.differentiable else []
        mx.eval(result, gradients)
    on_cpu = "reference" if by_reference else primitive.PATH
    assert {r.path for r in launches} == {on_cpu if backend == "cpu" else backend}
    if backend == "cpu" and not by_reference:
        same_bits(list(as_tuple(result)), list(as_tuple(case.call(*arguments))), f"{case}, mx.compile")
    # The summary's errors are those of kernels.
    keep = (lambda *_: None) if by_reference else record
    case.check_results(as_tuple(result), keep)
    case.check_gradients(gradients, keep)


def tests(ops: Ops) -> Iterator[Callable[..., None]]:
    """test_vmap for kernels that claim it, test_compile for all kernels."""
    kernels = kernels_of(ops)
    mapped = tuple(op for op in kernels if op.supports_vmap)
    if mapped:

        @pytest.mark.parametrize("axis", [0, 1])
        @pytest.mark.parametrize(("op", "dtype"), in_one_dtype(mapped))
        def test_vmap(op: OpInfo, dtype: str, axis: int, backend: str) -> None:
            """Mapping over x gives what a loop gives, gradients included."""
            check_vmap(op, dtype, axis, backend)

        yield test_vmap

    if kernels:

        @pytest.mark.parametrize("op", kernels, ids=str)
        def test_compile(op: OpInfo, backend: str, record_error: Record) -> None:
            """mx.compile takes the kernel, and the oracle's values come out."""
            check_compile(op, backend, record_error)

        yield test_compile
