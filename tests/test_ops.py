"""Generated from op_db: every operation x dtype x sample, on whatever back end the session is on.

A new entry in `zmlx.testing.op_db` is tested by everything here without a line of its own. A failure names
operation, dtype, sample and worst element; the plugin adds the command that runs it again.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np
import pytest

from zmlx.launch import current_backend
from zmlx.testing._formats import round_to
from zmlx.testing.op_db import op_db
from zmlx.testing.opinfo import DEFAULT_DTYPES, LAYOUTS, ErrorInput, OpInfo, SampleInput, case_rng, to_mx
from zmlx.testing.tolerance import Tolerance, compare, dtype_name

pytestmark = pytest.mark.usefixtures("mx_device")

KERNELS = tuple(op for op in op_db if op.kernel)
DIFFERENTIABLE = tuple(op for op in op_db if op.differentiable)

#: (threads to a row, dtype): several rows a simdgroup, a row over two of them, a row over eight.
GPU_SHAPES = ((8, "float32"), (64, "float32"), (256, "bfloat16"))

#: What kernels refuse: everything that an entry does not claim.
OTHER_DTYPES = ("bool_", "int8", "int32", "uint8", "int64", "complex64", *DEFAULT_DTYPES)


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

    def arguments(self, layout: Any = None) -> list[Any]:
        return list(to_mx(self.sample, self.dtype, layout))

    def call(self, *arguments: Any) -> Any:
        return self.op.op(*arguments, **self.sample.kwargs)

    def cotangent(self) -> Any:
        """A random cotangent of the result, as float64 and as MLX array."""
        import mlx.core as mx

        dtype = self.op.out_dtype(self.dtype)
        values = case_rng(self.op.name)(f"{self.sample.name}/cotangent").normal(
            np.shape(self.op.expected(self.sample)[0])
        )
        rounded = round_to(values, dtype)
        return rounded, mx.array(rounded.astype(np.float32)).astype(getattr(mx, dtype))

    def gradients(self, arguments: list[Any]) -> list[Any]:
        """The gradients of the differentiable arguments, not yet evaluated."""
        import mlx.core as mx

        def varied(*values: Any) -> Any:
            changed = dict(zip(self.op.differentiable, values, strict=True))
            return self.call(*(changed.get(i, a) for i, a in enumerate(arguments)))

        primals = [arguments[i] for i in self.op.differentiable]
        return list(mx.vjp(varied, primals, [self.cotangent()[1]])[1])

    def check(self, result: Any, truth: Any, record: Callable[..., None], grad: int | None = None) -> None:
        """Compare one result with the oracle."""
        __tracebackhide__ = True
        what = "" if grad is None else f" gradient of argument {grad}"
        tolerance = self.op.tolerance(self.dtype, grad=grad is not None)
        verdict = compare(result, truth, dtype_name(result), tolerance, name=f"{self}{what}")
        if verdict.stats is not None and verdict.stats.count:
            record(self.op.name + what, self.dtype, verdict.stats, f"{self.sample.name}")
        if not verdict:
            pytest.fail(verdict.message, pytrace=False)


def _dtypes(op: OpInfo) -> tuple[str, ...]:
    """The dtypes that an operation claims on any back end."""
    if isinstance(op.dtypes, tuple):
        return op.dtypes
    return tuple(dict.fromkeys(dtype for claimed in op.dtypes.values() for dtype in claimed))


def _cases(ops: tuple[OpInfo, ...]) -> list[Any]:
    return [
        pytest.param(case, id=f"{op.name}-{dtype}-{case.sample.name}")
        for op in ops
        for dtype in _dtypes(op)
        for case in _all_cases(op, dtype)
    ]


def _typed(ops: tuple[OpInfo, ...]) -> list[Any]:
    return [pytest.param(op, dtype, id=f"{op.name}-{dtype}") for op in ops for dtype in _dtypes(op)]


def _all_cases(op: OpInfo, dtype: str) -> list[Case]:
    return [Case(op, dtype, sample.cast(dtype)) for sample in op.sample_inputs()]


def _first_case(op: OpInfo, dtype: str) -> Case:
    return _all_cases(op, dtype)[0]


@pytest.fixture(autouse=True)
def claimed(request: pytest.FixtureRequest, backend: str) -> None:
    """Skips what an entry does not claim on this back end."""
    given = getattr(request.node, "callspec", None)
    parameters = dict(given.params) if given else {}
    case = parameters.get("case")
    op, dtype = (case.op, case.dtype) if case else (parameters.get("op"), parameters.get("dtype"))
    if op is not None and dtype in _dtypes(op) and dtype not in op.dtypes_on(backend):
        pytest.skip(f"{op.name} does not claim {dtype} on {backend}")


def bits(array: Any) -> bytes:
    """The exact contents of an array, for comparisons that know no tolerance."""
    import mlx.core as mx

    unsigned = {1: mx.uint8, 2: mx.uint16, 4: mx.uint32, 8: mx.uint64}[array.dtype.size]
    return np.asarray(mx.contiguous(array).view(unsigned)).tobytes()


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
    made = [case.call(*arguments)]
    if case.op.differentiable:
        made += case.gradients(arguments)
    mx.eval(made)
    return made


@pytest.mark.parametrize("case", _cases(op_db))
def test_forward(case: Case, backend: str, record_error: Callable[..., None]) -> None:
    """The oracle's values, in the promised dtype, by a kernel launched here, with every element written and no
    input touched."""
    import mlx.core as mx

    from zmlx.launch import poisoned_outputs, watch

    arguments = case.arguments()
    before = [bits(a) for a in arguments]
    with poisoned_outputs(), watch() as launches:
        result = case.call(*arguments)
        mx.eval(result)
    assert dtype_name(result) == case.op.out_dtype(case.dtype)
    case.check(result, case.op.expected(case.sample)[0], record_error)
    assert [bits(a) for a in arguments] == before, f"{case}: an input was changed"
    if case.op.kernel and case.has_values:
        assert launches, f"{case}: no kernel was launched"
        assert {r.backend for r in launches} == {backend}
        assert all(r.path != "reference" for r in launches), (
            f"{case}: MLX operations ran instead of the kernel"
        )


@pytest.mark.parametrize("case", _cases(DIFFERENTIABLE))
def test_gradient(case: Case, record_error: Callable[..., None]) -> None:
    """The oracle's gradients, in the arguments' dtypes."""
    import mlx.core as mx

    from zmlx.launch import poisoned_outputs, watch

    arguments = case.arguments()
    before = [bits(a) for a in arguments]
    with poisoned_outputs(), watch() as launches:
        gradients = case.gradients(arguments)
        mx.eval(gradients)
    truths = case.op.expected_vjp(case.sample, case.cotangent()[0])
    for position, gradient, truth in zip(case.op.differentiable, gradients, truths, strict=True):
        assert gradient.dtype == arguments[position].dtype
        case.check(gradient, truth, record_error, grad=position)
    assert [bits(a) for a in arguments] == before, f"{case}: an input was changed"
    assert all(r.path != "reference" for r in launches), f"{case}: MLX operations ran instead of the kernel"


@pytest.mark.parametrize("layout", [layout for layout in LAYOUTS if layout != "row"])
@pytest.mark.parametrize(("op", "dtype"), _typed(op_db))
def test_layouts(op: OpInfo, dtype: str, layout: Any) -> None:
    """Values and gradients do not depend on how the arrays lie in memory."""
    if layout not in op.layouts:
        pytest.skip(f"{op.name} does not claim the layout {layout!r}")
    tried = 0
    for case in _all_cases(op, dtype):
        if layout not in case.sample.layouts() or max(map(np.size, case.sample.args)) > 4096:
            continue
        laid_out = case._replace(sample=case.sample.laid_out(layout))
        actual, desired = results(laid_out, layout), results(laid_out, "row")
        what = f"{case}, {layout} against row"
        if op.kernel:
            same_bits(actual, desired, what)
        else:  # MLX has other kernels for other layouts, which add up in another order
            within_tolerance(actual, desired, op.tolerance(dtype), what)
        tried += 1
    assert tried, f"{op.name} has no sample that can be laid out as {layout!r}"


@pytest.mark.parametrize(("op", "dtype"), _typed(tuple(op for op in KERNELS if op.deterministic)))
def test_runs_repeat(op: OpInfo, dtype: str) -> None:
    """Two runs agree to the bit."""
    for case in _all_cases(op, dtype):
        same_bits(results(case), results(case), f"{case}, two runs")


@pytest.mark.parametrize(("op", "dtype"), _typed(DIFFERENTIABLE))
def test_joint_evaluation(op: OpInfo, dtype: str) -> None:
    """Evaluating results and gradients of several calls together gives what evaluating them one by one gives."""
    import mlx.core as mx

    def lazy() -> list[Any]:
        made = []
        for case in _all_cases(op, dtype):
            arguments = case.arguments()
            made += [case.call(*arguments), *case.gradients(arguments)]
        return made

    together, separate = lazy(), lazy()
    mx.eval(together)
    for array in separate:
        mx.eval(array)
    same_bits(together, separate, f"{op.name}/{dtype}, joint against separate evaluation")


@pytest.mark.parametrize("axis", [0, 1])
@pytest.mark.parametrize(("op", "dtype"), _typed(tuple(op for op in KERNELS if op.supports_vmap)))
def test_vmap(op: OpInfo, dtype: str, axis: int) -> None:
    """Mapping over x gives what a loop gives, gradients included."""
    import mlx.core as mx

    case = _first_case(op, dtype)
    x, *weights = case.arguments()
    stacked = mx.stack([x, 2 * x, x - 1], axis=axis)
    cotangent = case.cotangent()[1]
    if current_backend() != "cpu":
        with pytest.raises(ValueError, match="Not implemented for CustomKernel"):
            mx.vmap(lambda x: case.call(x, *weights), in_axes=axis)(stacked)
        return

    def gradients(x: Any) -> list[Any]:
        return list(mx.vjp(lambda *a: case.call(*a), [x, *weights], [cotangent])[1])

    entries = [mx.take(stacked, mx.array(i), axis=axis) for i in range(3)]
    mapped = mx.vmap(lambda x: case.call(x, *weights), in_axes=axis)(stacked)
    same_bits([mapped], [mx.stack([case.call(entry, *weights) for entry in entries])], f"{case}, vmap")

    mapped_gradients = mx.vmap(gradients, in_axes=axis)(stacked)
    loop = [gradients(entry) for entry in entries]
    expected = [mx.stack(list(column)) for column in zip(*loop, strict=True)]
    same_bits(mapped_gradients, expected, f"{case}, vmap of the gradient")


@pytest.mark.parametrize("op", KERNELS, ids=str)
def test_compile(op: OpInfo, backend: str, record_error: Callable[..., None]) -> None:
    """mx.compile takes the kernel on a GPU, its reference on the CPU, and the oracle's values come out."""
    import mlx.core as mx

    from zmlx.launch import watch

    case = _first_case(op, "float32")
    arguments = case.arguments()
    with watch() as launches:
        result = mx.compile(case.call)(*arguments)
        gradients = mx.compile(lambda *a: case.gradients(list(a)))(*arguments)
        mx.eval(result, gradients)
    by_reference = backend == "cpu"
    assert {r.path for r in launches} == {"reference" if by_reference else backend}
    # The summary's errors are those of kernels.
    record = (lambda *_: None) if by_reference else record_error
    case.check(result, op.expected(case.sample)[0], record)
    truths = op.expected_vjp(case.sample, case.cotangent()[0])
    for position, gradient, truth in zip(op.differentiable, gradients, truths, strict=True):
        case.check(gradient, truth, record, grad=position)


