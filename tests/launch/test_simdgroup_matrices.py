"""Simdgroup matrices on the CPU: both ways give the same bits, and a product of quantized weights is right."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import zmlx
from zmlx.launch import watch

pytestmark = pytest.mark.cpu

#: A 4-bit product in the manner of a quantized linear layer: 16 rows of `x` by the rows of `w`, whose scales and biases
#: hold for 64 columns. A threadgroup of four simdgroups makes 16 x 32 elements, each simdgroup two 8 x 8 matrices.
QUANTIZED_PRODUCT = """
    threadgroup T xs[16 * 32];
    threadgroup T ws[32 * 32];
    uint simdgroup = simdgroup_index_in_threadgroup;
    uint t = thread_index_in_threadgroup;
    uint first = threadgroup_position_in_grid.y * 32;
    simdgroup_matrix<float, 8, 8> sum[2];
    for (uint m = 0; m < 2; ++m) sum[m] = make_filled_simdgroup_matrix<float, 8, 8>(0.0f);
    for (uint k = 0; k < K; k += 32) {
        threadgroup_barrier(mem_flags::mem_threadgroup);
        for (uint e = 0; e < 4; ++e) {
            uint at = t * 4 + e;
            xs[at] = x[at / 32 * K + k + at % 32];
        }
        uint row = t / 4, part = t % 4;
        uint packed = w[(first + row) * (K / 8) + k / 8 + part];
        float scale = scales[((first + row) * K + k) / 64], bias = biases[((first + row) * K + k) / 64];
        for (uint e = 0; e < 8; ++e)
            ws[row * 32 + part * 8 + e] = T(scale * float(packed >> (4 * e) & 15u) + bias);
        threadgroup_barrier(mem_flags::mem_threadgroup);
        for (uint j = 0; j < 32; j += 8) {
            simdgroup_matrix<T, 8, 8> left[2], right;
            simdgroup_load(right, ws + simdgroup * 8 * 32 + j, 32, ulong2(0, 0), true);
            for (uint m = 0; m < 2; ++m) {
                simdgroup_load(left[m], xs + m * 8 * 32 + j, 32);
                simdgroup_multiply_accumulate(sum[m], left[m], right, sum[m]);
            }
        }
    }
    for (uint m = 0; m < 2; ++m) simdgroup_store(sum[m], out + m * 8 * N + first + simdgroup * 8, N);
