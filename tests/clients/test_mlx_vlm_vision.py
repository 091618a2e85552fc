"""mlx-vlm's kernels around pictures and positions against the package's own path in MLX operations."""

from __future__ import annotations

import numpy as np
import pytest
from client_tolerances import DTYPES, FLOAT32, ROUNDED, float32

pytestmark = pytest.mark.cpu


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("size", [(9, 20), (3, 4), (1, 1)])
def test_nearest_interpolate(mlx_vlm, metal, operations, random, size, dtype):
    import mlx.core as mx

    module = mlx_vlm("models.kernels")
    x = random(2, 3, 6, 8, dtype=dtype)
    with metal("nearest_interpolation"):
        out = module.nearest_interpolate(x, size=size)
    with operations():
        expected = module._nearest_interpolate_mlx(x, *size)
    assert out.dtype == x.dtype
    assert mx.array_equal(out, expected).item()


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("options", [{}, {"antialias": True}, {"align_corners": True}], ids=str)
@pytest.mark.parametrize("size", [(9, 20), (3, 4)])
def test_bicubic_interpolate(mlx_vlm, metal, operations, check, random, size, options, dtype):
    module = mlx_vlm("models.kernels")
    x = random(2, 3, 6, 8, dtype=dtype)
    with metal("bicubic_interpolation_antialias"):
        out = module.bicubic_interpolate(x, size=size, **options)
    with operations():
        expected = module._bicubic_interpolate_mlx(*float32(x), *size, **options)
    assert out.dtype == x.dtype
    # The kernel divides by the sum over both axes, the operations by one after the other, with 1e-8 added.
    check("bicubic_interpolation_antialias", out, expected, **ROUNDED[dtype])


@pytest.mark.parametrize("dtype", DTYPES)
def test_grid_sample(mlx_vlm, metal, operations, check, random, dtype):
    """Within the picture: where a corner lies outside, the kernel reads what is there and then drops it."""
    import mlx.core as mx

    module = mlx_vlm("models.kernels")
    x = random(2, 7, 9, 5, dtype=dtype)
    grid = mx.array(np.random.default_rng(1).uniform(-0.8, 0.8, (2, 4, 6, 2)).astype(np.float32))
    grid = grid.astype(x.dtype)
    with metal("grid_sample"):
        out = module.grid_sample(x, grid)
    with operations():
        expected = module._grid_sample_mlx(*float32(x, grid))
    assert out.dtype == x.dtype
    check("grid_sample", out, expected, **ROUNDED[dtype])


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(("heights", "widths"), [((5, 3), (11, 2)), ((12, 4), (3, 6))])
def test_separable_interpolate(mlx_vlm, metal, operations, check, random, heights, widths, dtype):
    import mlx.core as mx

    module = mlx_vlm("models.kernels")
    rng = np.random.default_rng(0)
    x = random(2, 6, 8, 3, dtype=dtype)
    rows, columns = (mx.array(rng.integers(0, n, shape)) for n, shape in ((6, heights), (8, widths)))
    tables = (rows.astype(mx.int32), random(*heights), columns.astype(mx.int32), random(*widths))
    with metal("separable_interpolate"):
        out = module.separable_interpolate(x, *tables)
    with operations():
        expected = module._separable_interpolate_mlx(*float32(x), *tables)
    assert out.dtype == mx.float32
    check("separable_interpolate", out, expected, **FLOAT32)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("pairing", ["half_split", "even_odd"])
