"""OpInfo, samples, and the memory layouts that they come in."""

import re

import mlx.core as mx
import numpy as np
import pytest

from zmlx.testing.layouts import LAYOUTS, applies, to_mlx_array
from zmlx.testing.opinfo import (
    ErrorInput,
    OpInfo,
    SampleInput,
    SampleRng,
    case_name,
    case_rng,
    cases,
    to_mx,
)
from zmlx.testing.tolerance import DEFAULT_TOLERANCES, Tolerance, as_float64

DTYPES = ("float32", "float16", "bfloat16")


def samples(rng):
    yield SampleInput("small", (rng("small").normal((3, 4)),))
    yield SampleInput("scaled", (rng("scaled").normal((5,)), 2.0), {})


def make_op(**changes):
    fields = {
        "name": "stock.exp",
        "op": lambda x, scale=1.0: mx.exp(x) * scale,
        "oracle": lambda x, scale=1.0: np.exp(x) * scale,
        "samples": samples,
        "source": "the exponential function",
        "kernel": False,
    }
    return OpInfo(**{**fields, **changes})


def strides(array):
    return tuple(s // array.itemsize for s in memoryview(array).strides)


@pytest.mark.parametrize("dtype", [*DTYPES, "int32", "uint8", "bool"])
@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("shape", [(), (1,), (6,), (3, 4), (1, 5), (2, 3, 4), (0, 3)])
def test_every_layout_holds_the_same_values(dtype, layout, shape):
    array = (np.arange(np.prod(shape, dtype=int)) % 2).reshape(shape).astype(np.float64)
    if layout == "broadcast" and len(shape) > 1 and shape[0] > 1:
        array = np.broadcast_to(array[:1], shape)
    made = to_mlx_array(array.astype(np.dtype(dtype)) if dtype == "bool" else array, dtype, layout)
    assert made.shape == shape
    assert str(made.dtype) == f"mlx.core.{dtype}"
    assert np.array_equal(as_float64(made), array)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(
    ("layout", "expected"),
    [
        ("row", (20, 5, 1)),
        ("transposed", (20, 1, 4)),
        ("strided", (40, 10, 2)),
        ("sliced", (42, 7, 1)),
        ("broadcast", (0, 5, 1)),
    ],
)
def test_layouts_are_what_they_are_called(dtype, layout, expected):
    array = np.broadcast_to(np.arange(20.0).reshape(4, 5), (3, 4, 5))
    assert strides(to_mlx_array(array, dtype, layout)) == expected


@pytest.mark.parametrize(
    ("layout", "expected"), [("strided", [1, None, 2, None, 3]), ("sliced", [1, 2, 3, None])]
)
def test_what_surrounds_the_elements_is_poison(layout, expected):
    made = to_mlx_array(np.array([1.0, 2.0, 3.0]), "float32", layout)
    memory = np.lib.stride_tricks.as_strided(np.array(made, copy=False), (len(expected),), (4,))
    assert [None if np.isnan(v) else v for v in memory.tolist()] == expected


@pytest.mark.parametrize("bits", [0x0001, 0x8000, 0x7F7F, 0x7F80, 0xFF80, 0x3F80, 0x0080])
def test_bfloat16_arrives_bit_for_bit(bits):
    value = np.array([bits << 16], dtype=np.uint32).view(np.float32).astype(np.float64)
    made = to_mlx_array(value, "bfloat16")
    assert made.view(mx.uint16).item() == bits


def test_float64_lives_on_the_cpu():
    with mx.stream(mx.cpu):
        made = to_mlx_array(np.array([0.1]), "float64")
        assert made.item() == 0.1


def test_unknown_names_are_listed():
    with pytest.raises(
        ValueError, match=r"Unknown layout 'diagonal'\. Known: row, transposed, strided, sliced"
    ):
        applies("diagonal", (2, 2))
    with pytest.raises(ValueError, match=r"Unknown dtype 'float8'\. Known: float64, float32"):
        to_mlx_array(np.zeros(2), "float8")


def test_broadcast_needs_equal_entries():
    with pytest.raises(ValueError, match=r"needs equal entries along axis 0; use SampleInput\.laid_out"):
        to_mlx_array(np.arange(6.0).reshape(2, 3), "float32", "broadcast")


def test_a_sample_says_which_layouts_make_a_difference():
    assert SampleInput("a", (np.zeros(()),)).layouts() == ("row",)
    assert SampleInput("a", (np.zeros((4,)),)).layouts() == ("row", "strided", "sliced")
    assert SampleInput("a", (np.zeros((2, 3)), np.zeros(3))).layouts() == LAYOUTS
    assert SampleInput("a", (np.zeros((0, 3)),)).layouts() == ("row",)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("layout", LAYOUTS)
def test_oracle_and_operation_see_the_same_numbers(dtype, layout):
    sample = SampleInput("s", (SampleRng("s").normal((3, 4)), np.arange(3), 2.5)).cast(dtype).laid_out(layout)
    array, integers, scalar = to_mx(sample, dtype)
    assert np.array_equal(as_float64(array), sample.args[0])
    assert array.dtype == getattr(mx, dtype)
    assert integers.dtype == mx.int64
    assert scalar == 2.5


def test_cast_rounds_floats_only():
    sample = SampleInput("s", (np.array([0.1]), np.array([3]), 0.1)).cast("float16")
    assert sample.args[0][0] == float(np.float16(0.1))
    assert sample.args[1].dtype.kind == "i"
    assert sample.args[2] == 0.1
    assert sample.cast("int32") is sample


def test_values_are_the_same_everywhere():
    # Fixed numbers: they must not change with NumPy, platform or Python, or all golden values are stale.
    assert SampleRng("stock.exp/small").uniform(2).tolist() == [0.279707443568181, 0.45637401373398145]
    assert SampleRng("stock.exp/small").normal(2).tolist() == [0.9825841651615442, 0.5174928319351881]
    assert SampleRng("stock.exp/small").integers(4, -5, 5).tolist() == [-3, -1, 4, -1]


def test_normal_is_bell_shaped():
    values = SampleRng("bell").normal(200_000, scale=2.0, loc=3.0)
    assert abs(values.mean() - 3) < 0.02
    assert abs(values.std() - 2) < 0.02
    assert abs(np.mean(np.abs(values - 3) < 2) - 0.68) < 0.01


def test_a_new_sample_leaves_the_others_alone():
    def more(rng):
        yield SampleInput("first", (rng("first").normal((7,)),))
        yield from samples(rng)

    old = {s.name: s for s in make_op().sample_inputs()}
    new = {s.name: s for s in make_op(samples=more).sample_inputs()}
    assert np.array_equal(old["small"].args[0], new["small"].args[0])
    assert not np.array_equal(case_rng("stock.log")("small").normal((3, 4)), old["small"].args[0])


@pytest.mark.parametrize("name", ["", "two words", "a/b"])
def test_sample_names_are_words(name):
    with pytest.raises(ValueError, match="one word without a slash"):
        SampleInput(name, ())


def test_samples_need_distinct_names():
    op = make_op(samples=lambda rng: [SampleInput("a", ()), SampleInput("a", ())])
    with pytest.raises(ValueError, match=r"stock\.exp: samples need distinct names.*got \['a', 'a'\]"):
        op.sample_inputs()
    with pytest.raises(ValueError, match="one at least; got"):
        make_op(samples=lambda rng: []).sample_inputs()


def test_golden_samples_must_exist():
    assert [s.name for s in make_op(golden_samples=("small",)).golden_inputs()] == ["small"]
    with pytest.raises(
        ValueError, match=r"golden_samples \['smal'\] are not samples\. Known: \['small', 'scaled'\]"
    ):
        make_op(golden_samples=("smal",)).golden_inputs()


def test_a_looser_tolerance_needs_a_reason():
    loose = Tolerance(rtol=1e-2, atol=1e-5)
    with pytest.raises(
        ValueError, match=r"tolerances\['float32'\] .* is looser than the default .* `reason`"
    ):
        make_op(tolerances={"float32": loose})
    given = Tolerance(rtol=1e-2, atol=1e-5, reason="sums 4096 terms")
    assert make_op(tolerances={"float32": given}).tolerance("float32") == given
    assert (
        make_op(tolerances={"float32": Tolerance(1e-7, 0)}).tolerance("float16")
        == DEFAULT_TOLERANCES["float16"]
    )


def test_contradictions_are_named():
    with pytest.raises(ValueError, match="`source` must say where the formula comes from"):
        make_op(source="")
    with pytest.raises(ValueError, match="`oracle_vjp` and `differentiable` together"):
        make_op(differentiable=(0,))
    with pytest.raises(ValueError, match=r"stock\.exp has no oracle_vjp"):
        make_op().expected_vjp(make_op().sample_inputs()[0], np.ones((3, 4)))


def test_dtypes_may_differ_by_back_end():
    op = make_op(dtypes={"cpu": ("float32",), "cuda": ("float32", "float16")})
    assert op.dtypes_on("cuda") == ("float32", "float16")
    assert op.dtypes_on("metal") == ()
    assert make_op().dtypes_on("metal") == DTYPES


@pytest.mark.parametrize("dtype", DTYPES)
def test_an_op_and_its_oracle_run_on_the_same_sample(dtype):
    op = make_op()
    for sample in op.sample_inputs():
        rounded = sample.cast(dtype)
        (result,) = op.run(rounded, dtype)
        (truth,) = op.expected(rounded)
        assert np.allclose(as_float64(result), truth, rtol=2e-2)


def test_cases_are_op_by_dtype_by_sample():
    op = make_op(golden_samples=("small",))
    assert [case_name(*case) for case in cases([op], "cpu", golden=True)] == [
        f"stock.exp/{dtype}/small" for dtype in DTYPES
    ]
    assert len(list(cases([op], "cpu"))) == 6


def test_error_inputs_are_built_when_they_are_used():
    built = []
    ErrorInput("bad", lambda: built.append(1) or (), ValueError, "message")
    assert not built


@pytest.mark.parametrize(
    "changes", [{"extents": (0, 5)}, {"extents": (6, 5)}, {"axis_extents": {(0, -1): (3, 2)}}]
)
def test_extents_are_a_least_and_a_largest(changes):
    given = changes.get("extents") or changes["axis_extents"][0, -1]
    message = (
        "stock.exp: `extents` and `axis_extents` are the least and the largest extent, from 1 up; "
        f"got {given}."
    )
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        make_op(**changes)
