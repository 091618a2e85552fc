"""Recurrences (gated delta rule, state space model, RWKV-7) of mlx-lm, mlx-vlm and mlx-audio against the library's own
path in MLX operations, which is given the same values in float32."""

from __future__ import annotations

import numpy as np
import pytest

import zmlx

pytestmark = pytest.mark.cpu

#: Sums of a few dozen products of numbers around 1, in another order than the operations take them.
FLOAT32 = {"rtol": 2e-5, "atol": 2e-5}
#: The kernels compute in float32 and round once.
ROUNDED = {
    "float32": FLOAT32,
    "float16": {"rtol": 1e-3, "atol": 1e-3},
    "bfloat16": {"rtol": 8e-3, "atol": 8e-3},
}


class Random:
    """Random arrays in one dtype, unless another one is asked for."""

    def __init__(self, seed, dtype):
        import mlx.core as mx

        self.rng = np.random.default_rng(seed)
        self.dtype = getattr(mx, dtype)

    def normal(self, *shape, scale=1.0, dtype=None):
        import mlx.core as mx

        return mx.array((self.rng.standard_normal(shape) * scale).astype(np.float32)).astype(
            dtype or self.dtype
        )

    def uniform(self, low, high, *shape, dtype=None):
        import mlx.core as mx

        return mx.array(self.rng.uniform(low, high, shape).astype(np.float32)).astype(dtype or self.dtype)


def float32(*arrays):
    import mlx.core as mx

    return [None if a is None else a.astype(mx.float32) for a in arrays]


def delta_inputs(dtype, B, T, Hk, Hv, Dk, Dv, vector_gate=False, masked=False):
    """q, k, v, g, beta, state and mask as a model makes them: normalized keys, gates and betas in (0, 1)."""
    import mlx.core as mx

    r = Random(B * T * Dk + Dv, dtype)
    q, k = r.normal(B, T, Hk, Dk, scale=Dk**-0.5), r.normal(B, T, Hk, Dk, scale=Dk**-0.5)
    v = r.normal(B, T, Hv, Dv)
    g = r.uniform(0.8, 1.0, *((B, T, Hv, Dk) if vector_gate else (B, T, Hv)), dtype=mx.float32)
    beta = r.uniform(0.1, 0.9, B, T, Hv)
    state = r.normal(B, Hv, Dv, Dk, scale=0.1, dtype=mx.float32)
    mask = mx.array(r.rng.random((B, T)) < 0.7) if masked else None
    return q, k, v, g, beta, state, mask


#: Whose single steps are packed: eight rows of 128 in a simdgroup.
PACKED = ["mlx_lm.models.gated_delta", "mlx_vlm.models.qwen3_5.gated_delta"]
DELTA = [*PACKED, "mlx_vlm.models.gated_delta", "mlx_audio.lm.models.gated_delta"]


@pytest.mark.parametrize("dtype", ["float32", "float16", "bfloat16"])
@pytest.mark.parametrize("home", DELTA)
@pytest.mark.parametrize(
    ("kernel", "shape", "options"),
    [
        ("gated_delta_step", (2, 5, 2, 4, 64, 12), {}),
        ("gated_delta_step_mask", (2, 6, 1, 2, 32, 8), {"masked": True}),
        ("gated_delta_step_vec", (1, 4, 2, 2, 96, 4), {"vector_gate": True}),
        ("gated_delta_step_vec_mask", (2, 5, 2, 4, 64, 8), {"vector_gate": True, "masked": True}),
        ("gated_delta_step_packed_btree", (2, 4, 1, 2, 128, 16), {}),
    ],
)
def test_gated_delta(client, home, launches, operations, check, kernel, shape, options, dtype):
    import mlx.core as mx

    module = client(home)
    if "packed" in kernel and home not in PACKED:
        kernel = "gated_delta_step"
    inputs = delta_inputs(dtype, *shape, **options)
    mask = inputs[-1]
    with launches(kernel):
        y, state = module.gated_delta_kernel(*inputs)
    with operations():
        expected, expected_state = module.gated_delta_ops(*float32(*inputs[:-1]), mask)
    if mask is not None:
        # Where a token is masked, the kernel writes zero and the operations what a step would have given.
        assert mx.all(mx.where(mask[..., None, None], True, y == 0)).item()
        expected = mx.where(mask[..., None, None], expected, 0)
    assert y.dtype == inputs[0].dtype
    check(kernel, y, expected, **ROUNDED[dtype])
    check(f"{kernel} state", state, expected_state, **FLOAT32)


def test_gated_delta_in_a_half_precision_state(mlx_lm, launches, operations, check):
    import mlx.core as mx

    module = mlx_lm("models.gated_delta")
    *inputs, state, _ = delta_inputs("float16", 1, 3, 1, 1, 32, 4)
    state = state.astype(mx.float16)
    with launches("gated_delta_step"):
        y, after = module.gated_delta_kernel(*inputs, state)
    with operations():
        expected, expected_after = module.gated_delta_ops(*float32(*inputs, state))
    assert after.dtype == mx.float16
    check("gated_delta_step", y, expected, **ROUNDED["float16"])
    check("gated_delta_step state", after, expected_after, **ROUNDED["float16"])


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_the_packed_kernel_equals_its_comparator_bit_for_bit(mlx_lm, launches, dtype):
    """mlx-lm promises it "by construction … on any device": both add in the same order."""
    import mlx.core as mx

    module = mlx_lm("models.gated_delta")
    inputs = delta_inputs(dtype, 1, 5, 2, 4, 128, 24)
    with launches("gated_delta_step_packed_btree", "gated_delta_step_xtree"):
        packed, packed_state = module.gated_delta_kernel(*inputs)
        tree, tree_state = module.gated_delta_kernel_xtree(*inputs)
    assert mx.array_equal(packed, tree).item()
    assert mx.array_equal(packed_state, tree_state).item()


