"""The Metal text of `zmlx.metal.signature` is what MLX prints: on Linux too, MLX writes a kernel's text when a call
is exported."""

from __future__ import annotations

import itertools

import pytest

from zmlx.launch import recording
from zmlx.launch.kernel import MetalKernel
from zmlx.metal.signature import ATTRIBUTES, METAL_TYPES, ArrayType, KernelSource, make_signature

pytestmark = pytest.mark.cpu

SHAPES = [(), (1,), (7,), (8,), (2, 3), (2, 4), (0, 3), (2, 3, 4)]
INFO = [
    "",
    "x_shape[0];",
    "x_strides[0];",
    "x_ndim;",
    "x_ndim; x_shape[0]; x_strides[0]; // y_shape in a comment",
]


def our_text(kernel: KernelSource, inputs, output_dtypes, template) -> str:
    with recording("metal") as calls:
        MetalKernel(kernel)(
            inputs=list(inputs),
            output_shapes=[(1,)] * len(output_dtypes),
            output_dtypes=list(output_dtypes),
            grid=(1, 1, 1),
            threadgroup=(1, 1, 1),
            template=template,
        )
    return calls[0].signature.metal_text()


def dtype_of(name: str):
    import mlx.core as mx

    return getattr(mx, {"bool": "bool_"}.get(name, name))


@pytest.mark.parametrize("dtype", METAL_TYPES)
@pytest.mark.parametrize("info", INFO, ids=["plain", "shape", "strides", "ndim", "all"])
def test_dtypes_ranks_and_sizes(dtype, info, mlx_text):
    import mlx.core as mx

    kernel = KernelSource(
        "k", ("x", "y"), ("out",), f"uint i = thread_position_in_grid.x; {info} out[i] = 0;"
    )
    for shape in SHAPES:
        inputs = [mx.zeros(shape, dtype_of(dtype)), mx.zeros((9, 2))]
        outputs = [dtype_of(dtype)]
        assert our_text(kernel, inputs, outputs, None) == mlx_text(kernel, inputs, outputs, None)


@pytest.mark.parametrize("attribute", ATTRIBUTES)
def test_every_attribute(attribute, mlx_text):
    import mlx.core as mx

    kernel = KernelSource("k", ("x",), ("a", "b"), f"// {attribute}\na[0] = x[0]; b[0] = x[0];")
    inputs, outputs = [mx.zeros((16,))], [mx.float32, mx.int8]
    assert our_text(kernel, inputs, outputs, None) == mlx_text(kernel, inputs, outputs, None)


@pytest.mark.parametrize("atomic", [False, True])
@pytest.mark.parametrize("count", [1, 2, 3])
def test_templates_headers_and_outputs(atomic, count, mlx_text):
    import mlx.core as mx

    values = [mx.float16, mx.bool_, mx.int64, mx.complex64, 0, -7, 2**31 - 1, True, False]
    names = tuple("abc"[:count])
    kernel = KernelSource(
        "many", ("x",), names, "x_shape[0]; thread_position_in_grid;", "// header\n", atomic_outputs=atomic
    )
    outputs = [mx.float32, mx.uint32, mx.int32][:count]
    for first, second in itertools.product(values, repeat=2):
        template = [("A", first), ("B", second)]
        inputs = [mx.zeros((3, 3))]
        assert our_text(kernel, inputs, outputs, template) == mlx_text(kernel, inputs, outputs, template)


def test_python_scalars_become_references(mlx_text):
    import mlx.core as mx

    kernel = KernelSource("k", ("x", "s", "t"), ("out",), "out[thread_position_in_grid.x] = x[0] * s + t;")
    inputs = [mx.zeros((4,)), mx.array(2.0), mx.array(3)]
    text = our_text(kernel, inputs, [mx.float32], None)
    assert text == mlx_text(kernel, inputs, [mx.float32], None)
    assert "const constant float& s" in text
    assert "const constant int32_t& t" in text


def test_the_slip_of_mlx_is_not_repeated():
    """Shape information, two outputs and no attribute: MLX 0.32 closes the parameter list after the first output."""
    kernel = KernelSource("k", ("x",), ("a", "b"), "x_shape[0];")
    signature = make_signature(kernel, [ArrayType("float32", 2)], ["float32"] * 2)
    text = signature.metal_text()
    assert text.count(") {") == 1
    assert text.index("device float* b") < text.index(") {")


def test_digest_follows_every_part_of_the_kernel():
    base = KernelSource("k", ("x",), ("out",), "out[0] = x[0];")
    variants = [
        KernelSource("l", ("x",), ("out",), "out[0] = x[0];"),
        KernelSource("k", ("y",), ("out",), "out[0] = x[0];"),
        KernelSource("k", ("x",), ("o",), "out[0] = x[0];"),
        KernelSource("k", ("x",), ("out",), "out[0] = x[1];"),
        KernelSource("k", ("x",), ("out",), "out[0] = x[0];", "int f();"),
        KernelSource("k", ("x",), ("out",), "out[0] = x[0];", ensure_row_contiguous=False),
        KernelSource("k", ("x",), ("out",), "out[0] = x[0];", atomic_outputs=True),
        KernelSource("k", ("x",), ("out",), "out[0] = x[0];", math_mode="fast"),
    ]
    assert len({k.digest for k in [base, *variants]}) == len(variants) + 1
    assert base.digest == KernelSource("k", ("x",), ("out",), "out[0] = x[0];").digest
