"""The library that makes launches part of MLX's graph: where it cannot be had, and what is said then."""

from __future__ import annotations

import ctypes
import sys

import pytest

from zmlx.launch import primitive_library

pytestmark = pytest.mark.cpu


@pytest.fixture(scope="module")
def mx():
    import mlx.core

    return mlx.core


@pytest.fixture
def library():
    _, reason = primitive_library.found()
    if reason:
        pytest.skip(f"it is not available here: {reason}")
    return ctypes.PyDLL(str(primitive_library._built()))


def test_switched_off(monkeypatch):
    monkeypatch.setenv(primitive_library.EAGER_VARIABLE, "1")
    assert primitive_library.found.__wrapped__() == (None, "ZMLX_EAGER is set")


def test_other_systems(monkeypatch):
    monkeypatch.setattr(sys, "platform", "darwin")
    assert primitive_library.found.__wrapped__() == (None, "it is for Linux only so far, and this is darwin")


def test_an_mlx_that_reports_no_errors(mx, monkeypatch, tmp_path):
    fake(mx, monkeypatch, tmp_path, "class Scheduler {};")
    library, reason = primitive_library.found.__wrapped__()
    assert library is None
    assert reason.endswith("does not report errors of operations that run on the CPU; a newer MLX does")


def test_headers_that_do_not_compile(mx, monkeypatch, tmp_path):
    fake(mx, monkeypatch, tmp_path, "#error check_error is elsewhere")
    monkeypatch.setenv("ZMLX_CACHE_DIR", str(tmp_path / "cache"))
    library, reason = primitive_library.found.__wrapped__()
    assert library is None
    assert f"cannot build it with the headers of MLX {mx.__version__}: " in reason
    assert not list((tmp_path / "cache").rglob("*.so"))


def fake(mx, monkeypatch, folder, scheduler):
    """An MLX whose package has this scheduler.h and nothing else."""
    (folder / "include/mlx").mkdir(parents=True)
    (folder / "include/mlx/scheduler.h").write_text(scheduler)
    (folder / "lib").mkdir()
    (folder / "lib/libmlx.so").write_bytes(b"")
    core = folder / "core.so"
    core.write_bytes(b"")

    class Package:
        __file__ = str(core)
        __version__ = mx.__version__

    monkeypatch.setattr(primitive_library, "mlx", lambda: Package)


def test_arrays_of_another_layout(library, monkeypatch):
    """Nothing is read where an array does not say that its C++ object is."""
    for field, value in (("_HEAD", 24), ("_DIRECT", 1 << 31), ("_ARRAY_SIZE", 64)):
        with monkeypatch.context() as patch:
            patch.setattr(primitive_library, field, value)
            with pytest.raises(primitive_library.Unavailable, match="where it is expected"):
                primitive_library.try_out(library)
    primitive_library.try_out(library)


class Idle:
    """A library whose functions do nothing."""

    def __init__(self, *names):
        for name in names:
            setattr(self, name, lambda *_: 0)


FUNCTIONS = ("zmlx_describe", "zmlx_copy", "zmlx_is_default_stream", "zmlx_followed")


@pytest.mark.parametrize(
    ("message", "right"),
    [
        (r"arrays of MLX .* have another layout", 0),
        (r"arrays of MLX .* have another layout", 1),
        (r"streams of MLX .* have another layout", 2),
        (r"MLX .* does not say which arrays a transformation follows", 3),
    ],
    ids=lambda value: FUNCTIONS[value] if isinstance(value, int) else "",
)
def test_a_library_that_finds_something_else(library, message, right):
    """The first so many functions are right, and the others do nothing."""
    found = Idle(*FUNCTIONS)
    for name in FUNCTIONS[:right]:
        setattr(found, name, getattr(library, name))
    with pytest.raises(primitive_library.Unavailable, match=message):
        primitive_library.try_out(found)


def test_a_library_is_tried_out_inside_of_transformations_too(library):
    import mlx.core as mx

    def function(x):
        primitive_library.try_out(library)
        return x

    one = mx.ones((2,))
    mx.vjp(function, [one], [one])
    mx.compile(function)(one)
    mx.vmap(function)(one)
