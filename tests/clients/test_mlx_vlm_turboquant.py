"""mlx-vlm's quantized cache (TurboQuant), whose 26 kernels pack, quantize, score and add up: against the package's own
operations on the same packed numbers. Where several kernels are for one thing, the first choices are taken away."""

from __future__ import annotations

import contextlib

import numpy as np
import pytest

import zmlx

pytestmark = pytest.mark.cpu

#: Sums of some dozens of products of size 1, in another order.
SUMS = {"rtol": 5e-5, "atol": 5e-5}
#: Through a softmax and a rotation as well.
ATTENTION = {"rtol": 2e-4, "atol": 2e-4}


@pytest.fixture
def module(mlx_vlm):
    return mlx_vlm("turboquant")


@pytest.fixture
def by_operations(module, operations):
    """The package keeps the kernels that it has made, and then takes them wherever it is."""

    def forget():
        for name, made in vars(module).items():
            if name.endswith("_kernel") and hasattr(made, "cache_clear"):
                made.cache_clear()

    @contextlib.contextmanager
    def alone():
        forget()
        with operations():
            yield
        forget()

    forget()
    return alone


@pytest.fixture
def without(module, monkeypatch):
    """``without("_kernel")``: the package has no such kernel, and takes its next choice."""

    def take_away(*factories):
        for name in factories:
            assert hasattr(module, name)
            monkeypatch.setattr(module, name, lambda *_, **__: None)

    return take_away


@pytest.mark.parametrize("bits", [1, 2, 3, 4, 5, 7, 8])
@pytest.mark.parametrize("length", [32, 50])
def test_packing(module, metal, by_operations, bits, length):
    import mlx.core as mx

    values = mx.array(np.random.default_rng(bits).integers(0, 2**bits, (2, 3, length)).astype(np.uint32))
    with metal("turboquant_pack_lowbit", "turboquant_unpack_lowbit"):
        packed = module._pack_lowbit(values, bits)
        back = module._unpack_lowbit(packed, bits, length)
    with by_operations():
        assert mx.array_equal(packed, module._pack_lowbit(values, bits)).item()
        assert mx.array_equal(back, module._unpack_lowbit(packed, bits, length)).item()
    assert mx.array_equal(back, values).item()


def assert_nearly_all_equal(actual, desired, bits, length, module):
    """Numbers at the edge between two steps may go either way, by one step."""
    actual, desired = (
        np.array(module._unpack_lowbit(x, bits, length)).astype(int) for x in (actual, desired)
    )
    off = np.abs(actual - desired)
    assert off.max() <= 1
    assert (off > 0).mean() <= 0.01


@pytest.mark.parametrize("bits", [2, 3, 4])
@pytest.mark.parametrize(
    ("kernel", "dim"),  # 64 is rotated by Hadamard's matrix, 80 by a random one
    [("norot_quantize", 64), ("norot_quantize", 80), ("fused_mse_quantize_v2", 80)],
)
def test_quantize(module, metal, by_operations, without, check, random, kernel, dim, bits):
    """Vectors become a norm and packed steps, after the rotation, or in one kernel with it."""
    if kernel == "fused_mse_quantize_v2":
        without("_fused_norot_quantize_kernel")
    codec = module._TurboQuantMSECodec(dim, bits, 0)
    vectors = random(2, 3, 1, dim)
    with metal(f"turboquant_{kernel}_{bits}"):
        state = codec.quantize(vectors)
    with by_operations():
        expected = codec.quantize(vectors)
        assert_nearly_all_equal(state.indices, expected.indices, bits, dim, module)
    check(f"turboquant_{kernel} norms", state.norms, expected.norms, rtol=1e-3, atol=0)


