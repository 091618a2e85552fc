"""Drawings of the report as inline SVG. What a colour says, a pattern or a mark says too."""

from __future__ import annotations

import html
from collections.abc import Sequence

from zmlx.testing.golden.explain import bin_labels
from zmlx.testing.report.model import figure

PATTERNS = (
    '<svg class="offscreen" aria-hidden="true"><defs>'
    '<pattern id="hatch" width="5" height="5" patternUnits="userSpaceOnUse" patternTransform="rotate(45)">'
    '<rect width="5" height="5" fill="var(--card)"/><rect width="2.5" height="5" fill="var(--s1)"/></pattern>'
    '<pattern id="dots" width="5" height="5" patternUnits="userSpaceOnUse">'
    '<rect width="5" height="5" fill="var(--card)"/><circle cx="2.5" cy="2.5" r="1.4" fill="var(--s3)"/></pattern>'
    "</defs></svg>"
)
"""What ``fill:url(#…)`` of the style sheet refers to."""

_WIDTH, _HEIGHT, _LEFT, _TOP, _BOTTOM = 340.0, 130.0, 26.0, 8.0, 22.0
_MARKS = ("circle", "square", "diamond", "triangle")


def _n(value: float) -> str:
    return f"{value:.1f}".removesuffix(".0")


def keys(names: Sequence[str]) -> str:
    """The legend of `distribution` and `timeline`."""
    items = "".join(
        '<li><svg viewBox="0 0 14 10" aria-hidden="true">'
        f'<rect class="k{i % 4}" x="1" y="1" width="12" height="8"/></svg>'
        f"{html.escape(name)}</li>"
        for i, name in enumerate(names)
    )
    return f'<ul class="keys">{items}</ul>'


def distribution(title: str, series: Sequence[tuple[int, tuple[int, ...]]]) -> str:
    """Bars: which part of the elements is how far off.

    Parameters
    ----------
    title : str
        For people who do not see it; the figures follow.
    series : sequence of (int, tuple of int)
        Which pattern, and the counts of `zmlx.testing.golden.comparison.count_in_bins`.
    """
    labels = ("0", "¼", "½", "1", "2", "4", "16", ">16")
    shares = [(key, [n / max(sum(counts), 1) for n in counts]) for key, counts in series]
    most = max((share for _, values in shares for share in values), default=1.0) or 1.0
    floor, room = _HEIGHT - _BOTTOM, _HEIGHT - _BOTTOM - _TOP
    slot = (_WIDTH - _LEFT) / len(labels)
    bar = min(slot * 0.8 / max(len(shares), 1), 16.0)
    parts = []
    for fraction in (0.5, 1.0):
        y = floor - room * fraction
        parts.append(f'<line class="axis" x1="{_n(_LEFT)}" x2="{_n(_WIDTH)}" y1="{_n(y)}" y2="{_n(y)}"/>')
        parts.append(
            f'<text x="{_n(_LEFT - 4)}" y="{_n(y + 3)}" text-anchor="end">{100 * most * fraction:.0f}%</text>'
        )
    for i, (key, values) in enumerate(shares):
        for place, share in enumerate(values):
            if not share:
                continue
            height = max(room * share / most, 1.5)
            x = _LEFT + slot * (place + 0.5) + bar * (i - len(shares) / 2)
            parts.append(
                f'<rect class="k{key % 4}" x="{_n(x + 0.5)}" y="{_n(floor - height)}" width="{_n(bar - 1)}" '
                f'height="{_n(height)}"/>'
            )
    parts.append(f'<line class="axis" x1="{_n(_LEFT)}" x2="{_n(_WIDTH)}" y1="{_n(floor)}" y2="{_n(floor)}"/>')
    for place, label in enumerate(labels):
        x = _LEFT + slot * (place + 0.5)
        parts.append(f'<text x="{_n(x)}" y="{_n(_HEIGHT - 8)}" text-anchor="middle">{label}</text>')
    told = "; ".join(
        ", ".join(
            f"{100 * share:.0f}% {label} ULP"
            for label, share in zip(bin_labels(), values, strict=True)
            if share
        )
        for _, values in shares
    )
    return _svg(f"{title}: {told}", parts)


def timeline(
    title: str, names: Sequence[str], lines: Sequence[tuple[int, Sequence[tuple[int, float]]]]
) -> str:
    """Lines with marks: an error in each revision.

    Parameters
    ----------
    title : str
        For people who do not see it.
    names : sequence of str
        Of the revisions, in order.
    lines : sequence of (int, sequence of (int, float))
        Which pattern, and for each point the revision's place and the error in ULPs.
    """
    most = max((value for _, points in lines for _, value in points), default=0.0) or 1.0
    floor, room = _HEIGHT - _BOTTOM, _HEIGHT - _BOTTOM - _TOP
    step = (_WIDTH - _LEFT - 20) / max(len(names) - 1, 1)
    parts = [
        f'<line class="axis" x1="{_n(_LEFT)}" x2="{_n(_WIDTH)}" y1="{_n(floor)}" y2="{_n(floor)}"/>',
        f'<text x="{_n(_LEFT - 4)}" y="{_n(_TOP + 4)}" text-anchor="end">{figure(most)}</text>',
        f'<text x="{_n(_LEFT - 4)}" y="{_n(floor + 3)}" text-anchor="end">0</text>',
    ]
    for key, points in lines:
        places = [(_LEFT + 10 + step * i, floor - room * value / most) for i, value in points]
        path = " ".join(f"{_n(x)},{_n(y)}" for x, y in places)
        parts.append(f'<polyline class="line l{key % 4}" points="{path}"/>')
        parts += [_mark(key, x, y) for x, y in places]
    for place in sorted({0, len(names) - 1}):
        x = _LEFT + 10 + step * place
        anchor = "start" if place == 0 else "end"
        label = html.escape(names[place])
        parts.append(f'<text x="{_n(x)}" y="{_n(_HEIGHT - 8)}" text-anchor="{anchor}">{label}</text>')
    return _svg(title, parts)


def _mark(key: int, x: float, y: float) -> str:
    shape = _MARKS[key % 4]
    if shape == "circle":
        return f'<circle class="k{key % 4}" cx="{_n(x)}" cy="{_n(y)}" r="3.5"/>'
    corners = {
        "square": ((-3, -3), (3, -3), (3, 3), (-3, 3)),
        "diamond": ((0, -4.5), (4.5, 0), (0, 4.5), (-4.5, 0)),
        "triangle": ((0, -4.5), (4.5, 3.5), (-4.5, 3.5)),
    }[shape]
    points = " ".join(f"{_n(x + dx)},{_n(y + dy)}" for dx, dy in corners)
    return f'<polygon class="k{key % 4}" points="{points}"/>'


def _svg(label: str, parts: Sequence[str]) -> str:
    text = html.escape(label, quote=True)
    return (
        f'<svg viewBox="0 0 {_n(_WIDTH)} {_n(_HEIGHT)}" role="img" aria-label="{text}">{"".join(parts)}</svg>'
    )
