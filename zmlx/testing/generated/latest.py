"""What several steps of a test, or tests that follow each other, would otherwise compute again."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

#: At least as many small samples as an operation has.
SAMPLES = 32


class Latest:
    """The latest values of a kind, and what each was made from: told by identity, for arrays are not compared.

    Parameters
    ----------
    most
        How many there are at most; then the oldest goes.
    """

    def __init__(self, most: int = 1) -> None:
        self._most = most
        # The parts are kept, so that no other object can get the identity of one.
        self._values: dict[tuple[int, ...], tuple[tuple[Any, ...], Any]] = {}

    def of(self, parts: tuple[Any, ...], make: Callable[[], Any]) -> Any:
        """The value of these parts; a new one if there is none yet."""
        key = tuple(map(id, parts))
        found = self._values.get(key)
        if found is None:
            found = (parts, make())
            while len(self._values) >= self._most:
                del self._values[next(iter(self._values))]
            self._values[key] = found
        return found[1]
