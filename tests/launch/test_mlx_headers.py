"""MLX's own Metal headers, as the installed package has them, in kernels of ours.

Each is included by itself, after what MLX includes in front of it where it is not complete. Metal's tensors
(MetalPerformancePrimitives) exist only there.
"""

from __future__ import annotations

import re
from pathlib import Path

import mlx.core as mx
import numpy as np
import pytest

import zmlx
from zmlx.errors import TranslationError
from zmlx.launch.cuda import cuda_text
from zmlx.launch.nvrtc import find_nvrtc
from zmlx.metal.signature import METAL_TYPES, ArrayType, make_signature
from zmlx.translate.pipeline import translate

INCLUDE = Path(mx.__file__).parent / "include"
PLACE = "mlx/backend/metal/kernels/"
HEADERS = sorted(str(path.relative_to(INCLUDE / PLACE)) for path in (INCLUDE / PLACE).rglob("*.h"))

pytestmark = [
    pytest.mark.cpu,
    pytest.mark.skipif(not HEADERS, reason="this MLX package has no Metal headers"),
]

#: What MLX has in front of headers that are not complete, by the first pattern that fits.
IN_FRONT = {
    r"steel/gemm/kernels": ["steel/gemm/gemm.h"],
    r"steel/conv/": ["steel/conv/conv.h"],
    r"(fp_)?quantized\.h": ["steel/gemm/gemm.h", "quantized_utils.h"],
    r"searchsorted": ["sort.h"],
    r"indexing/": ["atomic.h", "indexing/indexing.h"],
    r"reduction/ops": ["atomic.h"],
}
#: Function constants that helpers of the header need.
NEEDED = {"fft.h": {"inv_": False, "elems_per_thread_": 4, "rader_m_": 1, "is_power_of_2_": True}}


def kernel_with(name: str, source: str = "out[thread_position_in_grid.x] = x[thread_position_in_grid.x];"):
    front = next((files for pattern, files in IN_FRONT.items() if re.match(pattern, name)), [])
    header = "".join(f'#include "{PLACE}{file}"\n' for file in (*front, name))
    return zmlx.metal_kernel(
        "with_header",
        ["x"],
        ["out"],
        source,
        header,
        include_dirs=[INCLUDE],
        function_constants=NEEDED.get(name),
    )


@pytest.mark.tools
@pytest.mark.parametrize("name", [name for name in HEADERS if "nax" not in name])
def test_a_header_is_carried_over(name):
    kernel = kernel_with(name)
    for target in ("host", "cuda"):
        assert translate(kernel.source, target).header


@pytest.mark.tools
@pytest.mark.parametrize("name", [name for name in HEADERS if "nax" in name])
def test_what_needs_metals_tensors_is_refused(name):
    front = '#include "mlx/backend/metal/kernels/steel/gemm/gemm_nax.h"\n'
    kernel = zmlx.metal_kernel(
        "with_header",
        ["x"],
        ["out"],
        "out[0] = x[0];",
        f'{front}#include "{PLACE}{name}"\n',
        include_dirs=[INCLUDE],
    )
    with pytest.raises(TranslationError, match="Metal's tensors exist only on Metal"):
        translate(kernel.source, "host")


@pytest.mark.parametrize(
    ("name", "source", "expected"),
    [
        ("unary_ops.h", "uint i = thread_position_in_grid.x; out[i] = Square()(x[i]);", lambda x: x * x),
        (
            "binary_ops.h",
            "uint i = thread_position_in_grid.x; out[i] = Maximum()(x[i], 2.0f);",
            lambda x: np.maximum(x, 2),
        ),
        ("erf.h", "uint i = thread_position_in_grid.x; out[i] = erf(erfinv(x[i] * 0.1f));", lambda x: x * 0.1),
        (
            "reduction/ops.h",
            "uint i = thread_position_in_grid.x; Sum<float> op; float total = op.simd_reduce(x[i]); out[i] = total;",
            lambda x: np.full(32, x.sum()),
        ),
        ("quantized.h", "uint i = thread_position_in_grid.x; out[i] = x[i] + get_pack_factor<4>();", lambda x: x + 2),
        ("scan.h", "uint i = thread_position_in_grid.x; out[i] = CumSum<float>().simd_scan(x[i]);", np.cumsum),
    ],
)  # fmt: skip
def test_functions_of_a_header_compute(name, source, expected):
    x = np.arange(32, dtype=np.float32) / 4
    (out,) = kernel_with(name, source)(
        inputs=[mx.array(x)],
        output_shapes=[(32,)],
        output_dtypes=[mx.float32],
        grid=(32, 1, 1),
        threadgroup=(32, 1, 1),
        stream=mx.cpu,
    )
    np.testing.assert_allclose(np.array(out), expected(x), rtol=1e-5)


