"""Whole Metal files that take their kernels from MLX's own headers, as the installed package has them.

What each computes is compared with NumPy or MLX; the CUDA text of each is compiled.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import mlx.core as mx
import numpy as np
import pytest

import zmlx
from zmlx.check.legality.judge import static_findings
from zmlx.launch import NvrtcNotFoundError, recording
from zmlx.launch.nvrtc import find_nvrtc
from zmlx.metal.entry_points import entry_points
from zmlx.metal.includes import follow_includes
from zmlx.metal.preprocessor import preprocess
from zmlx.metal.signature import ATTRIBUTES

INCLUDE = Path(mx.__file__).parent / "include"
PLACE = "mlx/backend/metal/kernels/"
HEADERS = sorted(str(path.relative_to(INCLUDE / PLACE)) for path in (INCLUDE / PLACE).rglob("*.h"))
#: Template arguments for any kernel: more than one has are no matter.
VALUES = ", ".join(["float"] * 24)

pytestmark = [
    pytest.mark.cpu,
    pytest.mark.skipif(
        not (INCLUDE / PLACE / "defines.h").exists(), reason="this MLX package has no Metal headers"
    ),
]

#: `instantiate_kernel` is MLX's own macro, of its headers.
FILES = {
    "unary": (
        "unary_ops.h unary.h",
        """
        #define instantiate_unary(op, name, type) \\
          instantiate_kernel("v_" #op #name, unary_v, type, type, op, 4)
        #define instantiate_types(op) instantiate_unary(op, float32, float) instantiate_unary(op, float16, half)
        instantiate_types(Square)
        instantiate_types(Exp)
        """,
    ),
    "binary": (
        "binary_ops.h binary.h",
        """
        instantiate_kernel("vv_add", binary_vv, float, float, Add, 2)
        instantiate_kernel("nd2_add", binary_g_nd2, float, float, Add)
        """,
    ),
    "reduce": (
        "atomic.h reduction/ops.h reduce_utils.h reduce.h",
        """
        instantiate_kernel("all_sum", all_reduce, float, float, Sum<float>)
        instantiate_kernel("row_max", row_reduce_simple, float, float, Max<float>)
        """,
    ),
    "scan": (
        "binary_ops.h scan.h",
        """
        instantiate_kernel("cumsum", contiguous_scan, float, float, CumSum<float>, 4, true, false)
        instantiate_kernel("reverse_cumprod", contiguous_scan, float, float, CumProd<float>, 4, true, true)
        """,
    ),
    "softmax": (
        "softmax.h",
        """
        instantiate_kernel("block_softmax", softmax_single_row, float)
        instantiate_kernel("looped_softmax_precise", softmax_looped, half, float)
        """,
    ),
    "sort": ("sort.h", 'instantiate_kernel("block_sort", block_sort, float, float, false, 32, 4)'),
    "quantized": (
        "steel/gemm/gemm.h quantized_utils.h quantized.h",
        'instantiate_kernel("qmv_fast", affine_qmv_fast, float, 64, 4, false)',
    ),
    "gemm": (
        "steel/gemm/gemm.h steel/gemm/kernels/steel_gemm_fused.h",
        """
        instantiate_kernel("gemm_nn", gemm, float, 32, 32, 16, 2, 2, false, false)
        instantiate_kernel("gemm_nt", gemm, half, 32, 32, 16, 2, 2, false, true)
        """,
    ),
}
#: How MLX sets its GEMM up for a batch of one, and sizes that are no multiples of a tile.
CONSTANTS = {
    "gemm": dict.fromkeys(("has_batch", "use_out_source", "do_axpby", "align_M", "align_N", "align_K"), False)
}


@cache
def library(file: str) -> Any:
    headers, instances = FILES[file]
    includes = "".join(f'#include "{PLACE}{name}"\n' for name in ("utils.h", *headers.split()))
    return zmlx.metal_library(
        includes + instances, include_dirs=[INCLUDE], function_constants=CONSTANTS.get(file)
    )


def rows(*shape: int, seed: int = 3) -> np.ndarray[Any, Any]:
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


@dataclass(frozen=True)
class Case:
    """One launch: its arguments and keywords, and what the array that it writes then holds."""

    file: str
    kernel: str
    arguments: Callable[[], list[Any]]
    expected: Callable[[], np.ndarray[Any, Any]]
    threads: Any
    group: Any = 32
    tolerance: float = 1e-5


def softmax(x: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    e = np.exp(x.astype(np.float64) - x.max(-1, keepdims=True))
    return e / e.sum(-1, keepdims=True)


M, N, K = 48, 40, 36
#: `GEMMParams` of MLX's params.h, by its fields.
GEMM_PARAMS = np.dtype(
    [(name, np.int32) for name in ("M", "N", "K", "lda", "ldb", "ldd", "tiles_n", "tiles_m")]
    + [(f"batch_stride_{name}", np.int64) for name in "abd"]
    + [("swizzle_log", np.int32), ("iterations", np.int32), ("batch_ndim", np.int32), ("padding", np.int32)]
)


def product(transposed: bool) -> list[Any]:
    kind = np.float16 if transposed else np.float32
    a, b = rows(M, K).astype(kind), rows(*((N, K) if transposed else (K, N)), seed=4).astype(kind)
    sizes = (M, N, K, K, K if transposed else N, N, 2, 2, 0, 0, 0, 0, K // 16, 0, 0)
    return [a, b, None, np.zeros((M, N), kind), np.array(sizes, GEMM_PARAMS)]


def quantized() -> tuple[mx.array, mx.array, mx.array, mx.array]:
    w, scales, biases = mx.quantize(mx.array(rows(16, 512)), group_size=64, bits=4)
    return w, scales, biases, mx.array(rows(512, seed=5))


def quantized_arguments() -> list[Any]:
    w, scales, biases, x = quantized()
    return [w, scales, biases, x, mx.zeros(16), 512, 16, 0, [0], [0], 0, [0], [0], [0], [0]]


def quantized_product() -> np.ndarray[Any, Any]:
    w, scales, biases, x = quantized()
    full = np.array(mx.dequantize(w, scales, biases, group_size=64, bits=4), np.float64)
    return full @ np.array(x, np.float64)


CASES = (
    Case("unary", "v_Squarefloat32", lambda: [rows(103), mx.zeros(103), 103], lambda: rows(103) ** 2, 26),
    Case(
        "unary",
        "v_Expfloat16",
        lambda: [rows(103).astype(np.float16), mx.zeros(103, mx.float16), 103],
        lambda: np.exp(rows(103).astype(np.float16)),
        26,
        tolerance=2e-3,
    ),
    Case(
        "binary",
        "vv_add",
        lambda: [rows(77), rows(77, seed=4), mx.zeros(77), 77],
        lambda: rows(77) + rows(77, seed=4),
        39,
    ),
    Case(
        "binary",
        "nd2_add",
        lambda: [rows(6, 7), rows(7, 6, seed=4), mx.zeros((6, 7)), [7, 1], [1, 6]],
        lambda: rows(6, 7) + rows(7, 6, seed=4).T,
        (7, 6),
        (7, 2),
    ),
    Case(
        "reduce",
        "all_sum",
        lambda: [rows(5000), mx.zeros(1), 5000, 5000],
        lambda: rows(5000).astype(np.float64).sum(keepdims=True),
        128,
        128,
        1e-4,
    ),
    Case(
        "reduce",
        "row_max",
        lambda: [rows(10, 300), mx.zeros(10), 300, 10],
        lambda: rows(10, 300).max(1),
        (64, 3),
        (64, 1),
    ),
    Case(
        "scan",
        "cumsum",
        lambda: [rows(2, 9000), mx.zeros((2, 9000)), 9000],
        lambda: rows(2, 9000).astype(np.float64).cumsum(1),
        (1024, 2),
        (1024, 1),
        1e-3,
    ),
    Case(
        "scan",
        "reverse_cumprod",
        lambda: [rows(2, 60) / 8 + 1, mx.zeros((2, 60)), 60],
        lambda: (rows(2, 60) / 8 + 1)[:, ::-1].astype(np.float64).cumprod(1)[:, ::-1],
        (1024, 2),
        (1024, 1),
        1e-4,
    ),
    Case(
        "softmax",
        "block_softmax",
        lambda: [rows(5, 200), mx.zeros((5, 200)), 200],
        lambda: softmax(rows(5, 200)),
        5 * 64,
        64,
    ),
    Case(
        "softmax",
        "looped_softmax_precise",
        lambda: [rows(2, 900).astype(np.float16), mx.zeros((2, 900), mx.float16), 900],
        lambda: softmax(rows(2, 900).astype(np.float16)),
        2 * 1024,
        1024,
        2e-3,
    ),
    Case(
        "sort",
        "block_sort",
        lambda: [rows(4, 100), mx.zeros((4, 100)), 100, 1, 1, 100, 100],
        lambda: np.sort(rows(4, 100)),
        (32, 4),
        (32, 1),
    ),
    Case("quantized", "qmv_fast", quantized_arguments, quantized_product, (32, 4), (32, 2), 1e-4),
    Case(
        "gemm",
        "gemm_nn",
        lambda: product(False),
        lambda: rows(M, K).astype(np.float64) @ rows(K, N, seed=4),
        (64, 4, 2),
        (32, 2, 2),
        1e-4,
    ),
    Case(
        "gemm",
        "gemm_nt",
        lambda: product(True),
        lambda: rows(M, K).astype(np.float16).astype(np.float64) @ rows(N, K, seed=4).astype(np.float16).T,
        (64, 4, 2),
        (32, 2, 2),
        4e-3,
    ),
)


def launch(case: Case) -> np.ndarray[Any, Any]:
    kernel = library(case.file)[case.kernel]
    (out,) = kernel(*case.arguments(), threads=case.threads, group_size=case.group)
    return np.array(out)


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.kernel)
def test_a_kernel_of_mlx_computes(case: Case) -> None:
    out = launch(case)
    expected = case.expected()
    assert out.shape == expected.shape
    np.testing.assert_allclose(out, expected, rtol=case.tolerance, atol=case.tolerance * 8)


@pytest.mark.tools
@pytest.mark.parametrize("case", CASES, ids=lambda case: case.kernel)
def test_a_kernel_of_mlx_is_without_a_finding(case: Case) -> None:
    with zmlx.checked() as check:
        launch(case)
    assert check.launches == 1
    assert check.accesses


@pytest.mark.tools
@pytest.mark.parametrize("case", CASES, ids=lambda case: case.kernel)
def test_a_kernel_of_mlx_compiles_for_cuda(case: Case) -> None:
    try:
        find_nvrtc()
    except NvrtcNotFoundError as error:
        pytest.skip(str(error))
    from zmlx.launch.cuda import compile_cubin

    with recording("cuda") as records:
        launch(case)
    assert compile_cubin(records[0].signature, "sm_90")


@pytest.mark.tools
@pytest.mark.parametrize("case", CASES, ids=lambda case: case.kernel)
def test_the_text_for_metal_is_what_metal_takes(case: Case) -> None:
    with recording("metal") as records:
        launch(case)
    findings, _ = static_findings(records[0].signature, records[0].threadgroup)
    assert not findings, findings


@pytest.mark.tools
def test_what_a_kernel_of_mlx_reads_unwritten_is_found() -> None:
    """A scan reads the sums of 32 simdgroups, however many there are."""
    with zmlx.checked(raise_on_finding=False) as check:
        library("scan").cumsum(rows(60), mx.zeros(60), 60, threads=64, group_size=64)
    assert [finding.kind for finding in check.findings] == ["uninitialized"]
    assert check.findings[0].array == "simdgroup_sums"


@pytest.mark.tools
@pytest.mark.parametrize("header", [name for name in HEADERS if "nax" not in name])
def test_every_kernel_of_a_header_is_understood(header: str) -> None:
    """Of each parameter it is known what a call gives for it; of 163 kernels in all with MLX 0.32.4."""
    text = preprocess(follow_includes(f'#include "{PLACE}{header}"', [INCLUDE], header))
    names = re.findall(r"\[\[\s*kernel\b[^\]]*\]\]\s*void\s+(\w+)\(", text)
    instances = "".join(
        f'template [[host_name("{name}")]] [[kernel]] decltype({name}<{VALUES}>) {name}<{VALUES}>;\n'
        for name in names
    )
    found = entry_points(text + instances)
    assert {entry.name for entry in found} == set(names)
    for entry in found:
        assert entry.buffers, entry
        assert not entry.problem
        for argument in entry.arguments:
            assert argument.is_buffer or argument.attributes[0][0] in ATTRIBUTES, argument


def test_a_library_has_what_its_macros_instantiate() -> None:
    assert list(library("unary")) == [
        "v_Squarefloat32",
        "v_Squarefloat16",
        "v_Expfloat32",
        "v_Expfloat16",
    ]
