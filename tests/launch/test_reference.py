"""What a reference returns is held against what the call declares, where it stands in for the kernel."""

from __future__ import annotations

import pytest

import zmlx
from zmlx.launch import primitive_library

pytestmark = pytest.mark.cpu


@pytest.fixture(autouse=True)
def _no_lazy_launches(monkeypatch):
    monkeypatch.setattr(primitive_library, "found", lambda: (None, "this test has none"))


SOURCE = "uint i = thread_position_in_grid.x; out[i] = x[i] * 2; "


def traced(reference, outputs=("out",), transform="compile"):
    import mlx.core as mx

    source = SOURCE + "".join(f"{name}[i] = x[i]; " for name in outputs[1:])
    kernel = zmlx.metal_kernel("doubled", ["x"], list(outputs), source, reference=reference)

    def call(x):
        return kernel(
            inputs=[x],
            grid=(x.size, 1, 1),
            threadgroup=(4, 1, 1),
            output_shapes=[x.shape] * len(outputs),
            output_dtypes=[x.dtype] * len(outputs),
            stream=mx.cpu,
        )

    x = mx.ones((3, 4), mx.bfloat16)
    return getattr(mx, transform)(call)(x if transform == "compile" else x[None])


@pytest.mark.parametrize("transform", ["compile", "vmap"])
@pytest.mark.parametrize(
    ("reference", "message"),
    [
        (
            lambda i, t: i[0] * 2,
            "returned an array, not a list: expected a list of 1 array, one for each of out. Return `[…]` around it.",
        ),
        (lambda i, t: None, "returned NoneType: expected a list of 1 array, one for each of out."),
        (lambda i, t: {"out": i[0]}, "returned dict: expected a list of 1 array, one for each of out."),
        (lambda i, t: [], "returned 0 outputs: expected a list of 1 array, one for each of out."),
        (lambda i, t: (i[0], i[0]), "returned 2 outputs: expected a list of 1 array, one for each of out."),
        (lambda i, t: [2.0], "returned float for `out`: expected an mx.array."),
        (
            lambda i, t: [i[0].reshape(4, 3)],
            (
                "returned shape (4, 3) for `out`: the call's output_shapes declare (3, 4). Reshape it, or change "
                "output_shapes."
            ),
        ),
        (
            lambda i, t: [i[0].astype(__import__("mlx.core").core.float32)],
            (
                "returned float32 for `out`: the call's output_dtypes declare bfloat16. Add `.astype(mx.bfloat16)`, or "
                "change output_dtypes."
            ),
        ),
    ],
    ids=["array", "None", "dict", "none", "two", "number", "shape", "dtype"],
)
def test_what_is_not_as_declared_is_an_error(reference, message, transform):
    with pytest.raises(ValueError) as error:
        traced(reference, transform=transform)
    assert str(error.value) == f"[metal_kernel] The `reference` of 'doubled' {message}"


def test_the_message_names_the_output_that_is_wrong():
    with pytest.raises(
        ValueError, match=r"returned 1 outputs: expected a list of 2 arrays, one for each of a, out"
    ):
        traced(lambda i, t: [i[0]], ("a", "out"))
    with pytest.raises(ValueError, match=r"returned shape \(12,\) for `second`"):
        traced(lambda i, t: [i[0], i[0].reshape(12)], ("out", "second"))


@pytest.mark.parametrize("transform", ["compile", "vmap"])
def test_what_is_as_declared_is_used(transform):
    for kind in (list, tuple):
        outputs = traced(lambda i, t, kind=kind: kind([i[0] * 2, i[0]]), ("out", "second"), transform)
        assert outputs[0].tolist() == (outputs[1] * 2).tolist()
