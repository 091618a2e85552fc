"""The CPU launcher: the ways it runs threads, memory, and what happens when a kernel goes wrong."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import threading
from pathlib import Path

import numpy as np
import pytest

import zmlx
from zmlx.errors import KernelCompileError
from zmlx.launch import KernelRuntimeError
from zmlx.launch.records import LaunchKey, launch_counts, reset_launch_counts

pytestmark = pytest.mark.cpu


def run(
    source, inputs=(), shape=(1,), dtype="int32", grid=(1, 1, 1), threadgroup=(1, 1, 1), header="", **more
):
    """Launch a kernel with inputs a, b, c, … and one output ``out`` on the CPU; the result as NumPy."""
    import mlx.core as mx

    creation = {k: more.pop(k) for k in ("ensure_row_contiguous", "atomic_outputs") if k in more}
    kernel = zmlx.metal_kernel("host_test", list("abc"[: len(inputs)]), ["out"], source, header, **creation)
    (out,) = kernel(
        inputs=list(inputs),
        output_shapes=[shape],
        output_dtypes=[getattr(mx, dtype)],
        grid=grid,
        threadgroup=threadgroup,
        stream=mx.cpu,
        **more,
    )
    return np.array(out)


ROW_SUM = """
    threadgroup float partial[32];
    uint row = threadgroup_position_in_grid.x;
    uint t = thread_position_in_threadgroup.x;
    float sum = 0;
    for (uint i = t; i < a_shape[1]; i += threads_per_threadgroup.x) sum += a[row * a_shape[1] + i];
    sum = simd_sum(sum);
    if (thread_index_in_simdgroup == 0) partial[simdgroup_index_in_threadgroup] = sum;
    threadgroup_barrier(mem_flags::mem_threadgroup);
    if (t < 32) {
        float s = simd_sum(t < simdgroups_per_threadgroup ? partial[t] : 0.0);
        if (t == 0) out[row] = s;
    }
