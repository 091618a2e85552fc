"""mlx-vlm's kernels for attention and states that go from token to token, against the package's own operations or,
where it has none, the formula in MLX operations."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest
from client_tolerances import DTYPES, FLOAT32, HALVES, ROUNDED, TWICE, float32

from zmlx.launch import hook

pytestmark = pytest.mark.cpu

#: As kernels' names have them.
SHORT = {"float16": "fp16", "bfloat16": "bf16"}


def attention(queries, keys, values, scale, visible):
    """Softmax attention in float32; ``visible`` (B, L, K) says which keys a query sees. None seen is zero."""
    import mlx.core as mx

    queries, keys, values = float32(queries, keys, values)
    groups = queries.shape[1] // keys.shape[1]
    keys, values = mx.repeat(keys, groups, axis=1), mx.repeat(values, groups, axis=1)
    scores = mx.where(visible[:, None], scale * queries @ keys.swapaxes(-1, -2), -mx.inf)
    weights = mx.exp(scores - mx.maximum(scores.max(axis=-1, keepdims=True), -1e30))
    total = weights.sum(axis=-1, keepdims=True)
    return mx.where(total > 0, weights @ values / mx.maximum(total, 1e-30), 0)


@pytest.mark.parametrize("dtype", HALVES)
@pytest.mark.parametrize(("qk", "v", "top"), [(64, 32, 40), (32, 96, 7)])
def test_indexed_sparse_attention(mlx_vlm, metal, operations, check, random, qk, v, top, dtype):
    """Each query names the keys that it sees; -1 is none, and one query sees nothing at all."""
    import mlx.core as mx

    module = mlx_vlm("models.sparse_attention")
    B, L, K, heads, groups = 2, 3, 50, 4, 2
    q = random(B, heads, L, qk, dtype=dtype)
    k, values = random(B, groups, K, qk, dtype=dtype), random(B, groups, K, v, dtype=dtype)
    rng = np.random.default_rng(top)
    chosen = np.stack([rng.permutation(K)[:top] for _ in range(B * L)]).reshape(B, L, top)
    chosen[:, 1, ::2] = -1
    chosen[1, 2] = -1
    with metal(f"indexed_sparse_attention_{SHORT[dtype]}_q{qk}_v{v}_k{top}_qh{heads}_kh{groups}"):
        out = module.indexed_sparse_attention(q, k, values, mx.array(chosen), qk**-0.5)
    visible = np.zeros((B, L, K + 1), dtype=bool)
    np.put_along_axis(visible, chosen, True, axis=-1)  # -1 is the last column, which is dropped
    with operations():
        expected = attention(q, k, values, qk**-0.5, mx.array(visible[..., :K]))
    assert out.dtype == q.dtype
    check("indexed_sparse_attention", out, expected, **ROUNDED[dtype])


@pytest.mark.parametrize("dtype", HALVES)
def test_qwen_sparse_attention(mlx_vlm, metal, operations, check, random, dtype):
    """Chosen blocks of keys, of these only what lies before the query's end, and the incomplete block at that end."""
    import mlx.core as mx

    module = mlx_vlm("models.qwen4_exp.qsa_kernel")
    B, L, K, heads, groups, width, block, top = 2, 4, 60, 4, 2, 64, 8, 3
    q = random(B, heads, L, width, dtype=dtype)
    k, v = (random(B, groups, K, width, dtype=dtype) for _ in range(2))
    rng = np.random.default_rng(0)
    blocks = np.stack([rng.permutation(5)[:top] for _ in range(B * L)]).reshape(B, L, top)
    blocks[0, 1, 0] = -1
    ends = np.array([[43, 44, 47, 48], [41, 50, 55, 60]])
    name = f"qwen4_exp_qsa_sparse_attention_{SHORT[dtype]}_d{width}_s{top * block}_b{block}_k{top}"
    with metal(f"{name}_qh{heads}_kh{groups}"):
        out = module.qsa_sparse_attention(
            q, k, v, mx.array(blocks), mx.array(ends), scale=width**-0.5, block_size=block
        )
    of_key = np.arange(K) // block
    chosen = (of_key == blocks[..., None]).any(axis=-2)
    tail = of_key == (ends // block)[..., None]
    visible = (chosen | tail) & (np.arange(K) < ends[..., None])
    with operations():
        expected = attention(q, k, v, width**-0.5, mx.array(visible))
    check("qwen4_exp_qsa_sparse_attention", out, expected, **ROUNDED[dtype])


@pytest.mark.parametrize("dtype", HALVES)
def test_minimax_sparse_prefill(mlx_vlm, metal, operations, check, random, dtype):
    """Chosen blocks of keys, as far as they are not after the query."""
    import mlx.core as mx

    module = mlx_vlm("models.minimax_m3_vl.language")
    B, L, K, heads, groups, width, block, top = 1, 3, 130, 4, 2, 64, 8, 2
    q = random(B, heads, L, width, dtype=dtype)
    k, v = (random(B, groups, K, width, dtype=dtype) for _ in range(2))
    blocks, positions = np.array([[[0, 9], [3, 15], [2, 5]]]), np.array([[77, 129, 20]])
    name = f"minimax_m3_sparse_prefill_1p_{SHORT[dtype]}_d{width}_s{top * block}_b{block}_k{top}"
    with metal(f"{name}_qh{heads}_kh{groups}"):
        out = module._minimax_m3_sparse_prefill_attention(
            q, k, v, mx.array(blocks), mx.array(positions), width**-0.5, block
        )
    of_key = np.arange(K) // block
    visible = (of_key == blocks[..., None]).any(axis=-2) & (np.arange(K) <= positions[..., None])
    with operations():
        expected = attention(q, k, v, width**-0.5, mx.array(visible))
    check("minimax_m3_sparse_prefill_1p", out, expected, **ROUNDED[dtype])


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("keys", [17, 300])
def test_scores_of_an_indexer(mlx_vlm, metal, operations, check, random, keys, dtype):
    """Heads' scores, what is negative cut off, added up with weights; threads share the weights of a query."""
    import mlx.core as mx

    module = mlx_vlm("models.longcat_flash_sparse.indexer_kernel")
    heads = 6
    q, pooled = random(2, heads, 3, 32, dtype=dtype), random(2, keys, 32, dtype=dtype)
    weights = random(2, 3, heads, dtype=dtype)
    with metal(f"indexer_epilogue_h{heads}"):
        out = module.indexer_dense_scores(q, pooled, weights, 0.3)
    with operations():
        q, pooled, weights = float32(q, pooled, weights)
        scores = mx.maximum(q @ pooled[:, None].swapaxes(-1, -2), 0)
        expected = (scores * (weights * 0.3).swapaxes(-1, -2)[..., None]).sum(axis=1)
    check("indexer_epilogue", out, expected, **FLOAT32)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("kernel", ["inkling_banded_mask", "inkling_banded_mask_v2"])
@pytest.mark.parametrize("sliding", [0, 5])
def test_banded_mask(mlx_vlm, metal, operations, check, random, sliding, kernel, dtype):
    """The second kernel takes its sizes from an array that is only there for its shape, and strided inputs."""
    import mlx.core as mx

    module = mlx_vlm("models.inkling.language")
    heads, queries, keys, extent = 3, 6, 10, 7
    relative = random(2, heads, queries, 8, dtype=dtype).transpose(0, 2, 1, 3)
    projection = random(8, extent, dtype=dtype)
    keys_of = mx.zeros((2, 1, keys, 4)) if kernel.endswith("v2") else None
    arguments = (keys - queries, keys, sliding, extent)
    with metal(kernel):
        out = module.banded_additive_mask(relative, projection, *arguments, shape_ref=keys_of)
    with operations():
        expected = module.banded_additive_mask(*float32(relative, projection), *arguments)
    assert out.dtype == relative.dtype
    visible = np.array(expected) > -1e29  # in float16, what is not is minus infinity
    assert (np.array(out.astype(mx.float32))[~visible] < -1e29).all()
    check(
        kernel,
        mx.where(mx.array(visible), out, 0),
        mx.where(mx.array(visible), expected, 0),
        **ROUNDED[dtype],
    )


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("residual", [False, True])
@pytest.mark.parametrize("tokens", [1, 5])
def test_inkling_short_convolution(mlx_vlm, metal, operations, check, random, tokens, residual, dtype):
    module = mlx_vlm("models.inkling.language")
    layer = module.InklingShortConvolution(40, 4, 0)
    layer.conv.weight = random(40, 4, 1)
    x, state = random(2, tokens, 40, dtype=dtype), random(2, 3, 40)
    more = random(2, tokens, 40, dtype=dtype) if residual else None
    cache = [state]
    with metal("inkling_sconv_decode"):
        out = layer(x, cache, residual=more)
    expected_cache = [state]
    with operations():
        wide, wide_more = float32(x, more)
        expected = layer(wide, expected_cache, residual=wide_more)
    assert out.dtype == x.dtype
    check("inkling_sconv_decode", out, expected, **TWICE[dtype])
    check("inkling_sconv_decode state", cache[0], expected_cache[0], rtol=0, atol=0)


@pytest.mark.parametrize("dtype", DTYPES)
def test_kimi_short_convolution(mlx_vlm, metal, operations, check, random, dtype):
    module = mlx_vlm("models.kimi_k3.language")
    layer = module.ShortConv1d(48, 4)
    layer.conv.weight = random(48, 4, 1, dtype=dtype)
    layer.eval()
    x, state = random(2, 1, 48, dtype=dtype), random(2, 3, 48, dtype=dtype)
    with metal("k3_short_conv_step"):
        out, after = layer(x, state, None, None)
    layer.conv.weight = layer.conv.weight.astype(x.dtype)
    with operations():
        layer.conv.weight = float32(layer.conv.weight)[0]
        expected, expected_after = layer(*float32(x, state), None, None)
    check("k3_short_conv_step", out, expected, **ROUNDED[dtype])
    check("k3_short_conv_step state", after, expected_after, rtol=0, atol=0)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("gates", ["scalar", "vector"])
@pytest.mark.parametrize("masked", [False, True])
def test_gated_delta_with_states(mlx_vlm, metal, operations, check, random, masked, gates, dtype):
    """The states after the first tokens are kept, for tokens that are taken back."""
    import mlx.core as mx

    B, T, Hk, Hv, Dk, Dv, kept = 2, 5, 2, 4, 64, 12, 3
    q, k = (random(B, T, Hk, Dk, dtype=dtype, scale=Dk**-0.5) for _ in range(2))
    v = random(B, T, Hv, Dv, dtype=dtype)
    g = 0.8 + 0.2 * mx.sigmoid(random(*((B, T, Hv, Dk) if gates == "vector" else (B, T, Hv))))
    beta = mx.sigmoid(random(B, T, Hv)).astype(v.dtype)
    state = random(B, Hv, Dv, Dk, scale=0.1)
    mask = mx.array(np.random.default_rng(1).random((B, T)) < 0.7) if masked else None
    module = mlx_vlm("models.gated_delta")
    kernel = f"gated_delta_step{'_vec' * (gates == 'vector')}{'_mask' * masked}_states"
    with metal(kernel):
        results = module.gated_delta_kernel(q, k, v, g, beta, state, mask, kept)
    with operations():
        expected = list(module.gated_delta_ops(*float32(q, k, v, g, beta, state), mask, kept))
    if (
        masked
    ):  # where a token is masked, the kernel writes zero and the operations what a step would have given
        expected[0] = mx.where(mask[..., None, None], expected[0], 0)
    assert results[0].dtype == q.dtype
    check(kernel, results[0], expected[0], **ROUNDED[dtype])
    check(f"{kernel} after", results[1], expected[1], **FLOAT32)
    check(f"{kernel} kept", results[2], expected[2], **FLOAT32)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("masked", [False, True])
def test_qwen_gated_delta_with_states(mlx_vlm, metal, operations, check, random, masked, dtype):
    import mlx.core as mx

    module = mlx_vlm("models.qwen3_5.gated_delta")
    B, T, Hk, Hv, Dk, Dv = 2, 4, 1, 2, 32, 8
    arguments = (
        *(random(B, T, Hk, Dk, dtype=dtype, scale=Dk**-0.5) for _ in range(2)),
        random(B, T, Hv, Dv, dtype=dtype),
        *(random(B, T, Hv) for _ in range(2)),
        *(random(Hv) for _ in range(2)),
        random(B, Hv, Dv, Dk, scale=0.1),
    )
    mask = mx.array(np.random.default_rng(1).random((B, T)) < 0.7) if masked else None
    name = f"qwen3_5_gated_delta_with_states{'_mask' * masked}"
    with metal(name):
        results = module.gated_delta_update_with_states(*arguments, mask=mask, state_steps=3)
    with operations():
        expected = module.gated_delta_update_with_states(*float32(*arguments), mask=mask, state_steps=3)
    for which, got, wanted in zip(("out", "after", "kept"), results, expected, strict=True):
        check(f"{name} {which}", got, wanted, **(ROUNDED[dtype] if which == "out" else FLOAT32))


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("width", [64, 70])
def test_hyper_connection(mlx_vlm, metal, operations, check, random, backend, width, dtype):
    """DeepSeek V4's mixing of four streams: Sinkhorn's matrix by one simdgroup, the sum by all.

    What is left of a width by fours is behind an ``#if`` with a template's argument in it. The preprocessor takes that
    for 0, on Metal too, and so nobody writes it.
    """
    if width % 4 and (backend != "cpu" or hook.current() is not None):
        pytest.skip(
            "vectors of four lie across in rows of 70, which the CPU alone forgives, without the checker"
        )
    module = mlx_vlm("models.deepseek_v4.hyper_connection")
    config = SimpleNamespace(
        hc_mult=4, hc_sinkhorn_iters=5, hc_eps=1e-6, rms_norm_eps=1e-6, hidden_size=width
    )
    layer = module.HyperConnection(config)
    layer.eval()
    layer.fn, layer.base, layer.scale = random(24, 4 * width, scale=0.05), random(24), random(3)
    x = random(2, 3, 4, width, dtype=dtype)
    with metal("hc_sinkhorn_collapse"):
        results = layer(x)
    with operations():
        expected = layer(*float32(x))
    assert results[0].dtype == x.dtype
    fours = slice(width - width % 4)
    results[0], expected = results[0][..., fours], (expected[0][..., fours], *expected[1:])
    for which, got, wanted in zip(("collapsed", "post", "comb"), results, expected, strict=True):
        check(f"hc_sinkhorn_{which}", got, wanted, **(ROUNDED[dtype] if which == "collapsed" else FLOAT32))


def test_hyper_connection_split(mlx_vlm, metal, operations, check, random):
    module = mlx_vlm("models.deepseek_v4.hyper_connection")
    arguments = (random(2, 3, 24), random(3), random(24), 4, 7, 1e-6)
    with metal("hc_sinkhorn_split"):
        results = module.hc_split_sinkhorn(*arguments)
    with operations():
        expected = module.hc_split_sinkhorn(*arguments)
    for which, got, wanted in zip(("pre", "post", "comb"), results, expected, strict=True):
        check(f"hc_sinkhorn_split {which}", got, wanted, **FLOAT32)
