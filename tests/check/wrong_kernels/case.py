"""A small wrong kernel, with the repair that makes it right.

The lines that a finding must name are marked ``//!`` in the source. ``repair`` replaces parts of the source; the
result must be without a finding.
"""

from __future__ import annotations

import textwrap
from dataclasses import dataclass, replace
from typing import Any


@dataclass(frozen=True)
class Case:
    name: str
    kind: str
    source: str
    repair: tuple[tuple[str, str], ...]
    header: str = ""
    threads: int = 64
    group: int = 64
    inputs: int = 64
    outputs: int = 64
    input_dtype: str = "float32"
    output_dtype: str = "float32"
    init_value: float | None = None
    atomic: bool = False
    array: str = ""
    says: str = ""
    gcc_only_line: bool = False
    arithmetic: bool = False
    constant: bool = False
    repaired_threads: int = 0

    def __post_init__(self) -> None:
        # Sources are indented like the table that they stand in.
        for name in ("source", "header"):
            object.__setattr__(self, name, textwrap.dedent(getattr(self, name)).strip("\n"))

    @property
    def marked(self) -> set[tuple[str, int]]:
        return {
            (part, number)
            for part, text in (("source", self.source), ("header", self.header))
            for number, line in enumerate(text.split("\n"), 1)
            if "//!" in line
        }

    def repaired(self) -> Case:
        source, header = self.source, self.header
        for wrong, right in self.repair:
            assert (wrong in source) != (wrong in header), (self.name, wrong)
            source, header = source.replace(wrong, right), header.replace(wrong, right)
        return replace(
            self,
            name=f"{self.name}_repaired",
            source=source,
            header=header,
            threads=self.repaired_threads or self.threads,
        )

    def run(self) -> Any:
        import mlx.core as mx

        import zmlx

        kernel = zmlx.metal_kernel(
            name=self.name,
            input_names=["x"],
            output_names=["out"],
            source=self.source,
            header=self.header,
            atomic_outputs=self.atomic,
        )
        x = (mx.arange(self.inputs) + 1).astype(getattr(mx, self.input_dtype))
        if self.constant:
            x = mx.ones_like(x)
        return kernel(
            inputs=[x],
            output_shapes=[(self.outputs,)],
            output_dtypes=[getattr(mx, self.output_dtype)],
            grid=(self.threads, 1, 1),
            threadgroup=(self.group, 1, 1),
            init_value=self.init_value,
            stream=mx.cpu,
        )


BARRIER = "threadgroup_barrier(mem_flags::mem_threadgroup);"