"""


@pytest.mark.parametrize("width", [1, 2, 31, 32, 33, 64, 100, 256, 1024])
def test_a_row_sum_at_every_width(width, meeting_path):
    import mlx.core as mx

    x = np.random.default_rng(width).standard_normal((13, 517)).astype(np.float32)
    reset_launch_counts()
    out = run(ROW_SUM, [mx.array(x)], (13,), "float32", (13 * width, 1, 1), (width, 1, 1))
    np.testing.assert_allclose(out, x.astype(np.float64).sum(1), rtol=2e-5, atol=2e-5)
    path = "loop" if width == 1 else meeting_path
    assert launch_counts() == {LaunchKey("host_test", "cpu", path): 1}


def test_partial_groups_in_three_dimensions(meeting_path):
    """Every thread of a 5 x 7 x 3 grid in groups of 4 x 4 x 2 sees the true size of its own group."""
    source = """
        uint3 p = thread_position_in_grid, g = threads_per_grid, s = threads_per_threadgroup;
        uint3 l = thread_position_in_threadgroup;
        uint i = (p.z * g.y + p.y) * g.x + p.x;
        out[i] = ((s.x * 10 + s.y) * 10 + s.z) * 1000 + thread_index_in_threadgroup;
        SYNC
    """
    expected = np.zeros((3, 7, 5), np.int32)
    for z, y, x in np.ndindex(expected.shape):
        size = [min(n - g * (c // g), g) for c, g, n in ((x, 4, 5), (y, 4, 7), (z, 2, 3))]
        index = ((z % 2) * size[1] + y % 4) * size[0] + x % 4
        expected[z, y, x] = ((size[0] * 10 + size[1]) * 10 + size[2]) * 1000 + index
    for sync in ("", "simd_sum(1);", "threadgroup_barrier(mem_flags::mem_none);"):
        out = run(source.replace("SYNC", sync), shape=(3, 7, 5), grid=(5, 7, 3), threadgroup=(4, 4, 2))
        np.testing.assert_array_equal(out, expected)


def test_a_group_larger_than_the_grid_is_cut():
    source = "out[0] = threads_per_threadgroup.x * 100 + dispatch_threads_per_threadgroup.x;"
    assert run(source, grid=(3, 1, 1), threadgroup=(256, 1, 1))[0] == 303


def test_threads_that_returned_do_not_hold_up_a_barrier(meeting_path):
    source = """
        threadgroup int s[64];
        uint t = thread_position_in_threadgroup.x;
        if (t >= 40) return;
        s[t] = t;
        threadgroup_barrier(mem_flags::mem_threadgroup);
        out[t] = s[39 - t];
    """
    out = run(source, shape=(40,), grid=(64, 1, 1), threadgroup=(64, 1, 1))
    np.testing.assert_array_equal(out, np.arange(40)[::-1])


def test_diverged_lanes_meet_again(meeting_path):
    source = """
        uint t = thread_index_in_simdgroup;
        int v = 0;
        if (t < 16) {
            v = simd_sum(1);
        } else if (t < 24) {
            v = simd_sum(100);
        }
        for (uint i = 0; i < t % 3; ++i)
            v += simd_sum(1000);
        out[t] = v * 100 + simd_sum(1);
    """
    lanes = np.arange(32)
    expected = np.where(lanes < 16, 16, np.where(lanes < 24, 800, 0))
    in_loop = [np.count_nonzero(lanes % 3 > i) * 1000 for i in range(2)]
    expected = expected + np.where(lanes % 3 > 0, in_loop[0], 0) + np.where(lanes % 3 > 1, in_loop[1], 0)
    np.testing.assert_array_equal(
        run(source, shape=(32,), grid=(32, 1, 1), threadgroup=(32, 1, 1)), expected * 100 + 32
    )


def test_simdgroups_of_a_group_that_is_no_multiple_of_32():
    out = run(
        "out[thread_position_in_grid.x] = simd_sum(1);", shape=(70,), grid=(70, 1, 1), threadgroup=(70, 1, 1)
    )
    np.testing.assert_array_equal(out, [32] * 64 + [6] * 6)


def test_inputs_of_any_layout():
    import mlx.core as mx

    x = mx.arange(24).reshape(4, 6)
    views = {
        "transposed": x.T,
        "strided": x[:, ::2],
        "reversed": x[::-1],
        "broadcast": mx.broadcast_to(x[:1], (3, 6)),
    }
    copy = "uint i = thread_position_in_grid.x; out[i] = a[i];"
    walk = (
        "uint r = thread_position_in_grid.y, c = thread_position_in_grid.x;"
        "out[r * a_shape[1] + c] = a[r * a_strides[0] + c * a_strides[1]] + 100 * a_ndim;"
    )
    for view in views.values():
        rows, columns = view.shape
        expected = np.array(view)
        out = run(copy, [view], view.shape, grid=(view.size, 1, 1), threadgroup=(8, 1, 1))
        np.testing.assert_array_equal(out, expected)
        for contiguous in (True, False):
            out = run(
                walk,
                [view],
                view.shape,
                grid=(columns, rows, 1),
                threadgroup=(2, 2, 1),
                ensure_row_contiguous=contiguous,
            )
            np.testing.assert_array_equal(out, expected + 200)


def test_scalars_and_zero_dimensional_inputs():
    import mlx.core as mx

    out = run("out[0] = a * 100 + b * 10 + (c ? 1 : 0);", [mx.array(3), 2, True])
    assert out[0] == 321


def test_zero_size():
    import mlx.core as mx

    out = run(
        "out[thread_position_in_grid.x] = a[0];",
        [mx.zeros((0, 4))],
        (0, 4),
        grid=(0, 1, 1),
        threadgroup=(8, 1, 1),
    )
    assert out.shape == (0, 4)


def test_init_value_and_atomic_outputs():
    import mlx.core as mx

    out = run(
        "uint i = thread_position_in_grid.x; atomic_fetch_add_explicit(&out[i % 4], a[i], memory_order_relaxed);",
        [mx.ones((10_000,))],
        (4,),
        "float32",
        (10_000, 1, 1),
        (64, 1, 1),
        init_value=0.5,
        atomic_outputs=True,
    )
    np.testing.assert_array_equal(out, [2500.5] * 4)


def test_results_stay_when_memory_is_reused():
    """Outputs are written in place: none may share memory with another live array."""
    import mlx.core as mx

    fill = "out[thread_position_in_grid.x] = a;"
    kernel = zmlx.metal_kernel("fill", ["a"], ["out"], fill)
    outs = [
        kernel(
            inputs=[i],
            output_shapes=[(50,)],
            output_dtypes=[mx.int32],
            grid=(50, 1, 1),
            threadgroup=(50, 1, 1),
            stream=mx.cpu,
        )[0]
        for i in range(50)
    ]
    assert [set(out.tolist()) for out in outs] == [{i} for i in range(50)]


def test_launches_from_many_threads():
    results = {}

    def work(index):
        results[index] = run(ROW_SUM_INT, shape=(8,), grid=(8 * 64, 1, 1), threadgroup=(64, 1, 1)).tolist()

    threads = [threading.Thread(target=work, args=(i,)) for i in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(timeout=60)
    assert results == {i: [2016 + 64 * row for row in range(8)] for i in range(8)}


ROW_SUM_INT = """
    threadgroup atomic_int total;
    uint row = threadgroup_position_in_grid.x, t = thread_position_in_threadgroup.x;
    if (t == 0) atomic_store_explicit(&total, 0, memory_order_relaxed);
    threadgroup_barrier(mem_flags::mem_threadgroup);
    atomic_fetch_add_explicit(&total, int(row + t), memory_order_relaxed);
    threadgroup_barrier(mem_flags::mem_threadgroup);
    if (t == 0) out[row] = atomic_load_explicit(&total, memory_order_relaxed);
