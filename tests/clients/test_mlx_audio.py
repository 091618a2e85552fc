"""mlx-audio's own kernels against the package's own path in MLX operations, or its formula."""

from __future__ import annotations

import numpy as np
import pytest
from client_tolerances import DTYPES, FLOAT32, TWICE, float32

from zmlx.errors import KernelRuntimeError
from zmlx.launch import hook
from zmlx.testing.tolerance import as_float64

pytestmark = pytest.mark.cpu


@pytest.mark.parametrize("dtype", DTYPES)
def test_lstm_step(mlx_audio, metal, operations, check, random, dtype):
    module = mlx_audio("codec.models.encodec.encodec")
    x, h, cell = (random(*shape, dtype=dtype) for shape in ((1, 4, 160), (1, 160), (1, 40)))
    with metal("lstm"):
        state, after = module.lstm_custom(x, h, cell, 2)
    with operations():
        expected, expected_after = module.lstm_fallback(*float32(x, h, cell), 2)
    assert state.dtype == x.dtype
    check("lstm", state, expected, **TWICE[dtype])
    check("lstm cell", after, expected_after, **TWICE[dtype])


def test_lstm_step_of_a_batch_writes_where_it_must_not(mlx_audio, backend, random):
    """The kernel finds its sequence's hidden state as far apart as its gates are, which are four times as large."""
    if backend != "cpu" or hook.current() is not None:
        pytest.skip("what a kernel writes outside of its outputs is for the guard bands of the CPU to find")
    module = mlx_audio("codec.models.encodec.encodec")
    message = r"Kernel 'lstm' wrote up to \d+ bytes past the end of its output 'hidden_state'"
    with pytest.raises(KernelRuntimeError, match=message):
        module.lstm_custom(random(3, 4, 160), random(3, 160), random(3, 40), 2)


def test_lstm_layer(mlx_audio, metal, operations, check, random):
    """The layer asks `mx.metal.is_available()` at each step of its sequence."""
    module = mlx_audio("codec.models.encodec.encodec")
    layer = module.LSTM(12, 20)
    layer.Wx, layer.Wh, layer.bias = random(80, 12), random(80, 20, scale=0.3), random(80)
    x = random(1, 5, 12)
    with metal(*["lstm"] * 5):
        out = layer(x)
    with operations():
        expected = layer(x)
    check("lstm layer", out, expected, **FLOAT32)


