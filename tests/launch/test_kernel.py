"""Arguments, errors and dispatch of `metal_kernel`: what MLX says, word for word, where MLX says something."""

from __future__ import annotations

import pytest

import zmlx
from zmlx.launch import current_backend, primitive_library, recording, watch
from zmlx.launch.records import LaunchKey, launch_counts, reset_launch_counts

pytestmark = pytest.mark.cpu

BODY = "uint i = thread_position_in_grid.x; out[i] = x[i];"


def kernel(**changes):
    return zmlx.metal_kernel(
        **{"name": "copy", "input_names": ["x"], "output_names": ["out"], "source": BODY, **changes}
    )


def arguments(**changes):
    import mlx.core as mx

    x = mx.arange(6, dtype=mx.float32)
    call = {
        "inputs": [x],
        "output_shapes": [x.shape],
        "output_dtypes": [x.dtype],
        "grid": (6, 1, 1),
        "threadgroup": (4, 1, 1),
    }
    return {**call, **changes}


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"output_names": []}, "[metal_kernel] Must specify at least one output."),
        ({"compile_options": {"foo": 1}}, "[metal_kernel] Unknown compile option `foo`."),
        (
            {"compile_options": {"math_mode": "sloppy"}},
            "[metal_kernel] Expected math_mode to be 'safe', 'relaxed', or 'fast'.",
        ),
    ],
)
def test_creation_errors_are_those_of_mlx(changes, message):
    import mlx.core as mx

    with pytest.raises(ValueError) as ours:
        kernel(**changes)
    assert str(ours.value) == message
    if mx.__version__ >= "0.32":  # before, the missing Metal back end was the first thing MLX spoke of
        with pytest.raises(ValueError) as theirs:
            mx.fast.metal_kernel(
                **{"name": "k", "input_names": ["x"], "output_names": ["o"], "source": "", **changes}
            )
        assert str(theirs.value).strip() == message


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"inputs": []}, "[metal_kernel] Expected `inputs` to have size 1 but got size 0."),
        ({"output_shapes": []}, "[metal_kernel] Expected `output_shapes` to have size 1 but got size 0."),
        ({"output_dtypes": []}, "[metal_kernel] Expected `output_dtypes` to have size 1 but got size 0."),
        (
            {"template": [("T", "float")]},
            "[metal_kernel] Invalid template argument. Must be `mlx.core.Dtype`, `int` or `bool`.",
        ),
        (
            {"template": [("N", 2**31)]},
            "[metal_kernel] Invalid template argument. Must be `mlx.core.Dtype`, `int` or `bool`.",
        ),
        (
            {"threadgroup": (32, 32, 2)},
            (
                "[metal_kernel] Thread group size (2048) is greater than the maximum allowed threads per threadgroup "
                "(1024)."
            ),
        ),
        (
            {"threadgroup": (0, 1, 1)},
            "[metal_kernel] Expected `threadgroup` to have at least one thread but got (0, 1, 1).",
        ),
        (
            {"grid": (6, 1)},
            "[metal_kernel] Expected `grid` to be three counts of threads along x, y and z but got (6, 1).",
        ),
        (
            {"grid": (-1, 1, 1)},
            "[metal_kernel] Expected `grid` to be three counts of threads along x, y and z but got (-1, 1, 1).",
        ),
    ],
)
def test_call_errors(changes, message):
    with pytest.raises(ValueError) as error:
        kernel()(**arguments(**changes))
    assert str(error.value) == message


def test_the_first_wrong_count_is_reported():
    with pytest.raises(ValueError, match="Expected `output_shapes` to have size 1 but got size 2"):
        kernel()(**arguments(output_shapes=[(6,), (6,)], output_dtypes=[]))


