"""A launch as data: what the candidate's process asks for, and the judge's own process runs."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from zmlx.testing.judge.arrays import BITS, Raw, raw_of_mlx

if TYPE_CHECKING:
    import mlx.core as mx

    from zmlx.launch.call import Call
    from zmlx.metal.signature import KernelSource

#: The fields of a launch, all but the contents of its arrays. Two calls that differ in values only have them alike.
KERNEL_FIELDS = (
    "name",
    "input_names",
    "output_names",
    "source",
    "header",
    "ensure_row_contiguous",
    "atomic_outputs",
    "math_mode",
)


def describe(kernel: KernelSource, call: Call) -> tuple[dict[str, Any], list[Raw]]:
    """A launch for the wire: its fields, and its inputs."""
    fields = {name: getattr(kernel, name) for name in KERNEL_FIELDS}
    fields |= {
        "output_shapes": call.output_shapes,
        "output_dtypes": [_name(dtype) for dtype in call.output_dtypes],
        "grid": call.grid,
        "threadgroup": call.threadgroup,
        "template": [(name, _template(value)) for name, value in call.template],
        "init_value": call.init_value,
        # Of no meaning where MLX makes inputs row-contiguous.
        "strides": [None if kernel.ensure_row_contiguous else _strides(x) for x in call.inputs],
    }
    return fields, [raw_of_mlx(x) for x in call.inputs]


def _name(dtype: mx.Dtype) -> str:
    return str(dtype).rpartition(".")[2]


def _template(value: Any) -> Any:
    return value if isinstance(value, (bool, int)) else {"dtype": _name(value)}


def _strides(array: mx.array) -> tuple[int, ...]:
    from zmlx.launch.memory import Buffer, release, view

    held: list[Buffer] = []
    strides = view(array, False, held).strides
    for buffer in held:
        release(buffer)
    return strides


@dataclass(frozen=True)
class Replay:
    """What became of a launch.

    Attributes
    ----------
    outputs : tuple of Raw
        What the kernel wrote, into memory that was poisoned before.
    findings, refusals : tuple of str
        Of the checker and of legality; what NVRTC said of its CUDA text.
    """

    fields: dict[str, Any]
    inputs: tuple[Raw, ...]
    outputs: tuple[Raw, ...]
    findings: tuple[str, ...] = ()
    refusals: tuple[str, ...] = ()

    @property
    def plan(self) -> tuple[Any, ...]:
        """All of the launch but the contents of its arrays."""
        return (repr(sorted(self.fields.items())), tuple((x.dtype, x.shape) for x in self.inputs))


def run(fields: dict[str, Any], inputs: tuple[Raw, ...], kernels: dict[Any, Any]) -> list[mx.array]:
    """Make the kernel (once, in `kernels`) and launch it on the CPU.

    Raises
    ------
    ValueError, TypeError, KeyError
        The fields are not those of a launch.
    """
    import mlx.core as mx

    from zmlx.launch import metal_kernel

    key = repr([fields[name] for name in KERNEL_FIELDS])
    if key not in kernels:
        kernels[key] = metal_kernel(
            fields["name"],
            list(fields["input_names"]),
            list(fields["output_names"]),
            fields["source"],
            fields["header"],
            fields["ensure_row_contiguous"],
            fields["atomic_outputs"],
            {"math_mode": fields["math_mode"]},
        )
    arrays = [_placed(x, strides) for x, strides in zip(inputs, fields["strides"], strict=True)]
    outputs: list[mx.array] = kernels[key](
        inputs=arrays,
        output_shapes=[tuple(shape) for shape in fields["output_shapes"]],
        output_dtypes=[_dtype(dtype) for dtype in fields["output_dtypes"]],
        grid=tuple(fields["grid"]),
        threadgroup=tuple(fields["threadgroup"]),
        template=[
            (name, _dtype(value["dtype"]) if isinstance(value, dict) else value)
            for name, value in fields["template"]
        ],
        init_value=fields["init_value"],
        stream=mx.cpu,
    )
    mx.eval(outputs)
    return outputs


def _dtype(name: str) -> mx.Dtype:
    import mlx.core as mx

    if name not in BITS:
        raise ValueError(f"Expected a dtype that MLX has, got {name!r}.")
    found: mx.Dtype = getattr(mx, "bool_" if name == "bool" else name)
    return found


def _placed(raw: Raw, strides: list[int] | None) -> mx.array:
    """An array with the strides that it had; what lies between its elements is all ones, which is NaN of a float."""
    import mlx.core as mx

    from zmlx.testing.judge.arrays import mlx_of_raw

    contiguous = mlx_of_raw(raw)
    if strides is None or 0 in raw.shape or not raw.shape:
        return contiguous
    reach = [(n - 1) * s for n, s in zip(raw.shape, strides, strict=True)]
    low, high = sum(r for r in reach if r < 0), sum(r for r in reach if r > 0)
    if high - low > 64 * max(raw.bits.size, 1024):
        raise ValueError(f"Strides {strides} of shape {raw.shape} reach too far to be placed.")
    memory = np.full((high - low + 1) * raw.bits.itemsize, 255, np.uint8).view(raw.bits.dtype)
    place = np.lib.stride_tricks.as_strided(
        memory[-low:], raw.shape, [s * memory.itemsize for s in strides], writeable=True
    )
    place[...] = raw.bits
    whole = mlx_of_raw(Raw(raw.dtype, memory.shape, memory.tobytes()))
    made = mx.as_strided(whole, raw.shape, strides, -low, stream=mx.cpu)
    mx.eval(made)
    return made