@pytest.mark.parametrize("home", DELTA)
def test_gated_delta_update_takes_the_kernel_where_it_is_told_that_it_is_on_metal(
    client, home, launches, operations, check
):
    module = client(home)
    r = Random(1, "float32")
    arguments = [
        *(r.normal(1, 3, 2, 64, scale=0.125) for _ in range(2)),
        r.normal(1, 3, 4, 8),
        r.normal(1, 3, 4),
        r.normal(1, 3, 4),
        r.uniform(0, 1, 4),
        r.normal(4),
    ]
    with launches("gated_delta_step"), zmlx.pretend_metal(home):
        y, state = module.gated_delta_update(*arguments)
    with operations():
        expected, expected_state = module.gated_delta_update(*arguments, use_kernel=False)
    check("gated_delta_update", y, expected, **FLOAT32)
    check("gated_delta_update state", state, expected_state, **FLOAT32)


@pytest.mark.parametrize("dtype", ["float32", "float16", "bfloat16"])
@pytest.mark.parametrize(("heads", "groups", "head_dim", "state_dim"), [(4, 2, 16, 32), (6, 1, 10, 64)])
@pytest.mark.parametrize("home", ["mlx_lm.models.ssm", "mlx_vlm.models.ssm", "mlx_audio.lm.models.ssm"])
def test_ssm(client, home, launches, operations, check, dtype, heads, groups, head_dim, state_dim):
    import mlx.core as mx

    module = client(home)
    r = Random(heads, dtype)
    x = r.normal(3, 1, heads, head_dim)
    A_log, D, dt_bias = r.uniform(0, 1, heads), r.normal(heads), r.normal(heads)
    B, C = r.normal(3, 1, groups, state_dim), r.normal(3, 1, groups, state_dim)
    dt = r.normal(3, 1, heads)
    state = r.normal(3, heads, head_dim, state_dim, dtype=mx.float32)
    limits = (0.001, 100.0)
    with launches("ssm_kernel"), zmlx.pretend_metal(home):
        y, after = module.ssm_update(x, A_log, B, C, D, dt, dt_bias, state, limits)
    with operations():
        expected, expected_after = module.ssm_attn(*float32(x, A_log, B, C, D, dt, dt_bias, state), limits)
    # The kernel is given the step sizes in the dtype's rounding and sums 32 to 64 products of size 1.
    loose = {"float32": 1e-4, "float16": 4e-3, "bfloat16": 3e-2}[dtype]
    check("ssm_kernel", y, expected, rtol=loose, atol=10 * loose)
    check("ssm_kernel state", after, expected_after, rtol=loose, atol=loose)


def wkv7_inputs(dtype, B, T, H, D):
    """r, w, k, v, a, b and the state as Rwkv7TimeMixing makes them."""
    r = Random(T * D, dtype)
    a = r.normal(B, T, H, D)
    a = a / (a * a).sum(axis=-1, keepdims=True).sqrt()
    gate = r.uniform(0, 1, B, T, H, D)
    return (
        r.normal(B, T, H, D),
        r.uniform(0.6, 1.0, B, T, H, D),
        r.normal(B, T, H, D, scale=D**-0.5),
        r.normal(B, T, H, D),
        -a,
        a * gate,
        r.normal(B, H, D, D, scale=0.1),
    )


#: The kernel multiplies key and value in their dtype, as the operations in that dtype would.
PRODUCTS = {
    "float32": FLOAT32,
    "float16": {"rtol": 2e-3, "atol": 2e-3},
    "bfloat16": {"rtol": 1.6e-2, "atol": 1.6e-2},
}


@pytest.mark.parametrize("dtype", ["float32", "float16", "bfloat16"])
@pytest.mark.parametrize("shape", [(2, 5, 3, 32), (1, 3, 2, 64)])
@pytest.mark.parametrize("home", ["mlx_lm.models.rwkv7", "mlx_vlm.models.rwkv7.language"])
def test_rwkv7(client, home, launches, operations, check, shape, dtype):
    import mlx.core as mx

    module = client(home)
    inputs = wkv7_inputs(dtype, *shape)
    with launches("wkv7_kernel"):
        y, state = module.wkv7_kernel(*inputs)
    *steps, expected_state = float32(*inputs)
    expected = []
    with operations():
        for t in range(shape[1]):
            row, expected_state = module._wkv7_step_ops(*(x[:, t] for x in steps), expected_state)
            expected.append(row[..., 0])
    assert y.dtype == state.dtype == inputs[0].dtype
    check("wkv7_kernel", y, mx.stack(expected, axis=1), **PRODUCTS[dtype])
    check("wkv7_kernel state", state, expected_state, **PRODUCTS[dtype])
