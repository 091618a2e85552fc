"""The rivals of the catalogue: there are some for every kernel, and they compute what the kernel computes."""

import contextlib
from dataclasses import replace

import mlx.core as mx
import numpy as np
import pytest
from example_ops import DROP, PICK, SCALED, TOP

from zmlx.testing.bench.arguments import arguments_of, bench_sample, drawn_sample, make_arguments, step_of
from zmlx.testing.bench.contest import measure_gradient, measure_kernel
from zmlx.testing.bench.measurement import PLANS, WrongResultError, quick
from zmlx.testing.bench.rivals import COMPILED, MLX, list_rivals
from zmlx.testing.bench.run import bench, select
from zmlx.testing.op_db import op_db
from zmlx.testing.op_db._shared import ITEMSIZE
from zmlx.testing.opinfo import DEFAULT_DTYPES, OpInfo, as_tuple
from zmlx.testing.rivals import Argument, Rivals
from zmlx.testing.sample_rng import SampleRng

pytestmark = pytest.mark.cpu

KERNELS = [op for op in op_db if op.kernel and op.rivals is not None]

#: Kernels that nothing is timed against, and why.
_DRAWN = "random numbers, which MLX operations do not draw alike"
_VALUES = "arguments that belong together, which independent random ones do not"
_DTYPE = "no results of a float dtype, by which the benchmark goes"
_LONG = "no formula of a few MLX operations"
UNTIMED = {
    "bits.pack_bits": _DTYPE,
    "bits.unpack_bits": _DTYPE,
    "dropouts.dropout": _DRAWN,
    "dropouts.rms_norm_dropout": _DRAWN,
    "dropouts.layer_norm_dropout": _DRAWN,
    "losses.fused_linear_cross_entropy": _VALUES,
    "moe.expert_order": _DTYPE,
    "moe.dispatch": _VALUES,
    "moe.combine": _VALUES,
    "rope.mrope": _VALUES,
    "rope.rope_cache_update": _VALUES,
    "rope.rope_paged_cache_update": _VALUES,
    "sampling.filter_logits": _LONG,
    "sampling.categorical": _DRAWN,
    "vision.resize_bilinear": _LONG,
    "vision.grid_sample": _LONG,
}


#: Several results, integers among results and arguments, numbers for each row, a keyword argument that must be given.
EXAMPLES = (
    replace(
        SCALED,
        rivals=Rivals(
            shapes=lambda rows, columns: ((rows, columns), (columns,)),
            formula=lambda mx, x, w: (2.0 * x * w, x * x),
            kwargs={"factor": 2.0},
        ),
        bytes_moved=lambda s, dtype: (3 * s.args[0].size + s.args[1].size) * ITEMSIZE[dtype],
    ),
    replace(
        TOP,
        rivals=Rivals(
            shapes=lambda rows, columns: ((rows, columns),),
            formula=lambda mx, x: (mx.max(x, axis=-1), mx.argmax(x, axis=-1).astype(mx.int32)),
        ),
        bytes_moved=lambda s, dtype: (s.args[0].size + len(s.args[0])) * ITEMSIZE[dtype] + 4 * len(s.args[0]),
    ),
    replace(
        PICK,
        rivals=Rivals(
            shapes=lambda rows, columns: (
                (rows, columns),
                Argument((rows,), "int32", (-1, columns), per_row=True),
                Argument((rows,), per_row=True),
            ),
            formula=lambda mx, x, labels, sinks: mx.where(
                labels < 0, 0, mx.take_along_axis(x, mx.maximum(labels, 0)[:, None], axis=-1)[:, 0] - sinks
            ).astype(x.dtype),
        ),
        bytes_moved=lambda s, dtype: len(s.args[0]) * (3 * ITEMSIZE[dtype] + 4),
    ),
    replace(
        DROP,
        rivals=Rivals(
            shapes=lambda rows, columns: ((rows, columns),),
            formula=lambda mx, x: mx.where(
                ((mx.arange(x.size).astype(mx.uint32).reshape(x.shape) + 5) * mx.array(2654435769, mx.uint32))
                >> 31,
                0,
                2 * x,
            ).astype(x.dtype),
            kwargs={"seed": 5},
            by_rows=False,
        ),
        bytes_moved=lambda s, dtype: 2 * s.args[0].size * ITEMSIZE[dtype],
    ),
)


def formula(mx, x):
    return x + 1


def rivals(**changes):
    return Rivals(**{"shapes": lambda rows, columns: ((rows, columns),), "formula": formula, **changes})


@contextlib.contextmanager
def nothing_compiled():
    """mx.compile takes a second or so for each formula on the CPU, and its numbers are MLX's business."""
    mx.disable_compile()
    try:
        yield
    finally:
        mx.enable_compile()


