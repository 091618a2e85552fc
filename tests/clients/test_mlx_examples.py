"""MLX's own examples of custom kernels (https://ml-explore.github.io/mlx/build/html/dev/custom_metal_kernels.html):
exp, from the docstring of the installed MLX, word for word; strided exp and grid_sample with its atomic gradient,
written anew to the same design, with the same features: ``elem_to_loc``, shapes and strides, ``init_value``,
``atomic_outputs``, a simd sum before the atomic, `mx.custom_function` around forward and backward kernels.
"""

from __future__ import annotations

import textwrap

import numpy as np
import pytest

import zmlx
from zmlx.launch.replacement import native_metal_kernel
from zmlx.testing.tolerance import as_float64

pytestmark = pytest.mark.cpu


def test_the_example_in_the_docstring_of_metal_kernel(launches, check, capfd):
    import mlx.core as mx

    _, _, example = native_metal_kernel().__doc__.partition(".. code-block:: python")
    with zmlx.install(), launches("myexp"):
        names = {"mx": mx}
        exec(textwrap.dedent(example), names)  # which ends in an assertion of its own
    assert "custom_kernel_myexp" in capfd.readouterr().out  # the example asks for verbose=True
    check("myexp", names["b"], np.exp(as_float64(names["a"])))


@pytest.mark.parametrize("dtype", ["float32", "float16", "bfloat16"])
def test_exp_of_strided_arrays(launches, check, dtype):
    import mlx.core as mx

    with zmlx.install():
        kernel = mx.fast.metal_kernel(
            name="exp_strided",
            input_names=["x"],
            output_names=["out"],
            source="""
                uint i = thread_position_in_grid.x;
                auto where = elem_to_loc<int64_t>(i, x_shape, x_strides, x_ndim);  // signed: strides may be negative
                out[i] = static_cast<T>(metal::exp(static_cast<float>(x[where])));
            """,
            ensure_row_contiguous=False,
        )
    whole = mx.array(np.random.default_rng(0).standard_normal((6, 10, 8)).astype(np.float32))
    whole = whole.astype(getattr(mx, dtype))
    broadcast = mx.broadcast_to(whole[0, 0], (5, 3, 8))
    views = [
        whole[::2],
        whole[1:, ::3, 2:7],
        whole.transpose(2, 0, 1),
        whole[::-1],
        whole[0, :, 3],
        broadcast,
    ]
    for x in views:
        with launches("exp_strided"):
            (out,) = kernel(
                inputs=[x],
                template=[("T", x.dtype)],
                grid=(x.size, 1, 1),
                threadgroup=(256, 1, 1),
                output_shapes=[x.shape],
                output_dtypes=[x.dtype],
            )
        check("exp_strided", out, np.exp(as_float64(x)), rtol=2e-6, atol=0)


#: Where a sample lies in the picture, in pixels.
LOCATE = """
inline float2 locate(float2 at, int2 size) { return ((at + 1) * float2(size) - 1) / 2; }
"""

GRID_SAMPLE = """
    uint i = thread_position_in_grid.x;
    int H = x_shape[1], W = x_shape[2], C = x_shape[3];
    int channel = i % C;
    uint point = i / C;
    uint batch = point / (grid_shape[1] * grid_shape[2]);

    float2 p = locate(float2(grid[2 * point], grid[2 * point + 1]), int2(W, H));
    int left = floor(p.x), top = floor(p.y);
    T across = p.x - left, down = p.y - top;

    T sum = 0;
    for (int corner = 0; corner < 4; ++corner) {
        int row = top + corner / 2, column = left + corner % 2;
        if (row >= 0 && row < H && column >= 0 && column < W) {
            T weight = (corner % 2 ? across : 1 - across) * (corner / 2 ? down : 1 - down);
            sum += weight * x[((batch * H + row) * W + column) * C + channel];
        }
    }
    out[i] = sum;
"""

# Channels are padded to whole simdgroups, so that each simdgroup adds up the gradient of one point.
GRID_SAMPLE_GRADIENT = """
    uint i = thread_position_in_grid.x;
    int H = x_shape[1], W = x_shape[2], C = x_shape[3];
    int padded = ceildiv(C, threads_per_simdgroup) * threads_per_simdgroup;
    int channel = i % padded;
    uint point = i / padded;
    uint batch = point / (grid_shape[1] * grid_shape[2]);

    float2 p = locate(float2(grid[2 * point], grid[2 * point + 1]), int2(W, H));
    int left = floor(p.x), top = floor(p.y);
    T across = p.x - left, down = p.y - top;

    T along_x = 0, along_y = 0;
    if (channel < C) {
        T slope = cotangent[point * C + channel];
        for (int corner = 0; corner < 4; ++corner) {
            int row = top + corner / 2, column = left + corner % 2;
            if (row >= 0 && row < H && column >= 0 && column < W) {
                T in_x = corner % 2 ? across : 1 - across;
                T in_y = corner / 2 ? down : 1 - down;
                int pixel = ((batch * H + row) * W + column) * C + channel;
                atomic_fetch_add_explicit(&x_grad[pixel], in_x * in_y * slope, memory_order_relaxed);
                along_x += (corner % 2 ? 1 : -1) * in_y * x[pixel] * slope;
                along_y += (corner / 2 ? 1 : -1) * in_x * x[pixel] * slope;
            }
        }
    }
    along_x = simd_sum(along_x);
    along_y = simd_sum(along_y);
    if (thread_index_in_simdgroup == 0) {
        atomic_fetch_add_explicit(&grid_grad[2 * point], along_x * (W / 2.0f), memory_order_relaxed);
        atomic_fetch_add_explicit(&grid_grad[2 * point + 1], along_y * (H / 2.0f), memory_order_relaxed);
    }
"""


