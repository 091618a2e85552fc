"""What a case is: a kernel, one launch of it, and the arrays that NumPy says come out."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np

Triple = tuple[int, int, int]
LANES = np.arange(32)


@dataclass(frozen=True)
class Input:
    """An input array: values, the MLX dtype if it is not NumPy's, and what is done to lay it out differently."""

    values: Any
    dtype: str | None = None
    view: Callable[[Any], Any] | None = None

    def to_mlx(self) -> Any:
        import mlx.core as mx

        if isinstance(self.values, (bool, int, float)):
            return self.values
        array = mx.array(np.array(self.values, order="C"))
        if self.dtype is not None:
            array = array.astype(getattr(mx, self.dtype))
        return array if self.view is None else self.view(array)


@dataclass(frozen=True)
class Case:
    """One kernel and one launch of it. ``inputs`` are named by their keys; ``expected`` holds one array an output,
    and ``dtypes`` their MLX dtypes where they are not NumPy's."""

    name: str
    source: str
    expected: tuple[Any, ...]
    inputs: dict[str, Any] = field(default_factory=dict)
    grid: Triple = (32, 1, 1)
    threadgroup: Triple = (32, 1, 1)
    dtypes: tuple[str, ...] = ()
    header: str = ""
    template: tuple[tuple[str, Any], ...] = ()
    init_value: float | None = None
    ensure_row_contiguous: bool = True
    atomic_outputs: bool = False
    rtol: float = 0.0

    @property
    def output_names(self) -> list[str]:
        return ["out", *(f"out{i}" for i in range(1, len(self.expected)))]

    @property
    def output_dtypes(self) -> list[str]:
        return list(self.dtypes) or [np.asarray(e).dtype.name for e in self.expected]

    def launch(self, stream: Any = None) -> list[Any]:
        """Launch the kernel; the outputs as MLX arrays."""
        import mlx.core as mx

        import zmlx

        kernel = zmlx.metal_kernel(
            name=self.name,
            input_names=list(self.inputs),
            output_names=self.output_names,
            source=self.source,
            header=self.header,
            ensure_row_contiguous=self.ensure_row_contiguous,
            atomic_outputs=self.atomic_outputs,
        )
        return kernel(
            inputs=[
                value.to_mlx() if isinstance(value, Input) else Input(value).to_mlx()
                for value in self.inputs.values()
            ],
            output_shapes=[np.asarray(e).shape for e in self.expected],
            output_dtypes=[getattr(mx, "bool_" if d == "bool" else d) for d in self.output_dtypes],
            grid=self.grid,
            threadgroup=self.threadgroup,
            template=[(k, getattr(mx, v) if isinstance(v, str) else v) for k, v in self.template],
            init_value=self.init_value,
            stream=stream,
        )

    def check(self, outputs: list[Any]) -> None:
        """Compare MLX arrays with what is expected, NaN and infinities included."""
        import mlx.core as mx

        assert len(outputs) == len(self.expected)
        for name, dtype, got, wanted in zip(
            self.output_names, self.output_dtypes, outputs, self.expected, strict=True
        ):
            assert str(got.dtype).rpartition(".")[2].rstrip("_") == dtype, f"{self.name}: dtype of {name}"
            actual = np.array(got.astype(mx.float32) if dtype == "bfloat16" else got)
            np.testing.assert_allclose(
                actual, np.asarray(wanted), rtol=self.rtol, atol=0, err_msg=f"{self.name}: {name}"
            )


def rng(name: str) -> np.random.Generator:
    return np.random.default_rng(list(name.encode()))