@pytest.mark.parametrize("axes", [1, 3])
def test_mrope(mlx_vlm, metal, operations, check, random, axes, pairing, dtype):
    """Positions of text, height and width; what lies beyond the rotary part passes through. With its gradient, which
    the package gives by operations."""
    import mlx.core as mx

    module = mlx_vlm("models.rope_utils")
    rng = np.random.default_rng(axes)
    rotary = 16
    q, k = random(2, 4, 5, 24, dtype=dtype), random(2, 2, 5, 24, dtype=dtype)
    positions = mx.array(rng.integers(0, 50, (2, 5) if axes == 1 else (3, 2, 5)))
    frequencies = mx.array((10000.0 ** -(np.arange(rotary // 2) / (rotary // 2))).astype(np.float32))
    selector = mx.array(np.arange(rotary // 2) % axes)
    arguments = (positions, frequencies, selector)
    ndim = positions.ndim

    def by_kernel(q, k):
        kernel = module._mrope_apply_kernel(rotary, ndim, pairing)
        return list(module._fast_mrope_apply(kernel, q, k, *arguments, pairing=pairing))

    name = f"mrope_apply_{pairing}_{rotary}_{ndim}d"
    cotangents = [random(*q.shape, dtype=dtype), random(*k.shape, dtype=dtype)]
    with metal(name, name):
        outputs, gradients = mx.vjp(by_kernel, [q, k], cotangents)
    with operations():
        expected, expected_gradients = mx.vjp(
            lambda q, k: list(module._mrope_apply(q, k, *arguments, pairing)),
            float32(q, k),
            float32(*cotangents),
        )
    assert [out.dtype for out in outputs] == [q.dtype, k.dtype]
    for which, got, wanted in zip("qk", outputs, expected, strict=True):
        check(f"{name} {which}", got, wanted, **ROUNDED[dtype])
    for which, got, wanted in zip("qk", gradients, expected_gradients, strict=True):
        check(f"{name} gradient of {which}", got, wanted, **ROUNDED[dtype])


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(
    ("pairing", "layout", "sectioned"),
    [
        ("half_split", "half", False),
        ("half_split", "half", True),
        ("even_odd", "half", False),
        ("even_odd", "full", False),
        ("even_odd", "half", True),
    ],
)
def test_rotary_of_given_angles(mlx_vlm, metal, operations, check, random, pairing, layout, sectioned, dtype):
    import mlx.core as mx

    module = mlx_vlm("models.rope_utils")
    rotary, sections = 16, [2, 3, 3]
    q, k = random(2, 4, 5, 24, dtype=dtype), random(2, 2, 5, 24, dtype=dtype)
    shape = (3, 2, 5, rotary // 2) if sectioned else (2, 5, rotary // 2)
    angle = random(*shape)
    # Angles of the two halves, or of neighbours, are the same.
    angle = mx.repeat(angle, 2, axis=-1) if layout == "full" else mx.concatenate([angle, angle], axis=-1)
    cos, sin = mx.cos(angle), mx.sin(angle)
    selector = mx.array(np.repeat(np.arange(3), sections)) if sectioned else None
    kernel_options = (rotary, pairing, cos.ndim, sectioned, layout)
    suffix = "sectioned" if sectioned else "preselected"
    name = f"rotary_apply_{pairing}_{layout}_{suffix}_{rotary}_{cos.ndim}d"
    options = {
        "pairing": pairing,
        "cos_layout": layout,
        "sectioned": sectioned,
        "mrope_section": sections if sectioned else None,
    }
    with metal(name, name):
        kernel = module._rotary_apply_kernel(*kernel_options)
        outputs = module._fast_rotary_apply(kernel, q, k, cos, sin, selector, **options)
    with operations():
        expected = module._precomputed_rotary(*float32(q, k), cos, sin, **options)
    for which, got, wanted in zip("qk", outputs, expected, strict=True):
        assert got.dtype == q.dtype
        check(f"{name} {which}", got, wanted, **ROUNDED[dtype])


def test_rotary_under_mx_compile(mlx_vlm, metal, check, random):
    """The package compiles the call; on the CPU the kernel becomes a part of MLX's graph."""
    import mlx.core as mx

    from zmlx.launch import hook, primitive

    if hook.current() is not None or primitive.unavailable():
        pytest.skip(primitive.unavailable() or "the checker looks at launches one by one")
    module = mlx_vlm("models.rope_utils")
    q, k, angle = random(2, 4, 5, 16), random(2, 2, 5, 16), random(2, 5, 16)
    cos, sin = mx.cos(angle), mx.sin(angle)
    with metal(*["rotary_apply_half_split_half_preselected_16_3d"] * 4):
        compiled = module._compiled_rotary_apply(16, "half_split", 3, False, "half")
        outputs = compiled(q, k, cos, sin, None)
        kernel = module._rotary_apply_kernel(16, "half_split", 3, False, "half")
        expected = module._fast_rotary_apply(kernel, q, k, cos, sin)
        mx.eval(outputs, expected)
    for got, wanted in zip(outputs, expected, strict=True):
        assert mx.array_equal(got, wanted).item()


def yuv_formula(planes, depth, standard):
    """RGB of limited range YUV by the coefficients' definition, in float64; chroma by the nearest sample."""
    y, u, v = (np.array(plane, dtype=np.float64) / 2 ** (depth - 8) for plane in planes)
    rows, columns = (np.arange(n) * s // n for n, s in zip(y.shape, u.shape, strict=True))
    u, v = (c[rows][:, columns] - 128 for c in (u, v))
    red_v, blue_u, green_u, green_v = (c / 65536 for c in standard)
    luma = (y - 16) * 255 / 219
    rgb = np.stack([luma + red_v * v, luma - green_u * u - green_v * v, luma + blue_u * u], axis=-1)
    return np.clip(rgb, 0, 255)


@pytest.mark.parametrize(
    ("shape", "depth", "chroma"),
    [((8, 32), 8, (1, 1)), ((6, 13), 8, (1, 1)), ((6, 10), 10, (1, 0)), ((5, 7), 8, (0, 0))],
)
def test_yuv_to_rgb(mlx_vlm, metal, shape, depth, chroma):
    """Two fixed-point paths and higher depths, within their rounding of the definition."""
    import mlx.core as mx

    module = mlx_vlm("models.embedding_gemma2._video_kernel")
    rng = np.random.default_rng(depth)
    width, height = shape[1], shape[0]
    small = (-(-height // 2 ** chroma[1]), -(-width // 2 ** chroma[0]))
    dtype = np.uint8 if depth == 8 else np.uint16
    scale = 2 ** (depth - 8)
    planes = [rng.integers(16 * scale, 236 * scale, size).astype(dtype) for size in (shape, small, small)]
    meta = {
        "colorspace": 5,
        "format": "yuv",
        "depth": depth,
        "log2_chroma_w": chroma[0],
        "log2_chroma_h": chroma[1],
    }
    with metal("embedding_gemma2_yuv_to_rgb"):
        out = module.yuv_to_rgb(planes, meta)
    assert out.dtype == mx.uint8
    off = np.abs(np.array(out, dtype=np.float64) - yuv_formula(planes, depth, module.COEFFICIENTS[5]))
    assert off.max() <= 3  # of 255: products of eight bits and more are cut off before they are added


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("tokens", [64, 75])
def test_mask_of_a_grammar(mlx_vlm, metal, random, tokens, dtype):
    """A bit for each token; those beyond the last word are not allowed."""
    import mlx.core as mx

    module = mlx_vlm("structured")
    logits = random(3, tokens, dtype=dtype)
    words = np.random.default_rng(tokens).integers(0, 2**32, (3, 2), dtype=np.uint32)
    with metal("mlx_vlm_llguidance_mask"):
        out = module._apply_llguidance_mask(logits, mx.array(words.view(np.int32)))
    allowed = np.zeros((3, tokens), dtype=bool)
    bits = (words[:, :, None] >> np.arange(32, dtype=np.uint32) & 1).reshape(3, 64).astype(bool)
    allowed[:, :64] = bits[:, :tokens]
    expected = mx.where(mx.array(allowed), logits, mx.array(-np.inf, dtype=logits.dtype))
    assert mx.array_equal(out, expected).item()