@pytest.mark.parametrize(("width", "dtype"), GPU_SHAPES)
@pytest.mark.parametrize("op", KERNELS, ids=str)
def test_gpu_shapes(
    op: OpInfo, width: int, dtype: str, backend: str, record_error: Callable[..., None]
) -> None:
    """The GPU's code paths, with threads that share a row: on the CPU they meet as they do there."""
    from zmlx.kernels import _rows
    from zmlx.launch import hook, poisoned_outputs, watch
    from zmlx.translate import translate

    for case in _all_cases(op, dtype):
        with _rows.override(width), poisoned_outputs(), watch() as launches:
            result, *gradients = results(case)
        case.check(result, op.expected(case.sample)[0], record_error)
        truths = op.expected_vjp(case.sample, case.cotangent()[0])
        for position, gradient, truth in zip(op.differentiable, gradients, truths, strict=True):
            case.check(gradient, truth, record_error, grad=position)
        for record in launches:
            alone = record.threadgroup == (1, 1, 1)
            meets = translate(record.kernel, "host").uses_sync and not alone
            on_cpu = ("checked",) if hook.current() else ("regions", "fibers") if meets else ("loop",)
            assert record.path in (on_cpu if backend == "cpu" else (backend,))


@pytest.mark.parametrize(
    ("op", "error"),
    [pytest.param(op, error, id=f"{op.name}-{error.name}") for op in op_db for error in op.error_inputs],
)
def test_errors(op: OpInfo, error: ErrorInput) -> None:
    """Bad input is refused with the exact message, before anything is launched."""
    from zmlx.launch import watch

    pattern = error.match if error.regex else f"{re.escape(error.match)}$"
    arguments = error.make()
    with watch() as launches, pytest.raises(error.exception, match=pattern) as caught:
        op.op(*arguments, **error.kwargs)
    assert type(caught.value) is error.exception
    assert not launches


