"""Launches on the CPU as operations of MLX's graph."""

from __future__ import annotations

import concurrent.futures
import contextlib
import io
import subprocess
import sys
import time

import numpy as np
import pytest

import zmlx
from zmlx.launch import host, primitive
from zmlx.launch import kernel as kernels
from zmlx.launch.records import LaunchKey, launch_counts, poisoned_outputs, reset_launch_counts

pytestmark = pytest.mark.cpu

I = "uint i = thread_position_in_grid.x; "  # noqa: E741


@pytest.fixture(autouse=True)
def _lazy(backend):
    if backend != "cpu":
        pytest.skip("on a GPU launches are MLX's own operations")
    reason = primitive.unavailable()
    if reason:
        pytest.skip(f"launches cannot be part of MLX's graph here: {reason}")


@pytest.fixture(scope="module")
def mx():
    import mlx.core

    return mlx.core


def kernel(body="out[i] = x[i] * 2;", inputs=("x",), outputs=("out",), **more):
    return zmlx.metal_kernel("lazy", list(inputs), list(outputs), I + body, **more)


def run(made, *inputs, **more):
    """The first output, of the first input's shape and dtype."""
    x = inputs[0]
    arguments = {
        "inputs": list(inputs),
        "output_shapes": [x.shape],
        "output_dtypes": [x.dtype],
        "grid": (x.size, 1, 1),
        "threadgroup": (64, 1, 1),
        **more,
    }
    return made(**arguments)[0]


def double(x, **more):
    return run(kernel(), x, **more)


def same(actual, expected):
    assert actual.dtype == expected.dtype
    np.testing.assert_array_equal(np.array(actual), np.array(expected), strict=True)


@pytest.mark.parametrize("shape", [(1,), (3, 4), (300, 70), (0, 3)], ids=str)
def test_compiled(mx, shape):
    """In its place between other operations, as often as the function is called."""
    x = mx.random.normal(shape)
    reset_launch_counts()
    compiled = mx.compile(lambda x: double(x + 1) - 1)
    for factor in (1, 2, 3):
        same(compiled(factor * x), (factor * x + 1) * 2 - 1)
    assert launch_counts() == {LaunchKey("lazy", "cpu", primitive.PATH): 1}


def test_the_values_are_those_of_the_kernel_and_not_of_its_reference(mx):
    made = kernel("out[i] = x[i] + 1;", reference=lambda inputs, template: [inputs[0] - 1])
    same(mx.compile(lambda x: run(made, x))(mx.zeros(5)), mx.ones(5))


def test_several_outputs_and_scalars_and_shapes(mx):
    made = kernel(
        "total[i] = x[i] * scale + x_shape[1]; which[i] = x_strides[0] + x_ndim;",
        ("x", "scale"),
        ("total", "which"),
    )

    def call(x, scale):
        return made(
            inputs=[x, scale],
            output_shapes=[x.shape, (x.size,)],
            output_dtypes=[mx.float32, mx.int32],
            grid=(x.size, 1, 1),
            threadgroup=(8, 1, 1),
        )

    x = mx.arange(6.0).reshape(2, 3)
    total, which = mx.compile(lambda x: call(x, mx.array(3.0)))(x)
    same(total, x * 3 + 3)
    same(which, mx.full((6,), 3 + 2, mx.int32))


def test_threads_that_meet(mx):
    made = kernel(
        "threadgroup float row[64]; row[i] = x[i]; threadgroup_barrier(mem_flags::mem_threadgroup);"
        "out[i] = row[63 - i];"
    )
    x = mx.arange(64.0)
    same(mx.compile(lambda x: run(made, x))(x), x[::-1])


@pytest.mark.parametrize("make", [lambda mx, x: x.T, lambda mx, x: x[::2, ::-1]], ids=["transposed", "steps"])
def test_inputs_that_are_not_contiguous(mx, make):
    x = mx.random.normal((6, 8))
    mx.eval(x)
    same(mx.compile(lambda x: double(make(mx, x)))(x), make(mx, x) * 2)
    strided = kernel(
        "out[i] = x[i / x_shape[1] * x_strides[0] + i % x_shape[1] * x_strides[1]];",
        ensure_row_contiguous=False,
    )
    same(mx.compile(lambda x: run(strided, make(mx, x)))(x), make(mx, x))


@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "int8", "bool_", "uint64"])
@pytest.mark.parametrize("size", [5, 20000])
def test_what_nobody_writes_is_what_it_is_in_an_eager_call(mx, dtype, size):
    half = kernel("if (i < 2) out[i] = T(x[i]);")
    kinds = {
        "output_dtypes": [getattr(mx, dtype)],
        "template": [("T", getattr(mx, dtype))],
        "grid": (size, 1, 1),
    }
    for value in (None, 1, -0.0):

        def call(x, value=value):
            return run(half, x, init_value=value, **kinds)

        x = mx.ones(size)
        same(mx.compile(call)(x).view(mx.uint8), call(x).view(mx.uint8))


