"""Guard bands: a kernel that writes outside of an output is told so, and no memory but its own is harmed."""

from __future__ import annotations

import gc
import subprocess
import sys

import numpy as np
import pytest

import zmlx
from zmlx.launch import KernelRuntimeError, LaunchKey, launch_counts, reset_launch_counts
from zmlx.launch.memory import BAND

pytestmark = pytest.mark.cpu

#: Ways that threads run: a piece of source each, and the threadgroup that makes it so.
SYNC = {"loop": "", "meeting": "threadgroup_barrier(mem_flags::mem_threadgroup);"}
DTYPES = ("bool", "uint8", "int16", "float16", "bfloat16", "float32", "int64", "complex64")
#: In the runtime's arena, in a room of its own, and in one that nobody has written to.
SIZES = (1, 1000, 20_001, (1 << 20) + 1)


def run(source, shapes=((8,),), dtypes=("float32",), place=0, **more):
    import mlx.core as mx

    names = [f"out{i}" if i else "out" for i in range(len(shapes))]
    kernel = zmlx.metal_kernel("tail", ["x"], names, source)
    call = {"grid": (4, 1, 1), "threadgroup": (4, 1, 1), **more}
    return kernel(
        inputs=[mx.arange(place, place + 8)],
        output_shapes=list(shapes),
        output_dtypes=[getattr(mx, dtype.replace("bool", "bool_")) for dtype in dtypes],
        stream=mx.cpu,
        **call,
    )


@pytest.mark.parametrize("sync", SYNC)
@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("dtype", DTYPES)
def test_one_element_on_either_side_is_seen(dtype, size, sync, meeting_path):
    # The place is an input: one kernel for all of them.
    source = f"{SYNC[sync]} if (thread_position_in_grid.x == 1) out[x[0]] = 1;"
    (out,) = run(source, [(size,)], [dtype], place=size - 1)
    reset_launch_counts()
    run(source, [(size,)], [dtype], place=0)
    assert launch_counts() == {LaunchKey("tail", "cpu", "loop" if sync == "loop" else meeting_path): 1}
    bytes_ = out.itemsize
    for at, side in ((size, "past the end of"), (-1, "in front of")):
        # 1 as a float or an integer has zero bytes at either end: what counts is that something is there.
        with pytest.raises(KernelRuntimeError, match=f"{side} its output 'out', at index {at};") as error:
            run(source, [(size,)], [dtype], place=at)
        assert f"'out' has {size} elements of {dtype}, shape ({size},)" in str(error.value)
        assert bytes_ >= 1


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("past", [1, 2, 4, 16, 100, BAND])
def test_overruns_of_many_lengths_name_how_far(size, past):
    source = (
        f"device uchar* at = (device uchar*)out; for (uint i = 0; i < {past}; ++i) at[{4 * size} + i] = 0;"
    )
    with pytest.raises(KernelRuntimeError) as error:
        run(source) if size == 8 else run(source, [(size,)])
    plural = "s" if past > 1 else ""
    assert (
        f"[metal_kernel] Kernel 'tail' wrote up to {past} byte{plural} past the end of its output 'out'"
        in str(error.value)
    )
    for way in ("zmlx.checked()", "pytest --zmlx-check", "python -m zmlx check SCRIPT"):
        assert way in str(error.value)


@pytest.mark.parametrize("size", [10, 30_000])
def test_of_several_outputs_the_right_one_is_named(size):
    shapes, dtypes = [(size,), (2, size), (size,)], ["int8", "float32", "float16"]
    for source, words in (
        (f"out[{size}] = 1;", r"past the end of its output 'out', at index"),
        (
            f"out1[{2 * size}] = 1;",
            rf"past the end of its output 'out1', at index {2 * size};.*shape \(2, {size}\)",
        ),
        ("out1[-1] = 1;", "4 bytes in front of its output 'out1', at index -1"),
        ("out2[-3] = 1;", "6 bytes in front of its output 'out2', at index -3"),
    ):
        with pytest.raises(KernelRuntimeError, match=words):
            run(source, shapes, dtypes)
    assert [x.shape for x in run("", shapes, dtypes)] == shapes


@pytest.mark.parametrize("shape", [(0,), (3, 0), ()])
@pytest.mark.parametrize("init", [None, 2.0])
def test_outputs_without_elements_and_without_axes(shape, init):
    size = int(np.prod(shape))
    with pytest.raises(KernelRuntimeError, match=rf"past the end of its output 'out', at index {size};"):
        run(f"out[{size}] = 1;", [shape], init_value=init)
    (out,) = run("", [shape], init_value=init)
    assert np.array(out).tolist() == np.full(shape, 2.0 if init else 0.0).tolist()


def test_an_initial_value_is_kept_beside_bands():
    (out,) = run("out[3] = 7;", [(5,)], init_value=2.0)
    assert out.tolist() == [2, 2, 2, 7, 2]
    with pytest.raises(KernelRuntimeError, match="at index 5"):
        run("out[5] = 2;", [(5,)], init_value=2.0)


def test_far_overruns_of_small_outputs_hit_no_memory_of_others():
    with pytest.raises(KernelRuntimeError, match="outside of its arrays"):
        run("out[2000] = 1;", [(2,)])


@pytest.mark.parametrize("init", [None, 1.0])
@pytest.mark.parametrize("shape", [(6,), (200, 150), (3, 10_000)])
def test_results_are_ordinary_arrays(shape, init):
    import mlx.core as mx

    (out,) = run("out[0] = 5;", [shape], init_value=init)
    memory = memoryview(out)
    assert memory.c_contiguous
    assert out.nbytes == memory.nbytes == 4 * out.size
    copy = np.array(out)
    assert copy.shape == shape
    assert copy.reshape(-1)[0] == 5
    np.testing.assert_array_equal(np.array(out.T), copy.T)
    np.testing.assert_array_equal(np.array(mx.flatten(out) + 1), copy.reshape(-1) + 1)
    del memory
    out += 1
    np.testing.assert_array_equal(np.array(out), copy + 1)


def test_launches_leak_nothing():
    import mlx.core as mx

    for shape in ((1000,), (50_000,)):
        for _ in range(3):
            run("out[0] = 1;", [shape])
        gc.collect()
        before = mx.get_active_memory()
        for _ in range(20):
            run("out[0] = 1;", [shape])
        gc.collect()
        assert mx.get_active_memory() == before


def test_the_process_lives_on_after_many_overruns():
    script = """
import mlx.core as mx, zmlx
from zmlx.launch import KernelRuntimeError
source = "uint i = thread_position_in_grid.x * 10; if (i >= 1536) return;" \\
    "for (uint j = 0; j < 10; ++j) out[i + j] = x[0];"
kernel = zmlx.metal_kernel("tail", ["x"], ["out"], source)
seen = 0
for n in range(200):
    try:
        kernel(inputs=[mx.arange(1536.0)], grid=(1536, 1, 1), threadgroup=(256, 1, 1), output_shapes=[(1536,)],
               output_dtypes=[mx.float32], stream=mx.cpu)
    except KernelRuntimeError as error:
        seen += "past the end of its output 'out', at index 1539" in str(error)
    mx.eval(mx.ones((n + 1,)) + 1)
print(seen)
"""
    found = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=120)
    assert (found.returncode, found.stdout) == (0, "200\n"), found.stderr
