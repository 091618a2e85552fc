"""Fused kernels of mlx-lm and mlx-vlm against their formulas in float64, with the roundings that the kernels make."""

from __future__ import annotations

import numpy as np
import pytest

import zmlx
from zmlx.testing.tolerance import as_float64, round_to

pytestmark = pytest.mark.cpu

DTYPES = ["float32", "float16", "bfloat16"]

#: Float32 arithmetic throughout, on CUDA with its fast sine and exponential.
FLOAT32 = {"rtol": 2e-5, "atol": 2e-5}
#: A kernel that rounds where the oracle rounds can land on the other side, by one unit of the dtype.
ONE_UNIT = {
    "float32": FLOAT32,
    "float16": {"rtol": 1e-3, "atol": 1e-5},
    "bfloat16": {"rtol": 8e-3, "atol": 1e-5},
}


def normal(rng, dtype, *shape, scale=1.0):
    import mlx.core as mx

    return mx.array((rng.standard_normal(shape) * scale).astype(np.float32)).astype(getattr(mx, dtype))


def rms_normalized(x, eps):
    return x / np.sqrt((x * x).mean(axis=-1, keepdims=True) + eps)


@pytest.mark.parametrize("dtype", ["float32", "float16", "bfloat16"])
@pytest.mark.parametrize(("features", "inverted"), [((128, 8), False), ((260, 12), True)])
@pytest.mark.parametrize("home", ["mlx_lm.models.bitlinear_layers", "mlx_vlm.models.bitnet.bitlinear"])
def test_bitlinear(client, home, launches, check, dtype, features, inverted):
    """Ternary weights, four in a byte: row i of the product comes from bits of row i modulo a quarter."""
    import mlx.core as mx

    inside, outside = features
    rng = np.random.default_rng(inside)
    layer = client(home).BitLinear(inside, outside, invert_weight_scales=inverted)
    ternary = rng.integers(-1, 2, (outside, inside))
    packed = sum((ternary.reshape(4, -1, inside)[i] + 1) << 2 * i for i in range(4))
    layer.weight = mx.array(packed.astype(np.uint8))
    layer.weight_scale = mx.array([1.7]).astype(getattr(mx, dtype))
    layer.bias = normal(rng, dtype, outside)
    x = normal(rng, dtype, 2, 3, inside)
    with launches("bitlinear_matmul"):
        out = layer(x)
    scale = as_float64(layer.weight_scale)
    expected = as_float64(x) @ ternary.T * (1 / scale if inverted else scale)
    expected = round_to(round_to(expected, dtype) + as_float64(layer.bias), dtype)
    assert out.dtype == x.dtype
    # Where the bias takes most of the product away, its unit remains.
    check("bitlinear_matmul", out, expected, rtol=ONE_UNIT[dtype]["rtol"], atol=20 * ONE_UNIT[dtype]["rtol"])


@pytest.mark.parametrize(("tokens", "experts", "top_k"), [((2, 5), 40, 4), ((1,), 32, 8), ((13,), 7, 2)])
def test_expert_routing(kernels, launches, check, tokens, experts, top_k):
    import mlx.core as mx

    rng = np.random.default_rng(experts)
    logits = normal(rng, "float32", *tokens, experts, scale=3)
    bias = normal(rng, "float32", experts, scale=0.1)
    with launches("expert_routing"):
        chosen, weights = kernels("expert_routing").expert_routing(
            logits, bias, top_k=top_k, multiplier=0.5, score_eps=1e-15, route_scale=2.5
        )
    score = 1 / (1 + np.exp(-0.5 * as_float64(logits)))
    order = np.argsort(-(score + as_float64(bias)), axis=-1, kind="stable")[..., :top_k]
    expected = np.take_along_axis(score, order, axis=-1)
    assert chosen.dtype == mx.uint32
    assert np.array_equal(np.array(chosen), order)
    check("expert_routing", weights, 2.5 * expected / expected.sum(axis=-1, keepdims=True), **FLOAT32)


def test_expert_routing_takes_the_first_of_equal_experts(kernels, launches):
    import mlx.core as mx

    with launches("expert_routing"):
        chosen, weights = kernels("expert_routing").expert_routing(
            mx.zeros((3, 64)), mx.zeros((64,)), top_k=3, multiplier=1.0, score_eps=0.0, route_scale=1.0
        )
    assert chosen.tolist() == [[0, 1, 2]] * 3
    assert np.allclose(np.array(weights), 1 / 3)


