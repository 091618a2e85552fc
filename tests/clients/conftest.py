"""Kernels of released packages, run as they are. A package that is missing is a reason to skip, except in the
`clients` session of the noxfile, which installs it."""

from __future__ import annotations

import contextlib
import importlib
import importlib.util
import itertools
import os
import sys
import warnings
from dataclasses import dataclass

import pytest

import zmlx
from zmlx.launch import watch

#: Set by the `clients` session: the packages that must be there.
REQUIRED_VARIABLE = "ZMLX_REQUIRE_CLIENTS"


@dataclass(frozen=True)
class Client:
    """A package, from the Python on that it is released for.

    Where it is ``bare``, the ``__init__.py`` of its packages are passed over: they import servers, audio and video, of
    which the modules with kernels need nothing, and which are not installed.
    """

    python: tuple[int, int]
    bare: bool = False


CLIENTS = {
    "mlx_lm": Client((3, 11)),
    "mlx_audio": Client((3, 10), bare=True),
    "mlx_vlm": Client((3, 10), bare=True),
}


def import_client(name):
    """Import a module of a client package as its user on a Mac would: it is told that it is on Metal."""
    package, *folders = name.split(".")[:-1]
    client = CLIENTS[package]
    if sys.version_info < client.python:
        pytest.skip(f"{package} needs Python {'.'.join(map(str, client.python))} or newer")
    if importlib.util.find_spec(package) is None:
        reason = f"the package {package} is not installed; `nox -s clients` installs it"
        if package in os.environ.get(REQUIRED_VARIABLE, "").split():
            pytest.fail(reason, pytrace=False)
        pytest.skip(reason)
    # What its dependencies warn of while they are imported is not for this suite to judge.
    with zmlx.pretend_metal(package), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        if client.bare:
            for parent in itertools.accumulate([package, *folders], "{}.{}".format):
                leave_bare(parent)
        return importlib.import_module(name)


def leave_bare(package):
    """Make a package known without what its ``__init__.py`` does."""
    if package not in sys.modules:
        sys.modules[package] = importlib.util.module_from_spec(importlib.util.find_spec(package))


@pytest.fixture(autouse=True)
def accepted_by_metal():
    """Released kernels are compiled on Macs every day: the type check has nothing against them."""
    from zmlx.check.legality import front_end
    from zmlx.check.legality.judge import judge

    with watch() as seen:
        yield
    if front_end.available():
        refused = [str(f) for record in seen for f in judge(record.signature).findings]
        assert not refused, "\n".join(refused)


@pytest.fixture(scope="module")
def mlx_lm():
    """``mlx_lm("models.ssm")``: that module of the installed mlx-lm."""
    return lambda name: import_client(f"mlx_lm.{name}")


@pytest.fixture
def client():
    """``client("mlx_vlm.models.ssm")``: the same of any package, for what several have."""
    return import_client


@pytest.fixture(params=["mlx_lm", "mlx_vlm"])
def kernels(request):
    """``kernels("qk_norm")``: that module of the kernels that two packages have, word for word."""
    return lambda name: import_client(f"{request.param}.kernels.{name}")


@pytest.fixture(scope="module")
def mlx_audio():
    """The same for mlx-audio."""
    return lambda name: import_client(f"mlx_audio.{name}")


@pytest.fixture(scope="module")
def mlx_vlm():
    """The same for mlx-vlm."""
    return lambda name: import_client(f"mlx_vlm.{name}")


@pytest.fixture
def launches(backend):
    """``with launches("kernel", "kernel"):`` runs exactly these kernels, on the session's back end, in any order."""

    @contextlib.contextmanager
    def expect(*names):
        with watch() as seen:
            yield
        assert sorted(record.kernel.name for record in seen) == sorted(names)
        assert {record.backend for record in seen} <= {backend}
        assert "reference" not in {record.path for record in seen}

    return expect


@pytest.fixture
def metal(launches):
    """``with metal("kernel"):`` runs exactly these kernels, in a program that began with
    ``zmlx.install(pretend_metal=True)``."""

    @contextlib.contextmanager
    def told_so(*names):
        with zmlx.install(pretend_metal=True), launches(*names):
            yield

    return told_so


@pytest.fixture
def random():
    """``random(*shape, dtype=, scale=)``: normal numbers, the same in each run."""
    import mlx.core as mx
    import numpy as np

    rng = np.random.default_rng(0)

    def numbers(*shape, dtype="float32", scale=1.0):
        return mx.array((rng.standard_normal(shape) * scale).astype(np.float32)).astype(getattr(mx, dtype))

    return numbers


@pytest.fixture
def operations(launches):
    """``with operations():`` runs no kernel: it is for a library's own path of MLX operations, on the CPU, since some
    packages take their kernels wherever MLX's default is a GPU. They are not compiled there, for mx.compile would call
    a C++ compiler for every function."""
    import mlx.core as mx

    @contextlib.contextmanager
    def alone():
        before = mx.default_device()
        mx.disable_compile()
        mx.set_default_device(mx.cpu)
        try:
            with launches():
                yield
        finally:
            mx.set_default_device(before)
            mx.enable_compile()

    return alone


@pytest.fixture
def check(assert_allclose_cross_backend):
    """``check("kernel", actual, desired, **tolerance)`` compares, and shows the error in the terminal summary."""

    def compare(name, actual, desired, **tolerance):
        assert_allclose_cross_backend(actual, desired, name=name, **tolerance)

    return compare