def test_quantize_keys_and_values_at_once(module, metal, by_operations, check, random):
    """The kernel adds up the sums of eight simdgroups: of vectors that fill fewer, some are what was in the memory."""
    dim = 240
    cache = module.TurboQuantKVCache(bits=4, key_bits=3, value_bits=4)
    keys, values = random(2, 3, 1, dim), random(2, 3, 1, dim)
    cache._ensure_codecs(keys, values)
    with metal("turboquant_fused_kv_quantize_k3_v4"):
        states = cache._try_fused_kv_quantize(keys, values)
    with by_operations():
        for codec, vectors, state in zip(
            (cache.key_codec, cache.value_codec), (keys, values), states, strict=True
        ):
            expected = codec.quantize(vectors)
            assert_nearly_all_equal(state.indices, expected.indices, codec.bits, dim, module)
            check("turboquant_fused_kv_quantize norms", state.norms, expected.norms, rtol=1e-3, atol=0)


def test_the_checker_finds_what_the_kernel_of_both_leaves_unset(module, random):
    """Of 80 numbers three sums of eight are written: norms are right where threadgroup memory happens to be zero."""
    cache = module.TurboQuantKVCache(bits=4, key_bits=3, value_bits=4)
    keys, values = random(1, 1, 1, 80), random(1, 1, 1, 80)
    cache._ensure_codecs(keys, values)
    with zmlx.install(pretend_metal=True), zmlx.checked(raise_on_finding=False) as checked:
        cache._try_fused_kv_quantize(keys, values)
    assert {finding.kind for finding in checked.findings} == {"uninitialized"}
    assert all("sg_norms" in str(finding) for finding in checked.findings)


@pytest.mark.parametrize("bits", [2, 3, 5])
@pytest.mark.parametrize("dim", [64, 96])
def test_quantize_for_products(module, metal, by_operations, check, random, dim, bits):
    """The signs of a projection of what is left are kept too.

    Of dimensions that are no multiple of 32 the kernel adds lanes to what is left that have no number, so none is here.
    Those that are powers of two are rotated by Hadamard's matrix, and what is left of them is projected by the kernel
    as if it had been rotated by the other one: their signs say nothing.
    """
    codec = module._TurboQuantProdCodec(dim, bits, 0)
    vectors = random(2, 3, 1, dim)
    with metal(f"turboquant_fused_prod_quantize_{bits - 1}{'_rht' * (dim == 64)}"):
        state = codec.quantize(vectors)
    with by_operations():
        expected = codec.quantize(vectors)
        assert_nearly_all_equal(state.mse_indices, expected.mse_indices, bits - 1, dim, module)
        if not codec.mse_codec.use_rht:
            assert_nearly_all_equal(state.qjl_signs, expected.qjl_signs, 1, dim, module)
    check("turboquant_fused_prod_quantize norms", state.norms, expected.norms, rtol=1e-3, atol=0)
    check(
        "turboquant_fused_prod_quantize rest",
        state.residual_norms,
        expected.residual_norms,
        rtol=2e-3,
        atol=0,
    )


#: For keys of a codec: the kernels that are taken away, those that run, and the bits of a number.
SCORES = [
    ("_TurboQuantMSECodec", (), ["mse_score_tiled_{R}"], 3),
    ("_TurboQuantMSECodec", (), ["mse_score_tiled_{R}"], 4),
    ("_TurboQuantMSECodec", ("_mse_score_tiled_kernel",), ["mse_score"], 3),
    ("_TurboQuantProdCodec", (), ["prod_score_repeat_{R}"], 3),
    ("_TurboQuantProdCodec", (), ["prod_score_repeat_{R}"], 4),
    ("_TurboQuantProdCodec", ("_prod_score_repeat_kernel",), ["prod_score"], 4),
    ("_TurboQuantPolarProdCodec", (), ["polar_turbo_score_{levels}_repeat_{R}"], 4),
]


