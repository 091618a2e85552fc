"""Rotary position embeddings where the generated tests do not look: arguments that are arrays, far positions,
identities with MLX's own, and how launches share heads."""

from __future__ import annotations

from typing import Any

import mlx.core as mx
import numpy as np
import pytest

from zmlx.kernels import _rows, rope
from zmlx.launch import watch


def _normal(*shape: int, seed: int = 0) -> mx.array:
    return mx.array(np.random.default_rng(seed).standard_normal(shape).astype(np.float32))


def _same(actual: mx.array, desired: mx.array) -> None:
    np.testing.assert_array_equal(np.array(actual), np.array(desired))


def _close(actual: mx.array, desired: Any, atol: float = 2e-6) -> None:
    np.testing.assert_allclose(np.array(actual), np.array(desired), rtol=0, atol=atol)


@pytest.mark.parametrize("interleaved", [False, True])
@pytest.mark.parametrize("shape", [(2, 3, 5, 16), (2, 5, 12), (1, 2, 3, 4, 20)])
def test_it_is_mlxs_own(shape: tuple[int, ...], interleaved: bool, mx_device: Any) -> None:
    x = _normal(*shape)
    own = mx.fast.rope(x, 8, traditional=interleaved, base=100.0, scale=0.5, offset=3)
    _close(rope.rope(x, dims=8, interleaved=interleaved, base=100.0, scale=0.5, offset=3), own, 1e-5)


@pytest.mark.parametrize("given", [[7], [3, 11]])
def test_offsets_may_be_an_array(given: list[int], mx_device: Any) -> None:
    x = _normal(2, 3, 5, 16)
    each = [rope.rope(x[b : b + 1], offset=given[b % len(given)]) for b in range(2)]
    _same(rope.rope(x, offset=mx.array(given)), mx.concatenate(each))


def test_an_offset_may_be_a_scalar_array_of_any_integers(mx_device: Any) -> None:
    x = _normal(2, 3, 5, 16)
    for dtype in (mx.uint8, mx.int64, mx.uint32):
        _same(rope.rope(x, offset=mx.array(9, dtype)), rope.rope(x, offset=9))


def test_one_token_of_each_sequence(mx_device: Any) -> None:
    x = _normal(3, 4, 1, 16)
    places = mx.array([[5], [0], [900]])
    _same(rope.rope(x, places), rope.rope(x, offset=places.reshape(3)))


@pytest.mark.parametrize("interleaved", [False, True])
def test_any_position_of_32_bits_is_as_exact_as_the_first(interleaved: bool, mx_device: Any) -> None:
    """Against NumPy's extended precision: at 2**31, float64 is no truth any more."""
    if np.finfo(np.longdouble).nmant < 63:
        pytest.skip("NumPy's longdouble is float64 here")
    places = np.array([0, 1, 4097, 2**20, 2**24 + 1, 2**31 - 1, -(2**31), -3], np.int32)
    x = _normal(places.size, 128, seed=1)
    pair = np.arange(64, dtype=np.longdouble)
    angles = places.astype(np.longdouble)[:, None] * np.longdouble(10000) ** (-pair / 64)
    cosines, sines = np.cos(angles).astype(float), np.sin(angles).astype(float)
    first, second = (slice(0, None, 2), slice(1, None, 2)) if interleaved else (slice(64), slice(64, None))
    rows = np.array(x, np.float64)
    truth = rows.copy()
    truth[:, first] = rows[:, first] * cosines - rows[:, second] * sines
    truth[:, second] = rows[:, second] * cosines + rows[:, first] * sines
    _close(rope.rope(x, mx.array(places), interleaved=interleaved), truth, 1e-6)


def test_freqs_of_a_base_are_that_base(mx_device: Any) -> None:
    x = _normal(4, 16)
    freqs = mx.array(10000.0 ** (np.arange(8) / 8), mx.float32)
    for offset in (0, 5, 4000):
        # freqs of float32 are off by 6e-8 each.
        _close(rope.rope(x, None, freqs, offset=offset), rope.rope(x, offset=offset), 1e-6 + 4e-7 * offset)


def test_negative_freqs_turn_the_other_way(mx_device: Any) -> None:
    x, freqs = _normal(5, 8), mx.array([1.0, 3.0, 1e-3, 1e9])
    places = mx.array([1, 5, 2**20, 77, 12345])
    _close(rope.rope(x, places, -freqs), rope.rope(x, -places, freqs))


