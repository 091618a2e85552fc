"""How the variables of a formula over rows reach its kernel."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from zmlx.kernels._formula.nodes import Node, ordered


@dataclass(frozen=True)
class Arguments:
    """The variables of a kernel by how it gets them; those of a name ``x`` are ``arg_x``, of dtype ``T_x``.

    Attributes
    ----------
    arrays
        (rows, length); others than the first may have fewer rows, which repeat.
    per_row
        (rows,).
    weights
        (length,).
    scalars
        0-d.
    seeds
        Two words of 32 bits.
    """

    arrays: tuple[str, ...]
    per_row: tuple[str, ...] = ()
    weights: tuple[str, ...] = ()
    scalars: tuple[str, ...] = ()
    seeds: tuple[str, ...] = ()

    @property
    def typed(self) -> tuple[str, ...]:
        """Those whose dtype is a template argument."""
        return (*self.arrays, *self.weights)

    @property
    def names(self) -> tuple[str, ...]:
        """All of them, in the kernel's order."""
        return (*self.arrays, *self.per_row, *self.weights, *self.scalars, *self.seeds)

    def used(self, roots: Iterable[Node]) -> Arguments:
        """Those that ``roots`` depend on, and the first, which tells the shape."""
        needed = {str(node.value) for node in ordered(roots) if node.function == "variable"}
        first, *others = self.arrays

        def kept(names: Sequence[str]) -> tuple[str, ...]:
            return tuple(name for name in names if name in needed)

        return Arguments(
            (first, *kept(others)),
            *map(kept, (self.per_row, self.weights, self.scalars, self.seeds)),
        )
