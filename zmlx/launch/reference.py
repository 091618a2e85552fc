"""A kernel's reference: its outputs in MLX operations, held against what the call declares."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from zmlx.launch.call import dtype_name
from zmlx.launch.lazy import mlx

if TYPE_CHECKING:
    import mlx.core as mx

    from zmlx.launch.call import Call
    from zmlx.metal.signature import KernelSource

#: Computes a kernel's outputs from its inputs with MLX operations; the mapping holds the template arguments.
Reference = Callable[[list["mx.array"], Mapping[str, Any]], Sequence["mx.array"]]

#: How launch records call it.
PATH = "reference"


def outputs_of(reference: Reference, source: KernelSource, call: Call) -> list[mx.array]:
    """What the reference computes for a call.

    Raises
    ------
    ValueError
        It returned something else than one array for each output, of the shape and dtype that the call declares.
    """
    outputs = reference(call.inputs, dict(call.template))
    start = f"[metal_kernel] The `reference` of {source.name!r} "
    names, array = source.output_names, mlx().array
    wanted = (
        f"a list of {len(names)} array{'s' if len(names) > 1 else ''}, one for each of {', '.join(names)}"
    )
    if isinstance(outputs, array):
        raise ValueError(f"{start}returned an array, not a list: expected {wanted}. Return `[…]` around it.")
    if not isinstance(outputs, (list, tuple)):
        raise ValueError(f"{start}returned {type(outputs).__name__}: expected {wanted}.")
    if len(outputs) != len(names):
        raise ValueError(f"{start}returned {len(outputs)} outputs: expected {wanted}.")
    declared = zip(names, outputs, call.output_shapes, call.output_dtypes, strict=True)
    for name, output, shape, dtype in declared:
        if not isinstance(output, array):
            raise ValueError(f"{start}returned {type(output).__name__} for `{name}`: expected an mx.array.")
        if output.shape != shape:
            raise ValueError(
                f"{start}returned shape {output.shape} for `{name}`: the call's output_shapes declare {shape}. "
                "Reshape it, or change output_shapes."
            )
        if output.dtype != dtype:
            raise ValueError(
                f"{start}returned {dtype_name(output.dtype)} for `{name}`: the call's output_dtypes declare "
                f"{dtype_name(dtype)}. Add `.astype(mx.{dtype_name(dtype)})`, or change output_dtypes."
            )
    return list(outputs)