def test_sections_with_one_position_are_rope(mx_device: Any) -> None:
    x, places = _normal(2, 3, 5, 16), mx.array([4, 0, 9, 100, 7])
    _same(rope.mrope(x, mx.stack([places] * 3), (2, 3, 3)), rope.rope(x, places))


def test_queries_and_keys_are_turned_as_alone(mx_device: Any) -> None:
    q, k = _normal(2, 6, 5, 16), _normal(2, 2, 5, 16, seed=1)
    with watch() as launches:
        both = rope.rope_qk(q, k, offset=11)
        mx.eval(both)
    assert [record.kernel.name for record in launches] == ["zmlx_rope_qk"]
    _same(both[0], rope.rope(q, offset=11))
    _same(both[1], rope.rope(k, offset=11))


@pytest.mark.parametrize("dtypes", [("float32", "float16"), ("bfloat16", "float32")])
def test_weights_of_two_dtypes_keep_their_digits(dtypes: tuple[str, str], mx_device: Any) -> None:
    q, k = _normal(1, 2, 3, 8), _normal(1, 1, 3, 8, seed=1)
    weights = [(1 + 0.1 * _normal(8, seed=2)).astype(getattr(mx, d)) for d in dtypes]
    exact = [w.astype(mx.float32) for w in weights]
    for actual, desired in zip(
        rope.qk_norm_rope(q, k, *weights), rope.qk_norm_rope(q, k, *exact), strict=True
    ):
        _same(actual, desired)


def test_gradients_without_keys(mx_device: Any) -> None:
    q, k, weight = _normal(1, 2, 3, 8), mx.zeros((1, 0, 3, 8)), mx.ones(8)

    def norm(q: mx.array, k_weight: mx.array) -> mx.array:
        return mx.sum(rope.qk_norm_rope(q, k, weight, k_weight)[0] ** 3)

    dq, dk_weight = mx.grad(norm, argnums=(0, 1))(q, weight)
    assert float(mx.max(mx.abs(dq))) > 0
    _same(dk_weight, mx.zeros(8))


def test_caches_of_arrays_of_offsets(mx_device: Any) -> None:
    """Sequences of several lengths; what falls outside of the cache is left out."""
    k, v = _normal(3, 2, 2, 8), _normal(3, 2, 2, 6, seed=1)
    k_cache, v_cache = _normal(3, 2, 5, 8, seed=2), _normal(3, 2, 5, 6, seed=3)
    offsets = [0, 3, 4]
    k_new, v_new = rope.rope_cache_update(k, v, k_cache, v_cache, offset=mx.array(offsets))
    for b, offset in enumerate(offsets):
        fits = min(2, 5 - offset)
        turned = rope.rope(k[b : b + 1], offset=offset)[0]
        for new, cache, tokens in ((k_new, k_cache, turned), (v_new, v_cache, v[b])):
            end = offset + fits
            expected = [cache[b][:, :offset], tokens[:, :fits], cache[b][:, end:]]
            _same(new[b], mx.concatenate(expected, axis=1))


def test_a_second_gradient(mx_device: Any) -> None:
    x = _normal(3, 8)

    def slope(x: mx.array) -> mx.array:
        return mx.sum(mx.grad(lambda x: mx.sum(rope.rope(x, offset=5) ** 3))(x) ** 2)

    def reference(x: mx.array) -> mx.array:
        own = lambda x: mx.fast.rope(x[None], 8, traditional=False, base=10000.0, scale=1.0, offset=5)  # noqa: E731
        return mx.sum(mx.grad(lambda x: mx.sum(own(x) ** 3))(x) ** 2)

    np.testing.assert_allclose(
        np.array(mx.grad(slope)(x)), np.array(mx.grad(reference)(x)), rtol=2e-4, atol=1e-4
    )


@pytest.mark.cpu
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_packed_heads(dtype: str, mx_device: Any) -> None:
    """Chunks of 16 bytes, as on CUDA: what is moved at once comes out in the same order."""
    q, k = (_normal(2, heads, 3, 32, seed=heads).astype(getattr(mx, dtype)) for heads in (5, 2))

    def both() -> list[mx.array]:
        made = [*rope.rope_qk(q, k, interleaved=True)]
        mx.eval(made)
        return made

    plain = both()
    with _rows.override(8, packed=True), watch() as launches:
        packed = both()
    assert ("PACKED", "1") in [(a.name, a.value) for r in launches for a in r.signature.template]
    for actual, desired in zip(packed, plain, strict=True):
        _same(actual.astype(mx.float32), desired.astype(mx.float32))