def test_good_arguments_do_not_hide_bad_ones():
    """What was found good is remembered, as what it was."""
    made = kernel()
    for _ in range(2):
        assert made(**arguments())[0].tolist() == [0, 1, 2, 3, 4, 5]
        for changes in ({"grid": (6, 1, -1)}, {"threadgroup": (4, 1, 0)}, {"threadgroup": (4, 1, 1000)}):
            with pytest.raises(ValueError, match=r"Expected `|greater than the maximum"):
                made(**arguments(**changes))
        with pytest.raises(TypeError):
            made(**arguments(output_shapes=[(6.0,)], stream=None))


@pytest.mark.parametrize(
    "grid",
    [[6, 1, 1], (6.0, 1, 1), (True, 1, 6), "numpy", "mlx"],
    ids=["list", "float", "bool", "numpy", "mlx"],
)
def test_extents_are_what_int_makes_of_them(grid):
    import mlx.core as mx
    import numpy as np

    made = kernel(source="out[0] = threads_per_grid.x * 100 + threads_per_grid.y * 10 + threads_per_grid.z;")
    grid = {"numpy": np.array([6, 1, 1]), "mlx": (mx.array(6), 1, 1)}.get(str(grid), grid)
    for _ in range(2):
        with watch() as seen:
            made(**arguments(grid=grid, threadgroup=[1, 1, 1]))
        assert seen[0].grid == tuple(map(int, grid))
        assert [*map(type, seen[0].grid)] == [int] * 3
    if isinstance(grid[0], mx.array):
        extent = grid[0]
        extent -= 3  # the same object with another value
        assert extent is grid[0]
        with watch() as seen:
            made(**arguments(grid=grid))
        assert seen[0].grid == (3, 1, 1)


def test_what_extents_are_remembered_is_bounded(monkeypatch):
    from zmlx.launch import call

    monkeypatch.setattr(call, "_known_extents", {})
    monkeypatch.setattr(call, "_MAX_KNOWN_EXTENTS", 3)
    for size in range(1, 20):
        assert call.extents((size, 1, 1), (4, 1, 1)) == ((size, 1, 1), (4, 1, 1))
        assert len(call._known_extents) <= 3
    assert call.extents([2, 1, 1], (4, 1, 1)) == ((2, 1, 1), (4, 1, 1))


def test_a_signature_for_each_kind_of_call():
    """Dtypes, ranks, whether an input is small, and template arguments with their kinds: all of them count."""
    import mlx.core as mx

    made = kernel()
    calls = [
        {"inputs": [mx.zeros((6,))]},
        {"inputs": [mx.zeros((6,), mx.float16)]},
        {"inputs": [mx.zeros((6,), mx.bfloat16)]},
        {"inputs": [mx.zeros((2, 3))]},
        {"inputs": [mx.zeros((8,))]},
        {"inputs": [1.0]},
        {"inputs": [1]},
        {"inputs": [True]},
        {"output_dtypes": [mx.float16]},
        {"template": [("N", 1)]},
        {"template": [("N", True)]},
        {"template": [("N", 0)]},
        {"template": [("N", False)]},
        {"template": [("M", 1)]},
        {"template": [("N", mx.float32)]},
        {"template": [("N", 1), ("M", 1)]},
    ]
    with recording("metal") as seen:
        for _ in range(2):
            for changes in calls:
                made(**arguments(**changes))
        made(**arguments(inputs=[mx.ones((7,))]))
    first, second = seen[: len(calls)], seen[len(calls) : -1]
    assert len({record.signature for record in first}) == len(calls)
    assert [r.signature for r in first] == [r.signature for r in second]
    assert seen[-1].signature == first[0].signature


def test_arguments_are_keywords():
    import mlx.core as mx

    with pytest.raises(TypeError):
        kernel()([mx.ones(3)])
    with pytest.raises(TypeError, match="colour"):
        kernel()(**arguments(colour="red"))


