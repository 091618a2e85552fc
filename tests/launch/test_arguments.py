"""Wrong arguments and names: each message says what was expected and what came."""

from __future__ import annotations

import numpy as np
import pytest

import zmlx
from zmlx.errors import ArgumentTypeError

pytestmark = pytest.mark.cpu


def make(name="k", inputs=("x",), outputs=("out",), source="out[thread_position_in_grid.x] = x[0];", **more):
    return zmlx.metal_kernel(name, list(inputs), list(outputs), source, **more)


def call(made=None, **changes):
    import mlx.core as mx

    arguments = {
        "inputs": [mx.ones(8)],
        "grid": (8, 1, 1),
        "threadgroup": (8, 1, 1),
        "output_shapes": [(8,)],
        "output_dtypes": [mx.float32],
        "stream": mx.cpu,
    }
    return (made or make())(**{**arguments, **changes})[0]


@pytest.mark.parametrize(
    ("what", "value", "words"),
    [
        ("grid", 64, "`grid` to be three counts of threads along x, y and z but got 64. Write (64, 1, 1)."),
        ("grid", None, "`grid` to be three counts of threads along x, y and z but got None."),
        ("grid", "abc", "`grid` to be three counts of threads along x, y and z but got 'abc'."),
        ("grid", ("8", 1, 1), "`grid` to be three counts of threads along x, y and z but got ('8', 1, 1)."),
        ("grid", (6.5, 1, 1), "`grid` to be three counts of threads along x, y and z but got (6.5, 1, 1)."),
        ("grid", {8: 1}, "`grid` to be three counts of threads along x, y and z but got {8: 1}."),
        (
            "threadgroup",
            64,
            "`threadgroup` to be three counts of threads along x, y and z but got 64. Write (64",
        ),
        (
            "output_shapes",
            [64],
            "`output_shapes[0]` to be a shape, a tuple of integers, but got 64. Write (64,).",
        ),
        ("output_shapes", 64, "`output_shapes` to be a list of shapes, one for each of out, but got 64."),
        ("output_shapes", [None], "`output_shapes[0]` to be a shape, a tuple of integers, but got None."),
        ("output_shapes", ["8"], "`output_shapes[0]` to be a shape, a tuple of integers, but got '8'."),
        ("output_shapes", [(8.0,)], "`output_shapes[0]` to be a shape, a tuple of integers, but got (8.0,)."),
        (
            "output_dtypes",
            "float32",
            "`output_dtypes` to be a list of dtypes, one for each of out, but got 'float32'",
        ),
        ("output_dtypes", ["float32"], "complex64 (mx.Dtype) but got 'float32'. Write mx.float32."),
        ("output_dtypes", [np.float32], "but got <class 'numpy.float32'> (type). Write mx.float32."),
        ("output_dtypes", [np.dtype("int32")], "but got dtype('int32')"),
        ("output_dtypes", [float], "`output_dtypes[0]`, for 'out', to be one of bool, uint8"),
        ("output_dtypes", [None], "complex64 (mx.Dtype) but got None."),
        ("output_dtypes", [[]], "complex64 (mx.Dtype) but got []."),
        (
            "template",
            {"T": 3},
            "`template` to be a list of (name, value) pairs but got {'T': 3}. Write [('T', 3)].",
        ),
        ("template", {}, "`template` to be a list of (name, value) pairs but got {}."),
        (
            "template",
            5,
            '`template` to be a list of (name, value) pairs but got 5. Write [("T", mx.float32)].',
        ),
        ("template", ["T"], "but got ['T']. 'T' is no pair of a name and a value."),
        ("template", [(5, 1)], "(5, 1) is no pair of a name and a value."),
        (
            "inputs",
            None,
            "`inputs` to be a list of arrays or Python scalars, one for each of x, but got None.",
        ),
        ("inputs", "array", "one for each of x, but got an mx.array of float32, shape (1, 8)."),
        ("inputs", np.ones((1, 2)), "but got array([[1., 1.]]) (ndarray)."),
        ("inputs", {"x": 1}, "one for each of x, but got {'x': 1}."),
        ("inputs", [None], "`inputs[0]` to be an mx.array or a Python scalar, for 'x', but got None."),
        ("inputs", ["a"], "`inputs[0]` to be an mx.array or a Python scalar, for 'x', but got 'a'."),
        ("init_value", "0", "`init_value` to be a number or None but got '0'."),
        ("init_value", 1j, "`init_value` to be a number or None but got 1j (complex)."),
        ("verbose", "yes", "`verbose` to be True or False but got 'yes'."),
        ("stream", "cpu", "`stream` to be a stream or a device, such as mx.cpu, or None but got 'cpu'."),
        ("stream", 0, "`stream` to be a stream or a device, such as mx.cpu, or None but got 0."),
    ],
)
def test_wrong_types(what, value, words):
    import mlx.core as mx

    if isinstance(value, str) and value == "array":
        value = mx.ones((1, 8))
    for kind in (TypeError, ValueError, ArgumentTypeError):
        with pytest.raises(kind) as error:
            call(**{what: value})
    assert str(error.value).startswith("[metal_kernel] Expected `")
    assert words in str(error.value)


def test_dtypes_that_metal_does_not_have(backend):
    if backend != "cpu":
        pytest.skip("on a GPU, MLX itself refuses to make arrays of float64")
    import mlx.core as mx

    known = "bool, uint8, uint16, uint32, uint64, int8, int16, int32, int64, float16, bfloat16, float32, complex64"
    rest = f"to be one of {known} but got float64, which Metal does not have. Use mx.float32."
    with pytest.raises(ValueError) as error:
        call(output_dtypes=[mx.float64])
    assert str(error.value) == f"[metal_kernel] Expected `output_dtypes[0]`, for 'out', {rest}"
    with pytest.raises(ValueError) as error:
        call(inputs=[mx.ones(8, dtype=mx.float64)])
    assert str(error.value) == f"[metal_kernel] Expected `inputs[0].dtype`, for 'x', {rest}"