"""

_DIVIDED = (
    "divided an integer by zero, or the smallest one by -1, which Metal leaves undefined. Guard the division."
)

WRONG = {
    "divides": ("out[0] = 7 / a[0];", _DIVIDED),
    "takes a remainder": ("out[0] = 7 % a[0];", _DIVIDED),
    "divides the smallest by -1": ("int n = -2147483647 - 1 + a[0]; out[0] = n / (a[1] - 1);", _DIVIDED),
    "out of bounds": (
        "out[0] = a[(1l << 44) + thread_position_in_grid.x];",
        "read or wrote memory outside of its arrays",
    ),
    "threadgroup memory": (
        "threadgroup float s[8000]; threadgroup float t[1000]; out[0] = int(s[0] + t[0]);",
        "declares 36000 bytes of threadgroup memory; Metal has 32768 bytes a threadgroup",
    ),
}


@pytest.mark.parametrize("prefix", ["", "simd_sum(1); "], ids=["alone", "meeting"])
@pytest.mark.parametrize("case", WRONG)
def test_a_kernel_that_goes_wrong_is_an_error_and_the_process_lives(case, prefix, meeting_path):
    import mlx.core as mx

    source, message = WRONG[case]
    with pytest.raises(KernelRuntimeError) as error:
        run(prefix + source, [mx.zeros((4,), mx.int32)], grid=(32, 1, 1), threadgroup=(32, 1, 1))
    assert str(error.value).startswith("[metal_kernel] Kernel 'host_test' " + message)
    assert run("out[0] = 5;")[0] == 5


def test_a_fault_is_caught_after_faulthandler_took_the_signals():
    """pytest turns faulthandler on when a session begins, also one inside another."""
    import faulthandler
    import sys

    import mlx.core as mx

    run("out[0] = 5;")
    was_enabled = faulthandler.is_enabled()
    faulthandler.disable()
    faulthandler.enable(sys.__stderr__)
    try:
        with pytest.raises(KernelRuntimeError, match="divided an integer by zero"):
            run("out[0] = 7 / a[0];", [mx.zeros((4,), mx.int32)])
    finally:
        if not was_enabled:
            faulthandler.disable()


@pytest.mark.parametrize("argument", ["a[0]", "simd_sum(1)"], ids=["alone", "meeting"])
def test_a_stack_overflow_is_an_error_and_the_process_lives(argument, meeting_path):
    import mlx.core as mx

    header = """
        __attribute__((noinline)) int deep(int n) {
            volatile int frame[256];
            frame[n & 255] = n;
            return n < 0 ? 0 : deep(n + 1) + frame[n & 255];
        }
    """
    ones = mx.ones((4,), mx.int32)
    with pytest.raises(KernelRuntimeError, match="overflowed its stack: it recurses"):
        run(f"out[0] = deep({argument});", [ones], grid=(32, 1, 1), threadgroup=(32, 1, 1), header=header)
    assert run("out[0] = 5;")[0] == 5


def test_a_compile_error_names_the_authors_line():
    with pytest.raises(KernelCompileError) as error:
        run("int fine = 1;\n    out[0] = missing + fine;")
    assert "Kernel 'host_test' does not compile" in str(error.value)
    assert "source line 2: " in str(error.value)
    assert "    out[0] = missing + fine;" in str(error.value)
    assert "missing" in error.value.log


@pytest.fixture
def empty_cache(tmp_path):
    """A folder to be a cache: without a kernel, but with what kernels include and are linked to."""
    from zmlx.launch import compiler

    found = compiler.find_compiler()
    header = Path(compiler.precompiled_header(found, found.optimisation)[-1])
    for entry in (header, compiler.runtime_library()):
        folder = tmp_path.joinpath(*entry.parts[-3:-1])
        folder.mkdir(parents=True, exist_ok=True)
        for file in entry.parent.glob(f"{entry.name.partition('.')[0]}.*"):
            shutil.copy2(file, folder)
    return tmp_path


@pytest.mark.tools
def test_a_broken_cache_entry_is_rebuilt(empty_cache, fill_cache):
    """A second process finds a library that was cut short, and builds it anew."""
    fill_cache(empty_cache)
    script = (
        "import mlx.core as mx, zmlx\n"
        "k = zmlx.metal_kernel('cut', ['x'], ['out'], 'out[thread_position_in_grid.x] = x[0] + 1;')\n"
        "print(k(inputs=[mx.ones((4,))], output_shapes=[(4,)], output_dtypes=[mx.float32], grid=(4, 1, 1),"
        " threadgroup=(4, 1, 1), stream=mx.cpu)[0].tolist())\n"
    )

    def process():
        import os

        env = {**os.environ, "ZMLX_CACHE_DIR": str(empty_cache)}
        return subprocess.run(
            [sys.executable, "-c", script], env=env, capture_output=True, text=True, timeout=120
        )

    assert process().stdout == "[2.0, 2.0, 2.0, 2.0]\n"
    libraries = list(empty_cache.glob("host/*/*.so"))
    assert len(libraries) == 2  # the runtime and the kernel
    for library in libraries:
        library.write_bytes(library.read_bytes()[:1000])
    again = process()
    assert again.stdout == "[2.0, 2.0, 2.0, 2.0]\n", again.stderr


def test_outputs_larger_than_one_chunk_are_complete():
    out = run(
        "out[thread_position_in_grid.x] = thread_position_in_grid.x;",
        shape=(1_000_003,),
        grid=(1_000_003, 1, 1),
        threadgroup=(256, 1, 1),
    )
    np.testing.assert_array_equal(out, np.arange(1_000_003))


def test_number_of_threads_can_be_set(monkeypatch):
    from zmlx.launch import host

    host.num_threads.cache_clear()
    monkeypatch.setenv(host.THREADS_VARIABLE, "3")
    assert host.num_threads() == 3
    host.num_threads.cache_clear()
    monkeypatch.setenv(host.THREADS_VARIABLE, "many")
    with pytest.raises(ValueError, match="ZMLX_NUM_THREADS='many': expected a number of threads, 1 or more"):
        host.num_threads()
    monkeypatch.undo()
    host.num_threads.cache_clear()


@pytest.mark.skipif(
    not hasattr(os, "sched_getaffinity"), reason="this system does not say where threads may run"
)
def test_helpers_leave_the_callers_processor_to_the_caller():
    """Else Linux may wake them there, and they begin when the caller has done the work."""
    if len(os.sched_getaffinity(0)) < 2:
        pytest.skip("there is one processor")
    script = """
