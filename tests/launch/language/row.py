"""What a row of the table is, and how rows are run: many in one kernel where they can be."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from language.values import BFLOATS, NAMES, Values, values
from zmlx.testing.tolerance import ulp_distance

#: A kernel may have 31 buffers on Metal.
MAX_BUFFERS = 31


@dataclass(frozen=True, eq=False)
class Row:
    """One feature of the language.

    Parameters
    ----------
    section, feature
        Where and as what the table shows it.
    code
        Statements that write ``out``. They read the arrays of `values` by name; ``i`` is the thread's index.
    expected
        What ``out`` holds then, from the arrays; its shape is the output's.
    dtype
        The output's.
    header
        What the kernel's header must declare; names in it must be the row's own.
    ulp, atol
        How far from ``expected`` a result may be; 0 asks for equality, the sign of zeros included.
    alone
        The code needs a kernel of its own: threadgroup variables, ``return``, what follows.
    inputs, template, grid, threadgroup, init_value, atomic_outputs, ensure_row_contiguous, math_mode
        Of a kernel of its own. An input is an array, a number, or a function that makes an MLX array.
    differs
        Back ends that are known to compute something else, each with the reason.
    """

    section: str
    feature: str
    code: str
    expected: Callable[[Values], Any]
    dtype: str = "int32"
    header: str = ""
    ulp: float = 0.0
    atol: float = 0.0
    alone: bool = False
    inputs: Mapping[str, Any] = field(default_factory=dict)
    template: tuple[tuple[str, Any], ...] = ()
    grid: tuple[int, int, int] = (64, 1, 1)
    threadgroup: tuple[int, int, int] = (64, 1, 1)
    init_value: float | None = None
    atomic_outputs: bool = False
    ensure_row_contiguous: bool = True
    math_mode: str = "safe"
    differs: Mapping[str, str] = field(default_factory=dict)

    @property
    def name(self) -> str:
        return f"{self.section}: {self.feature}"

    @property
    def needs_own_kernel(self) -> bool:
        special = (self.alone, bool(self.inputs), bool(self.template), self.init_value is not None)
        return (
            any(special) or self.atomic_outputs or not self.ensure_row_contiguous or self.math_mode != "safe"
        )

    @property
    def digest(self) -> str:
        """Changes when the row's kernel does."""
        parts = (self.code, self.header, self.dtype, self.grid, self.threadgroup, self.template)
        flags = (self.init_value, self.atomic_outputs, self.ensure_row_contiguous, self.math_mode)
        return hashlib.sha256(repr((*parts, *flags)).encode()).hexdigest()[:12]

    def compute(self) -> Any:
        """The expected output as NumPy."""
        with np.errstate(all="ignore"):
            wanted = np.asarray(self.expected(values()))
        return wanted if self.dtype == "bfloat16" or self.ulp else wanted.astype(_numpy_dtype(self.dtype))

    def check(self, actual: Any) -> None:
        """Raise AssertionError if ``actual`` is not what is expected."""
        wanted = self.compute()
        if self.dtype == "complex64":
            actual, wanted = (np.ascontiguousarray(a, "complex64").view("float32") for a in (actual, wanted))
        if not self.ulp and not self.atol:
            np.testing.assert_array_equal(actual, wanted, err_msg=self.code)
            if np.dtype(actual.dtype).kind == "f":
                numbers = ~np.isnan(wanted)
                signs = np.signbit(actual[numbers]), np.signbit(wanted[numbers])
                np.testing.assert_array_equal(*signs, err_msg=f"signs of zeros: {self.code}")
            return
        np.testing.assert_array_equal(np.isnan(actual), np.isnan(wanted), err_msg=self.code)
        finite = np.isfinite(wanted) & np.isfinite(actual)
        np.testing.assert_array_equal(
            actual[~finite], wanted.astype(actual.dtype)[~finite], err_msg=self.code
        )
        error = np.abs(actual[finite].astype(np.float64) - wanted[finite].astype(np.float64))
        with np.errstate(over="ignore"):
            dtype = "float32" if self.dtype == "complex64" else self.dtype
            distance = ulp_distance(actual[finite], wanted[finite].astype(np.float64), dtype)
        far = (distance > self.ulp) & (error > self.atol)
        assert not far.any(), (
            f"{self.code}: off by up to {distance[far].max():.3g} ULP (allowed {self.ulp}), "
            f"e.g. {actual[finite][far][0]!r} instead of {wanted[finite][far][0]!r}"
        )


