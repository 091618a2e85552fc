"""Kernels of whole Metal files under the checker: what they change, they change in place."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import zmlx

pytestmark = pytest.mark.cpu

ROWS, WIDTH = 8, 64

#: The backward of a layer normalisation as MLX had it before mlx#3630: a reduction that reads the cotangent, for the
#: bias, runs beside the threadgroups that write the gradient over it.
BACKWARD = """
constant uint rows = 8, width = 64;

void write_gradient(device float* g, const device float* x, uint row, uint at) {
  const float mean = simd_sum(g[row * width + at] + g[row * width + at + 32]) / width;
  g[row * width + at] = (g[row * width + at] - mean) * x[row];
  g[row * width + at + 32] = (g[row * width + at + 32] - mean) * x[row];
}

void sum_columns(const device float* g, device float* of_bias, uint at) {
  for (uint column = at; column < width; column += 32) {
    float sum = 0;
    for (uint row = 0; row < rows; ++row) {
      sum += g[row * width + column];
    }
    of_bias[column] = sum;
  }
}

kernel void backward(device float* g, const device float* x, device float* of_bias,
                     uint group [[threadgroup_position_in_grid]], uint at [[thread_position_in_threadgroup]]) {
  if (group < rows) {
    write_gradient(g, x, group, at);
  } else {
    sum_columns(g, of_bias, at);
  }
}

kernel void of_input(device float* g, const device float* x,
                     uint group [[threadgroup_position_in_grid]], uint at [[thread_position_in_threadgroup]]) {
  write_gradient(g, x, group, at);
}

kernel void of_bias(const device float* g, device float* of_bias, uint at [[thread_position_in_threadgroup]]) {
  sum_columns(g, of_bias, at);
}
"""


@pytest.fixture(scope="module")
def library() -> Any:
    return zmlx.metal_library(BACKWARD)


def cotangent() -> np.ndarray[Any, Any]:
    return np.random.default_rng(1).normal(size=(ROWS, WIDTH)).astype(np.float32)


def test_a_cotangent_that_is_read_while_it_is_overwritten_is_a_race(library: Any) -> None:
    with zmlx.checked(raise_on_finding=False) as check:
        library.backward(
            cotangent(), np.ones(ROWS, np.float32), np.zeros(WIDTH, np.float32),
            threads=32 * (ROWS + 1), group_size=32,
        )  # fmt: skip
    assert {(finding.kind, finding.array) for finding in check.findings} == {("data-race", "g")}
    lines = {access.place.text.strip() for finding in check.findings for access in finding.accesses}
    assert any(line.startswith("sum += g[") for line in lines)
    assert any(line.startswith("g[row * width") for line in lines)


def test_one_launch_after_the_other_is_none(library: Any) -> None:
    g, bias = cotangent(), np.zeros(WIDTH, np.float32)
    with zmlx.checked() as check:
        library.of_bias(g, bias, threads=32, group_size=32)
        library.of_input(g, np.full(ROWS, 2, np.float32), threads=32 * ROWS, group_size=32)
    assert check.launches == 2
    start = cotangent()
    np.testing.assert_allclose(bias, start.sum(0), atol=1e-5)
    np.testing.assert_allclose(g, (start - start.mean(1, keepdims=True)) * 2, atol=1e-5)


def test_a_write_outside_of_a_changed_array_is_found() -> None:
    lines = "\n" * 3
    library = zmlx.metal_library(
        f"{lines}kernel void shift(device float* x, uint i [[thread_position_in_grid]]) {{\n  x[i + 1] = x[i];\n}}"
    )
    with zmlx.checked(raise_on_finding=False) as check:
        library.shift(np.zeros(64, np.float32))
    kinds = {finding.kind for finding in check.findings}
    assert "out-of-bounds" in kinds
    found = next(finding for finding in check.findings if finding.kind == "out-of-bounds")
    assert (found.array, found.line) == ("x", 5), "the line is that of the file"


def test_what_a_changed_array_holds_is_there_to_be_read() -> None:
    library = zmlx.metal_library(
        "kernel void twice(device float* x, uint i [[thread_position_in_grid]]) { x[i] += x[i]; }"
    )
    x = np.arange(64, dtype=np.float32)
    with zmlx.checked():
        library.twice(x)
    np.testing.assert_array_equal(x, np.arange(64) * 2)


def test_an_array_has_the_name_that_it_has_in_the_file() -> None:
    """Also where the generated function has it as another type."""
    library = zmlx.metal_library(
        "kernel void count(device atomic_uint* bins, const device float4* x, uint i [[thread_position_in_grid]]) {\n"
        "  atomic_fetch_add_explicit(bins + uint(x[i].w), 1, memory_order_relaxed);\n}"
    )
    x = np.full((32, 4), 3, np.float32)
    bins = np.zeros(4, np.uint32)
    library.count(bins, x, threads=32)
    assert bins.tolist() == [0, 0, 0, 32]
    for wrong, array in ((x + 1, "bins"), (x[:31], "x")):
        with zmlx.checked(raise_on_finding=False) as check:
            library.count(bins, wrong, threads=32)
        (found,) = check.findings
        assert (found.kind, found.array) == ("out-of-bounds", array)
        assert "zmlx_" not in found.message


def test_what_no_thread_writes_is_no_difference_between_orders() -> None:
    library = zmlx.metal_library(
        """
        kernel void swap(device float* x, uint i [[thread_position_in_threadgroup]]) {
          threadgroup float held[32];
          held[i] = x[i];
          threadgroup_barrier(mem_flags::mem_threadgroup);
          if (i < 8) x[i] = held[31 - i];
        }
        """
    )
    x = np.arange(64, dtype=np.float32)
    with zmlx.checked() as check:
        library.swap(x, threads=32)
    assert x.tolist() == [*range(31, 23, -1), *range(8, 64)]
    assert not [note for note in check.notes if "order" in note]