def test_poisoned_outputs(mx):
    with poisoned_outputs():
        found = mx.compile(lambda x: run(kernel("if (i < 1) out[i] = x[i];"), x))(mx.ones(3))
    assert str(found.tolist()) == "[1.0, nan, nan]"


def test_shapeless(mx):
    compiled = mx.compile(lambda x: double(x.T) + 1, shapeless=True)
    x = mx.arange(12.0).reshape(3, 4)
    for value in (x, x + 1):
        same(compiled(value), value.T * 2 + 1)
    with pytest.raises(ValueError) as error:
        compiled(mx.ones((2, 5)))
    assert str(error.value) == (
        "[metal_kernel] Kernel 'lazy' was traced with inputs[0] of shape (4, 3) and now gets (5, 2): its grid and its "
        "outputs' shapes are those of the call that was traced. Leave shapeless=True out, so that mx.compile traces "
        "each shape."
    )
    same(compiled(x), x.T * 2 + 1)


def test_calls_that_are_alike_are_one(mx):
    made = kernel()
    compiled = mx.compile(lambda x: run(made, x) + run(made, x) + run(made, x, threadgroup=(2, 1, 1)))
    result, graph = compiled(mx.ones(4)), io.StringIO()
    mx.export_to_dot(graph, result)
    assert graph.getvalue().count('"ZmlxKernel"') == 2
    same(result, mx.full((4,), 6.0))


@pytest.mark.parametrize("axis", [0, 1, 2, -1])
def test_vmap(mx, axis):
    x = mx.random.normal((3, 4, 5))
    reset_launch_counts()
    same(mx.vmap(double, in_axes=axis, out_axes=1)(x), mx.moveaxis(mx.moveaxis(x, axis, 0) * 2, 0, 1))
    assert launch_counts() == {LaunchKey("lazy", "cpu", primitive.PATH): 1}


@pytest.mark.parametrize("axes", [(0, None), (1, 0), (None, 1), (0, 0)], ids=str)
def test_vmap_over_some_inputs(mx, axes):
    made = kernel("out[i] = a[i] - b[i];", ("a", "b"))
    arrays = [mx.random.normal((4, 4) if axis is not None else (4,)) for axis in axes]
    same(mx.vmap(lambda a, b: run(made, a, b), axes)(*arrays), mx.vmap(lambda a, b: a - b, axes)(*arrays))


def test_vmap_over_a_scalar(mx):
    made = kernel("out[i] = x[i] * scale;", ("x", "scale"))
    x, scales = mx.random.normal((6,)), mx.arange(3.0)
    same(mx.vmap(lambda s: run(made, x, s))(scales), scales[:, None] * x)


def test_vmap_of_vmap_compiled_and_of_many_elements(mx):
    x = mx.random.normal((3, 2, 30000))
    nested = mx.vmap(mx.vmap(double, in_axes=1, out_axes=0), in_axes=1, out_axes=0)
    y = mx.random.normal((5, 2, 3))
    same(nested(y), mx.vmap(mx.vmap(lambda v: v * 2, in_axes=1), in_axes=1)(y))
    same(mx.compile(mx.vmap(mx.vmap(double)))(x), x * 2)
    assert mx.vmap(double)(mx.zeros((0, 3))).shape == (0, 3)


def test_vmap_keeps_launches_apart(mx):
    """A launch that writes past its part of the array is found, although the array goes on there."""
    past = kernel("out[i + 1] = x[i];")
    with pytest.raises(
        RuntimeError, match="wrote up to 4 bytes past the end of its output 'out', at index 4; 'out' has 4"
    ):
        mx.eval(mx.vmap(lambda x: run(past, x))(mx.zeros((3, 4))))


def test_checkpoint_and_a_gradient_inside_of_compile(mx):
    @mx.custom_function
    def doubled(x):
        return double(x)

    @doubled.vjp
    def doubled_vjp(primals, cotangent, output):
        return double(cotangent)

    def loss(x):
        return doubled(x * x).sum()

    x = mx.arange(6.0)
    for function in (loss, mx.checkpoint(loss)):
        same(mx.compile(mx.grad(function))(x), 4 * x)
        same(mx.grad(function)(x), 4 * x)
        same(mx.compile(function)(x), 2 * (x * x).sum())


def squared(mx, reference=True):
    given = {"reference": lambda inputs, template: [mx.square(inputs[0]) * inputs[1]]} if reference else {}
    made = kernel("out[i] = x[i] * x[i] * y[i];", ("x", "y"), **given)
    return lambda x, y: run(made, x, y)


