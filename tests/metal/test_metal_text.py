"""For every kernel of the catalogue, the Metal text that zmlx generates is the text that MLX would compile."""

from __future__ import annotations

import pytest

from zmlx.metal.signature import METAL_TYPES, ArrayType, Signature, TemplateArgument
from zmlx.testing.launches import recorded_launches
from zmlx.testing.op_db import op_db

pytestmark = pytest.mark.cpu

KERNELS = [op for op in op_db if op.kernel]
DTYPES = {metal: name for name, metal in METAL_TYPES.items()}


def dtype_of(name: str):
    import mlx.core as mx

    return getattr(mx, {"bool": "bool_"}.get(name, name))


def array_of(kind: ArrayType):
    import mlx.core as mx

    return mx.zeros(
        (1,) * (kind.ndim - 1) + (1 if kind.small else 8,) * (kind.ndim > 0), dtype_of(kind.dtype)
    )


def value_of(argument: TemplateArgument):
    match argument.kind:
        case "typename":
            return dtype_of(DTYPES[argument.value])
        case "bool":
            return argument.value == "1"
        case "int":
            return int(argument.value)


def as_mlx_arguments(signature: Signature):
    """Arrays, output dtypes and template arguments of a call that has this signature."""
    template = [(argument.name, value_of(argument)) for argument in signature.template]
    return [array_of(k) for k in signature.inputs], [dtype_of(k.dtype) for k in signature.outputs], template


@pytest.mark.parametrize("op", KERNELS, ids=lambda op: op.name)
def test_forward_and_backward(op, mlx_text):
    texts = {}
    for dtype in op.dtypes_on("metal"):
        for call in recorded_launches(op, dtype, "metal"):
            texts[call.signature] = call.signature.metal_text()
    least = 2 if op.differentiable else 1
    assert len(texts) >= least * len(op.dtypes_on("metal")), (
        "expected a forward kernel for every dtype, and a backward one where there are gradients"
    )
    for signature, text in texts.items():
        assert text == mlx_text(signature.kernel, *as_mlx_arguments(signature))
