"""mlx-vlm's products with quantized and plain matrices, of a few tokens at once, against products of the same numbers
in float32; and what goes with them in mixtures of experts."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest
from client_tolerances import DTYPES, FLOAT32, HALVES, ROUNDED, TWICE, float32

pytestmark = pytest.mark.cpu

#: As kernels' names have them.
SHORT = {"float16": "fp16", "bfloat16": "bf16"}


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("width", [128, 70])
def test_verify_weight(mlx_vlm, metal, operations, check, random, width, dtype):
    module = mlx_vlm("models.exact_speculative_verify")
    x, weight = random(2, 5, width, dtype=dtype), random(12, width, dtype=dtype, scale=width**-0.5)
    with metal("exact_speculative_verify_gemv"):
        out = module.exact_speculative_verify_weight(weight, x)
    with operations():
        wide, matrix = float32(x, weight)
        expected = wide @ matrix.T
    check("exact_speculative_verify_gemv", out, expected, **ROUNDED[dtype])


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shared", [True, False], ids=["one x for all experts", "an x for each"])
def test_verify_weights_of_experts(mlx_vlm, metal, operations, check, random, shared, dtype):
    import mlx.core as mx

    module = mlx_vlm("models.exact_speculative_verify")
    weight = random(5, 12, 70, dtype=dtype, scale=0.12)
    experts = mx.array(np.random.default_rng(0).integers(0, 5, (2, 3, 2)))
    x = random(2, 3, 70, dtype=dtype) if shared else random(2, 3, 2, 70, dtype=dtype)
    with metal("exact_speculative_verify_switch_gemv"):
        out = module.exact_speculative_verify_switch_weight(weight, x, experts)
    with operations():
        wide, matrix = float32(x, weight)
        wide = mx.expand_dims(wide, -2) if shared else wide
        expected = (matrix[experts] @ wide[..., None])[..., 0]
    check("exact_speculative_verify_switch_gemv", out, expected, **ROUNDED[dtype])


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(
    ("rows", "inside", "outside", "group", "kernel"),
    [
        (3, 192, 20, 64, "qmv_gs_64_rows_4_aligned_0"),
        (2, 128, 96, 32, "qmv_gs_32_rows_8_aligned_1"),
        (20, 512, 40, 64, "qmm_gs_64"),  # by 8 x 8 matrices of a simdgroup
    ],
)
def test_one_bit_weights(
    mlx_vlm, metal, operations, check, random, rows, inside, outside, group, kernel, dtype
):
    import mlx.core as mx

    module = mlx_vlm("quantization.one_bit")
    x = random(rows, inside, dtype=dtype)
    bits = np.random.default_rng(0).integers(0, 2**32, (outside, inside // 32), dtype=np.uint32)
    scales, biases = (random(outside, inside // group, dtype=dtype, scale=0.1) for _ in range(2))
    with metal(f"mlx_vlm_affine_1bit_{kernel}"):
        out = module.one_bit_quantized_matmul(x, mx.array(bits), scales, biases, group_size=group)
    with operations():
        wide, *wide_parts = float32(x, scales, biases)
        expected = wide @ module.dequantize_one_bit(mx.array(bits), *wide_parts, group).T
    assert out.dtype == x.dtype
    # qmm rounds each weight to the dtype before it multiplies, and both take the sum in another order.
    unit = {"float32": 2e-5, "float16": 4e-3, "bfloat16": 4e-2}[dtype]
    check(f"affine_1bit_{kernel[:3]}", out, expected, rtol=unit, atol=unit)


def quantized(random, bits, inside, outside, dtype, mode="affine", group=64):
    """A layer with random weights, and these in float32."""
    import mlx.core as mx
    import mlx.nn as nn

    layer = nn.QuantizedLinear(inside, outside, bias=False, group_size=group, bits=bits, mode=mode)
    weight = random(outside, inside, dtype=dtype, scale=inside**-0.5)
    layer.weight, layer.scales, *biases = mx.quantize(weight, group_size=group, bits=bits, mode=mode)
    layer.biases = biases[0] if biases else None
    parts = float32(layer.scales, layer.biases) if biases else [layer.scales, None]
    return layer, mx.dequantize(layer.weight, *parts, group_size=group, bits=bits, mode=mode)


#: Bits and tokens, and the kernel that the package chooses for them.
VERIFYING = [(4, 3, ""), (5, 3, ""), (8, 2, ""), (4, 7, "_streamed"), (4, 9, "_token_tiled")]


@pytest.mark.parametrize("dtype", HALVES)
@pytest.mark.parametrize(("bits", "tokens", "kind"), VERIFYING)
def test_quantized_products(mlx_vlm, metal, operations, check, random, bits, tokens, kind, dtype):
    module = mlx_vlm("models.quantized_verifier")
    layer, weight = quantized(random, bits, 512, 24, dtype)
    x = random(2, tokens, 512, dtype=dtype)
    with metal(f"quantized_verify_affine_qmv{kind}_b{bits}_gs64_t{tokens}_k512_n24_{SHORT[dtype]}"):
        out = module.optimized_affine_linear(layer, x)
    with operations():
        expected = float32(x)[0] @ weight.T
    check(f"quantized_verify_affine_qmv{kind}", out, expected, **ROUNDED[dtype])


@pytest.mark.parametrize("dtype", HALVES)
@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize(("bits", "tokens", "kind"), VERIFYING)
def test_largest_of_quantized_products(mlx_vlm, metal, operations, random, bits, tokens, kind, masked, dtype):
    """The token with the largest logit, of those that a mask allows: among those that round to it, any."""
    import mlx.core as mx

    module = mlx_vlm("models.quantized_verifier")
    layer, weight = quantized(random, bits, 512, 40, dtype)
    x = random(2, tokens, 512, dtype=dtype)
    words = np.random.default_rng(1).integers(0, 2**32, (2 * tokens, 2), dtype=np.uint32).view(np.int32)
    mask = mx.array(words) if masked else None
    prefix = f"quantized_verify_affine{'_masked' * masked}_qargmax{kind}"
    with metal(f"{prefix}_b{bits}_gs64_t{tokens}_k512_n40_{SHORT[dtype]}"):
        chosen = module.optimized_affine_argmax(layer, x, mask)
    with operations():
        logits = np.array(float32(x)[0] @ weight.T)
    if masked:
        allowed = (words.view(np.uint32)[..., None] >> np.arange(32, dtype=np.uint32) & 1).astype(bool)
        logits = np.where(allowed.reshape(2, tokens, 64)[..., :40], logits, -np.inf)
    best = np.take_along_axis(logits, np.array(chosen)[..., None], axis=-1)[..., 0]
    unit = {"float16": 1e-3, "bfloat16": 8e-3}[dtype]
    assert (best >= logits.max(axis=-1) - unit * np.abs(logits.max(axis=-1))).all()
    assert len(set(np.array(chosen).flatten().tolist())) > 1


@pytest.mark.parametrize("dtype", HALVES)
@pytest.mark.parametrize(("tokens", "kind"), [(3, ""), (7, "_streamed")])
def test_several_quantized_products_in_one(mlx_vlm, metal, operations, check, random, tokens, kind, dtype):
    module = mlx_vlm("models.quantized_verifier")
    pairs = [quantized(random, 4, 512, outside, dtype) for outside in (16, 24, 8)]
    x = random(1, tokens, 512, dtype=dtype)
    with metal(f"quantized_verify_affine_fused_qmv{kind}_b4_gs64_t{tokens}_k512_n16_24_8_{SHORT[dtype]}"):
        outputs = module.optimized_affine_linears([layer for layer, _ in pairs], x)
    with operations():
        for out, (_, weight) in zip(outputs, pairs, strict=True):
            check("quantized_verify_affine_fused_qmv", out, float32(x)[0] @ weight.T, **ROUNDED[dtype])


@pytest.mark.parametrize("dtype", HALVES)
def test_largest_of_nvfp4_products(mlx_vlm, metal, operations, random, dtype):
    module = mlx_vlm("models.quantized_verifier")
    layer, weight = quantized(random, 4, 272, 40, "float32", mode="nvfp4", group=16)
    x = random(2, 3, 272, dtype=dtype)
    with metal(f"quantized_verify_nvfp4_argmax_t3_k272_n40_{SHORT[dtype]}"):
        chosen = module.optimized_nvfp4_argmax(layer, x)
    with operations():
        logits = np.array(float32(x)[0] @ float32(weight)[0].T)
    best = np.take_along_axis(logits, np.array(chosen)[..., None], axis=-1)[..., 0]
    unit = {"float16": 1e-3, "bfloat16": 8e-3}[dtype]
    assert (best >= logits.max(axis=-1) - unit * np.abs(logits.max(axis=-1))).all()


@pytest.mark.parametrize("dtype", HALVES)
@pytest.mark.parametrize("bits", [4, 5, 8])
def test_head_of_glm(mlx_vlm, metal, operations, check, random, bits, dtype):
    module = mlx_vlm("models.glm_moe_dsa.speculative_verifier")
    layer, weight = quantized(random, bits, 512, 24, dtype)
    x = random(2, 3, 512, dtype=dtype)
    with metal(f"glm_moe_dsa_target_verify_qmv_b{bits}_gs64_t3_k512_n24_{SHORT[dtype]}"):
        out = module._quantized_head_logits(layer, x)
    with operations():
        expected = float32(x)[0] @ weight.T
    check("glm_moe_dsa_target_verify_qmv", out, expected, **ROUNDED[dtype])


def switch(mlx_vlm, random, bits, inside, outside, dtype):
    """A layer of four quantized experts, and their weights in float32."""
    import mlx.core as mx

    layers = mlx_vlm("models.switch_layers")
    layer = layers.QuantizedSwitchLinear(inside, outside, 4, bias=False, group_size=64, bits=bits)
    weight = random(4, outside, inside, dtype=dtype, scale=inside**-0.5)
    layer.weight, layer.scales, layer.biases = mx.quantize(weight, group_size=64, bits=bits)
    return layer, mx.dequantize(layer.weight, *float32(layer.scales, layer.biases), group_size=64, bits=bits)


@pytest.mark.parametrize("dtype", HALVES)
@pytest.mark.parametrize("bits", [4, 5])
def test_gates_of_experts(mlx_vlm, metal, operations, check, random, bits, dtype):
    import mlx.core as mx

    module = mlx_vlm("models.fast_ops")
    (up, wide_up), (gate, wide_gate) = (switch(mlx_vlm, random, bits, 512, 16, dtype) for _ in range(2))
    x = random(1, 3, 512, dtype=dtype)
    chosen = mx.array(np.random.default_rng(0).integers(0, 4, (1, 3, 2)))
    name = f"short_block_affine{bits}_switch_gate_up_{module._dtype_name(x.dtype)}_t3_k512_n16_e2_g64"
    with metal(name):
        results = module.exact_affine_switch_gate_up(SimpleNamespace(up_proj=up, gate_proj=gate), x, chosen)
    with operations():
        wide = float32(x)[0][:, :, None, :, None]
        for out, weight in zip(results, (wide_up, wide_gate), strict=True):
            check("short_block_affine_switch_gate_up", out, (weight[chosen] @ wide)[..., 0], **ROUNDED[dtype])


@pytest.mark.parametrize("dtype", HALVES)
@pytest.mark.parametrize("bits", [4, 5])
def test_weighted_products_of_experts(mlx_vlm, metal, operations, check, random, bits, dtype):
    import mlx.core as mx

    module = mlx_vlm("models.fast_ops")
    layer, weight = switch(mlx_vlm, random, bits, 512, 16, dtype)
    x, shared = random(1, 3, 2, 512, dtype=dtype), random(1, 3, 16, dtype=dtype)
    shares = mx.softmax(random(1, 3, 2), axis=-1)
    chosen = mx.array(np.random.default_rng(0).integers(0, 4, (1, 3, 2)))
    name = f"short_block_affine{bits}_moe_down_{module._dtype_name(x.dtype)}_t3_k512_n16_e2_g64"
    with metal(name):
        out = module.exact_affine_moe_down(layer, x, chosen, shares, shared)
    with operations():
        wide, more = float32(x, shared)
        each = (weight[chosen] @ wide[..., None])[..., 0]
        expected = (each * shares[..., None]).sum(axis=-2) + more
    check("short_block_affine_moe_down", out, expected, **TWICE[dtype])


def mixed(routed, shares, shared, residual, post, comb):
    """The experts' weighted sum, spread over the streams of a hyper-connection, in float32."""
    import mlx.core as mx

    routed, shared, residual = float32(routed, shared, residual)
    total = (routed * shares[..., None]).sum(axis=-2) + shared
    return post[..., None] * total[:, :, None] + mx.matmul(comb.swapaxes(-1, -2), residual)