@pytest.mark.parametrize(("codec", "gone", "kernels", "bits"), SCORES)
def test_scores(module, metal, by_operations, without, check, random, codec, gone, kernels, bits):
    """A query for each of several heads that share keys, against 70 packed keys."""
    without(*gone)
    made = getattr(module, codec)(64, bits, 0)
    keys, queries = random(2, 3, 70, 64), random(2, 3, 2, 1, 64)
    with by_operations():
        state = made.quantize(keys)
        prepared = made.prepare_queries(queries)
        expected = made.score_prepared(prepared, state)
    levels = "_".join(map(str, made.polar_codec.level_bits)) if "Polar" in codec else ""
    with metal(*("turboquant_" + kernel.format(R=2, levels=levels) for kernel in kernels)):
        scores = made.score_prepared(prepared, state)
    check(codec.strip("_") + " scores", scores, expected, **SUMS)


def test_scores_by_signs_alone(module, metal, by_operations, check, random):
    """This kernel has the norms of the keys in it, which the operations put on afterwards."""
    codec = module._TurboQuantProdCodec(64, 3, 0)
    keys, queries = random(2, 3, 20, 64), random(2, 3, 2, 64)
    with by_operations():
        state = codec.quantize(keys)
        signs = 2.0 * module._unpack_lowbit(state.qjl_signs, 1, 64) - 1.0
        weights = codec.scale * state.residual_norms.astype(signs.dtype) * state.norms.astype(signs.dtype)
        expected = (queries @ signs.swapaxes(-1, -2)) * weights[:, :, None]
    with metal("turboquant_qjl_score"):
        scores = module._metal_qjl_score(queries, state, codec.scale_array)
    check("turboquant_qjl_score", scores[:, :, :, 0], expected, **SUMS)


def test_scores_by_angles_alone(module, metal, by_operations, check, random):
    codec = module._TurboQuantPolarProdCodec(64, 4, 0)
    keys, queries = random(2, 3, 20, 64), random(2, 3, 2, 1, 64)
    with by_operations():
        state = codec.quantize(keys)
        rotated, _ = codec.prepare_queries(queries)
        expected = codec.polar_codec.score_prepared(rotated, state.polar_state, state.norms)
    name = "turboquant_polar_prod_score_" + "_".join(map(str, codec.polar_codec.level_bits))
    with metal(name):
        scores = codec.polar_codec.score_prepared(rotated, state.polar_state, state.norms)
    check("turboquant_polar_prod_score", scores, expected, **SUMS)


@pytest.mark.parametrize("bits", [3, 4])
@pytest.mark.parametrize("dim", [64, 80])
@pytest.mark.parametrize(
    ("call", "heads", "kernel"),
    [
        ("weighted_sum", 1, "mse_weighted_rot"),
        ("weighted_sum", 2, "mse_weighted_rot_repeat_2"),
        ("weighted_sum_from_scores", 2, "mse_scores_weighted_rot_repeat_2"),
        ("weighted_sum_stats_from_scores", 2, "mse_scores_weighted_rot_sum_repeat_2"),
    ],
)
def test_weighted_sums(module, metal, by_operations, check, random, call, heads, kernel, dim, bits):
    codec = module._TurboQuantMSECodec(dim, bits, 0)
    values, scores = random(2, 3, 70, dim), random(2, 3, heads, 1, 70)
    with by_operations():
        state = codec.quantize(values)
        expected = getattr(codec, call)(scores, state)
    with metal(f"turboquant_{kernel}"):
        result = getattr(codec, call)(scores, state)
    if call != "weighted_sum_stats_from_scores":
        result, expected = [result], [expected]
    for got, wanted in zip(result, expected, strict=True):
        check(f"turboquant_{kernel.removesuffix('_repeat_2')}", got, wanted, **ATTENTION)


def cache_of(module, keys, values, key_bits, value_bits, mode):
    """A cache with packed keys and values; keys that are scored by products have a codec of their own."""
    cache = module.TurboQuantKVCache(bits=max(key_bits, value_bits), key_bits=key_bits, value_bits=value_bits)
    cache.key_codec = module._build_codec(keys, key_bits, mode=mode, seed=0)
    cache.update_and_fetch(keys, values)
    return cache


