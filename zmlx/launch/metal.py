"""The Metal launcher: hands the call to MLX as it came."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import mlx.core as mx

    from zmlx.launch.kernel import Call, MetalKernel

PATH = "metal"


def launch(kernel: MetalKernel, call: Call) -> list[mx.array]:
    """Run the call through ``mx.fast.metal_kernel``."""
    import mlx.core as mx

    if kernel.native is None:
        source = kernel.source
        options: dict[str, Any] = {}
        if source.math_mode != "safe":  # older MLX does not know the argument, and safe is what it does
            options["compile_options"] = {"math_mode": source.math_mode}
        kernel.native = _native_factory()(
            name=source.name,
            input_names=list(source.input_names),
            output_names=list(source.output_names),
            source=source.source,
            header=source.header,
            ensure_row_contiguous=source.ensure_row_contiguous,
            atomic_outputs=source.atomic_outputs,
            **options,
        )
    result: list[mx.array] = kernel.native(
        inputs=call.inputs,
        template=call.template,
        grid=call.grid,
        threadgroup=call.threadgroup,
        output_shapes=call.output_shapes,
        output_dtypes=call.output_dtypes,
        init_value=call.init_value,
        stream=call.stream if call.stream is not None else mx.gpu,
    )
    return result


def _native_factory() -> Any:
    """MLX's own factory, also while `zmlx.install` has put ours in its place."""
    from zmlx.launch import installation

    return installation.native_metal_kernel()