"""
quantized_product = zmlx.metal_kernel(
    "quantized_product", ["x", "w", "scales", "biases"], ["out"], QUANTIZED_PRODUCT
)


def multiply(x: Any, w: Any, scales: Any, biases: Any) -> Any:
    """``x @ dequantized(w).T`` in float32; x is (16, K), w (N, K / 8)."""
    import mlx.core as mx

    (_, k), n = x.shape, w.shape[0]
    (out,) = quantized_product(
        inputs=[x, w, scales, biases],
        template=[("T", x.dtype), ("K", k), ("N", n)],
        grid=(128, n // 32, 1),
        threadgroup=(128, 1, 1),
        output_shapes=[(16, n)],
        output_dtypes=[mx.float32],
        stream=mx.cpu,
    )
    return out


@pytest.mark.parametrize("dtype", ["float32", "float16", "bfloat16"])
def test_a_quantized_product(dtype, monkeypatch):
    import mlx.core as mx

    from zmlx.launch import host

    key = mx.random.key(3)
    x = mx.random.normal((16, 128), key=key, stream=mx.cpu).astype(getattr(mx, dtype), stream=mx.cpu)
    weights = mx.random.normal((96, 128), key=key, stream=mx.cpu)
    packed = mx.quantize(weights, group_size=64, bits=4, stream=mx.cpu)
    with watch() as launches:
        found = np.array(multiply(x, *packed))
        monkeypatch.setenv(host.FIBERS_VARIABLE, "1")
        host.forget_programs()
        fibers = np.array(multiply(x, *packed))
    monkeypatch.undo()
    host.forget_programs()
    assert [record.path for record in launches] == ["regions", "fibers"]
    np.testing.assert_array_equal(found.view(np.uint32), fibers.view(np.uint32))
    dequantized = mx.dequantize(*packed, group_size=64, bits=4, stream=mx.cpu).astype(x.dtype, stream=mx.cpu)
    x, dequantized = (
        np.array(a.astype(mx.float32, stream=mx.cpu)).astype(np.float64) for a in (x, dequantized)
    )
    np.testing.assert_allclose(found, x @ dequantized.T, rtol=1e-5, atol=1e-4)


#: Three simdgroups, the last of 8 threads, whose matrices have the elements of those.
THREADS = 72
F = np.arange(256, dtype=np.float32) % 13 - 6
LANE = np.arange(THREADS) % 32
ROW, COLUMN = (LANE >> 2 & 4) + (LANE >> 1 & 3), (LANE >> 1 & 4) + (LANE & 1) * 2


def held(matrix: Any) -> Any:
    """What each thread has of a matrix, or of its simdgroup's where there is one for each."""
    matrices = np.broadcast_to(matrix, (3, 8, 8))
    return np.stack([matrices[np.arange(THREADS) // 32, ROW, COLUMN + k] for k in range(2)], axis=1)


def partly(matrix: Any) -> Any:
    """The same for each simdgroup, with zeros where it has no thread."""
    there = np.zeros((3, 8, 8), bool)
    for k in range(2):
        there[np.arange(THREADS) // 32, ROW, COLUMN + k] = True
    return np.where(there, matrix, 0)


A, B = F[:64].reshape(8, 8), F[64:128].reshape(8, 8)
WRITTEN = "out[t * 2] = m.thread_elements()[0]; out[t * 2 + 1] = m.thread_elements()[1];"
CASES = {
    "loads and a product, of whole simdgroups and of a part of one": (
        (
            "simdgroup_float8x8 m, a, b; simdgroup_load(a, f, 8); simdgroup_load(b, f + 64, 8); "
            "simdgroup_multiply(m, a, b);"
        ),
        held(partly(A) @ partly(B)),
    ),
    "in a branch that some simdgroups take": (
        (
            "simdgroup_float8x8 m(3.0f), a; simdgroup_load(a, f, 8); "
            "if (t / 32 == 1) { simdgroup_load(m, f, 8, ulong2(0, 1), true); simdgroup_multiply(m, a, m); }"
        ),
        held([3 * np.eye(8), A @ F[8:72].reshape(8, 8).T, 3 * np.eye(8)]),
    ),
    "arrays by an index of the thread's own": (
        (
            "simdgroup_float8x8 s[2] = {simdgroup_float8x8(1.0f), simdgroup_float8x8(2.0f)}, m; "
            "uint k = t / 32 % 2; simdgroup_load(s[k], f, 8); simdgroup_multiply(m, s[k], s[1 - k]); m = s[1 - k];"
            " simdgroup_multiply_accumulate(s[1 - k], s[k], m, s[k]); m = s[1 - k];"
        ),
        held([3 * A, 2 * A, partly(3 * A)[2]]),
    ),
    "constructors: zero, a diagonal, a copy, a temporary": (
        (
            "simdgroup_float8x8 m, a(0.5f), b = simdgroup_float8x8(4.0f), c(b), d{1.0f}; "
            "if (t < 32) simdgroup_multiply_accumulate(m, a, c, simdgroup_matrix<float, 8, 8>(7.0f)); else m = d;"
        ),
        held([9 * np.eye(8), np.eye(8), np.eye(8)]),
    ),
    "elements of each thread, before and behind": (
        (
            "simdgroup_float8x8 m, a; a.thread_elements() = float2(t / 32, 1); a.thread_elements().x += 1; "
            "simdgroup_multiply(m, a, simdgroup_float8x8(2.0f)); m.thread_elements()[1] -= t;"
        ),
        None,
    ),
    "a loop that simdgroups leave one after the other": (
        "simdgroup_float8x8 m(1.0f), two(2.0f); for (uint k = 0; k < t / 32 + 1; ++k) simdgroup_multiply(m, m, two);",
        held(np.array([2, 4, 8])[:, None, None] * np.eye(8)),
    ),
}


@pytest.mark.parametrize("name", CASES)
def test_matrices(name, meeting_path):
    import mlx.core as mx

    source, expected = CASES[name]
    text = f"uint t = thread_position_in_threadgroup.x; {source} {WRITTEN}"
    kernel = zmlx.metal_kernel("matrices", ["f"], ["out"], text)
    with watch() as launches:
        (out,) = kernel(
            inputs=[mx.array(F)],
            output_shapes=[(THREADS, 2)],
            output_dtypes=[mx.float32],
            grid=(THREADS, 1, 1),
            threadgroup=(THREADS, 1, 1),
            stream=mx.cpu,
        )
    assert [record.path for record in launches] == [meeting_path]
    if expected is None:
        first = np.stack([np.full((8, 4), s + 1.0) for s in range(3)])
        elements = np.stack([first, np.ones((3, 8, 4))], axis=-1).reshape(3, 8, 8)
        expected = held(2 * partly(elements)) - np.stack([0 * LANE, np.arange(THREADS)], axis=1)
    np.testing.assert_array_equal(np.array(out), expected)