@pytest.mark.parametrize(
    ("what", "value", "words"),
    [
        ("output_shapes", [(-1,)], "of integers from 0 to 2^31 - 1, but got (-1,)."),
        ("output_shapes", [(2**31,)], "of integers from 0 to 2^31 - 1, but got (2147483648,)."),
        ("template", [("a b", 1)], "'a b' in `template` is no identifier."),
        ("template", [("T", 1), ("T", 2)], "'T' is in `template` twice."),
        ("grid", (8, 1), "`grid` to be three counts of threads along x, y and z but got (8, 1)."),
    ],
)
def test_wrong_values(what, value, words):
    with pytest.raises(ValueError) as error:
        call(**{what: value})
    assert str(error.value).startswith("[metal_kernel] ")
    assert words in str(error.value)


def test_what_looks_like_them_and_is_right():
    import mlx.core as mx

    for changes in (
        {"grid": np.array([8, 1, 1]), "threadgroup": [8, 1, 1]},
        {"inputs": (mx.ones(8),), "output_shapes": ([8],), "output_dtypes": (mx.float32,)},
        {"output_shapes": [(np.int64(8),)], "init_value": np.float32(2)},
        {"output_shapes": [np.array([8])], "template": ()},
    ):
        assert call(**changes).tolist() == [1] * 8
    with pytest.raises(TypeError):  # and one that was found good does not let what equals it pass
        call(output_shapes=[(8.0,)])


@pytest.mark.parametrize("name", ["my kernel!", "", None, 5, b"x", "a\0b", "../x", "scale_0.5", "a-b", " k"])
def test_names_that_are_no_kernels(name):
    with pytest.raises(
        ValueError, match=r"^\[metal_kernel\] Expected `name` to be an? (identifier|str)"
    ) as error:
        make(name)
    assert repr(name) in str(error.value)


@pytest.mark.parametrize("name", ["2d_conv", "_", "kernel", "xor", "half", "sum", "custom_kernel_k"])
def test_names_that_metal_takes_behind_custom_kernel(name):
    assert call(make(name)).tolist() == [1] * 8


@pytest.mark.parametrize(
    ("inputs", "outputs", "source", "words"),
    [
        (["x"], ["x"], "", "'x' in `output_names` is in `input_names` already"),
        (["x", "x"], ["out"], "", "'x' in `input_names` is in `input_names` already"),
        (["x"], ["out", "out"], "", "'out' in `output_names` is in `output_names` already"),
        (["half"], ["out"], "", "'half' in `input_names` is a keyword of Metal"),
        (["x"], ["device"], "", "'device' in `output_names` is a keyword of Metal"),
        (["for"], ["out"], "", "'for' in `input_names` is a keyword of C++"),
        (["x"], ["and"], "", "'and' in `output_names` is a keyword of C++"),
        (["2x"], ["out"], "", "'2x' in `input_names` is no identifier"),
        ([""], ["out"], "", "'' in `input_names` is no identifier"),
        (["a b"], ["out"], "", "'a b' in `input_names` is no identifier"),
        ([None], ["out"], "", "Expected `input_names` to be a list of names but got None in it."),
        (["grid_size"], ["out"], "out[0] = grid_size[0];", "'grid_size' in `input_names` is an attribute"),
        (
            ["x", "x_shape"],
            ["out"],
            "x_shape",
            "'x_shape' in `input_names` is what MLX declares by itself for the input",
        ),
        (
            ["x"],
            ["x_ndim"],
            "x_ndim",
            "'x_ndim' in `output_names` is what MLX declares by itself for the input 'x'",
        ),
    ],
)
def test_names_that_cannot_stand_in_a_parameter_list(inputs, outputs, source, words):
    with pytest.raises(ValueError) as error:
        make("k", inputs, outputs, source)
    assert str(error.value).startswith("[metal_kernel] ")
    assert words in str(error.value)


def test_a_name_that_the_source_does_not_mention_collides_with_nothing():
    assert call(make(inputs=["grid_size"], source="out[thread_position_in_grid.x] = 1;")).tolist() == [1] * 8


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"input_names": "x"}, "`input_names` to be a list of names, such as [\"x\"], but got 'x'."),
        ({"output_names": "out"}, "`output_names` to be a list of names, such as [\"x\"], but got 'out'."),
        ({"input_names": None}, '`input_names` to be a list of names, such as ["x"], but got None.'),
        ({"source": 5}, "`source` to be Metal source, a str, but got 5."),
        ({"header": None}, "`header` to be Metal source, a str, but got None."),
        ({"ensure_row_contiguous": 1}, "`ensure_row_contiguous` to be True or False but got 1."),
        ({"atomic_outputs": "no"}, "`atomic_outputs` to be True or False but got 'no'."),
        ({"compile_options": [1]}, "`compile_options` to be a dict or None but got [1]."),
        ({"reference": 3}, "`reference` to be a function or None but got 3."),
    ],
)
def test_wrong_types_at_construction(changes, words):
    arguments = {"name": "k", "input_names": ["x"], "output_names": ["out"], "source": ""}
    with pytest.raises(ArgumentTypeError) as error:
        zmlx.metal_kernel(**{**arguments, **changes})
    assert str(error.value) == f"[metal_kernel] Expected {words}"
