"""What several steps of a test, or tests that follow each other, would otherwise compute again."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any


class Latest:
    """The latest value of a kind, and what it was made from: told by identity, for arrays are not compared."""

    def __init__(self) -> None:
        self._parts: tuple[Any, ...] = ()
        self._value: Any = None

    def of(self, parts: tuple[Any, ...], make: Callable[[], Any]) -> Any:
        """The value if it is of these parts, else a new one."""
        if len(parts) != len(self._parts) or any(a is not b for a, b in zip(parts, self._parts, strict=True)):
            self._value = make()
            self._parts = parts
        return self._value
