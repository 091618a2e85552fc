"""Arrays and arguments of launches on the host: what C++ is given, what it holds, and that it lets go of it."""

from __future__ import annotations

import os
import subprocess
import sys
import threading

import mlx.core as mlx_core
import numpy as np
import pytest

import zmlx
from zmlx.launch import KernelRuntimeError, host, watch
from zmlx.launch.call import Call
from zmlx.launch.memory import allocate, release, view

pytestmark = pytest.mark.cpu


@pytest.fixture
def mx():
    import mlx.core as mx

    return mx


def launch(kernel, inputs, shape, **more):
    import mlx.core as mx

    options = {
        "output_dtypes": [mx.float32],
        "grid": (int(np.prod(shape)), 1, 1),
        "threadgroup": (4, 1, 1),
        "stream": mx.cpu,
        **more,
    }
    return kernel(inputs=inputs, output_shapes=[shape], **options)[0]


def test_shapes_strides_and_ranks_of_several_inputs(mx):
    source = """
        long sum = 0;
        for (int i = 0; i < a_ndim; ++i) sum = sum * 100 + a_shape[i];
        for (int i = 0; i < b_ndim; ++i) sum = sum * 100 + b_strides[i];
        for (int i = 0; i < c_ndim; ++i) sum = sum * 100 + c_shape[i] * 10 + c_strides[i];
        out[0] = sum + d;
    """
    kernel = zmlx.metal_kernel("call_shapes", ["a", "b", "c", "d"], ["out"], source)
    inputs = [mx.zeros((2, 3)), mx.zeros((5, 4, 6), mx.float16), mx.zeros((7,), mx.int8), 9]
    out = launch(kernel, inputs, (1,), output_dtypes=[mx.int64])
    assert out.item() == 2_03_24_06_01_71 + 9


def test_each_input_that_is_not_contiguous_is_copied(mx):
    kernel = zmlx.metal_kernel(
        "call_copies",
        ["a", "b", "c", "d"],
        ["out"],
        "uint i = thread_position_in_grid.x; out[i] = a[i] + 10 * b[i] + 100 * c[i] + 1000 * d[i];",
    )
    x = mx.arange(6, dtype=mx.float32).reshape(2, 3)
    inputs = [x.T, x, x[:, ::-1], mx.broadcast_to(x[:1], (2, 3))]
    out = launch(kernel, inputs, (6,))
    expected = sum(10**k * np.array(a).reshape(-1) for k, a in enumerate(inputs))
    np.testing.assert_array_equal(np.array(out), expected)


def failing():
    return zmlx.metal_kernel("call_fails", ["a", "b"], ["out"], "out[0] = 7 / int(a[0]) + b[0];")


@pytest.mark.parametrize("seen", [lambda x: x, lambda x: x[::-1]], ids=["as it is", "copied"])
def test_a_failed_launch_lets_go_of_its_arrays(mx, seen):
    kernel, a, b = failing(), seen(mx.zeros((4,), mx.int32)), mx.ones((4,))
    mx.eval(a, b)
    before = sys.getrefcount(a), sys.getrefcount(b)
    for _ in range(3):
        with pytest.raises(KernelRuntimeError, match="divided an integer by zero"):
            launch(kernel, [a, b], (1,))
    assert (sys.getrefcount(a), sys.getrefcount(b)) == before


@pytest.mark.parametrize(
    ("statement", "message"),
    [
        ("out[i] = 7 / int(a[0]);", "divided an integer by zero"),
        ("out[i] = a[(1l << 44) + i];", "outside of its arrays"),
    ],
)
def test_a_fault_is_caught_again_and_again_in_every_worker(mx, statement, message):
    """The jump out of a signal's handler leaves no signal blocked."""
    source = f"uint i = thread_position_in_grid.x; {statement}"
    kernel = zmlx.metal_kernel("call_faults", ["a"], ["out"], source)
    for _ in range(20):
        with pytest.raises(KernelRuntimeError, match=message):
            launch(kernel, [mx.zeros((8,))], (100_000,), threadgroup=(16, 1, 1))


def test_what_has_no_memory_is_an_error_and_the_rest_is_let_go_of(mx):
    kernel, a = failing(), mx.ones((4,))
    with watch() as seen:
        launch(kernel, [a, a], (1,))
    plan = host.load(seen[0].signature, single=True).plan
    before = sys.getrefcount(a)
    for more in ([object()], []):
        with pytest.raises((TypeError, BufferError, IndexError)):
            plan.run([a, *more], [a], 0, 1, (1, 1, 1), (1, 1, 1))
    assert sys.getrefcount(a) == before


def test_memory_lives_as_long_as_the_kernel_runs(mx):
    """The input is a scalar that nobody else holds, and its copy is nobody's either."""
    kernel = zmlx.metal_kernel(
        "call_lives",
        ["a", "b"],
        ["out"],
        "out[thread_position_in_grid.x] = a + b[thread_position_in_grid.x];",
    )
    for number in range(50):
        out = launch(kernel, [number, mx.arange(20000, dtype=mx.float32)[::-1]], (20000,))
        np.testing.assert_array_equal(np.array(out), number + np.arange(20000)[::-1])