@pytest.mark.parametrize("op", KERNELS, ids=str)
def test_other_dtypes_are_refused(op: OpInfo, backend: str) -> None:
    """A dtype that is not claimed raises: the claim in op_db is the whole truth."""
    import mlx.core as mx

    arguments = _first_case(op, "float32").arguments()
    refused = [dtype for dtype in OTHER_DTYPES if dtype not in op.dtypes_on(backend)]
    assert refused
    for dtype in refused:
        with pytest.raises(TypeError, match=r"Expected `x` to be .*, got \w+\. Convert it first"):
            op.op(arguments[0].astype(getattr(mx, dtype)), *arguments[1:])


def test_every_kernel_has_a_test() -> None:
    """The table and the catalogue name the same functions."""
    from zmlx import kernels

    public = {f"{family}.{name}" for family in kernels.__all__ for name in getattr(kernels, family).__all__}
    assert {op.name for op in KERNELS} == public


def _wrong_oracle(op: OpInfo) -> OpInfo:
    return replace(op, oracle=lambda *args, **kwargs: 1.01 * op.oracle(*args, **kwargs))


def _fallback(op: OpInfo) -> OpInfo:
    """The same numbers without a kernel."""
    import mlx.core as mx

    return replace(op, op=lambda x: mx.softmax(x, axis=-1, precise=True))