@pytest.mark.cpu
def test_packed_norms_and_gradients(mx_device: Any) -> None:
    """The same for the norm, with the lines to which weights' gradients are added."""
    q, k = _normal(2, 5, 3, 32), _normal(2, 2, 3, 32, seed=1)
    weights = [1 + 0.1 * _normal(32, seed=seed) for seed in (7, 8)]

    def gradients() -> list[mx.array]:
        def cubed(q: mx.array, weight: mx.array) -> mx.array:
            return mx.sum(rope.qk_norm_rope(q, k, weight, weights[1])[0] ** 3)

        made = list(mx.grad(cubed, argnums=(0, 1))(q, weights[0]))
        mx.eval(made)
        return made

    plain = gradients()
    with _rows.override(8, packed=True):
        packed = gradients()
    for actual, desired in zip(packed, plain, strict=True):
        np.testing.assert_allclose(np.array(actual), np.array(desired), rtol=1e-4, atol=1e-4)


@pytest.mark.cpu
@pytest.mark.parametrize("interleaved", [False, True])
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_heads_that_threads_hold(
    dtype: str, interleaved: bool, monkeypatch: pytest.MonkeyPatch, mx_device: Any
) -> None:
    """Six of a team's eight threads have pairs; groups of heads are not full, and a team has several of them."""
    from zmlx.kernels import _rope_norm

    q, k = (_normal(2, heads, 30, 48, seed=heads).astype(getattr(mx, dtype)) for heads in (5, 2))
    weights = [1 + 0.1 * _normal(48, seed=seed) for seed in (7, 8)]
    cotangents = [_normal(*x.shape, seed=9).astype(x.dtype) for x in (q, k)]

    def all_results() -> list[mx.array]:
        def normed(*arrays: mx.array) -> list[mx.array]:
            return list(rope.qk_norm_rope(*arrays, interleaved=interleaved))

        outputs, gradients = mx.vjp(normed, [q, k, *weights], cotangents)
        mx.eval(outputs, gradients)
        return [made.astype(mx.float32) for made in (*outputs, *gradients)]

    plain = all_results()
    monkeypatch.setattr(_rope_norm, "LINES", 2)
    with _rows.override(8):
        held = all_results()
    for actual, desired in zip(held, plain, strict=True):
        np.testing.assert_allclose(
            np.array(actual), np.array(desired), rtol=1e-2 if dtype == "bfloat16" else 1e-4, atol=1e-4
        )


@pytest.mark.cpu
def test_weights_gradients_are_in_lines_of_teams(monkeypatch: pytest.MonkeyPatch, mx_device: Any) -> None:
    """Few lines, many rows: a team goes through several groups and adds them up."""
    from zmlx.kernels import _rope_norm

    q, k, weight = _normal(2, 5, 30, 16), _normal(2, 1, 30, 16, seed=1), mx.ones(16)

    def gradient() -> mx.array:
        def cubed(weight: mx.array) -> mx.array:
            q_out, k_out = rope.qk_norm_rope(q, k, weight, weight)
            return mx.sum(q_out**3) + mx.sum(k_out**3)

        return mx.grad(cubed)(weight)

    many = gradient()
    mx.eval(many)
    monkeypatch.setattr(_rope_norm, "LINES", 2)
    with watch() as launches:
        few = gradient()
        mx.eval(few)
    (launch,) = [r for r in launches if r.kernel.name == "zmlx_qk_norm_rope_vjp"]
    assert launch.grid[0] == max(2, launch.threadgroup[0])  # on a GPU, the teams of one threadgroup
    _close(few, many, 1e-3)


def test_on_a_gpu_no_more_threads_share_a_head_than_have_a_chunk(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_rows, "current_backend", lambda: "cuda")
    widths = {
        pairs: dict(_rows.simd_launch(1000, pairs, 2).template)["W"] for pairs in (2, 32, 64, 128, 4096)
    }
    assert widths == {2: 4, 32: 4, 64: 8, 128: 16, 4096: 32}
    wider = {
        length: dict(_rows.simd_launch(9, length, 4, widest=128).template)["W"]
        for length in (64, 512, 1024, 9999)
    }
    assert wider == {64: 16, 512: 32, 1024: 64, 9999: 128}
    launch = _rows.simd_launch(10**6, 64, 2, groups=256)
    assert (launch.grid, launch.threadgroup) == ((256 * 128, 1, 1), (128, 1, 1))
