"""For every kernel of the catalogue, the Metal text that zmlx generates is the text that MLX would compile."""

from __future__ import annotations

import pytest

from zmlx.launch import recording
from zmlx.metal.signature import METAL_TYPES, ArrayType, Signature, TemplateArgument
from zmlx.testing.op_db import op_db
from zmlx.testing.opinfo import to_mx

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
    import mlx.core as mx

    texts = {}
    for dtype in op.dtypes_on("metal"):
        for sample in op.sample_inputs():
            arguments = to_mx(sample, dtype)
            with recording("metal") as calls:
                primals = [a for a in arguments if isinstance(a, mx.array)]
                output = op.op(*arguments, **sample.kwargs)
                mx.vjp(lambda *p, s=sample: op.op(*p, **s.kwargs), primals, [mx.ones_like(output)])
            for call in calls:
                texts[call.signature] = call.signature.metal_text()
    assert len(texts) >= 2 * len(op.dtypes_on("metal")), (
        "expected a forward and a backward kernel for every dtype"
    )
    for signature, text in texts.items():
        assert text == mlx_text(signature.kernel, *as_mlx_arguments(signature))