def test_one_kernel_from_many_threads_at_once(mx):
    kernel = zmlx.metal_kernel(
        "call_threads",
        ["a"],
        ["out"],
        "uint i = thread_position_in_grid.x; out[i] = a[i] * a_shape[0];",
    )
    wrong = []

    def work(number):
        for size in (number + 1, 5000 + number):
            x = np.arange(size, dtype=np.float32)
            for _ in range(20):
                out = launch(kernel, [mx.array(x)], (size,), threadgroup=(256, 1, 1))
                if not np.array_equal(np.array(out), x * size):
                    wrong.append((number, size))

    threads = [threading.Thread(target=work, args=(number,)) for number in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(timeout=120)
    assert wrong == []


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork on this system")
@pytest.mark.skipif(mlx_core.cuda.is_available(), reason="a process forked from one with CUDA cannot use MLX")
def test_a_forked_process_has_workers_of_its_own():
    script = """
import os
import mlx.core as mx, zmlx
kernel = zmlx.metal_kernel("forks", ["x"], ["out"], "uint i = thread_position_in_grid.x; out[i] = x[i] + 1;")
x = mx.zeros((8192,))
def launch():
    return kernel(inputs=[x], output_shapes=[x.shape], output_dtypes=[x.dtype], grid=(8192, 1, 1),
                  threadgroup=(16, 1, 1), stream=mx.cpu)[0]
launch()
child = os.fork()
if child == 0:
    good = all(memoryview(launch())[8191] == 1.0 for _ in range(3))
    os._exit(0 if good else 1)
print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), memoryview(launch())[8191])
"""
    run = subprocess.run(
        [sys.executable, "-c", script],
        env={**os.environ, host.THREADS_VARIABLE: "3"},
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert run.stdout == "0 1.0\n", run.stderr


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork on this system")
def test_a_process_forked_from_one_with_cuda_gets_an_error():
    script = """
import os
import mlx.core as mx, zmlx
kernel = zmlx.metal_kernel("forks", ["x"], ["out"], "out[0] = x;")
mx.cuda.is_available = lambda: True
child = os.fork()
if child == 0:
    try:
        kernel(inputs=[1.0], output_shapes=[(1,)], output_dtypes=[mx.float32], grid=(1, 1, 1), threadgroup=(1, 1, 1))
    except RuntimeError as error:
        print(error, flush=True)
    os._exit(0)
os.waitpid(child, 0)
out = kernel(inputs=[1.0], output_shapes=[(1,)], output_dtypes=[mx.float32], grid=(1, 1, 1), threadgroup=(1, 1, 1),
             stream=mx.cpu)[0]
print(out.item())
"""
    run = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=120)
    said, _, parent = run.stdout.partition("\n")
    assert "forked from one in which MLX has CUDA" in said
    assert "get_context('spawn')" in said
    assert parent == "1.0\n", run.stderr


@pytest.mark.parametrize("size", [0, 1, 100, 1 << 14, (1 << 14) + 1])
def test_outputs_of_any_size_have_memory_of_their_own(mx, size):
    shapes = [(size,), (2, size), (size, 1, 1), ()]
    for dtype in (mx.uint8, mx.bool_, mx.bfloat16, mx.float32, mx.complex64):
        call = Call([], shapes, [dtype] * 4, (1, 1, 1), (1, 1, 1), [], None, None)
        outputs = allocate(call) + allocate(call)
        assert [x.shape for x in outputs] == shapes * 2
        assert {x.dtype for x in outputs} == {dtype}
        held = []
        memory = [view(x, False, held).address for x in outputs if x.size]
        for buffer in held:
            release(buffer)
        assert len(set(memory)) == len(memory)


def test_what_is_written_to_one_output_is_not_in_the_next(mx):
    kernel = zmlx.metal_kernel("call_writes", ["a"], ["out"], "if (a) out[thread_position_in_grid.x] = 7;")
    for dtype in (mx.uint8, mx.float32):
        for number, expected in ((1, 7), (0, 0)):
            out = launch(kernel, [number], (5, 3), output_dtypes=[dtype])
            np.testing.assert_array_equal(np.array(out), np.full((5, 3), expected))


@pytest.mark.parametrize(
    ("shape", "error"),
    [((2.0, 3), TypeError), ((-1, 3), ValueError), ((-2, -3), ValueError), (("6",), TypeError)],
)
def test_shapes_that_are_none(mx, shape, error):
    kernel = zmlx.metal_kernel("call_shapeless", ["a"], ["out"], "out[0] = a;")
    with pytest.raises(error):
        kernel(
            inputs=[1],
            output_shapes=[shape],
            output_dtypes=[mx.int32],
            grid=(1, 1, 1),
            threadgroup=(1, 1, 1),
            stream=mx.cpu,
        )


def test_shapes_of_numpy_integers(mx):
    kernel = zmlx.metal_kernel("call_numpy", ["a"], ["out"], "out[thread_position_in_grid.x] = a;")
    assert launch(kernel, [2], tuple(np.array([2, 3]))).tolist() == [[2.0] * 3] * 2
