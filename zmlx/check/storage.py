"""What a launch's memory is called in messages: its arrays and threadgroup variables."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Storage:
    """An array as messages speak of it. ``kind`` is input, output, or threadgroup."""

    name: str
    kind: str
    bytes: int
    itemsize: int
    columns: int = 0
    planes: int = 0
    start: int = 0
    sampled: bool = False  # only some of its elements have a shadow

    @property
    def memory(self) -> str:
        return "threadgroup" if self.kind == "threadgroup" else "device"

    @property
    def count(self) -> int:
        return self.bytes // self.itemsize if self.itemsize else 0

    def index(self, offset: int) -> str:
        """The element at a byte offset, as it is written between the outer brackets."""
        element = (offset - self.start) // self.itemsize
        if not self.columns or element < 0:
            return str(element)
        rows, column = divmod(element, self.columns)
        if not self.planes:
            return f"{rows}][{column}"
        plane, row = divmod(rows, self.planes)
        return f"{plane}][{row}][{column}"

    @property
    def described(self) -> str:
        noun = {
            "input": "the input",
            "output": "the output",
            "threadgroup": "the threadgroup variable",
            "shape": "the shape",
            "strides": "the strides",
        }[self.kind]
        return f"{noun} {self.name}"