def test_no_gpu_for_a_gpu_stream():
    import mlx.core as mx

    if mx.metal.is_available() or mx.cuda.is_available():
        pytest.skip("this machine has a GPU")
    with pytest.raises(RuntimeError, match=r"MLX has no GPU back end here. Pass stream=mx.cpu"):
        kernel()(**arguments(stream=mx.gpu))


def test_the_stream_decides():
    import mlx.core as mx

    for stream in (mx.cpu, mx.Device(mx.cpu), mx.default_stream(mx.cpu), mx.new_stream(mx.cpu)):
        assert current_backend(stream) == "cpu"
        assert kernel()(**arguments(stream=stream))[0].tolist() == [0, 1, 2, 3, 4, 5]
    with mx.stream(mx.cpu):
        assert current_backend() == "cpu"


def test_verbose_prints_the_metal_text(capsys):
    import mlx.core as mx

    with recording("metal") as calls:
        kernel()(**arguments(verbose=True, template=[("T", mx.float16)]))
    assert capsys.readouterr().out == (
        f"Generated source code for `copy`:\n```\n{calls[0].signature.metal_text()}\n```\n"
    )


def test_true_and_one_are_different_template_arguments():
    import mlx.core as mx

    show = zmlx.metal_kernel(
        "kinds",
        ["x"],
        ["out"],
        "out[0] = metal::is_same_v<decltype(N), const bool> || metal::is_same_v<decltype(N), bool>;",
    )
    results = [
        show(
            **arguments(
                template=[("N", value)], output_shapes=[(1,)], output_dtypes=[mx.int32], stream=mx.cpu
            )
        )[0].item()
        for value in (1, True)
    ]
    assert results == [0, 1]


def test_tracing_uses_the_reference_or_says_why_not(monkeypatch):
    import mlx.core as mx

    monkeypatch.setattr(primitive_library, "found", lambda: (None, "this test has none"))

    twice = kernel(name="twice", source="uint i = thread_position_in_grid.x; out[i] = 2 * x[i];")
    with_reference = kernel(
        name="twice_ref",
        source="uint i = thread_position_in_grid.x; out[i] = K * x[i];",
        reference=lambda inputs, template: [inputs[0] * template["K"]],
    )

    def call(k, x, **more):
        return k(**arguments(inputs=[x], output_shapes=[x.shape], stream=mx.cpu, **more))[0]

    x = mx.arange(6, dtype=mx.float32)
    for transform in (mx.compile, mx.vmap):
        with pytest.raises(ValueError) as error:
            transform(lambda x: call(twice, x))(x)
        assert "'twice' runs on the CPU as soon as it is called" in str(error.value)
        assert "cannot be had, since this test has none. Give metal_kernel" in str(error.value)
        assert "Give metal_kernel a `reference=`" in str(error.value)
    reset_launch_counts()
    traced = mx.compile(lambda x: call(with_reference, x, template=[("K", 2)]))(x)
    assert traced.tolist() == [0, 2, 4, 6, 8, 10]
    assert launch_counts() == {LaunchKey("twice_ref", "cpu", "reference"): 1}


def test_a_gradient_nobody_wrote_is_an_error_not_zero():
    import mlx.core as mx

    with pytest.raises(ValueError, match=r"'copy' has no gradient\. Wrap the call in mx\.custom_function"):
        mx.grad(lambda x: kernel()(**arguments(inputs=[x], stream=mx.cpu))[0].sum())(mx.ones((6,)))


def test_a_gradient_somebody_wrote_is_used():
    import mlx.core as mx

    @mx.custom_function
    def copy(x):
        return kernel()(**arguments(inputs=[x], stream=mx.cpu))[0]

    @copy.vjp
    def copy_vjp(primals, cotangent, output):
        return cotangent * 3

    assert mx.grad(lambda x: copy(x).sum())(mx.ones((6,))).tolist() == [3.0] * 6


def test_repr():
    assert repr(kernel(input_names=["a", "b"])) == "<zmlx.metal_kernel copy(a, b) -> out>"