def test_every_kernel_of_the_catalogue_is_benchmarked_or_listed():
    assert {op.name for op in op_db if op.kernel and op.rivals is None} == set(UNTIMED)
    assert [op.name for op in op_db if op.rivals is not None and not op.kernel] == []


@pytest.mark.parametrize("dtype", DEFAULT_DTYPES)
@pytest.mark.parametrize("measure", [measure_kernel, measure_gradient])
@pytest.mark.parametrize("op", [*KERNELS, *EXAMPLES], ids=str)
def test_rivals_compute_what_the_kernel_computes(op, measure, dtype, backend, mx_device):
    """Values and gradients, weights' too: a measurement fails on what computes something else."""
    plan = replace(quick(PLANS[backend]), rows=32, columns=64, rounds=1)
    if measure is measure_gradient and not op.grad_kernels:
        assert "backward" not in {case.direction for case in select([op], [], backend)}
        return
    with nothing_compiled():
        found = measure(op, dtype, backend, plan)
    assert found.direction == {measure_kernel: "forward", measure_gradient: "backward"}[measure]
    assert {v.column for v in found.versus} == {MLX, COMPILED}


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize("op", [*KERNELS, *EXAMPLES], ids=str)
def test_bytes_are_those_of_inputs_and_outputs(op, dtype, mx_device):
    if dtype not in op.dtypes_on("cpu"):
        pytest.skip(f"{op.name} does not claim {dtype}")
    sample = bench_sample(op.rivals, 16, 24)
    arguments = make_arguments(op.rivals.shapes(16, 24), dtype)
    results = as_tuple(op.op(*arguments, **op.rivals.kwargs))
    every = sum(a.nbytes for a in [*arguments, *results])
    moved = op.bytes_moved(sample, dtype)
    # Of an argument that others are indices into, no more than these name must be read.
    assert 0 < moved <= every if op.indices else moved == every
    assert not op.rivals.by_rows or {result.shape[0] for result in results} == {arguments[0].shape[0]}


def test_a_sample_of_gigabytes_takes_no_memory():
    (x,) = bench_sample(rivals(), 2**20, 2**20).args
    assert x.shape == (2**20, 2**20)
    assert x.strides == (0, 0)


def names(found, column):
    return [rival.name for rival in found if rival.column == column]


def test_what_a_kernel_is_timed_against():
    plain, with_own = rivals(), rivals(own_name="mx.own", own=lambda mx, x: x)

    def listed(of, dtype, column):
        return names(list_rivals(of, mx, dtype, (dtype,)), column)

    assert listed(plain, "float32", MLX) == ["operations"]
    assert listed(plain, "float16", MLX) == ["operations", "operations in float32"]
    assert listed(with_own, "float16", MLX) == ["mx.own"]
    assert listed(with_own, "float32", COMPILED) == ["mx.compile"]
    assert listed(plain, "float16", COMPILED) == ["mx.compile", "mx.compile in float32"]


def test_in_float32_means_float32_inside_and_the_dtype_outside(mx_device):
    seen = []

    def spying(mx, x):
        seen.append(x.dtype)
        return x * 3

    with nothing_compiled():
        found = list_rivals(rivals(formula=spying), mx, "float16", ("float16",))
        results = [rival.call(mx.ones((2, 2), mx.float16)) for rival in found]
    assert seen == [mx.float16, mx.float32, mx.float16, mx.float32]
    assert [result.dtype for result in results] == [mx.float16] * 4


def test_an_own_operation_has_a_name():
    with pytest.raises(ValueError, match=r"give `own` and `own_name` together, or neither; got 'mx.own'"):
        rivals(own_name="mx.own")


def test_rivals_need_bytes():
    def make(**changes):
        return OpInfo(
            "f.g", lambda x: x + 1, lambda x: x + 1, lambda rng: [], "s", rivals=rivals(), **changes
        )

    with pytest.raises(ValueError, match=r"f\.g: `rivals` needs `bytes_moved`, by which a benchmark counts"):
        make()
    op = make(bytes_moved=lambda sample, dtype: 2 * sample.args[0].size * ITEMSIZE[dtype])
    assert op.bytes_moved(bench_sample(op.rivals, 3, 4), "float16") == 48
    assert np.shape(bench_sample(op.rivals, 3, 4).args[0]) == (3, 4)


def test_in_float32_leaves_integers_and_gives_the_results_their_dtypes(mx_device):
    seen = []

    def formula(mx, x, labels):
        seen.append((x.dtype, labels.dtype))
        return x * 2, labels + 1

    with nothing_compiled():
        *_, last = list_rivals(rivals(formula=formula), mx, "bfloat16", ("bfloat16", "int32"))
        results = last.call(mx.ones(3, mx.bfloat16), mx.arange(3))
    assert last.name == "mx.compile in float32"
    assert seen == [(mx.float32, mx.int32)]
    assert [r.dtype for r in results] == [mx.bfloat16, mx.int32]


