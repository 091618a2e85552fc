"""``mx.export_function``: the file holds the kernel, as MLX's own call writes it."""

from __future__ import annotations

import pytest

import zmlx
from zmlx.launch import export, primitive_library
from zmlx.launch.records import launch_counts, reset_launch_counts

pytestmark = pytest.mark.cpu


@pytest.fixture(autouse=True)
def _on_the_cpu(backend):
    if backend != "cpu":
        pytest.skip("on a GPU the launcher is MLX's own primitive, which exports itself")
    import mlx.core as mx

    version = tuple(int(part) for part in mx.__version__.split(".")[:2])
    if version < (0, 32):
        pytest.skip(f"MLX {mx.__version__} cannot export a Metal kernel without Metal")


SOURCE = "uint i = thread_position_in_grid.x; out[i] = T(x[i] * scale);"


def calling(kernel, **changes):
    def call(x):
        return kernel(
            inputs=[x * 2, 3.0],
            template=[("T", x.dtype)],
            grid=(x.size, 1, 1),
            threadgroup=(32, 1, 1),
            output_shapes=[x.shape],
            output_dtypes=[x.dtype],
            **changes,
        )[0]

    return call


def kernel_of(make, **changes):
    return make("exported", ["x", "scale"], ["out"], SOURCE, "// its header\n", **changes)


def exported(path, call, **options):
    import mlx.core as mx

    mx.export_function(str(path), call, mx.ones((4, 8)), **options)
    return path.read_bytes()


@pytest.mark.parametrize("options", [{}, {"shapeless": True}], ids=["shapes", "shapeless"])
@pytest.mark.parametrize("reference", [None, lambda i, t: [i[0]]], ids=["", "reference"])
def test_the_file_is_the_one_that_mlx_writes(tmp_path, reference, options):
    import mlx.core as mx

    theirs = exported(tmp_path / "theirs", calling(kernel_of(mx.fast.metal_kernel)), **options)
    reset_launch_counts()
    ours = exported(tmp_path / "ours", calling(kernel_of(zmlx.metal_kernel, reference=reference)), **options)
    assert b"CustomKernel" in ours
    assert b"its header" in ours
    assert len(ours) == len(theirs)  # streams and arrays are numbered through
    assert {(key.kernel, key.path) for key in launch_counts()} == {("exported", export.PATH)}


def test_installed(tmp_path):
    import mlx.core as mx

    with zmlx.install():
        kernel = kernel_of(mx.fast.metal_kernel)
    assert b"CustomKernel" in exported(tmp_path / "f", calling(kernel))


def test_an_exporter_and_a_callback_and_a_compiled_function(tmp_path):
    import mlx.core as mx

    call = calling(kernel_of(zmlx.metal_kernel))
    with mx.exporter(str(tmp_path / "several"), call) as exporter:
        exporter(mx.ones(4))
        exporter(mx.ones((2, 4)))
    assert (tmp_path / "several").read_bytes().count(b"CustomKernel") >= 1
    assert b"CustomKernel" in exported(tmp_path / "compiled", mx.compile(call))


def test_the_cpu_by_name_is_refused_as_mlx_does(tmp_path):
    import mlx.core as mx

    with pytest.raises(ValueError, match=r"\[metal_kernel\] Only supports the GPU\."):
        exported(tmp_path / "f", calling(kernel_of(zmlx.metal_kernel), stream=mx.cpu))


def test_other_tracing_is_what_it_was(tmp_path):
    import mlx.core as mx

    answers = []

    def asked(x):
        answers.append(export.exporting())
        return x + 1

    mx.compile(asked)(mx.ones(2))
    mx.vmap(asked)(mx.ones(2))
    mx.grad(lambda x: asked(x).sum())(mx.ones(2))
    assert not export.exporting()
    assert answers == [False] * 3
    mx.export_function(str(tmp_path / "f"), asked, mx.ones(2))
    assert answers[3:] == [True]
    reset_launch_counts()
    mx.compile(calling(kernel_of(zmlx.metal_kernel, reference=lambda i, t: [i[0] * 3])))(mx.ones(4))
    assert export.PATH not in {key.path for key in launch_counts()}


def test_without_a_list_of_callers_an_export_is_any_tracing(tmp_path, monkeypatch):
    monkeypatch.setattr(export, "_backtrace_library", lambda: None)
    call = calling(kernel_of(zmlx.metal_kernel))
    if not primitive_library.found()[1]:
        # MLX must not take the launch for an object of its own class.
        with pytest.raises(ValueError, match="ZmlxKernel"):
            exported(tmp_path / "f", call)
    monkeypatch.setattr(primitive_library, "found", lambda: (None, "this test has none"))
    with pytest.raises(ValueError, match="Give metal_kernel a `reference=`"):
        exported(tmp_path / "f", call)
