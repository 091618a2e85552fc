"""Kernels on a real NVIDIA GPU: the language, and how launches behave in MLX's graph."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import textwrap

import numpy as np
import pytest
from kernel_cases import CASES, Case

import zmlx
from zmlx.launch import KernelCompileError, launch_counts, poisoned_outputs, reset_launch_counts, watch
from zmlx.launch.records import LaunchKey

pytestmark = pytest.mark.cuda


@pytest.fixture
def mx():
    import mlx.core as mx

    return mx


def run(
    source, inputs=(), shape=(1,), dtype="int32", grid=(1, 1, 1), threadgroup=(1, 1, 1), header="", **more
):
    """Launch a kernel with inputs a, b, c, … and one output ``out`` on the GPU; the result, not evaluated."""
    import mlx.core as mx

    creation = {k: more.pop(k) for k in ("ensure_row_contiguous", "atomic_outputs", "name") if k in more}
    kernel = zmlx.metal_kernel(
        creation.pop("name", "cuda_test"), list("abc"[: len(inputs)]), ["out"], source, header, **creation
    )
    (out,) = kernel(
        inputs=list(inputs),
        output_shapes=[shape],
        output_dtypes=[getattr(mx, dtype)],
        grid=grid,
        threadgroup=threadgroup,
        **more,
    )
    return out


DOUBLE = "uint i = thread_position_in_grid.x; out[i] = a[i] + a[i];"


def double(x, **more):
    name = str(x.dtype).rpartition(".")[2]
    return run(DOUBLE, [x], x.shape, name, (x.size, 1, 1), (64, 1, 1), name="double", **more)


# --- the language --------------------------------------------------------------------------------


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_case(case: Case) -> None:
    reset_launch_counts()
    case.check(case.launch())
    assert launch_counts() == {LaunchKey(case.name, "cuda", "cuda"): 1}


def test_cpu_and_gpu_agree_to_the_bit(mx):
    """Sums of a simdgroup are added up in one order, whether all of its lanes take part or some."""
    x = mx.array(np.random.default_rng(0).standard_normal(96 * 50).astype(np.float32))
    source = """
        uint i = thread_position_in_grid.x;
        float v = a[i];
        out[i] = simd_sum(v) + 2 * quad_sum(v) + 3 * simd_product(v);
        if (v > 0) out[i] += simd_sum(v) + 2 * quad_sum(v);
    """
    launch = {"shape": x.shape, "dtype": "float32", "grid": (x.size, 1, 1), "threadgroup": (50, 1, 1)}
    on_gpu = np.array(run(source, [x], **launch))
    on_cpu = np.array(run(source, [x], **launch, stream=mx.cpu))
    # Products may be fused into additions.
    np.testing.assert_allclose(on_gpu, on_cpu, rtol=1e-5, atol=1e-5)
    sums = (
        "uint i = thread_position_in_grid.x; out[i] = simd_sum(a[i]); if (a[i] > 0) out[i] = simd_sum(a[i]);"
    )
    np.testing.assert_array_equal(
        np.array(run(sums, [x], **launch)), np.array(run(sums, [x], **launch, stream=mx.cpu))
    )


DIVERGING = {
    "while": "uint n = a[i]; while (n != 1) { n = n % 2 ? 3 * n + 1 : n / 2; ++steps; }",
    "break": """
        for (uint n = a[i], k = 0;; ++k) {
            if (n == 1 || k == 200) break;
            n = n % 2 ? 3 * n + 1 : n / 2;
            ++steps;
        }
    """,
    "nested": """
        for (uint k = 0; k < a[i] % 7; ++k)
            for (uint j = 0; j < a[i + 1] % 5; ++j) {
                if ((j + k) % 3 == 0) continue;
                if (j * k > a[i] % 9) break;
                steps += j + k;
            }
    """,
    "switch": """
        switch (a[i] % 5) {
            case 0: steps = a[i + 1] % 3; break;
            case 1: steps = 2; [[fallthrough]];
            case 2: while (steps < int(a[i] % 11)) ++steps; break;
            default: if (a[i] % 2) steps = 9;
        }
    """,
    "function": "steps = collatz(a[i]);",
    "short_circuit": "if (collatz(a[i]) > 30 && collatz(a[i + 1]) > 40 || a[i] % 3 == 0) steps = collatz(a[i] + 7);",
}


@pytest.mark.parametrize("name", DIVERGING)
def test_lanes_meet_again_after_diverging(mx, name):
    """After any control flow that ends for each lane at another time, all 32 lanes take part again."""
    values = np.random.default_rng(5).integers(1, 2000, 32 * 500 + 1).astype(np.uint32)
    header = """
        int collatz(uint n) {
            if (n < 3) return 0;
            int count = 0;
            while (n != 1) {
                n = n % 2 ? 3 * n + 1 : n / 2;
                if (++count > 100) return -1;
            }
            return count;
        }
    """
    source = f"""
        uint i = thread_position_in_grid.x;
        int total = 0;
        for (int round = 0; round < 3; ++round) {{
            int steps = 0;
            {DIVERGING[name]}
            total += simd_sum(1);
            if (steps > 20 && simd_any(true)) total += 1000 * (simd_sum(1) < 1);
            total += simd_sum(1) + (simd_all(true) ? 0 : 500) + (simd_is_first() != (i % 32 == 0)) * 10000;
        }}
        out[i] = total;
    """
    out = run(source, [mx.array(values)], (32 * 500,), "int32", (32 * 500, 1, 1), (256, 1, 1), header)
    np.testing.assert_array_equal(np.array(out), 3 * 64)


def test_as_many_registers_as_the_group_leaves(mx):
    """A kernel that wants more registers than 1024 threads can have still runs with 1024."""
    source = """
        float r[96];
        uint i = thread_position_in_grid.x;
        for (int k = 0; k < 96; ++k) r[k] = a[i] * k;
        for (int round = 0; round < int(a[0]); ++round)
            for (int k = 0; k < 96; ++k) r[k] = r[k] * r[(k + 7) % 96] + r[(k * 5) % 96];
        float sum = 0;
        for (int k = 0; k < 96; ++k) sum += r[k];
        out[i] = sum;
    """
    x = np.arange(4096, dtype=np.float32) % 5
    out = run(source, [mx.array(x)], (4096,), "float32", (4096, 1, 1), (1024, 1, 1))
    np.testing.assert_allclose(np.array(out), x * (95 * 96 / 2), rtol=1e-6)


def test_all_the_threadgroup_memory_that_metal_has(mx):
    source = """
        threadgroup int s[8192];
        uint t = thread_position_in_threadgroup.x;
        for (uint k = t; k < 8192; k += 256) s[k] = k * a[0];
        threadgroup_barrier(mem_flags::mem_threadgroup);
        for (uint k = t; k < 8192; k += 256) out[k] = s[8191 - k];
    """
    out = run(source, [mx.array([3])], (8192,), "int32", (256, 1, 1), (256, 1, 1))
    np.testing.assert_array_equal(np.array(out), 3 * np.arange(8192)[::-1])


def test_two_thousand_million_threads(mx):
    """More than CUDA launches along one axis in groups of 256."""
    source = """
        uint i = thread_position_in_grid.x;
        if (i == 0 || i == threads_per_grid.x - 1) {
            out[i != 0] = i;
            out[2 + (i != 0)] = threads_per_threadgroup.x;
        }
    """
    out = run(source, [], (4,), "uint32", (2**31 - 1, 1, 1), (256, 1, 1))
    assert out.tolist() == [0, 2**31 - 2, 256, 255]


# --- in MLX's graph ------------------------------------------------------------------------------


def test_launches_are_lazy(mx):
    mx.eval(double(mx.ones((64,))))
    mx.clear_cache()
    before, little = mx.get_active_memory(), 2**20  # what tests before this one left may go meanwhile
    outputs = [double(mx.ones((2**26,))) for _ in range(4)]
    assert mx.get_active_memory() - before < little
    mx.eval(outputs)
    assert mx.get_active_memory() - before > 4 * 2**28 - little


def test_joint_and_separate_evaluation_agree(mx):
    x = mx.random.normal((5000,))
    one, two = double(x), double(x * 3)
    mx.eval(one)
    mx.eval(two)
    three, four = double(x), double(x * 3)
    mx.eval(three, four)
    assert mx.array_equal(one, three)
    assert mx.array_equal(two, four)


def test_long_chains(mx):
    x = mx.ones((1000,))
    for _ in range(100):
        x = double(x) - x
    assert mx.array_equal(x, mx.ones((1000,)))


def test_inputs_are_left_alone(mx):
    x = mx.arange(1000)
    mx.eval(double(x), double(x.reshape(10, 100).T))
    np.testing.assert_array_equal(np.array(x), np.arange(1000))


def test_inputs_of_any_layout(mx):
    x = mx.arange(24).reshape(4, 6)
    views = (x.T, x[:, ::2], x[::-1], mx.broadcast_to(x[:1], (3, 6)), x[1:, 1:])
    for view in views:
        np.testing.assert_array_equal(np.array(double(view)), 2 * np.array(view))


def test_inputs_that_the_cpu_made(mx):
    x = mx.add(mx.arange(500), 1, stream=mx.cpu)
    out = mx.multiply(double(x), 10, stream=mx.cpu)
    np.testing.assert_array_equal(np.array(out), 20 * (np.arange(500) + 1))


def test_under_compile(mx):
    traced = mx.compile(lambda x: double(x * 3) - 1)
    for size in (7, 1000, 7, 64):
        x = mx.arange(size, dtype=mx.float32)
        np.testing.assert_array_equal(np.array(traced(x)), 6 * np.arange(size) - 1)


def test_under_compile_with_strides(mx):
    walk = "out[thread_position_in_grid.x] = a[thread_position_in_grid.x * a_strides[0]] * a_ndim;"

    def call(x):
        return run(walk, [x[::2]], (5,), "int32", (5, 1, 1), (5, 1, 1), ensure_row_contiguous=False)

    for function in (call, mx.compile(call)):
        assert function(mx.arange(10)).tolist() == [0, 2, 4, 6, 8]


def test_gradients_through_a_custom_function(mx):
    @mx.custom_function
    def doubled(x):
        return double(x)

    @doubled.vjp
    def doubled_vjp(x, cotangent, output):
        return double(cotangent)

    x = mx.array([1.0, 2.0, 3.0])
    value, gradient = mx.value_and_grad(lambda x: (doubled(x) ** 2).sum())(x)
    assert value.item() == 56
    assert gradient.tolist() == [8, 16, 24]
    assert mx.compile(mx.grad(lambda x: (doubled(x) ** 2).sum()))(x).tolist() == [8, 16, 24]


def test_a_kernel_alone_has_no_gradient(mx):
    with pytest.raises(ValueError, match=r"[Nn]ot implemented"):
        mx.grad(lambda x: double(x).sum())(mx.ones((4,)))


def test_streams(mx):
    first, second = mx.new_stream(mx.gpu), mx.new_stream(mx.gpu)
    x = mx.arange(10_000, dtype=mx.float32)
    for _ in range(20):
        on_first = double(x, stream=first)
        with mx.stream(second):
            on_second = double(on_first)
        x = mx.divide(double(on_second, stream=mx.gpu), 8)
    np.testing.assert_array_equal(np.array(x), np.arange(10_000))


def test_the_stream_decides(mx):
    with watch() as launches:
        mx.eval(
            double(mx.ones((8,))), double(mx.ones((8,)), stream=mx.gpu), double(mx.ones((8,)), stream=mx.cpu)
        )
        with mx.stream(mx.cpu):
            mx.eval(double(mx.ones((8,))))
    assert [record.backend for record in launches] == ["cuda", "cuda", "cpu", "cpu"]


def test_every_gpu(mx):
    count = mx.device_count(mx.gpu)
    if count < 2:
        pytest.skip("this machine has one GPU")
    for index in range(count):
        device = mx.Device(mx.gpu, index)
        with mx.stream(mx.new_stream(device)):
            x = mx.arange(1000, dtype=mx.float32)
            np.testing.assert_array_equal(np.array(double(x)), 2 * np.arange(1000), err_msg=str(device))


# --- outputs -------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", ["float32", "float16", "bfloat16", "int32", "uint8", "bool_"])
def test_init_value(mx, dtype):
    out = run("if (a[0] == 9) out[0] = 0;", [mx.array([1])], (100,), dtype, (1, 1, 1), init_value=1)
    assert out.dtype == getattr(mx, dtype)
    assert np.array(out.astype(mx.float32)).tolist() == [1.0] * 100


@pytest.mark.parametrize(
    "dtype", ["float32", "float16", "bfloat16", "int32", "uint8", "int64", "bool_", "complex64"]
)
def test_poisoned_outputs_show_what_was_not_written(mx, dtype):
    with poisoned_outputs():
        out = run(
            "if (thread_position_in_grid.x < 5) out[thread_position_in_grid.x] = 1;",
            [],
            (8,),
            dtype,
            (8, 1, 1),
        )
        mx.eval(out)
    written = out[:5].astype(mx.float32)
    assert written.tolist() == [1.0] * 5
    if mx.issubdtype(out.dtype, mx.floating):
        assert np.isnan(np.array(out[5:].astype(mx.float32))).all()


@pytest.mark.parametrize("launch", [{"grid": (0, 1, 1)}, {"shape": (0, 3), "grid": (3, 1, 1)}])
def test_nothing_to_do(mx, launch):
    out = run("out[0] = 1;", [mx.zeros((0,))], **{"shape": (2,), **launch}, init_value=3)
    mx.eval(out)
    assert out.tolist() == ([3, 3] if out.size else [])


def test_an_empty_input_and_a_full_output(mx):
    out = run("out[thread_position_in_grid.x] = a_shape[0];", [mx.zeros((0, 4))], (4,), grid=(4, 1, 1))
    assert out.tolist() == [0, 0, 0, 0]


def test_an_empty_output_beside_a_full_one(mx):
    kernel = zmlx.metal_kernel("two", ["a"], ["empty", "full"], "full[thread_position_in_grid.x] = a;")
    for init_value in (None, 4):
        empty, full = kernel(
            inputs=[5],
            output_shapes=[(0,), (3,)],
            output_dtypes=[mx.float32, mx.int32],
            grid=(3, 1, 1),
            threadgroup=(3, 1, 1),
            init_value=init_value,
        )
        mx.eval(empty, full)
        assert (empty.shape, full.tolist()) == ((0,), [5, 5, 5])


# --- kernels and names ---------------------------------------------------------------------------


def test_kernels_of_one_name_keep_their_own_code(mx):
    for factor in (1, 2, 3, 1, 2):
        for dtype in ("float32", "int32"):
            x = mx.arange(10).astype(getattr(mx, dtype))
            out = run(
                f"out[thread_position_in_grid.x] = scaled(a[thread_position_in_grid.x]) * {factor};",
                [x],
                (10,),
                dtype,
                (10, 1, 1),
                header=f"template <typename T> T scaled(T v) {{ return v * {factor}; }}\n",
                name="same_name",
            )
            np.testing.assert_array_equal(np.array(out), np.arange(10) * factor**2)


def test_a_kernel_that_does_not_compile(mx):
    message = 'source line 2: identifier "y" is undefined\n    out[i] = y[i];'
    with pytest.raises(KernelCompileError, match=re.escape(message)):
        run("uint i = thread_position_in_grid.x;\nout[i] = y[i];", [mx.ones((4,))])


PROGRAM = """
    import json
    import mlx.core as mx
    import zmlx
    from zmlx.launch.nvrtc import Nvrtc

    compiled = []
    compile_ = Nvrtc.compile
    def counted(self, text, name, *rest):
        compiled.append(name)
        return compile_(self, text, name, *rest)
    Nvrtc.compile = counted

    kernel = zmlx.metal_kernel("again", ["x"], ["out"], "uint i = thread_position_in_grid.x; out[i] = x[i] * 7;")
    x = mx.arange(10)
    launch = {"grid": (10, 1, 1), "threadgroup": (10, 1, 1), "stream": mx.gpu}
    (out,) = kernel(inputs=[x], output_shapes=[x.shape], output_dtypes=[x.dtype], **launch)
    print(json.dumps({"compiled": compiled, "out": out.tolist()}))
"""


def test_a_second_process_finds_the_kernel_on_disk(tmp_path, monkeypatch):
    monkeypatch.setenv("ZMLX_CACHE_DIR", str(tmp_path))
    runs = [
        json.loads(
            subprocess.run(
                [sys.executable, "-c", textwrap.dedent(PROGRAM)], capture_output=True, text=True, check=True
            ).stdout
        )
        for _ in range(2)
    ]
    assert [run["compiled"] for run in runs] == [["again.cu"], []]
    assert [run["out"] for run in runs] == [[7 * i for i in range(10)]] * 2
