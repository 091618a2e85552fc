"""mlx-audio's kernels, all of them, against the package's own path in MLX operations, or its formula."""

from __future__ import annotations

import numpy as np
import pytest

import zmlx
from zmlx.errors import KernelRuntimeError
from zmlx.launch import hook
from zmlx.testing.tolerance import as_float64

pytestmark = pytest.mark.cpu

DTYPES = ["float32", "float16", "bfloat16"]

#: Float32 arithmetic, in another order and with other exponentials than the operations'.
FLOAT32 = {"rtol": 2e-5, "atol": 2e-5}
#: Kernels that compute in float32 and round once.
ROUNDED = {
    "float32": FLOAT32,
    "float16": {"rtol": 1e-3, "atol": 1e-3},
    "bfloat16": {"rtol": 8e-3, "atol": 8e-3},
}


@pytest.fixture(autouse=True)
def _on_metal():
    """As its user would for the whole process."""
    with zmlx.install(pretend_metal=True):
        yield


@pytest.fixture
def random():
    """``random(*shape, dtype=, scale=)``: normal numbers, the same in each run."""
    import mlx.core as mx

    rng = np.random.default_rng(0)

    def numbers(*shape, dtype="float32", scale=1.0):
        return mx.array((rng.standard_normal(shape) * scale).astype(np.float32)).astype(getattr(mx, dtype))

    return numbers


def float32(*arrays):
    import mlx.core as mx

    return [a.astype(mx.float32) for a in arrays]


#: An LSTM's gates go through the dtype on the way.
GATES = {
    "float32": FLOAT32,
    "float16": {"rtol": 2e-3, "atol": 2e-3},
    "bfloat16": {"rtol": 1.6e-2, "atol": 1.6e-2},
}


@pytest.mark.parametrize("dtype", DTYPES)
def test_lstm_step(mlx_audio, launches, operations, check, random, dtype):
    module = mlx_audio("codec.models.encodec.encodec")
    x, h, cell = (random(*shape, dtype=dtype) for shape in ((1, 4, 160), (1, 160), (1, 40)))
    with launches("lstm"):
        state, after = module.lstm_custom(x, h, cell, 2)
    with operations():
        expected, expected_after = module.lstm_fallback(*float32(x, h, cell), 2)
    assert state.dtype == x.dtype
    check("lstm", state, expected, **GATES[dtype])
    check("lstm cell", after, expected_after, **GATES[dtype])


def test_lstm_step_of_a_batch_writes_where_it_must_not(mlx_audio, backend, random):
    """The kernel finds its sequence's hidden state as far apart as its gates are, which are four times as large."""
    if backend != "cpu" or hook.current() is not None:
        pytest.skip("what a kernel writes outside of its outputs is for the guard bands of the CPU to find")
    module = mlx_audio("codec.models.encodec.encodec")
    message = r"Kernel 'lstm' wrote up to \d+ bytes past the end of its output 'hidden_state'"
    with pytest.raises(KernelRuntimeError, match=message):
        module.lstm_custom(random(3, 4, 160), random(3, 160), random(3, 40), 2)


def test_lstm_layer(mlx_audio, launches, operations, check, random):
    """The layer asks `mx.metal.is_available()` at each step of its sequence."""
    module = mlx_audio("codec.models.encodec.encodec")
    layer = module.LSTM(12, 20)
    layer.Wx, layer.Wh, layer.bias = random(80, 12), random(80, 20, scale=0.3), random(80)
    x = random(1, 5, 12)
    with launches(*["lstm"] * 5):
        out = layer(x)
    hidden = cell = None
    with operations():
        projected = x @ layer.Wx.T + layer.bias
        expected = []
        for t in range(5):
            hidden = random(1, 80, scale=0.0) if hidden is None else hidden @ layer.Wh.T
            cell = random(1, 20, scale=0.0) if cell is None else cell
            hidden, cell = module.lstm_fallback(projected, hidden, cell, t)
            expected.append(hidden)
    check("lstm layer", out, np.stack([np.array(h) for h in expected], axis=-2), **FLOAT32)


