"""Kernels that single models of mlx-vlm bring along: routing, verification, products by MLX's own tiles."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest
from client_tolerances import DTYPES, HALVES, ROUNDED, TWICE, float32

pytestmark = pytest.mark.cpu


def inkling(module, random, **sizes):
    """The mixture of experts of an Inkling model with random numbers for what the kernels read."""
    config = {
        "n_routed_experts": 40,
        "n_shared_experts": 2,
        "num_experts_per_tok": 3,
        "route_scale": 2.5,
        "intermediate_size": 8,
        "hidden_size": 16,
        **sizes,
    }
    layer = module.InklingSparseMoE(SimpleNamespace(**config))
    layer.e_score_correction_bias = random(config["n_routed_experts"], scale=0.1)
    return layer


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("experts", [40, 7])
def test_routing(mlx_vlm, metal, operations, check, random, experts, dtype):
    import mlx.core as mx

    layer = inkling(mlx_vlm("models.inkling.language"), random, n_routed_experts=experts)
    logits = random(5, experts + 2, dtype=dtype, scale=2)
    with metal("inkling_moe_route"):
        chosen, weights, gamma = layer._route(logits)
    with operations():
        expected, expected_weights, expected_gamma = layer._route(*float32(logits))
    # By operations the chosen ones come in any order.
    order, expected_order = mx.argsort(chosen, axis=-1), mx.argsort(expected, axis=-1)
    ordered = mx.take_along_axis(chosen, order, axis=-1)
    assert mx.array_equal(ordered, mx.take_along_axis(expected, expected_order, axis=-1)).item()
    check(
        "inkling_moe_route weights",
        mx.take_along_axis(weights, order, axis=-1),
        mx.take_along_axis(expected_weights, expected_order, axis=-1),
        **ROUNDED[dtype],
    )
    check("inkling_moe_route gamma", gamma, expected_gamma, **ROUNDED[dtype])


@pytest.mark.parametrize("dtype", DTYPES)
def test_weighted_products_of_experts(mlx_vlm, metal, operations, check, random, dtype):
    """The kernel has a simdgroup for an expert and a lane for 64 numbers: the width is 2048."""
    import mlx.core as mx

    kernel = mlx_vlm("models.inkling.language")._down_combine_kernel
    tokens, chosen_of_each, outside, experts = 2, 3, 6, 4
    x = random(tokens, chosen_of_each, 2048, dtype=dtype)
    packed = mx.quantize(random(experts, outside, 2048, scale=2048**-0.5), group_size=64, bits=4)
    weight, scales, biases = packed[0], *(part.astype(x.dtype) for part in packed[1:])
    chosen = mx.array(
        np.random.default_rng(0).integers(0, experts, (tokens, chosen_of_each)).astype(np.uint32)
    )
    shares = mx.softmax(random(tokens, chosen_of_each), axis=-1).astype(x.dtype)
    sizes = {"OUT": outside, "IN": 2048, "GROUPS": 32, "K": chosen_of_each}
    with metal("inkling_moe_down_combine"):
        (out,) = kernel(
            inputs=[x, weight, scales, biases, chosen, shares],
            template=[("T", x.dtype), *sizes.items()],
            grid=(256, outside, tokens),
            threadgroup=(256, 1, 1),
            output_shapes=[(tokens, outside)],
            output_dtypes=[x.dtype],
        )
    with operations():
        matrix = mx.dequantize(weight, *float32(scales, biases), group_size=64, bits=4)
        wide, parts = float32(x, shares)
        expected = ((matrix[chosen] @ wide[..., None])[..., 0] * parts[..., None]).sum(axis=-2)
    check("inkling_moe_down_combine", out, expected, **TWICE[dtype])


@pytest.mark.parametrize("dtype", DTYPES)
def test_fp8_and_back(mlx_vlm, metal, operations, random, dtype):
    """Blocks of 32 with a power of two for a scale: equal, bit for bit."""
    import mlx.core as mx

    module = mlx_vlm("models.deepseek_v41.fakequant")
    x = random(5, 96, dtype=dtype) * mx.exp(random(5, 1, dtype=dtype, scale=3))
    x[1, 32:64] = 0
    with metal("deepseek_v41_fp8_roundtrip"):
        out = module.fake_quant_fp8_ue8m0(x)
    with operations():
        expected = module.fake_quant_fp8_ue8m0(x)
    assert out.dtype == x.dtype
    assert mx.array_equal(out, expected).item()
    assert not mx.array_equal(out, x).item()


def turned(x, cos, sin):
    """Neighbours turned by the angles of their positions; (batch, heads, positions, width)."""
    import mlx.core as mx

    even, odd = x[..., 0::2], x[..., 1::2]
    return mx.stack([even * cos - odd * sin, odd * cos + even * sin], axis=-1).reshape(x.shape)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("streams", ["single", "double"])
def test_norm_and_rotation_of_klein(mlx_vlm, metal, operations, check, random, streams, dtype):
    """Queries, keys and values out of one product, or out of two, text before picture."""
    import mlx.core as mx

    module = mlx_vlm("models.bonsai.klein_fast.blocks")
    heads, width, text, picture, batch = 2, 64, 3, 5, 2
    spec = module.Flux2KleinBlockSpec(dim=heads * width, num_heads=heads, head_dim=width)
    total, third = text + picture, 3 * spec.dim
    cos, sin = random(total, width // 2), random(total, width // 2)
    norms = [random(width, dtype=dtype) for _ in range(4)]
    if streams == "double":
        inputs = [random(batch, n, third, dtype=dtype) for n in (picture, text)]
        sizes, make = (picture, text), module._get_fused_double_norm_rope_kernel
        name = "flux2_fused_double_norm_rope_5_3_128_2_64_1en06"
    else:
        inputs, norms = [random(batch, total, spec.qkv_mlp_out_dim, dtype=dtype)], norms[:2]
        sizes, make = (total,), module._get_fused_single_norm_rope_kernel
        name = f"flux2_fused_single_norm_rope_8_128_2_64_{spec.qkv_mlp_out_dim}_1en06"
    shape = (batch, heads, total, width)
    with metal(name):
        results = make(spec, *sizes)(
            inputs=[*inputs, *norms, cos, sin],
            template=[("T", inputs[0].dtype)],
            grid=(batch * total * heads * 32, 1, 1),
            threadgroup=(32, 1, 1),
            output_shapes=[shape] * 3,
            output_dtypes=[inputs[0].dtype] * 3,
        )
    with operations():
        parts = []  # of text, then of the picture: q and k normed, and v
        for i, x in enumerate(float32(*inputs)):
            q, k, v = x[..., :third].reshape(batch, -1, 3, heads, width).transpose(2, 0, 3, 1, 4)
            weights = float32(*norms[2 * i : 2 * i + 2])
            q, k = (mx.fast.rms_norm(y, w, spec.rms_norm_eps) for y, w in zip((q, k), weights, strict=True))
            parts.insert(0, (q, k, v))
        q, k, v = (mx.concatenate(pieces, axis=2) for pieces in zip(*parts, strict=True))
        expected = turned(q, cos, sin), turned(k, cos, sin), v
    for which, got, wanted in zip("qkv", results, expected, strict=True):
        check(f"flux2_fused_{streams}_norm_rope {which}", got, wanted, **ROUNDED[dtype])


@pytest.mark.parametrize("dtype", DTYPES)
def test_verification_of_nemotron_h(mlx_vlm, metal, operations, check, random, dtype):
    """A state space model over a few tokens, and the states again of those that were accepted."""
    module = mlx_vlm("models.nemotron_h.speculative_verifier")
    heads, groups, head_dim, state_dim, tokens = 4, 2, 6, 32, 4
    inputs = (
        random(2, tokens, heads, head_dim, dtype=dtype),
        random(heads, dtype=dtype, scale=0.3),
        *(random(2, tokens, groups, state_dim, dtype=dtype) for _ in range(2)),
        random(heads, dtype=dtype),
        random(2, tokens, heads, dtype=dtype),
        random(heads, dtype=dtype),
    )
    state, limits = random(2, heads, head_dim, state_dim), (0.001, 100.0)
    short = {"float32": "fp32", "float16": "fp16", "bfloat16": "bf16"}[dtype]
    suffix = f"_h{heads}_dh{head_dim}_ds{state_dim}_g{groups}_{short}_fp32"
    with metal(f"nemotron_h_target_verify_mamba_t4{suffix}", f"nemotron_h_target_replay_mamba_t2{suffix}"):
        y, after, replay = module._mamba_update_exact(*inputs, state, limits, None)
        after_two = module.replay_mamba_state(replay, 2)
    with operations():
        wide = float32(*inputs)
        expected, expected_after, states = module._mamba_update_exact(*wide, state, limits, None)
    # The kernels are given step sizes in the dtype's rounding, and sum 32 products of size 1.
    loose = {"float32": 1e-4, "float16": 1e-2, "bfloat16": 6e-2}[dtype]
    check("nemotron_h_target_verify_mamba", y, expected, rtol=loose, atol=10 * loose)
    check("nemotron_h_target_verify_mamba state", after, expected_after, rtol=loose, atol=10 * loose)
    check("nemotron_h_target_replay_mamba", after_two, states[:, 1], rtol=loose, atol=10 * loose)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("kernel", ["nemotron_small_row_gemv", "nemotron_small_row_swiglu"])
def test_few_rows_of_nemotron(mlx_vlm, metal, operations, check, random, kernel, dtype):
    import mlx.core as mx

    module = mlx_vlm("models.nemotron_labs_diffusion.language")
    gated = kernel.endswith("swiglu")
    made = module._SMALL_ROW_SWIGLU_KERNEL if gated else module._SMALL_ROW_GEMV_KERNEL
    rows, inside, outside = 5, 150, 12
    x = random(rows, inside, dtype=dtype)
    weights = [random(outside, inside, dtype=dtype, scale=inside**-0.5) for _ in range(1 + gated)]
    with metal(kernel):
        (out,) = made(
            inputs=[x, *weights],
            template=[("T", x.dtype), ("K", inside), ("O", outside), ("R", rows)],
            grid=(32, outside // 4, 8),
            threadgroup=(32, 1, 8),
            output_shapes=[(rows, outside)],
            output_dtypes=[x.dtype],
        )
    with operations():
        wide, *matrices = float32(x, *weights)
        products = [wide @ matrix.T for matrix in matrices]
        expected = products[0] * mx.sigmoid(products[0]) * products[1] if gated else products[0]
    # The products are rounded before they are gated.
    check(kernel, out, expected, **(TWICE if gated else ROUNDED)[dtype])


@pytest.mark.parametrize("dtype", DTYPES)
def test_products_by_tiles_of_mlx(mlx_vlm, metal, operations, check, random, dtype):
    """A kernel whose header is MLX's own for Metal (steel GEMM), read from MLX's wheel."""
    made = mlx_vlm("models.nemotron_labs_diffusion.language")._BM32_LINEAR_KERNEL
    assert made is not None
    rows, inside, outside = 64, 48, 128
    x, weight = random(rows, inside, dtype=dtype), random(outside, inside, dtype=dtype, scale=inside**-0.5)
    with metal("nemotron_bm32_steel_linear_nt"):
        (out,) = made(
            inputs=[x, weight],
            template=[("T", x.dtype), ("K", inside), ("O", outside)],
            grid=(outside // 64 * 32, rows // 32 * 2, 2),
            threadgroup=(32, 2, 2),
            output_shapes=[(rows, outside)],
            output_dtypes=[x.dtype],
        )
    with operations():
        wide, matrix = float32(x, weight)
        expected = wide @ matrix.T
    check("nemotron_bm32_steel_linear_nt", out, expected, **ROUNDED[dtype])


@pytest.mark.parametrize("dtype", HALVES)
@pytest.mark.parametrize("passes", [1, 2])
def test_decoding_of_padded_rows(mlx_vlm, metal, operations, check, random, monkeypatch, passes, dtype):
    """Qwen 3.5's sequences of different lengths in one batch; the cache is a slice of a larger buffer."""
    import mlx.core as mx

    module = mlx_vlm("models.qwen3_5.language")
    plan = ("two_pass", 32) if passes == 2 else ("one_pass", 0)
    monkeypatch.setattr(module, "_qwen3_5_sdpa_vector_plan", lambda *_: plan)
    q = random(2, 4, 1, 64, dtype=dtype)
    k, v = (random(2, 2, 60, 64, dtype=dtype)[:, :, :50] for _ in range(2))
    pads = [0, 13]
    short = {"float16": "fp16", "bfloat16": "bf16"}[dtype]
    names = {
        1: [f"qwen3_5_ragged_sdpa_1p_{short}_d64_v64"],
        2: [f"qwen3_5_ragged_sdpa_2p1_{short}_d64_v64_b32", f"qwen3_5_ragged_sdpa_2p2_{short}_v64_b32"],
    }
    with metal(*names[passes]):
        out = module._qwen3_5_ragged_decode_attention(q, k, v, pads, 0.125)
    with operations():
        wide = float32(q, k, v)
        seen = mx.arange(50)[None, :] >= mx.array(pads)[:, None]
        expected = mx.fast.scaled_dot_product_attention(*wide, scale=0.125, mask=seen[:, None, None])
    check("qwen3_5_ragged_sdpa", out, expected, **(ROUNDED if passes == 1 else TWICE)[dtype])
