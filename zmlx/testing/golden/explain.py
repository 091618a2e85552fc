"""``golden compare --explain CASE``: everything that is recorded of one case, for a person who wonders about it."""

from __future__ import annotations

import difflib
import textwrap
from collections.abc import Iterable

from zmlx._text import count
from zmlx.testing.case_names import split_case
from zmlx.testing.golden.comparison import BINS, LIVE, ORACLE, CaseResult, Comparison, figure_text

_BAR, _WIDTH = 24, 78


def bin_labels() -> tuple[str, ...]:
    """What each bin of `count_in_bins` holds, in ULPs."""
    uppers = ["0", *(f"to {upper:g}" for upper in BINS[1:])]
    return (*uppers, f"over {BINS[-1]:g}")


def explain(comparison: Comparison, case: str) -> list[str]:
    """A case's formula and tolerance, every comparison with its worst element and distribution, and where it was
    recorded.

    Parameters
    ----------
    comparison : Comparison
        Of the golden files, with or without a live run.
    case : str
        Its name, "transformer.swiglu/float16/small".

    Raises
    ------
    ValueError
        No file has the case; the message has the names that come nearest.
    """
    recorded = {backend: file for backend, file in comparison.files.items() if case in file.cases}
    results = [r for r in comparison.results if r.case == case]
    if not recorded and not results:
        raise ValueError(_unknown(comparison, case))
    op, dtype, _ = split_case(case)
    lines = [case]
    first = next((file.cases[case] for file in recorded.values()), None)
    if first is not None:
        lines.append(f"  {first.dtype}, shape {first.shape}, {count(len(first.values), 'value')}")
    about = comparison.about.get(op)
    if about is not None:
        lines += _wrapped(f"formula: {about.source}")
        lines += _wrapped(f"tolerance: {about.tolerances.get(dtype, 'the default of the dtype')}")
        if about.file:
            lines.append(f"  kernel: {about.file}")
    for result in results:
        lines += ["", *_result_lines(comparison, result)]
    lines.append("")
    for backend, file in recorded.items():
        facts = file.environment_of(case)
        device, mlx, date = (facts.get(key, "?") for key in ("device", "mlx", "date"))
        lines.append(f"{backend}.json: {device}, MLX {mlx}, {date}")
        hashes = file.cases[case]
        lines.append(f"  inputs {hashes.input_hash[:12] or '-'}, source {hashes.source_hash[:12] or '-'}")
    lines += [
        f"{pending.backend}.json: not recorded" for pending in comparison.pending if case in pending.cases
    ]
    lines += [_damage(backend) for backend in comparison.damaged]
    for note in comparison.notes:
        lines += textwrap.wrap(f"note: {note}", _WIDTH)
    return lines


def _wrapped(text: str) -> list[str]:
    return textwrap.wrap(text, _WIDTH, initial_indent="  ", subsequent_indent="    ")


def _unknown(comparison: Comparison, case: str) -> str:
    names = sorted({name for file in comparison.files.values() for name in file.cases})
    near = difflib.get_close_matches(case, names, n=3, cutoff=0.3)
    hint = f" Did you mean {', '.join(near)}?" if near else ""
    damage = "".join(f" {_damage(backend)}." for backend in comparison.damaged)
    return f"No golden file has a case {case!r}.{hint}{damage}"


def _damage(backend: str) -> str:
    return f"{backend}.json: damaged; `python -m zmlx report` says how"


def _result_lines(comparison: Comparison, result: CaseResult) -> list[str]:
    names = {LIVE: f"live {comparison.live_backend}", ORACLE: "the oracle"}
    subject, against = (names.get(side, f"{side}.json") for side in (result.subject, result.against))
    part = f", {result.part}" if result.part else ""
    share = "" if result.share is None else f", {share_text(result.share)} of the tolerance"
    verdict = "identical" if result.identical else "within" if result.ok else "OUTSIDE"
    lines = [
        f"{subject} against {against}{part}: {verdict}",
        f"  max {figure_text(result.max_ulp)} ULP, RMS {figure_text(result.rms)}{share}",
    ]
    if result.worst is not None and result.max_ulp:
        worst = result.worst
        lines.append(f"  worst element {list(worst.index)}: got {worst.actual!r}, expected {worst.desired!r}")
        lines += [f"    {name}: {text}" for name, text in worst.inputs]
    return lines + [f"  {line}" for line in histogram(result.bins)]


def share_text(share: float) -> str:
    """A part of a tolerance in percent: "below 1 %", "12 %", "over 1000 %"."""
    if share == 0:
        return "0 %"
    if share < 0.01:
        return "below 1 %"
    return f"{100 * share:.0f} %" if share <= 10 else "over 1000 %"


def histogram(bins: Iterable[int]) -> list[str]:
    """A distribution as bars of text, without the empty bins at its ends."""
    counts = list(bins)
    used = [i for i, number in enumerate(counts) if number]
    if not used:
        return []
    most = max(counts)
    lines = []
    for label, number in list(zip(bin_labels(), counts, strict=True))[: used[-1] + 1]:
        bar = "#" * max(round(_BAR * number / most), 1 if number else 0)
        lines.append(f"{label:>8} ULP  {number:>5}  {bar}".rstrip())
    return lines