@pytest.mark.parametrize("features", [16, 160, 1024])
def test_phonon_unpacks_five_values(mlx_audio, launches, operations, features):
    """Ten symbols of base 5 in three bytes, from integers alone: equal, bit for bit."""
    import mlx.core as mx

    module = mlx_audio("stt.models.phonon.packed")
    rng = np.random.default_rng(features)
    symbols = rng.integers(0, 5, (7, -(-features // 10), 10))
    words = (symbols * 5 ** np.arange(10)).sum(axis=-1)
    packed = np.stack([words & 255, words >> 8 & 255, words >> 16], axis=-1).astype(np.uint8)
    packed = mx.array(packed.reshape(7, -1))
    assert packed.shape[1] == module.packed_bytes_per_row(features)
    with launches("mlx_audio_phonon_unpack_base5_v1"):
        base, residual = module.unpack_base5_codes(packed, features)
    with operations():
        expected = module._unpack_base5_codes_fallback(packed, features)
    assert base.dtype == residual.dtype == mx.uint32
    assert mx.array_equal(base, expected[0]).item()
    assert mx.array_equal(residual, expected[1]).item()
    assert np.unique(np.array(base)).size > 1


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("kernel", ["relu_squared", "qk_relu_squared"])
def test_mossformer_attention(mlx_audio, launches, operations, check, random, kernel, dtype):
    """Attention by squares of what is positive, in groups; one kernel squares, the other multiplies as well."""
    module = mlx_audio("sts.models.mossformer2_se.flash_attention_kernels")
    attention = module.FlashAttentionImplementations
    call = {"relu_squared": attention.simple_kernel, "qk_relu_squared": attention.fused_kernel}[kernel]
    q, k, v = (random(2, 3, 20, 24, dtype=dtype) for _ in range(3))
    with launches(kernel):
        out = call(q, k, v)
    with operations():
        expected = attention.standard(*float32(q, k, v))
    assert out.dtype == q.dtype
    # Products, sums of 24 of them and their squares are rounded to the dtype before the last product.
    unit = {"float32": 1e-5, "float16": 8e-3, "bfloat16": 6e-2}[dtype]
    check(kernel, out, expected, rtol=unit, atol=unit)


@pytest.mark.parametrize("dtype", DTYPES)
def test_mossformer_fused_multiply(mlx_audio, launches, check, random, dtype):
    """A kernel of the module that none of its functions calls: a * b * scale."""
    module = mlx_audio("sts.models.mossformer2_se.flash_attention_kernels")
    a, b, scale = (random(n, dtype=dtype) for n in (300, 300, 1))
    with launches("fused_multiply_add"):
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
def test_mossformer_depthwise_conv1d(
    mlx_audio, launches, operations, check, random, length, kernel_size, dtype
):
    import mlx.core as mx

    module = mlx_audio("sts.models.mossformer2_se.depthwise_conv1d_kernel")
    channels, padding = 12, kernel_size // 2
    x, weight = random(2, length, channels, dtype=dtype), random(channels, kernel_size, 1, dtype=dtype)
    with launches("custom_depthwise_conv1d"):
        out = module.depthwise_conv1d(x, weight, padding=padding, groups=channels)
    with operations():
        expected = mx.conv1d(*float32(x, weight), padding=padding, groups=channels)
    assert out.dtype == x.dtype
    unit = {"float32": 1e-5, "float16": 1e-2}[dtype]  # the sum is of the dtype
    check("custom_depthwise_conv1d", out, expected, rtol=unit, atol=unit)


def ssm_inputs(random, dtype, tokens, heads, groups, head_dim, state_dim):
    """x, A_log, B, C, D, dt and dt_bias of a state space model, for two sequences."""
    return (
        random(2, tokens, heads, head_dim, dtype=dtype),
        random(heads, dtype=dtype, scale=0.3),
        *(random(2, tokens, groups, state_dim, dtype=dtype) for _ in range(2)),
        random(heads, dtype=dtype),
        random(2, tokens, heads, dtype=dtype),
        random(heads, dtype=dtype),
    )


LIMITS = (0.001, 100.0)
#: The kernels are given step sizes in the dtype's rounding, and sum 32 to 64 products of size 1.
STATE_SPACE = {"float32": 1e-4, "float16": 1e-2, "bfloat16": 6e-2}


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(("heads", "groups", "head_dim", "state_dim"), [(4, 2, 16, 32), (6, 1, 10, 64)])
@pytest.mark.parametrize("tokens", [1, 6])
def test_ssm(
    mlx_audio, launches, operations, check, random, tokens, heads, groups, head_dim, state_dim, dtype
):
    """A token is for one kernel, which goes on from a state, and a prompt is for another, which begins with none."""
    module = mlx_audio("lm.models.ssm")
    inputs = ssm_inputs(random, dtype, tokens, heads, groups, head_dim, state_dim)
    state = random(2, heads, head_dim, state_dim)
    if tokens == 1:
        kernel = "ssm_kernel"
        with launches(kernel):
            y, after = module.ssm_update_kernel(*inputs, state, LIMITS)
    else:
        kernel, state = "ssm_initial_kernel", None
        with launches(kernel):
            y, after = module.ssm_initial_kernel(*inputs, LIMITS)
    with operations():
        expected, expected_after = module.ssm_attn(*float32(*inputs), state, LIMITS)
    assert y.dtype == inputs[0].dtype
    loose = STATE_SPACE[dtype]
    check(kernel, y, expected, rtol=loose, atol=10 * loose)
    check(f"{kernel} state", after, expected_after, rtol=loose, atol=10 * loose)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("gates", ["scalar", "vector"])
@pytest.mark.parametrize("masked", [False, True])
def test_gated_delta(mlx_audio, launches, operations, check, random, gates, masked, dtype):
    import mlx.core as mx

    module = mlx_audio("lm.models.gated_delta")
    B, T, Hk, Hv, Dk, Dv = 2, 5, 2, 4, 64, 12
    q, k = (random(B, T, Hk, Dk, dtype=dtype, scale=Dk**-0.5) for _ in range(2))
    v = random(B, T, Hv, Dv, dtype=dtype)
    g = 0.8 + 0.2 * mx.sigmoid(random(*((B, T, Hv, Dk) if gates == "vector" else (B, T, Hv))))
    beta = mx.sigmoid(random(B, T, Hv)).astype(v.dtype)
    state = random(B, Hv, Dv, Dk, scale=0.1)
    mask = mx.array(np.random.default_rng(1).random((B, T)) < 0.7) if masked else None
    kernel = f"gated_delta_step{'_vec' * (gates == 'vector')}{'_mask' * masked}"
    with launches(kernel):
        y, after = module.gated_delta_kernel(q, k, v, g, beta, state, mask)
    with operations():
        expected, expected_after = module.gated_delta_ops(*float32(q, k, v, g, beta, state), mask)
    if (
        masked
    ):  # where a token is masked, the kernel writes zero and the operations what a step would have given
        expected = mx.where(mask[..., None, None], expected, 0)
    assert y.dtype == q.dtype
    check(kernel, y, expected, **ROUNDED[dtype])
    check(f"{kernel} state", after, expected_after, **FLOAT32)
