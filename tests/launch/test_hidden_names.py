"""Variables of inner scopes that hide a parameter or another variable: the same on every path."""

from __future__ import annotations

import numpy as np
import pytest

import zmlx
from zmlx.errors import TranslationError
from zmlx.launch import watch

pytestmark = pytest.mark.cpu

MEET = "threadgroup_barrier(mem_flags::mem_threadgroup);"
BEGIN = "uint i = thread_position_in_grid.x; "
N = np.arange(32)
X = N.astype(np.float32) + 0.5

#: What the kernel does, and what it writes to ``y``.
CASES = {
    "an array": (f"{{ float x[2] = {{1, 2}}; {MEET} y[i] = x[i & 1]; }} y[i] += x[i];", N % 2 + 1 + X),
    "an input": (f"float v = x[i]; {{ float x = v * 2; {MEET} y[i] = x; }} y[i] += x[i];", 3 * X),
    "an output": (f"device float* z = y; {{ float y = x[i]; {MEET} z[i] = y; }} y[i] += 1;", X + 1),
    "an attribute": (
        (
            f"{{ uint thread_position_in_grid = 5; {MEET} y[i] = thread_position_in_grid; }} "
            "y[i] += thread_position_in_grid.x;"
        ),
        5 + N,
    ),
    "a shape": (f"{{ int x_shape = 3; {MEET} y[i] = x_shape; }} y[i] += x_shape[0];", 0 * N + 35),
    "threadgroup memory": (
        f"{{ threadgroup float x[32]; x[i] = i; {MEET} y[i] = x[31 - i]; }} y[i] += x[i];",
        31 - N + X,
    ),
    "a moved parameter": (f"x += i; {MEET} {{ float x = 2; {MEET} y[i] = x; }} y[i] += x[0];", 2 + X),
    "a variable of a loop": (
        f"float s = 0; for (uint x = 0; x < 4; ++x) {{ s += x; {MEET} }} y[i] = s + x[i];",
        6 + X,
    ),
    "a loop that lanes meet in": (
        "float s = 0; for (uint x = 0; x < 4; ++x) s += simd_max(x); y[i] = s + x[i];",
        6 + X,
    ),
    "a loop that lanes leave": (
        "y[i] = 0; for (uint j = 0; j < i; ++j) { uint x = j * 2; y[i] += simd_min(x) + x; } y[i] += x[i];",
        np.array([2 * k * (k - 1) for k in N]) + X,
    ),
    "a branch that some lanes take": (
        "y[i] = 0; if (i > 8) { float x = i; float m = simd_max(x); y[i] = x + m; } y[i] += x[i];",
        np.where(N > 8, N + 31, 0) + X,
    ),
    "an auto of a simd function": (f"{{ auto x = simd_max(i); {MEET} y[i] = x; }} y[i] += x[i];", 31 + X),
    "a variable thrice": (
        (
            f"float v = x[i]; {MEET} {{ float v = 7; {MEET} y[i] = v; {{ float v = 9; {MEET} y[i] += v; }} "
            "y[i] += v; } y[i] += v;"
        ),
        23 + X,
    ),
    "a variable, of lanes": (
        (
            "float v = x[i], q = simd_max(1.0f); { float v = 7 + i; float s = simd_min(v); y[i] = v + s; } "
            "y[i] += v * q;"
        ),
        14 + N + X,
    ),
    "a block between meetings": (
        f"float v = x[i]; {MEET} {{ float v = 1, x = 2; v += x; y[i] = v; }} y[i] += v + x[0]; {MEET}",
        3.5 + X,
    ),
    "a function's parameter": ("y[i] = hides(x[i], 2) + simd_max(1.0f);", 2 * X + 1),
}
HEADER = "float hides(float x, float y) { float out = x * y; return out; }\n"


def launch(source):
    import mlx.core as mx

    kernel = zmlx.metal_kernel("hides", ["x"], ["y"], BEGIN + source, HEADER)
    group = (32, 1, 1)
    with watch() as launches:
        (out,) = kernel(
            inputs=[mx.array(X)],
            output_shapes=[(32,)],
            output_dtypes=[mx.float32],
            grid=group,
            threadgroup=group,
            stream=mx.cpu,
        )
    return np.array(out), {launch.path for launch in launches}


@pytest.mark.parametrize("case", CASES)
def test_as_regions(case):
    source, expected = CASES[case]
    out, path = launch(source)
    np.testing.assert_array_equal(out, expected)
    # What loops over threads cannot tell apart is left to fibers, and no less right.
    assert path == {"fibers" if case == "a variable, of lanes" else "regions"}


@pytest.mark.parametrize("case", CASES)
def test_as_fibers(case, as_fibers):
    source, expected = CASES[case]
    out, path = launch(source)
    np.testing.assert_array_equal(out, expected)
    assert path == {"fibers"}


@pytest.mark.parametrize("case", CASES)
def test_checked(case):
    source, expected = CASES[case]
    with zmlx.checked():
        out, _ = launch(source)
    np.testing.assert_array_equal(out, expected)


@pytest.mark.parametrize("meet", ["", MEET, "simd_max(i);"])
def test_a_parameter_declared_again_is_an_error(meet):
    """On the path of regions it gave zeros: the output was hidden."""
    source = f"{meet}\nfloat y[2] = {{1, 2}}; y[i & 1] = x[i];"
    with pytest.raises(TranslationError, match="source line 2: `y` is declared again: it is an output"):
        launch(source)
    with (
        zmlx.checked(raise_on_finding=False),
        pytest.raises(TranslationError, match="source line 2: `y` is declared again: it is an output"),
    ):
        launch(source)


def test_so_it_is_where_only_the_compiler_can_tell():
    """The rank of an array is not known to the translation, nor what the branches of ``#if`` are."""
    for again in ("int x_shape = 3;", "#ifndef MINE\nfloat y = 3;\n#endif\n"):
        with pytest.raises(zmlx.KernelCompileError, match="a parameter"):
            launch(f"{MEET} y[i] = x_shape[0];\n{again}")


@pytest.mark.parametrize("meet", ["", MEET])
def test_an_array_whose_size_is_not_constant_is_an_error(meet):
    with pytest.raises(zmlx.KernelCompileError, match=r"source line 2.*: .*variable"):
        launch(f"\nfloat b[x_shape[0]]; b[i] = 1; {meet} y[i] = b[i];")
    launch("constexpr int n = 2; float b[2 * n]; b[i & 3] = 1; y[i] = b[i & 3];")