@pytest.mark.parametrize("features", [16, 160, 1024])
def test_phonon_unpacks_five_values(mlx_audio, metal, operations, features):
    """Ten symbols of base 5 in three bytes, from integers alone: equal, bit for bit."""
    import mlx.core as mx

    module = mlx_audio("stt.models.phonon.packed")
    rng = np.random.default_rng(features)
    symbols = rng.integers(0, 5, (7, -(-features // 10), 10))
    words = (symbols * 5 ** np.arange(10)).sum(axis=-1)
    packed = np.stack([words & 255, words >> 8 & 255, words >> 16], axis=-1).astype(np.uint8)
    packed = mx.array(packed.reshape(7, -1))
    assert packed.shape[1] == module.packed_bytes_per_row(features)
    with metal("mlx_audio_phonon_unpack_base5_v1"):
        base, residual = module.unpack_base5_codes(packed, features)
    with operations():
        expected = module.unpack_base5_codes(packed, features)
    assert base.dtype == residual.dtype == mx.uint32
    assert mx.array_equal(base, expected[0]).item()
    assert mx.array_equal(residual, expected[1]).item()
    assert np.unique(np.array(base)).size > 1


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("kernel", ["relu_squared", "qk_relu_squared"])
def test_mossformer_attention(mlx_audio, metal, operations, check, random, kernel, dtype):
    """Attention by squares of what is positive, in groups; one kernel squares, the other multiplies as well."""
    module = mlx_audio("sts.models.mossformer2_se.flash_attention_kernels")
    attention = module.FlashAttentionImplementations
    call = {"relu_squared": attention.simple_kernel, "qk_relu_squared": attention.fused_kernel}[kernel]
    q, k, v = (random(2, 3, 20, 24, dtype=dtype) for _ in range(3))
    with metal(kernel):
        out = call(q, k, v)
    with operations():
        expected = attention.standard(*float32(q, k, v))
    assert out.dtype == q.dtype
    # Products, sums of 24 of them and their squares are rounded to the dtype before the last product.
    unit = {"float32": 1e-5, "float16": 8e-3, "bfloat16": 6e-2}[dtype]
    check(kernel, out, expected, rtol=unit, atol=unit)


@pytest.mark.parametrize("dtype", DTYPES)
def test_mossformer_fused_multiply(mlx_audio, metal, check, random, dtype):
    """A kernel of the module that none of its functions calls: a * b * scale."""
    module = mlx_audio("sts.models.mossformer2_se.flash_attention_kernels")
    a, b, scale = (random(n, dtype=dtype) for n in (300, 300, 1))
    with metal("fused_multiply_add"):
        (out,) = module.fused_multiply_add(
            inputs=[a, b, scale],
            grid=(300, 1, 1),
            threadgroup=(64, 1, 1),
            output_shapes=[a.shape],
            output_dtypes=[a.dtype],
        )
    unit = {"float32": 1e-6, "float16": 1e-3, "bfloat16": 8e-3}[dtype]  # the first product is rounded too
    check("fused_multiply_add", out, as_float64(a) * as_float64(b) * as_float64(scale), rtol=unit, atol=1e-7)


@pytest.mark.parametrize("dtype", ["float32", "float16"])  # for others the package takes mx.conv1d
@pytest.mark.parametrize(("length", "kernel_size"), [(33, 17), (5, 3), (4, 9)])
def test_mossformer_depthwise_conv1d(mlx_audio, metal, operations, check, random, length, kernel_size, dtype):

    module = mlx_audio("sts.models.mossformer2_se.depthwise_conv1d_kernel")
    channels, padding = 12, kernel_size // 2
    x, weight = random(2, length, channels, dtype=dtype), random(channels, kernel_size, 1, dtype=dtype)
    with metal("custom_depthwise_conv1d"):
        out = module.depthwise_conv1d(x, weight, padding=padding, groups=channels)
    with operations():
        expected = module.depthwise_conv1d(*float32(x, weight), padding=padding, groups=channels)
    assert out.dtype == x.dtype
    unit = {"float32": 1e-5, "float16": 1e-2}[dtype]  # the sum is of the dtype
    check("custom_depthwise_conv1d", out, expected, rtol=unit, atol=unit)


#: The kernel is given step sizes in the dtype's rounding, and sums 32 to 64 products of size 1.
STATE_SPACE = {"float32": 1e-4, "float16": 1e-2, "bfloat16": 6e-2}


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(("heads", "groups", "head_dim", "state_dim"), [(4, 2, 16, 32), (6, 1, 10, 64)])
def test_state_space_model_of_a_prompt(
    mlx_audio, metal, operations, check, random, heads, groups, head_dim, state_dim, dtype
):
    """A prompt begins without a state; a token's kernel is mlx-lm's, and tested with it."""
    module = mlx_audio("lm.models.ssm")
    tokens, limits = 6, (0.001, 100.0)
    inputs = (
        random(2, tokens, heads, head_dim, dtype=dtype),
        random(heads, dtype=dtype, scale=0.3),
        *(random(2, tokens, groups, state_dim, dtype=dtype) for _ in range(2)),
        random(heads, dtype=dtype),
        random(2, tokens, heads, dtype=dtype),
        random(heads, dtype=dtype),
    )
    with metal("ssm_initial_kernel"):
        y, state = module.ssm_initial_kernel(*inputs, limits)
    with operations():
        expected, expected_state = module.ssm_attn(*float32(*inputs), None, limits)
    assert y.dtype == inputs[0].dtype
    loose = STATE_SPACE[dtype]
    check("ssm_initial_kernel", y, expected, rtol=loose, atol=10 * loose)
    check("ssm_initial_kernel state", state, expected_state, rtol=loose, atol=10 * loose)