def _careless(op: OpInfo) -> OpInfo:
    """A kernel that writes only every second element of its output."""
    import mlx.core as mx

    import zmlx

    def call(x: Any) -> Any:
        kernel = zmlx.metal_kernel(
            "careless", ["x"], ["y"], "uint i = 2 * thread_position_in_grid.x; y[i] = x[i];"
        )
        return kernel(
            inputs=[mx.softmax(x, axis=-1, precise=True)],
            output_shapes=[x.shape],
            output_dtypes=[x.dtype],
            grid=(x.size // 2, 1, 1),
            threadgroup=(32, 1, 1),
        )[0]

    return replace(op, op=call)


@pytest.mark.parametrize(
    ("spoil", "complaint"),
    [
        (_wrong_oracle, r"softmax_lastdim/float32/small: 12\d of 128 elements .* are outside the tolerance"),
        (_fallback, "no kernel was launched"),
        (_careless, r"worst element .*: got nan"),
    ],
)
def test_the_tests_notice(spoil: Callable[[OpInfo], OpInfo], complaint: str, backend: str) -> None:
    """What test_forward is there to catch, it catches."""
    op = spoil(next(op for op in KERNELS if op.name == "softmax.softmax_lastdim"))
    with pytest.raises((AssertionError, pytest.fail.Exception), match=complaint):
        test_forward(_first_case(op, "float32"), backend, lambda *_: None)