def test_arguments_are_as_the_entry_says(mx_device):
    specs = (
        (4, 3),
        Argument((2000,), "int32", (-1, 5), per_row=True),
        Argument((2000,), "bool", (0, 2)),
        Argument((2000,), "float32", (2.0, 3.0)),
        Argument((3, 2), whole=True),
    )
    x, labels, mask, positive, _ = make_arguments(specs, "bfloat16")
    assert [a.dtype for a in (x, labels, mask, positive)] == [mx.bfloat16, mx.int32, mx.bool_, mx.float32]
    assert set(labels.tolist()) == {-1, 0, 1, 2, 3, 4}
    assert set(mask.tolist()) == {False, True}
    assert 2 <= min(positive.tolist()) < 2.1 < 2.9 < max(positive.tolist()) < 3
    of = rivals(shapes=lambda rows, columns: specs, kwargs={"seed": 3})
    drawn, zeros = drawn_sample(of, 4, 3, SampleRng("s"), "some"), bench_sample(of, 4, 3)
    for sample in (drawn, zeros):
        assert [a.dtype.name for a in sample.args] == ["float64", "int32", "bool", "float64", "float64"]
        assert [a.shape for a in sample.args] == [(4, 3), (2000,), (2000,), (2000,), (3, 2)]
        assert sample.kwargs == {"seed": 3}
    assert set(drawn.args[1]) == {-1, 0, 1, 2, 3, 4}
    assert [a.has_rows for a in arguments_of(of, 4, 3)] == [True, True, False, False, False]


@pytest.mark.parametrize(
    ("shape", "checked"), [((16384, 4096), 16), ((5, 8), 5), ((16, 1024, 4096), 2), ((3, 1 << 23), 2)]
)
def test_few_rows_are_checked_where_rows_are_long(shape, checked):
    array = np.broadcast_to(np.float32(0), shape)
    step = step_of(rivals(), array)
    assert len(range(0, shape[0], step)) in (checked, checked + 1)
    assert step_of(rivals(by_rows=False), array) == 1


def test_integers_need_a_range():
    with pytest.raises(
        ValueError, match=r"^Argument: expected `within` for int32, such as \(0, 10\) .*; got none\.$"
    ):
        Argument((3,), "int32")


#: Its results have infinities.
(MASKED,) = (op for op in KERNELS if op.name == "sampling.apply_token_bitmask")


def _with(op, **changes):
    return replace(op, rivals=replace(op.rivals, **changes))


@pytest.mark.parametrize(
    ("op", "measure", "message"),
    [
        pytest.param(
            _with(EXAMPLES[0], formula=lambda mx, x, w: (2.0 * x * w, x)),
            measure_kernel,
            r"scaled/float32:1: operations differs",
            id="second",
        ),
        pytest.param(
            _with(EXAMPLES[0], formula=lambda mx, x, w: 2.0 * x * w),
            measure_kernel,
            r"operations gives 1 results, the oracle has 2\.",
            id="count",
        ),
        pytest.param(
            _with(EXAMPLES[0], formula=lambda mx, x, w: (2.0 * x * w, mx.stop_gradient(x * x))),
            measure_gradient,
            r"gradient of argument 0: operations differs",
            id="gradient",
        ),
        pytest.param(
            _with(EXAMPLES[1], formula=lambda mx, x: (mx.max(x, axis=-1), mx.argmin(x, axis=-1))),
            measure_kernel,
            r"top/float32:1: operations differs",
            id="integers",
        ),
        pytest.param(
            _with(EXAMPLES[3], kwargs={"seed": 6}),
            measure_kernel,
            r"drop/float32: operations differs",
            id="keyword",
        ),
        pytest.param(
            _with(EXAMPLES[3], by_rows=True),
            measure_kernel,
            r"drop/float32: \d+ of \d+ elements",
            id="not by rows",
        ),
        pytest.param(
            _with(MASKED, formula=lambda mx, x, mask: MASKED.rivals.formula(mx, x, ~mask)),
            measure_kernel,
            r"apply_token_bitmask/float32: operations differs from the oracle by inf",
            id="infinities elsewhere",
        ),
    ],
)
def test_what_computes_something_else_is_not_timed(op, measure, message, backend, mx_device):
    plan = replace(quick(PLANS[backend]), rows=32, columns=64, rounds=1)
    with nothing_compiled(), pytest.raises(WrongResultError, match=message):
        measure(op, "float32", backend, plan)


def test_what_has_no_gradient_has_no_backward_row(backend):
    with nothing_compiled():
        found = bench(backend, "*", "float32", small=True, ops=EXAMPLES, engine=[])
    assert found.exit_code == 0, [m.failure for m in found.failures]
    assert [m.name for m in found.measurements if m.direction == "backward"] == [
        "example.scaled",
        "example.top",
        "example.pick",
    ]
