"""Times and rates as text."""

from __future__ import annotations

#: Seconds in a unit, the largest first.
_TIME_UNITS = (("s", 1.0), ("ms", 1e-3), ("µs", 1e-6))


def duration(seconds: float) -> str:
    """Three digits and a unit: "1.23 ms"."""
    unit, size = next((u for u in _TIME_UNITS if seconds >= u[1]), _TIME_UNITS[-1])
    return f"{three_digits(seconds / size)} {unit}"


def three_digits(value: float) -> str:
    """A number of 0 or more: \"1.23\", \"12.3\", \"123\"."""
    return f"{value:.0f}" if value >= 100 else f"{value:.1f}" if value >= 10 else f"{value:.2f}"