@pytest.mark.parametrize("dtype", HALVES)
@pytest.mark.parametrize(("kind", "bits"), [("fused", 4), ("fused", 8), ("expand", 4)])
def test_experts_into_a_hyper_connection(mlx_vlm, metal, operations, check, random, kind, bits, dtype):
    import mlx.core as mx

    module = mlx_vlm("models.quantized_verifier")
    layer, weight = switch(mlx_vlm, random, bits, 512, 16, dtype)
    x, shared = random(1, 3, 2, 512, dtype=dtype), random(1, 3, 16, dtype=dtype)
    residual, post, comb = random(1, 3, 4, 16, dtype=dtype), random(1, 3, 4), random(1, 3, 4, 4, scale=0.5)
    shares = mx.softmax(random(1, 3, 2), axis=-1)
    chosen = mx.array(np.random.default_rng(0).integers(0, 4, (1, 3, 2)))
    with operations():
        routed = (weight[chosen] @ float32(x)[0][..., None])[..., 0].astype(x.dtype)
        expected = mixed(routed, shares, shared, residual, post, comb)
    short = SHORT[dtype]
    given, name = None, f"quantized_verify_fused_affine{bits}_moe_hc_{short}_t3_k512_n16_e2_h4_g64"
    if kind == "expand":
        given, name = routed, f"quantized_verify_moe_hc_expand_{short}_r3_h4_d16_e2"
    with metal(name):
        out = module.exact_quantized_moe_hc_expand(
            layer, x, chosen, shares, shared, residual, post, comb, routed=given
        )
    unit = {"float16": 4e-3, "bfloat16": 3e-2}[dtype]  # products, shares and the sum over experts are rounded
    check(f"quantized_verify moe_hc {kind}", out, expected, rtol=unit, atol=unit)