ROWS, COLUMNS, INNER = 48, 40, 36

#: A product of matrices by the tiles of MLX's own: 32 x 32 of the result a threadgroup, none of the sizes even.
GEMM = zmlx.metal_kernel(
    "steel_gemm",
    ["a", "b"],
    ["out"],
    """
    using gemm = mlx::steel::GEMMKernel<T, T, 32, 32, 16, 2, 2, false, false, false, false>;
    threadgroup T of_a[gemm::tgp_mem_size_a], of_b[gemm::tgp_mem_size_b];
    gemm::run(a, b, out, &sizes, of_a, of_b, thread_index_in_simdgroup, simdgroup_index_in_threadgroup,
              threadgroup_position_in_grid, thread_position_in_threadgroup);
    """,
    f'#include "{PLACE}steel/gemm/gemm.h"\n'
    f"constant mlx::steel::GEMMParams sizes = {{{ROWS}, {COLUMNS}, {INNER}, {INNER}, {COLUMNS}, {COLUMNS}, 2, 2, "
    f"0, 0, 0, 0, {INNER // 16}, 0}};\n",
    include_dirs=[INCLUDE],
)

#: Queries by keys, by the tiles of MLX's attention: a simdgroup has 16 x 16 of the scores.
SCORES = zmlx.metal_kernel(
    "steel_scores",
    ["q", "k"],
    ["out"],
    """
    using namespace mlx::steel;
    using part = BaseMMAFrag<float, 8, 8>;
    MMATile<float, 2, 4, part> queries;
    MMATile<float, 4, 2, part> keys;
    MMATile<float, 2, 2, part> scores;
    const short2 at = part::get_coord(thread_index_in_simdgroup);
    queries.template load<T, 1, 1>(q + at.y * 32 + at.x, 32);
    keys.template load<T, 1, 1>(k + at.y * 16 + at.x, 16);
    scores.clear();
    tile_matmad(scores, queries, keys, scores);
    scores.template store<T, 1, 1>(out + at.y * 16 + at.x, 16);
    """,
    f'#include "{PLACE}steel/attn/attn.h"\n',
    include_dirs=[INCLUDE],
)

PRODUCTS = {
    "gemm": (GEMM, (ROWS, INNER), (INNER, COLUMNS), (64, 4, 2), (32, 2, 2)),
    "attention": (SCORES, (16, 32), (32, 16), (32, 1, 1), (32, 1, 1)),
}


@pytest.mark.parametrize("dtype", ["float32", "float16", "bfloat16"])
@pytest.mark.parametrize("product", PRODUCTS)
def test_tiles_of_mlx_multiply_matrices(product, dtype):
    kernel, left, right, grid, group = PRODUCTS[product]
    rng = np.random.default_rng(7)
    kind = getattr(mx, dtype)
    a, b = (mx.array(rng.normal(size=shape).astype(np.float32)).astype(kind) for shape in (left, right))
    (out,) = kernel(
        inputs=[a, b],
        output_shapes=[(left[0], right[1])],
        output_dtypes=[kind],
        grid=grid,
        threadgroup=group,
        template=[("T", kind)],
    )
    exact = np.array(a.astype(mx.float32), np.float64) @ np.array(b.astype(mx.float32), np.float64)
    relative = {"float32": 1e-5, "float16": 1e-3, "bfloat16": 8e-3}[dtype]
    np.testing.assert_allclose(np.array(out.astype(mx.float32)), exact, rtol=relative, atol=relative * 8)


@pytest.mark.tools
@pytest.mark.parametrize("product", PRODUCTS)
def test_tiles_of_mlx_compile_for_cuda(product):
    kernel = PRODUCTS[product][0]
    signature = make_signature(
        kernel.source, [ArrayType("float16", 2, False)] * 2, ["float16"], [("T", METAL_TYPES["float16"])]
    )
    assert "simdgroup" in cuda_text(signature)
    try:
        find_nvrtc()
    except zmlx.launch.NvrtcNotFoundError as error:
        pytest.skip(str(error))
    from zmlx.launch.cuda import compile_cubin

    assert compile_cubin(signature, "sm_90")