def heads(qkvg, n_heads, n_kv_heads, head_dim, eps, dtype, query_scale):
    """Normalized q and k, as float64 on the dtype's numbers."""
    parts = as_float64(qkvg).reshape(*qkvg.shape[:-1], 2 * (n_heads + n_kv_heads), head_dim)
    normed = round_to(rms_normalized(parts[..., : n_heads + n_kv_heads, :], eps), dtype)
    return round_to(normed[..., :n_heads, :] * query_scale, dtype), normed[..., n_heads:, :]


HEADS = {"n_heads": 3, "n_kv_heads": 2, "eps": 1e-5, "query_scale": 5.473}


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("head_dim", [64, 20])
def test_qk_norm(kernels, launches, check, dtype, head_dim):
    qkvg = normal(np.random.default_rng(head_dim), dtype, 2, 3, 10 * head_dim)
    with launches("qk_norm"):
        q, k = kernels("qk_norm").qk_norm(qkvg, head_dim=head_dim, **HEADS)
    expected = heads(qkvg, head_dim=head_dim, dtype=dtype, **HEADS)
    check("qk_norm q", q, expected[0], **ONE_UNIT[dtype])
    check("qk_norm k", k, expected[1], **ONE_UNIT[dtype])


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("offset", [7, (0, 100)])
def test_qk_norm_rope(kernels, launches, check, dtype, offset):
    import mlx.core as mx

    head_dim, base = 32, 10000.0
    qkvg = normal(np.random.default_rng(1), dtype, 2, 3, 10 * head_dim)
    with launches("qk_norm_rope"):
        q, k = kernels("qk_norm_rope").qk_norm_rope(
            qkvg,
            head_dim=head_dim,
            rope_base=base,
            offset=offset if isinstance(offset, int) else mx.array(offset),
            **HEADS,
        )
    position = np.arange(3) + np.broadcast_to(offset, 2)[:, None]
    theta = position[..., None, None] * base ** -(np.arange(head_dim // 2) / (head_dim // 2))
    for name, got, x in zip("qk", (q, k), heads(qkvg, head_dim=head_dim, dtype=dtype, **HEADS), strict=True):
        even, odd = x[..., 0::2], x[..., 1::2]
        turned = np.stack(
            [even * np.cos(theta) - odd * np.sin(theta), even * np.sin(theta) + odd * np.cos(theta)], axis=-1
        ).reshape(x.shape)
        # The rotation carries the unit of the larger of a pair to the smaller.
        unit = ONE_UNIT[dtype]["rtol"]
        check(f"qk_norm_rope {name}", got, turned, rtol=unit, atol=10 * unit)


@pytest.mark.parametrize("dtype", DTYPES)
def test_rms_norm_sigmoid_gate_on_strided_arrays(kernels, launches, check, dtype):
    rng = np.random.default_rng(3)
    B, H, L, D = 2, 3, 5, 40
    x = normal(rng, dtype, B, L, H, D).transpose(0, 2, 1, 3)
    gate = normal(rng, dtype, B, L, 2 * H * D)[..., H * D :]
    with launches("rms_norm_sigmoid_gate"):
        out = kernels("rms_norm_sigmoid_gate").rms_norm_sigmoid_gate(x, gate, eps=1e-5)
    normed = rms_normalized(as_float64(x), 1e-5).transpose(0, 2, 1, 3).reshape(B, L, H * D)
    check("rms_norm_sigmoid_gate", out, normed / (1 + np.exp(-as_float64(gate))), **ONE_UNIT[dtype])


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(("experts", "width"), [(3, 300), (2, 1111)])
def test_post_expert_norm_combine(kernels, launches, check, dtype, experts, width):
    rng = np.random.default_rng(width)
    x = normal(rng, dtype, 2, 2, experts, width)
    weights = abs(normal(rng, "float32", 2, 2, experts))
    norm_weight = normal(rng, dtype, width)
    with launches("post_expert_norm_combine"):
        out = kernels("post_expert_norm_combine").post_expert_norm_combine(
            x, weights, norm_weight=norm_weight, eps=1e-5
        )
    normed = rms_normalized(as_float64(x) * as_float64(norm_weight), 1e-5)
    share = round_to(as_float64(weights), dtype)[..., None]
    expected = 0.0
    for k in range(experts):
        expected = round_to(expected + normed[..., k, :] * share[..., k, :], dtype)
    unit = ONE_UNIT[dtype]["rtol"]
    check("post_expert_norm_combine", out, expected, rtol=unit, atol=3 * unit)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("has_scale", [True, False])
def test_norm_add_norm(kernels, launches, check, dtype, has_scale):
    import mlx.core as mx
    import mlx.nn as nn

    module = kernels("norm_add_norm")
    rng = np.random.default_rng(5)
    width = 300 if has_scale else 1030  # one simdgroup's threads, and several
    branch, stream = normal(rng, dtype, 3, width), normal(rng, "float32", 3, width)
    alpha, beta = normal(rng, "float32", width), normal(rng, "float32", width)
    post_weight = normal(rng, dtype, width) if has_scale else None
    norm = nn.RMSNorm(width, eps=1e-5)
    norm.weight = normal(rng, dtype, width)
    arguments = {"alpha": alpha, "beta": beta, "post_weight": post_weight, "post_eps": 1e-6}
    with launches("norm_add_norm", "norm_add", "norm_add_norm_pre_norm"):
        added, normed = module.norm_add_norm(branch, stream, next_norm=norm, **arguments)
        alone, nothing = module.norm_add_norm(branch, stream, next_norm=None, **arguments)
        again = module.pre_norm(added, norm, dtype=branch.dtype)
    x = as_float64(branch)
    if has_scale:
        x = round_to(x * as_float64(post_weight), dtype)
    post = round_to(rms_normalized(x, 1e-6), dtype)
    expected = as_float64(alpha) * as_float64(stream) + as_float64(beta) * post
    unit = ONE_UNIT[dtype]["rtol"]
    check("norm_add_norm", added, expected, rtol=unit, atol=10 * unit)
    # From the sum that the kernel made: with that, the library promises equality to its own pre_norm.
    expected = rms_normalized(as_float64(added), 1e-5) * as_float64(norm.weight)
    check("norm_add_norm normed", normed, expected, **ONE_UNIT[dtype])
    assert nothing is None
    assert mx.array_equal(alone, added).item()
    assert mx.array_equal(again, normed).item()


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("width", [96, 700])
@pytest.mark.parametrize("home", ["mlx_lm.models.kimi_k3", "mlx_vlm.models.kimi_k3.language"])
def test_attention_over_residual_blocks(client, home, launches, operations, check, dtype, width):
    """Kimi K3's kernel, of 512 threads a token, against the library's own operations."""
    import mlx.core as mx

    module = client(home)
    rng = np.random.default_rng(width)
    eps = 1e-5

    def mix(dtype, *values, **options):
        blocks = module.ResidualBlocks(eps)
        *earlier, partial, weight = (x.astype(dtype) for x in values)
        for x in earlier:
            blocks.append(x)
        return module._attn_res_mix(blocks, partial, weight.astype(mx.float32), eps, **options)

    values = [normal(rng, dtype, 2, 3, width) for _ in range(4)] + [
        normal(rng, dtype, width, scale=width**-0.5)
    ]
    with launches("attnres_mix"), zmlx.pretend_metal(home):
        out = mix(getattr(mx, dtype), *values)
    with operations():
        expected = mix(mx.float32, *values, use_kernel=False)
    assert out.dtype == getattr(mx, dtype)
    check("attnres_mix", out, expected, **ONE_UNIT[dtype])


@pytest.mark.parametrize(("shape", "iterations"), [((2, 5, 4, 4), 20), ((300, 3, 3), 1), ((4, 4), 3)])
def test_sinkhorn(mlx_lm, launches, check, shape, iterations):
    """DeepSeek V4.1's kernel: one thread a matrix."""
    import mlx.core as mx

    comb = mx.array(np.random.default_rng(iterations).uniform(0.01, 1, shape).astype(np.float32))
    eps = mx.array([1e-6])
    with launches("deepseek_v41_sinkhorn"), zmlx.pretend_metal("mlx_lm"):
        out = mlx_lm("models.deepseek_v41")._sinkhorn(comb, iters=iterations, eps=eps)
    expected = as_float64(comb)
    for axis in (-2, *(-1, -2) * (iterations - 1)):
        expected = expected / (expected.sum(axis=axis, keepdims=True) + 1e-6)
    check("deepseek_v41_sinkhorn", out, expected, **FLOAT32)