def make_grid_sample():
    import mlx.core as mx

    forward = mx.fast.metal_kernel(
        name="grid_sample",
        input_names=["x", "grid"],
        output_names=["out"],
        source=GRID_SAMPLE,
        header=LOCATE,
    )
    backward = mx.fast.metal_kernel(
        name="grid_sample_gradient",
        input_names=["x", "grid", "cotangent"],
        output_names=["x_grad", "grid_grad"],
        source=GRID_SAMPLE_GRADIENT,
        header=LOCATE,
        atomic_outputs=True,
    )

    @mx.custom_function
    def grid_sample(x, grid):
        shape = (*grid.shape[:3], x.shape[3])
        return forward(
            inputs=[x, grid],
            template=[("T", x.dtype)],
            output_shapes=[shape],
            output_dtypes=[x.dtype],
            grid=(int(np.prod(shape)), 1, 1),
            threadgroup=(256, 1, 1),
        )[0]

    @grid_sample.vjp
    def grid_sample_vjp(primals, cotangent, _):
        x, grid = primals
        padded = -(-x.shape[3] // 32) * 32
        return backward(
            inputs=[x, grid, cotangent],
            template=[("T", x.dtype)],
            output_shapes=[x.shape, grid.shape],
            output_dtypes=[x.dtype, x.dtype],
            grid=(int(np.prod(grid.shape[:3])) * padded, 1, 1),
            threadgroup=(256, 1, 1),
            init_value=0,
        )

    return grid_sample


def grid_sample_oracle(x, grid, cotangent):
    """Bilinear samples of ``x`` (B, H, W, C) at ``grid`` (B, h, w, 2), pixels outside being zero, and the gradients
    with respect to both."""
    _, H, W, _ = x.shape
    px, py = ((grid[..., 0] + 1) * W - 1) / 2, ((grid[..., 1] + 1) * H - 1) / 2
    left, top = np.floor(px).astype(int), np.floor(py).astype(int)
    out = np.zeros((*grid.shape[:3], x.shape[3]))
    x_grad, grid_grad = np.zeros_like(x), np.zeros_like(grid)
    batch = np.broadcast_to(np.arange(len(x))[:, None, None], px.shape)
    for down in (0, 1):
        for right in (0, 1):
            row, column = top + down, left + right
            inside = (row >= 0) & (row < H) & (column >= 0) & (column < W)
            at = (batch, np.clip(row, 0, H - 1), np.clip(column, 0, W - 1))
            in_x = np.where(inside, px - left if right else left + 1 - px, 0)[..., None]
            in_y = np.where(inside, py - top if down else top + 1 - py, 0)[..., None]
            out += in_x * in_y * x[at]
            np.add.at(x_grad, at, in_x * in_y * cotangent)
            slope = (x[at] * cotangent).sum(axis=-1)
            grid_grad[..., 0] += (2 * right - 1) * in_y[..., 0] * inside * slope * W / 2
            grid_grad[..., 1] += (2 * down - 1) * in_x[..., 0] * inside * slope * H / 2
    return out, x_grad, grid_grad


@pytest.mark.parametrize(
    ("shape", "points"), [((2, 7, 9, 40), (4, 5)), ((1, 12, 5, 3), (8, 9)), ((3, 4, 4, 32), (2, 2))]
)
def test_grid_sample_and_its_gradients(launches, check, shape, points):
    import mlx.core as mx

    rng = np.random.default_rng(shape[3])
    x = mx.array(rng.standard_normal(shape).astype(np.float32))
    grid = mx.array(rng.uniform(-1.3, 1.3, (shape[0], *points, 2)).astype(np.float32))
    cotangent = mx.array(rng.standard_normal((shape[0], *points, shape[3])).astype(np.float32))
    with zmlx.install():
        grid_sample = make_grid_sample()
    with launches("grid_sample", "grid_sample_gradient"):
        (out,), gradients = mx.vjp(grid_sample, [x, grid], [cotangent])
        mx.eval(out, gradients)
    expected = grid_sample_oracle(*(as_float64(a) for a in (x, grid, cotangent)))
    # A position is known to a float32 of the picture's width, which its weights feel.
    for name, got, wanted in zip(("out", "x_grad", "grid_grad"), (out, *gradients), expected, strict=True):
        check(f"grid_sample {name}", got, wanted, rtol=1e-4, atol=1e-4)