import os
import mlx.core as mx, zmlx
allowed = os.sched_getaffinity(0)
kernel = zmlx.metal_kernel("one", ["x"], ["out"], "out[thread_position_in_grid.x] = x[0];")
mx.eval(kernel(inputs=[mx.ones(8)], grid=(1 << 16, 1, 1), threadgroup=(64, 1, 1), output_shapes=[(1 << 16,)],
               output_dtypes=[mx.float32], stream=mx.cpu))
found = [os.sched_getaffinity(int(thread)) for thread in os.listdir("/proc/self/task")]
assert os.sched_getaffinity(0) == allowed
print(len(allowed) - 1 == sum(len(allowed - processors) == 1 for processors in found))
"""
    launched = subprocess.run(
        [sys.executable, "-c", script],
        env={**os.environ, "ZMLX_NUM_THREADS": str(len(os.sched_getaffinity(0)))},
        capture_output=True,
        text=True,
        check=False,
    )
    assert (launched.stdout, launched.stderr) == ("True\n", "")


def test_what_is_compiled_hastily_is_another_program_that_computes_the_same(monkeypatch):
    import mlx.core as mx

    from zmlx.launch import compiler, host

    asked = []
    compile_host = compiler.compile_host
    monkeypatch.setattr(
        compiler, "compile_host", lambda *given: asked.append(given[-1]) or compile_host(*given)
    )
    source = "out[thread_position_in_grid.x] = exp(a[thread_position_in_grid.x]) * 3.5f;"
    x = mx.random.normal((1000,))

    def values():
        return run(source, [x], (1000,), "float32", grid=(1000, 1, 1), threadgroup=(64, 1, 1))

    host.forget_programs()
    careful = values()
    with compiler.hastily():
        hasty = values()
        np.testing.assert_array_equal(hasty, values())
    np.testing.assert_array_equal(careful, hasty)
    values()
    assert asked == [False, True]


#: Bodies whose loop over threads the compiler must vectorise: `i` is the thread's position.
VECTORISED = {
    "copy": "out[i] = a[i];",
    "arithmetic": "out[i] = a[i] * b[i] / (1.0f + a[i]);",
    "branches": "out[i] = a[i] > 0 ? b[i] : 0.0f;",
    "maths": "out[i] = tanh(a[i]) * exp(-b[i]) + rsqrt(a[i]);",
    "silu": "float x = a[i]; out[i] = x / (1.0f + exp(-x)) * b[i];",
    "to an integer": "int n = a[i]; out[i] = n + int(b[i]);",
    "to unsigned integers": "uint n = a[i]; out[i] = n + static_cast<uint>(b[i]);",
    "to a byte": "uchar n = (uchar)a[i]; n += b[i]; out[i] = n;",
    "to 64 bits": "long n = a[i]; out[i] = n;",
    "the size of the grid": "out[i] = a[i] * threads_per_grid.x;",
    "a place in threadgroup memory": """
        threadgroup float s[256];
        uint t = thread_position_in_threadgroup.x;
        s[t] = a[i];
        threadgroup_barrier(mem_flags::mem_threadgroup);
        out[i] = s[t] * b[i];
    """,
}


#: Cases for which x86 has an instruction in some processors only: the flag of those.
NEEDED_ON_X86 = {"to 64 bits": "avx512dq"}


@pytest.mark.tools
@pytest.mark.parametrize("kind", ["uint", "int", "auto"])
@pytest.mark.parametrize("case", VECTORISED)
def test_elementwise_kernels_vectorise(case, kind):
    """The compiler's own report: as many loops as there are between meeting points."""
    from zmlx.launch import compiler, host
    from zmlx.metal.signature import ArrayType, KernelSource, make_signature

    found = compiler.find_compiler()
    if found.kind != "gcc":
        pytest.skip("clang reports vectorised loops in another way")
    processor = compiler.processor()
    if processor.startswith("x86_64") and NEEDED_ON_X86.get(case, "") not in processor:
        pytest.skip(f"this processor has no such instruction ({NEEDED_ON_X86[case]})")
    source = f"{kind} i = thread_position_in_grid.x; {VECTORISED[case]}"
    kernel = KernelSource("elementwise", ("a", "b"), ("out",), source)
    signature = make_signature(kernel, [ArrayType("float32", 1)] * 2, ["float32"])
    barriers = source.count("threadgroup_barrier")
    text = host.region_text(signature) if barriers else host.host_text(signature, single=False)
    header = compiler.precompiled_header(found, found.optimisation)
    command = [
        found.path,
        *found.flags,
        *found.optimisation,
        *header,
        "-c",
        "-x",
        "c++",
        "-",
        "-o",
        "/dev/null",
    ]
    run = subprocess.run(
        [*command, "-fopt-info-vec-optimized"], input=text, capture_output=True, text=True, check=True
    )
    wide = [line for line in run.stderr.splitlines() if "loop vectorized using" in line]
    assert len(wide) >= barriers + 1, run.stderr


