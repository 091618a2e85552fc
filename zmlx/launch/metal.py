"""The Metal launcher: hands the call to MLX as it came."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from zmlx.launch.replacement import native_metal_kernel
from zmlx.metal.signature import KernelSource

if TYPE_CHECKING:
    import mlx.core as mx

    from zmlx.launch.call import Call

PATH = "metal"


def native_kernel(source: KernelSource) -> Any:
    """MLX's own kernel object, also while `zmlx.install` has put ours in the place of its factory."""
    options: dict[str, Any] = {}
    if source.math_mode != "safe":  # older MLX does not know the argument, and safe is what it does
        options["compile_options"] = {"math_mode": source.math_mode}
    return native_metal_kernel()(
        name=source.name,
        input_names=list(source.input_names),
        output_names=list(source.output_names),
        source=source.source,
        header=source.header,
        ensure_row_contiguous=source.ensure_row_contiguous,
        atomic_outputs=source.atomic_outputs,
        **options,
    )


def launch(native: Any, call: Call, stream: Any) -> list[mx.array]:
    """Hand the call to a `native_kernel`, for ``stream``; None is MLX's default.

    Raises
    ------
    ValueError
        The stream is the CPU's, where MLX has no such kernel.
    """
    result: list[mx.array] = native(
        inputs=call.inputs,
        template=call.template,
        grid=call.grid,
        threadgroup=call.threadgroup,
        output_shapes=call.output_shapes,
        output_dtypes=call.output_dtypes,
        init_value=call.init_value,
        stream=stream,
    )
    return result
