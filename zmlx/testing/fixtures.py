"""The fixtures of the pytest plugin. Each imports MLX and NumPy only when a test uses it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import pytest

from zmlx import _compat
from zmlx.testing import session as _session
from zmlx.testing.ledger import Measured


def _on_backend(name: str, config: pytest.Config) -> bool:
    return config.stash[_session.KEY].backend.name == name


@pytest.fixture(scope="session")
def backend(pytestconfig: pytest.Config) -> str:
    """The back end that this session works on: "metal", "cuda", "cpu", or "none" if MLX cannot be used."""
    return pytestconfig.stash[_session.KEY].backend.name


@pytest.fixture(scope="session")
def is_metal(pytestconfig: pytest.Config) -> bool:
    """Whether this session works on Metal."""
    return _on_backend("metal", pytestconfig)


@pytest.fixture(scope="session")
def is_cuda(pytestconfig: pytest.Config) -> bool:
    """Whether this session works on CUDA."""
    return _on_backend("cuda", pytestconfig)


@pytest.fixture(scope="session")
def is_cpu(pytestconfig: pytest.Config) -> bool:
    """Whether this session works on the CPU."""
    return _on_backend("cpu", pytestconfig)


@pytest.fixture(scope="session")
def has_gpu(is_metal: bool, is_cuda: bool) -> bool:
    """Whether this session works on a GPU. With ``--backend cpu`` it does not, whatever the machine has."""
    return is_metal or is_cuda


@pytest.fixture
def mx_device(pytestconfig: pytest.Config) -> Iterator[Any]:
    """The session's `mlx.core.Device`, MLX's default device during the test. Skips where MLX is missing."""
    state = pytestconfig.stash[_session.KEY]
    if state.backend.name == "none":
        reason = f"mx_device: no back end: {state.backend.problem}"
        if state.require:
            pytest.fail(f"{reason} (an error because of --require-backend)", pytrace=False)
        pytest.skip(reason)
    mx = _compat.import_mx()
    previous = mx.default_device()
    mx.set_default_device(state.device)
    yield state.device
    mx.set_default_device(previous)


@pytest.fixture
def record_error(request: pytest.FixtureRequest) -> Callable[..., None]:
    """``record_error(kernel, dtype, stats, case="")``: an error measure for the terminal summary.

    `stats` is a `zmlx.testing.tolerance.ErrorStats`, or anything with `max_ulp` and `rms`. The summary shows
    the worst of each kernel and dtype, of all xdist workers, with its `case` (the test's name unless given).
    """
    state = request.config.stash[_session.KEY]

    def record(kernel: str, dtype: str, stats: Measured, case: str = "") -> None:
        state.ledger.record_error(kernel, dtype, state.backend.name, stats, case or request.node.name)

    return record


@pytest.fixture
def assert_allclose_cross_backend(record_error: Callable[..., None]) -> Callable[..., None]:
    """``check(actual, desired, rtol=None, atol=None, *, max_ulp=None, dtype=None, name="")``

    Fails unless ``|actual - desired| <= atol + rtol * |desired|`` for every element. NaN equals NaN, and
    infinities must have the same sign; no finite number is close to one. `rtol` and `atol` are 1e-4 unless given, but
    0 where both sides are whole numbers and `actual` is an integer or bool array: indices are right or wrong.
    The message has the worst index, both values, their distance in ULPs,
    how many elements are outside, and the tolerance.

    Either side may be an MLX array (bfloat16 too), a NumPy array, a list or a number; the shapes must match.
    ULPs are those of `dtype`, by default the coarser dtype of the two. An `rtol` below the spacing of that
    dtype cannot be met, so one test can serve all dtypes: it is raised to the dtype's default (float16 1e-3,
    bfloat16 1.6e-2). ``rtol=0`` is taken literally.

    With a `name`, the error also appears under that name in the terminal summary.
    """

    def check(
        actual: Any,
        desired: Any,
        rtol: float | None = None,
        atol: float | None = None,
        *,
        max_ulp: float | None = None,
        dtype: str | None = None,
        name: str = "",
    ) -> None:
        __tracebackhide__ = True
        from zmlx.testing import tolerance as tol

        kind, asked = tol.judged_by(actual, desired, dtype, rtol, atol)
        asked = replace(asked, max_ulp=max_ulp)
        verdict = tol.compare(
            actual, desired, kind, tol.widened_for(kind, asked), name=name or "arrays are not close"
        )
        if name and verdict.stats is not None:
            record_error(name, kind, verdict.stats)
        if not verdict.ok:
            raise AssertionError(verdict.message)

    return check


@pytest.fixture
def golden_registry(
    pytestconfig: pytest.Config, assert_allclose_cross_backend: Callable[..., None]
) -> dict[str, Callable[..., Any]]:
    """Named values across back ends and sessions, by four functions in a dict.

    ``["check"](name, value, rtol=None, atol=None, *, max_ulp=None)``
        registers the value for the session's back end and compares it, as `assert_allclose_cross_backend`, with what is
        recorded under that name: on this back end, where there must be something unless ``--golden-record`` is given,
        and on every other that has it. A failure names the value and the back end.
    ``["register"](name, value, backend)``
        remembers a value; ``--golden-record`` writes it to ``registered-<backend>.json`` in the golden
        directory once the session has passed, if `backend` is the one that the session is on.
    ``["get"](name, backend)``
        the recorded value (or else the one registered in this session) as nested lists; None if there is
        none. Cases of ``<backend>.json`` are found by their names too.
    ``["all"]()``
        everything that "get" finds, as {back end: {name: value}}.
    """
    from zmlx.testing.golden.registry import GoldenRegistry

    state = pytestconfig.stash[_session.KEY]
    registry = GoldenRegistry(state.golden_dir, state.ledger, prefer_session=state.golden_record)

    def check(
        name: str,
        value: Any,
        rtol: float | None = None,
        atol: float | None = None,
        *,
        max_ulp: float | None = None,
    ) -> None:
        __tracebackhide__ = True
        here = state.backend.name
        registry.register(name, value, here)
        recorded = registry.recorded(name)
        if state.golden_record:
            recorded.pop(here, None)  # about to be replaced
        elif here not in recorded:
            pytest.fail(registry.nothing_recorded(name, here), pytrace=False)
        for backend in sorted(recorded, key=lambda backend: backend != here):
            problem = ""
            try:
                assert_allclose_cross_backend(value, recorded[backend], rtol, atol, max_ulp=max_ulp)
            except AssertionError as error:
                problem = str(error)
            if problem:
                pytest.fail(f"golden value {name!r}, {here} against {backend}'s: {problem}", pytrace=False)

    return {"check": check, "register": registry.register, "get": registry.get, "all": registry.all}