def test_a_grid_of_more_than_a_billion_threads_is_compiled_for_itself(monkeypatch):
    """Positions may then be anything: the same kernel, without what is said of ordinary grids."""
    from zmlx.launch import host

    asked = []
    load = host.load

    def watching(signature, single, large):
        asked.append(large)
        return load(signature, single, large)

    monkeypatch.setattr(host, "load", watching)
    monkeypatch.setattr(host, "_ORDINARY_GRID", 100)
    for threads in (100, 101):
        out = run("out[thread_position_in_grid.x] = simd_sum(1);", shape=(threads,), grid=(threads, 1, 1))
        np.testing.assert_array_equal(out, np.ones(threads))
        out = run(
            "uint i = thread_position_in_grid.x; out[i] = i;",
            shape=(threads,),
            grid=(threads, 1, 1),
            threadgroup=(64, 1, 1),
        )
        np.testing.assert_array_equal(out, np.arange(threads))
    assert asked == [False, False, True, True]


def test_macros_of_the_header_do_not_reach_the_launcher(meeting_path):
    import mlx.core as mx

    names = (
        "launch",
        "worker",
        "begin",
        "end",
        "group",
        "thread",
        "at",
        "lines",
        "region",
        "each",
        "put",
        "first",
    )
    header = "".join(f"#define {name} 7\n" for name in names)
    source = "out[thread_position_in_grid.x] = group + simd_sum(a_shape[0]) + a[0];"
    out = run(source, [mx.ones((9,), mx.int32)], (4,), grid=(4, 1, 1), threadgroup=(4, 1, 1), header=header)
    np.testing.assert_array_equal(out, [7 + 36 + 1] * 4)


def test_lanes_meet_in_an_argument_of_a_macro_with_a_conditional(meeting_path):
    """Of half and float, whose common type is asked for by the texts of both."""
    import mlx.core as mx

    header = """
        half total(half v) { return simd_sum(v); }
        #define LARGER(a, b) (a > b ? a : b)
    """
    source = "uint i = thread_position_in_grid.x; out[i] = LARGER(total(a[i]), 2.0f);"
    x = mx.ones((4,), mx.float16)
    for width, expected in ((4, 4), (1, 2)):
        group = (width, 1, 1)
        out = run(source, [x], (4,), "float16", grid=(4, 1, 1), threadgroup=group, header=header)
        np.testing.assert_array_equal(out, [expected] * 4)