def attention_of(cache, queries, scale):
    """Softmax attention with keys and values unpacked."""
    import mlx.core as mx

    keys_state, values_state = cache._attention_states()
    keys, values = cache.key_codec.dequantize(keys_state), cache.value_codec.dequantize(values_state)
    heads = queries.shape[1] // keys.shape[1]
    keys, values = mx.repeat(keys, heads, axis=1), mx.repeat(values, heads, axis=1)
    return mx.softmax(scale * queries @ keys.swapaxes(-1, -2), axis=-1) @ values


#: Of keys and values: mode, bits and dimension; what is taken away, and the kernels of a step of decoding. Those that
#: do all of it in one go for products rotate by the random matrix alone, which is right where Hadamard's is not in use.
FUSED = "_fully_fused_decode_kernel"
SINGLE = "_single_tile_value_weighted_sum_kernel"
PASSES = ["turboquant_mse_sdpa_2pass1_k4_v4_d{D}", "turboquant_mse_sdpa_2pass2"]
DECODING = [
    ("mse", 3, 4, 64, (), ["turboquant_fused_mse_sdpa_k3_v4_d{D}"]),
    ("mse", 3, 4, 96, (), ["turboquant_fused_mse_sdpa_k3_v4_d{D}"]),
    ("mse", 4, 4, 64, ("_fused_mse_decode_kernel",), PASSES),
    ("mse", 4, 4, 96, ("_fused_mse_decode_kernel",), PASSES),
    ("prod", 4, 4, 64, (), ["turboquant_prod_score_repeat_2", "turboquant_single_tile_value_4_r2"]),
    ("prod", 4, 3, 96, (), ["turboquant_prod_score_repeat_2", "turboquant_single_tile_value_3_r2"]),
    ("prod", 3, 3, 96, (SINGLE,), ["turboquant_fully_fused_3_r2"]),
    ("prod", 4, 4, 96, (SINGLE, FUSED), ["turboquant_fused_integer_decode_4_r2"]),
    ("prod", 3.5, 3.5, 96, (), ["turboquant_fused_split_decode_3_4_r2"]),
]


@pytest.mark.parametrize(("mode", "key_bits", "value_bits", "dim", "gone", "kernels"), DECODING)
def test_decoding(
    module, metal, by_operations, without, check, random, mode, key_bits, value_bits, dim, gone, kernels
):
    without(*gone)
    keys, values, queries = random(1, 2, 50, dim), random(1, 2, 50, dim), random(1, 4, 1, dim)
    with by_operations():
        cache = cache_of(module, keys, values, key_bits, value_bits, mode)
        expected = attention_of(cache, queries, dim**-0.5)
    with metal(*(kernel.format(D=dim) for kernel in kernels)):
        out = cache.decode_attention(queries, scale=dim**-0.5)
    check("turboquant decoding", out, expected, **ATTENTION)


def test_decoding_of_many_heads(module, metal, by_operations, without, check, random):
    """A kernel for where the cache is long, or for 64 heads as here, of 8 numbers for a lane and more."""
    without(SINGLE, FUSED)
    keys, values, queries = random(8, 8, 4, 288), random(8, 8, 4, 288), random(8, 16, 1, 288)
    with by_operations():
        cache = cache_of(module, keys, values, 3, 4, "prod")
        expected = attention_of(cache, queries, 1 / 17)
    with metal("turboquant_fused_integer_single_tile_4_r2"):
        out = cache.decode_attention(queries, scale=1 / 17)
    check("turboquant decoding", out, expected, **ATTENTION)


def test_prefill(module, metal, by_operations, check, random):
    """Several queries at once: a kernel unpacks each key once for all of them."""
    dim = 96
    keys, values, queries = random(1, 2, 50, dim), random(1, 2, 50, dim), random(1, 4, 3, dim)
    with by_operations():
        cache = cache_of(module, keys, values, 4, 4, "prod")
        expected = attention_of(cache, queries, dim**-0.5)
    with metal("mq_prod_score_3_r2_l3", "turboquant_single_tile_value_4_r6"):
        out = cache.prefill_attention(queries, scale=dim**-0.5)
    check("turboquant prefill", out, expected, **ATTENTION)