def test_gradients_and_tangents_are_those_of_the_reference(mx):
    call = squared(mx)
    x, y = mx.random.normal((4,)), mx.random.normal((4,))

    def gradients(x, y):
        return mx.grad(lambda x, y: (call(x, y) * 3).sum(), argnums=(0, 1))(x, y)

    for actual, expected in zip(mx.compile(gradients)(x, y), (6 * x * y, 3 * x * x), strict=True):
        np.testing.assert_allclose(np.array(actual), np.array(expected), rtol=1e-6)
    tangent = mx.compile(lambda x, y: mx.jvp(call, [x, y], [y, x])[1][0])(x, y)
    np.testing.assert_allclose(np.array(tangent), np.array(2 * x * y * y + x**3), rtol=1e-5)
    rows = mx.random.normal((3, 4))
    mapped = mx.compile(mx.grad(lambda y: mx.vmap(call, (0, None))(rows, y).sum()))(y)
    np.testing.assert_allclose(np.array(mapped), np.array((rows * rows).sum(0)), rtol=1e-5)


def test_without_a_reference_they_are_errors(mx):
    call, x = squared(mx, reference=False), mx.ones(4)
    with pytest.raises(ValueError, match=r"'lazy' has no gradient\. Wrap the call in mx\.custom_function"):
        mx.compile(mx.grad(lambda x: call(x, x).sum()))(x)
    with pytest.raises(ValueError, match=r"'lazy' has no tangent\. Wrap the call in mx\.custom_function"):
        mx.compile(lambda x: mx.jvp(call, [x, x], [x, x])[1])(x)


def test_an_error_of_the_reference_is_told(mx):
    made = kernel(reference=lambda inputs, template: inputs[0])
    with pytest.raises(ValueError, match=r"The `reference` of 'lazy' returned an array, not a list"):
        mx.compile(mx.grad(lambda x: run(made, x).sum()))(mx.ones(4))


def values_or_nan(array):
    """What an array holds that a failed launch left, unless that is the error once more."""
    try:
        return array.tolist()
    except RuntimeError:
        return [float("nan")]


def test_failures_do_not_add_up(mx):
    """MLX counts a task that never ends for some of them, and would wait for it in the end."""
    # MLX keeps the stream that it then refuses to hand out.
    with contextlib.suppress(ValueError):
        mx.new_stream(mx.gpu)
    made = kernel("out[i + 1] = x[i];")
    compiled = mx.compile(lambda x: mx.cumsum(run(made, mx.sin(x))))
    for _ in range(300):
        with pytest.raises(RuntimeError, match="wrote up to 4 bytes"):
            mx.eval(compiled(mx.ones(3)))
    assert mx.compile(double)(mx.ones(3)).tolist() == [2, 2, 2]


@pytest.mark.parametrize("size", [5, 40000])
@pytest.mark.parametrize("offset", ["2", "-1"])
def test_a_write_outside_is_the_error_of_an_eager_call(mx, size, offset):
    made = kernel(f"out[int(i) + {offset}] = x[i];")
    x = mx.ones(size)
    with pytest.raises(zmlx.launch.KernelRuntimeError) as eager:
        run(made, x)
    result = mx.compile(lambda x: run(made, x) + 1)(x)
    with pytest.raises(RuntimeError) as lazy:
        mx.eval(result)
    assert str(lazy.value) == str(eager.value)
    assert all(np.isnan(values_or_nan(result)))
    assert (mx.ones(2) + 1).tolist() == [2, 2]  # the stream goes on
    assert mx.compile(double)(x)[0].item() == 2


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ("out[i] = x[(1l << 44) + i];", "read or wrote memory outside of its arrays"),
        ("out[i] = 5 / (int(x[i]) - 1);", "divided an integer by zero"),
        ("__builtin_trap();", "ran into a trap"),
    ],
    ids=["access", "division", "trap"],
)
def test_a_kernel_that_is_stopped(mx, body, message):
    result = mx.compile(lambda x: run(kernel(body), x))(mx.ones(5))

    def evaluate():
        mx.eval(result)
        mx.synchronize()  # MLX may raise it with the stream's next work only

    with pytest.raises(RuntimeError, match=rf"Kernel 'lazy' {message}"):
        evaluate()
    assert all(np.isnan(values_or_nan(result)))


FOREVER = "volatile int n = 0; while (x[0] < 100) n = n + 1; out[i] = n;"