@pytest.mark.parametrize("dtype", HALVES)
def test_spreading_over_streams(mlx_vlm, metal, operations, check, random, dtype):
    module = mlx_vlm("models.fast_ops")
    streams = mlx_vlm("models.deepseek_v4.hyper_connection")
    x, residual = random(2, 3, 24, dtype=dtype), random(2, 3, 4, 24, dtype=dtype)
    post, comb = random(2, 3, 4), random(2, 3, 4, 4)
    with metal(f"short_block_hc_expand_{module._dtype_name(x.dtype)}_r6_h4_d24"):
        out = module.exact_hc_expand(x, residual, post, comb)
    with operations():
        expected = streams.hc_expand(*float32(x, residual), post, comb)
    check("short_block_hc_expand", out, expected, **ROUNDED[dtype])


@pytest.mark.parametrize("dtype", HALVES)
@pytest.mark.parametrize("normalized", [False, True])
def test_collapsing_streams_and_norm(mlx_vlm, metal, operations, check, random, normalized, dtype):
    """Mixing coefficients from outside, or by the kernel itself, which is for a width of 4096 only."""
    import mlx.core as mx
    import mlx.nn as nn

    module = mlx_vlm("models.fast_ops")
    streams = mlx_vlm("models.deepseek_v4.hyper_connection")
    width = 4096 if normalized else 72
    config = SimpleNamespace(
        hc_mult=4, hc_sinkhorn_iters=5, hc_eps=1e-6, rms_norm_eps=1e-6, hidden_size=width
    )
    layer, norm = streams.HyperConnection(config), nn.RMSNorm(width, eps=1e-6)
    layer.eval()
    layer.base, layer.scale = random(24), random(3)
    layer.fn = random(24, 4 * width, dtype=dtype, scale=(4 * width) ** -0.5)
    x, norm.weight = random(1, 2, 4, width, dtype=dtype), random(width, dtype=dtype)
    short = module._dtype_name(x.dtype)
    with operations():
        wide = float32(x)[0]
        layer.fn = layer.fn.astype(mx.float32)
        collapsed, post, comb = layer(wide)
        expected = mx.fast.rms_norm(collapsed, float32(norm.weight)[0], 1e-6)
        mixes = mx.fast.rms_norm(wide.flatten(-2), None, 1e-6) @ layer.fn.T
    if normalized:
        layer.fn = layer.fn.astype(x.dtype)
        with metal(f"short_block_hc_normalized_norm_{short}_{short}_h4_d4096_i5_he1000_ne1000"):
            results = module.exact_hc_normalized_norm(layer, norm, x)
    else:
        with metal(f"short_block_hc_norm_{short}_h4_d72_i5_he1000_ne1000"):
            results = module.exact_hc_norm(layer, norm, x, mixes)
    # What is collapsed is rounded before it is normalized; the normalized streams are, before they are mixed.
    loose = {"float16": 3e-3, "bfloat16": 2.5e-2}[dtype]
    coefficients = {"rtol": loose, "atol": loose} if normalized else FLOAT32
    check("short_block_hc_norm", results[0], expected, rtol=loose, atol=loose)
    check("short_block_hc_norm post", results[1], post, **coefficients)
    check("short_block_hc_norm comb", results[2], comb, **coefficients)