def _numpy_dtype(dtype: str) -> str:
    return {"bool": "bool_"}.get(dtype, dtype)


@dataclass(frozen=True, eq=False)
class Kernel:
    """Rows that share one kernel and launch."""

    rows: tuple[Row, ...]

    @property
    def source(self) -> str:
        if len(self.rows) == 1 and self.rows[0].needs_own_kernel:
            return f"uint i = thread_position_in_grid.x;\n{self.rows[0].code}\n"
        parts = [f"{{ auto out = out{k};\n{row.code}\n}}\n" for k, row in enumerate(self.rows)]
        return "uint i = thread_position_in_grid.x;\n" + "".join(parts)

    @property
    def output_names(self) -> list[str]:
        if len(self.rows) == 1 and self.rows[0].needs_own_kernel:
            return ["out"]
        return [f"out{k}" for k in range(len(self.rows))]

    @property
    def inputs(self) -> dict[str, Any]:
        """The arrays that the code mentions, and the row's own."""
        names = set(re.findall(r"(?<![.\w])[a-z]\b", " ".join(row.code for row in self.rows)))
        shared: dict[str, Any] = {name: values()[name] for name in NAMES if name in names}
        own = self.rows[0].inputs
        return {**{name: array for name, array in shared.items() if name not in own}, **own}

    def launch(self) -> list[Any]:
        """Launch on the default device; the outputs as MLX arrays."""
        import mlx.core as mx

        import zmlx

        row, inputs = self.rows[0], self.inputs
        kernel = zmlx.metal_kernel(
            name=re.sub(r"\W+", "_", f"{row.section}_{row.feature}")[:60].strip("_"),
            input_names=list(inputs),
            output_names=self.output_names,
            source=self.source,
            header="".join(dict.fromkeys(row.header + "\n" for row in self.rows if row.header)),
            ensure_row_contiguous=row.ensure_row_contiguous,
            atomic_outputs=row.atomic_outputs,
            compile_options={"math_mode": row.math_mode} if row.math_mode != "safe" else None,
        )
        return kernel(
            inputs=[_to_mlx(name, array) for name, array in inputs.items()],
            output_shapes=[np.shape(row.compute()) for row in self.rows],
            output_dtypes=[getattr(mx, _numpy_dtype(row.dtype)) for row in self.rows],
            grid=row.grid,
            threadgroup=row.threadgroup,
            template=[(name, getattr(mx, v) if isinstance(v, str) else v) for name, v in row.template],
            init_value=row.init_value,
        )


def _to_mlx(name: str, array: Any) -> Any:
    import mlx.core as mx

    if callable(array):
        return array()
    if isinstance(array, (bool, int, float)):
        return array
    return mx.array(array).astype(mx.bfloat16) if name in BFLOATS else mx.array(array)


def to_numpy(array: Any) -> Any:
    """An MLX array as NumPy, bfloat16 as float32."""
    import mlx.core as mx

    return np.array(array.astype(mx.float32) if array.dtype == mx.bfloat16 else array)


def kernels(rows: Iterable[Row]) -> list[Kernel]:
    """Rows in as few kernels as can be: those of one section and one launch together."""
    alone, shared = [], {}
    for row in rows:
        if row.needs_own_kernel:
            alone.append(Kernel((row,)))
        else:
            shared.setdefault((row.section, row.grid, row.threadgroup), []).append(row)
    packed = []
    for together in shared.values():
        batch: list[Row] = []
        for row in together:
            bigger = Kernel((*batch, row))
            if batch and len(bigger.inputs) + len(bigger.rows) > MAX_BUFFERS:
                packed.append(Kernel(tuple(batch)))
                batch = []
            batch.append(row)
        packed.append(Kernel(tuple(batch)))
    return packed + alone