def test_time_limits(mx, monkeypatch):
    endless = mx.compile(lambda x: run(kernel(FOREVER), x))
    monkeypatch.setenv("ZMLX_TIME_LIMIT", "0.1")
    with pytest.raises(RuntimeError, match=r"Kernel 'lazy' did not end within 0\.1 s, the time limit"):
        endless(mx.ones(4)).tolist()
    monkeypatch.setenv("ZMLX_TIME_LIMIT", "soon")
    with pytest.raises(
        RuntimeError, match=r"Kernel 'lazy': ZMLX_TIME_LIMIT=soon: expected a number of seconds"
    ):
        endless(mx.ones(4)).tolist()


INTERRUPTED = f"""
import os, signal, threading
import mlx.core as mx
import zmlx

mx.set_default_device(mx.cpu)
kernel = zmlx.metal_kernel("lazy", ["x"], ["out"], "uint i = thread_position_in_grid.x; {FOREVER}")
call = mx.compile(lambda x: kernel(inputs=[x], output_shapes=[(4,)], output_dtypes=[mx.float32], grid=(4, 1, 1),
                                   threadgroup=(4, 1, 1))[0])
result = call(mx.ones(4))
threading.Timer(0.5, os.kill, (os.getpid(), signal.SIGINT)).start()
try:
    try:
        mx.eval(result)
    except RuntimeError as error:
        assert "Kernel 'lazy' was stopped by Ctrl-C" in str(error), error
        for _ in range(100):
            pass
except KeyboardInterrupt:
    print("interrupted")
"""


def test_ctrl_c():
    done = subprocess.run([sys.executable, "-c", INTERRUPTED], capture_output=True, text=True, timeout=60)
    assert (done.stdout, done.returncode) == ("interrupted\n", 0), done.stderr


def test_streams_and_threads(mx):
    def work(number):
        with mx.stream(mx.new_stream(mx.cpu)):
            compiled = mx.compile(lambda x: double(double(x)) + 1)
            x = mx.full((50,), float(number))
            return all(compiled(x).tolist() == [4.0 * number + 1] * 50 for _ in range(20))

    with concurrent.futures.ThreadPoolExecutor(4) as pool:
        assert all(pool.map(work, range(8)))
    other = mx.new_stream(mx.cpu)
    same(mx.compile(lambda x: double(x, stream=other))(mx.ones(3)), mx.full((3,), 2.0))
    of_thread = mx.new_thread_local_stream(mx.cpu)
    same(mx.compile(lambda x: double(x, stream=of_thread))(mx.ones(3)), mx.full((3,), 2.0))


def test_an_error_is_that_of_its_stream(mx):
    """Whoever uses another stream does not get it, and who asks for this one does."""
    failing, other = mx.new_stream(mx.cpu), mx.new_stream(mx.cpu)
    x, made = mx.ones(5), kernel("out[i] = 5 / (int(x[i]) - 1);")
    mx.eval(x)
    pending = 0
    for _ in range(12):  # MLX counts what fails, and waits from ten on
        try:
            mx.async_eval(mx.compile(lambda x: run(made, x, stream=failing))(x))
        except RuntimeError:
            continue  # it failed before all was handed over
        time.sleep(0.02)
        same(mx.compile(lambda x: double(x, stream=other))(x), mx.full((5,), 2.0))
        with pytest.raises(RuntimeError, match="Kernel 'lazy' divided an integer by zero"):
            mx.synchronize(failing)
        pending += 1
    assert pending
    same(mx.compile(lambda x: double(x, stream=failing))(x), mx.full((5,), 2.0))


def test_graphs_outlive_the_kernel(mx):
    """What a compiled function holds of a call stays when Python has forgotten the call."""
    compiled = mx.compile(lambda x: double(x))
    same(compiled(mx.ones(3)), mx.full((3,), 2.0))
    primitive._known.clear()
    host.forget_programs()
    same(compiled(mx.zeros(3) + 3), mx.full((3,), 6.0))


def test_export_writes_the_kernel_of_mlx_and_its_import_says_where_it_runs(mx, tmp_path):
    path = str(tmp_path / "f.mlxfn")
    mx.export_function(path, lambda x: double(x), mx.ones(4))
    with pytest.raises((ValueError, RuntimeError), match=r"(?i)gpu"):
        mx.eval(mx.import_function(path)(mx.ones(4)))


def test_under_a_checker_tracing_is_what_it_was(mx):
    with zmlx.checked():
        assert "a checker that looks at launches" in kernels.why_not_lazy()
        with pytest.raises(ValueError, match=r"one by one, is on \(mx\.disable_compile\(\)"):
            mx.compile(double)(mx.ones(4))
    assert not kernels.why_not_lazy()


def test_outside_of_tracing_a_launch_has_run_when_the_call_returns(mx):
    reset_launch_counts()
    double(mx.ones(4))
    assert launch_counts() == {LaunchKey("lazy", "cpu", "loop"): 1}
