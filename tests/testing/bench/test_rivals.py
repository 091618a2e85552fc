"""The rivals of the catalogue: there are some for every kernel, and they compute what the kernel computes."""

import contextlib
from dataclasses import replace

import mlx.core as mx
import numpy as np
import pytest

from zmlx.testing.bench.contest import make_arguments, measure_gradient, measure_kernel
from zmlx.testing.bench.measurement import PLANS, quick
from zmlx.testing.bench.rivals import COMPILED, MLX, bench_sample, list_rivals
from zmlx.testing.op_db import op_db
from zmlx.testing.op_db._shared import ITEMSIZE
from zmlx.testing.opinfo import DEFAULT_DTYPES, OpInfo
from zmlx.testing.rivals import Rivals

pytestmark = pytest.mark.cpu

KERNELS = [op for op in op_db if op.kernel]


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


def test_every_kernel_of_the_catalogue_is_benchmarked():
    assert [op.name for op in KERNELS if op.bytes_moved is None or op.rivals is None] == []
    assert [op.name for op in op_db if op.rivals is not None and not op.kernel] == []


@pytest.mark.parametrize("dtype", DEFAULT_DTYPES)
@pytest.mark.parametrize("measure", [measure_kernel, measure_gradient])
@pytest.mark.parametrize("op", KERNELS, ids=str)
def test_rivals_compute_what_the_kernel_computes(op, measure, dtype, backend, mx_device):
    """Values and gradients, weights' too: a measurement fails on what computes something else."""
    plan = replace(quick(PLANS[backend]), rows=32, columns=64, rounds=1)
    with nothing_compiled():
        found = measure(op, dtype, backend, plan)
    assert found.direction == {measure_kernel: "forward", measure_gradient: "backward"}[measure]
    assert {v.column for v in found.versus} == {MLX, COMPILED}


@pytest.mark.parametrize("op", KERNELS, ids=str)
def test_bytes_are_those_of_inputs_and_outputs(op, mx_device):
    sample = bench_sample(op.rivals, 6, 8)
    arguments = make_arguments(op.rivals.shapes(6, 8), "bfloat16")
    result = op.op(*arguments)
    assert op.bytes_moved(sample, "bfloat16") == sum(a.nbytes for a in [*arguments, result])
    assert op.bytes_moved(sample, "float32") == 2 * op.bytes_moved(sample, "bfloat16")
    assert result.shape[0] == 6


def test_a_sample_of_gigabytes_takes_no_memory():
    (x,) = bench_sample(rivals(), 2**20, 2**20).args
    assert x.shape == (2**20, 2**20)
    assert x.strides == (0, 0)


def names(found, column):
    return [rival.name for rival in found if rival.column == column]


def test_what_a_kernel_is_timed_against():
    plain, with_own = rivals(), rivals(own_name="mx.own", own=lambda mx, x: x)
    assert names(list_rivals(plain, mx, "float32"), MLX) == ["operations"]
    assert names(list_rivals(plain, mx, "float16"), MLX) == ["operations", "operations in float32"]
    assert names(list_rivals(with_own, mx, "float16"), MLX) == ["mx.own"]
    assert names(list_rivals(with_own, mx, "float32"), COMPILED) == ["mx.compile"]
    assert names(list_rivals(plain, mx, "float16"), COMPILED) == ["mx.compile", "mx.compile in float32"]


def test_in_float32_means_float32_inside_and_the_dtype_outside(mx_device):
    seen = []

    def spying(mx, x):
        seen.append(x.dtype)
        return x * 3

    with nothing_compiled():
        found = list_rivals(rivals(formula=spying), mx, "float16")
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
