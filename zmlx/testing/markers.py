"""Which test runs on which back end: the rules, free of pytest.

=================  ===========================================================================
marker             runs
=================  ===========================================================================
``metal``          when the session's back end is Metal
``cuda``           when it is CUDA
``metal``+``cuda`` when it is either of the two
``gpu``            when it is Metal or CUDA; a more exact marker beside it decides
``cpu``            everywhere; a hardware marker beside it, on function, class or module, wins
none               everywhere
=================  ===========================================================================
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

MARKERS: dict[str, str] = {
    "metal": "needs the Metal back end (macOS on Apple silicon); skipped elsewhere, with the reason",
    "cuda": "needs the CUDA back end (Linux with an NVIDIA GPU); skipped elsewhere, with the reason",
    "gpu": "needs a GPU back end, Metal or CUDA; skipped elsewhere, with the reason",
    "cpu": "runs on every platform; metal, cuda or gpu beside it wins",
    "golden": "compares with recorded golden values; runs on every platform",
    "slow": 'takes long; leave out with -m "not slow"',
}

_NEEDS: dict[str, tuple[str, ...]] = {"metal": ("metal",), "cuda": ("cuda",)}
_GPU = ("metal", "cuda")

TITLES: dict[str, str] = {"metal": "Metal", "cuda": "CUDA", "cpu": "CPU"}


@dataclass(frozen=True)
class SessionBackend:
    """The back end that a test session works on.

    Attributes
    ----------
    name : str
        "metal", "cuda", "cpu", or "none" if MLX cannot be used.
    origin : str
        Who chose it: "--backend cpu", "ZMLX_TEST_BACKEND=cpu", or "MLX's default device".
    problem : str
        Why `name` is "none"; empty otherwise.
    """

    name: str
    origin: str
    problem: str = ""


def needed_backends(marker_names: Collection[str]) -> tuple[str, ...]:
    """The back ends of which a test with these markers needs one; empty if it runs anywhere."""
    exact = tuple(b for name, backends in _NEEDS.items() if name in marker_names for b in backends)
    return exact or (_GPU if "gpu" in marker_names else ())


def missing_reason(needs: tuple[str, ...], session: SessionBackend, reasons: dict[str, str]) -> str | None:
    """Why a test that needs one of `needs` cannot run in `session`; None if it can.

    Parameters
    ----------
    needs : tuple of str
        From `needed_backends`.
    session : SessionBackend
        What the session works on.
    reasons : dict
        Back end to the reason why this machine does not have it; back ends that it has are left out.
    """
    if not needs or session.name in needs:
        return None
    titles = " or ".join(TITLES[b] for b in needs)
    why = [f"{TITLES[b]} is there, but this session is on {session.name} ({session.origin})"
           if b not in reasons else reasons[b] for b in needs]  # fmt: skip
    return f"needs the {titles} back end: {'; '.join(dict.fromkeys(why))}"
