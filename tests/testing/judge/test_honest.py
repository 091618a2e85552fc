"""Honest kernels, which must be accepted: those of the catalogue, and small ones written anew."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("mlx.core")

import example_ops
import mlx.core as mx

from zmlx.testing import OpInfo, SampleInput, Tolerance
from zmlx.testing.judge import judge
from zmlx.testing.op_db import op_db

#: Of the catalogue, what is not one kernel's work: the judge asks that all of it happens in kernels.
SHARED_WORK = {
    "losses.fused_linear_cross_entropy": "products of matrices, which are MLX's",
    "moe.expert_order": "offsets are sums of what a kernel counted",
    "moe.scatter_add": "rows are put in order by MLX's sort",
    "rope.rope_cache_update": "of no tokens the caches come back, and nothing is launched",
    "rope.rope_paged_cache_update": "slots are found in the block table by MLX operations",
    "sampling.apply_token_bitmask": "words of the mask are made unsigned, and repeated for rows, by MLX operations",
}
CATALOGUE = [op for op in op_db if op.kernel and op.name not in SHARED_WORK]
EXAMPLES = example_ops.OPS
EXAMPLES_FOLDER = Path(example_ops.__file__).parent

ELEMENTWISE = """
import mlx.core as mx

KERNEL = mx.fast.metal_kernel(
    name="{name}",
    input_names=["a", "b"][:{arrays}],
    output_names=["y"],
    source="uint i = thread_position_in_grid.x; float p = float(a[i]){second}; y[i] = T({expression});",
)


def {name}(*arrays):
    x = arrays[0]
    if not x.size:
        return mx.zeros(x.shape, x.dtype)
    return KERNEL(
        inputs=list(arrays),
        output_shapes=[x.shape],
        output_dtypes=[x.dtype],
        grid=(x.size, 1, 1),
        threadgroup=(min(x.size, 64), 1, 1),
        template=[("T", x.dtype)],
    )[0]
"""

ROWS = """
import mlx.core as mx

KERNEL = mx.fast.metal_kernel(
    name="{name}",
    input_names=["x"],
    output_names=["y"],
    source='''
    uint row = thread_position_in_grid.x;
    uint n = x_shape[x_ndim - 1];
    float total = {start};
    for (uint i = 0; i < n; ++i) {{ float a = float(x[row * n + i]); total = {step}; }}
    {finish}
''',
)


def {name}(x):
    shape = {shape}
    rows = x.size // x.shape[-1] if x.size else 0
    if not rows:
        return mx.zeros(shape, x.dtype)
    return KERNEL(
        inputs=[x],
        output_shapes=[shape],
        output_dtypes=[x.dtype],
        grid=(rows, 1, 1),
        threadgroup=(min(rows, 32), 1, 1),
        template=[("T", x.dtype)],
    )[0]
"""

#: Name -> (arrays, dtype, expression in Metal of p and q, the same in NumPy of a and b).
SMALL: dict[str, tuple[int, str, str, Any]] = {
    "negative": (1, "float32", "-p", lambda a: -a),
    "double_it": (1, "float16", "2.0f * p", lambda a: 2 * a),
    "square": (1, "bfloat16", "p * p", lambda a: a * a),
    "relu": (1, "float32", "p < 0.0f ? 0.0f : p", lambda a: np.where(a < 0, 0.0, a)),
    "relu_squared": (1, "float16", "p < 0.0f ? 0.0f : p * p", lambda a: np.where(a < 0, 0.0, a * a)),
    "step": (1, "bfloat16", "p > 0.0f ? 1.0f : 0.0f", lambda a: np.where(a > 0, 1.0, 0.0)),
    "hyperbolic": (1, "float32", "metal::tanh(p)", np.tanh),
    "exponential": (1, "float32", "metal::exp(p)", np.exp),
    "add": (2, "float32", "p + q", lambda a, b: a + b),
    "multiply": (2, "float16", "p * q", lambda a, b: a * b),
    "larger": (2, "float32", "p > q ? p : q", lambda a, b: np.where(a > b, a, b)),
}

#: Name -> (start, step, what is written, the shape of the result, the same in NumPy).
BY_ROW: dict[str, tuple[str, str, str, str, Any]] = {
    "row_max": (
        "-INFINITY",
        "a > total || a != a ? a : total",
        "y[row] = T(total);",
        "x.shape[:-1]",
        lambda x: np.max(x, -1),
    ),
    "row_squares": (
        "0.0f",
        "total + a * a",
        "y[row] = T(total);",
        "x.shape[:-1]",
        lambda x: np.sum(x * x, -1),
    ),
    "row_length": (
        "0.0f",
        "total + a * a",
        "for (uint i = 0; i < n; ++i) y[row * n + i] = T(float(x[row * n + i]) / metal::sqrt(total + 1.0f));",
        "x.shape",
        lambda x: x / np.sqrt(np.sum(x * x, -1, keepdims=True) + 1.0),
    ),
}


def small_op(name: str, arrays: int, dtype: str, oracle: Any) -> OpInfo:
    """An OpInfo whose own function is its oracle in float32."""

    def op(*given: mx.array) -> mx.array:
        values = oracle(*(np.array(x.astype(mx.float32)) for x in given))
        return mx.array(np.asarray(values, np.float32)).astype(given[0].dtype)

    def samples(rng: Any) -> Any:
        for shape in ((4, 16), (3, 5, 7)):
            word = f"of_{len(shape)}"
            yield SampleInput(word, tuple(rng(f"{word}_{i}").normal(shape) for i in range(arrays)))

    tolerances = {"float32": Tolerance(rtol=1e-5, atol=1e-5, reason="sums in float32, in another order")}
    return OpInfo(f"small.{name}", op, oracle, samples, "its name", dtypes=(dtype,), tolerances=tolerances)


def accepted(path: Path, op: OpInfo, paths: tuple[Path, ...] = ()) -> None:
    with mx.stream(mx.cpu):
        verdict = judge(path, op, paths=paths)
    assert verdict.reasons == []
    assert verdict.launches >= 2 * len(op.dtypes_on("cpu"))
    assert verdict.text().endswith("ACCEPTED")


@pytest.mark.parametrize("op", CATALOGUE, ids=str)
def test_catalogue_is_accepted(tmp_path: Path, op: OpInfo) -> None:
    family, _, name = op.name.partition(".")
    candidate = tmp_path / "candidate.py"
    candidate.write_text(f"from zmlx.kernels.{family} import {name}\n")
    accepted(candidate, op)


@pytest.mark.parametrize("name", SHARED_WORK)
def test_work_outside_of_kernels_is_refused(tmp_path: Path, name: str) -> None:
    (op,) = (op for op in op_db if op.name == name)
    family, _, function = name.partition(".")
    candidate = tmp_path / "candidate.py"
    candidate.write_text(f"from zmlx.kernels.{family} import {function}\n")
    with mx.stream(mx.cpu):
        verdict = judge(candidate, op)
    assert {reason.code for reason in verdict.reasons} & {"computed-outside", "not-from-kernel", "no-kernel"}


@pytest.mark.parametrize("name", SMALL)
def test_elementwise_kernel_is_accepted(tmp_path: Path, name: str) -> None:
    arrays, dtype, expression, oracle = SMALL[name]
    candidate = tmp_path / "candidate.py"
    second = ", q = float(b[i])" if arrays == 2 else ""
    candidate.write_text(ELEMENTWISE.format(name=name, arrays=arrays, second=second, expression=expression))
    accepted(candidate, small_op(name, arrays, dtype, oracle))


@pytest.mark.parametrize("name", BY_ROW)
def test_row_kernel_is_accepted(tmp_path: Path, name: str) -> None:
    start, step, finish, shape, oracle = BY_ROW[name]
    candidate = tmp_path / "candidate.py"
    candidate.write_text(ROWS.format(name=name, start=start, step=step, finish=finish, shape=shape))
    accepted(candidate, small_op(name, 1, "float32", oracle))


STRIDED = """
import mlx.core as mx

KERNEL = mx.fast.metal_kernel(
    name="strided",
    input_names=["x"],
    output_names=["y"],
    source='''
    uint i = thread_position_in_grid.x;
    uint left = i;
    long at = 0;
    for (int d = x_ndim - 1; d >= 0; --d) { at += long(left % x_shape[d]) * x_strides[d]; left /= x_shape[d]; }
    y[i] = -x[at];
''',
    ensure_row_contiguous=False,
)


def strided(x):
    group = (min(x.size, 64), 1, 1)
    return KERNEL(
        inputs=[x], output_shapes=[x.shape], output_dtypes=[x.dtype], grid=(x.size, 1, 1), threadgroup=group
    )[0]
"""

TWO_KERNELS = """
import mlx.core as mx

SQUARES = mx.fast.metal_kernel(
    name="squares",
    input_names=["x"],
    output_names=["total", "count"],
    source='''
    uint row = thread_position_in_grid.x;
    uint n = x_shape[1];
    float sum = 0.0f;
    for (uint i = 0; i < n; ++i) sum += float(x[row * n + i]) * float(x[row * n + i]);
    total[row] = sum;
    count[row] = n;
''',
)
SCALE = mx.fast.metal_kernel(
    name="scale",
    input_names=["x", "total", "epsilon"],
    output_names=["y"],
    source='''
    uint i = thread_position_in_grid.x;
    y[i] = T(float(x[i]) / metal::sqrt(total[i / x_shape[1]] + epsilon));
''',
)


def two_kernels(x):
    flat = mx.reshape(x, (-1, x.shape[-1]))
    rows = flat.shape[0]
    total, _ = SQUARES(
        inputs=[flat],
        output_shapes=[(rows,), (rows,)],
        output_dtypes=[mx.float32, mx.uint32],
        grid=(rows, 1, 1),
        threadgroup=(1, 1, 1),
    )
    (y,) = SCALE(
        inputs=[flat, total, 1.0],
        output_shapes=[flat.shape],
        output_dtypes=[x.dtype],
        grid=(flat.size, 1, 1),
        threadgroup=(1, 1, 1),
        template=[("T", x.dtype)],
    )
    return mx.reshape(y, x.shape)
"""


def test_kernel_that_goes_by_strides_is_accepted(tmp_path: Path) -> None:
    candidate = tmp_path / "candidate.py"
    candidate.write_text(STRIDED)
    accepted(candidate, small_op("strided", 1, "float32", lambda a: -a))


def test_two_kernels_are_accepted(tmp_path: Path) -> None:
    candidate = tmp_path / "candidate.py"
    candidate.write_text(TWO_KERNELS)
    *_, oracle = BY_ROW["row_length"]
    accepted(candidate, small_op("two_kernels", 1, "bfloat16", oracle))


@pytest.mark.parametrize("op", EXAMPLES, ids=str)
def test_several_results_labels_and_keyword_arguments_are_accepted(tmp_path: Path, op: OpInfo) -> None:
    """Two results, one of them of integers; labels in their range; a seed that must be given; a weight that a wrapper
    has copied to the shape of x."""
    candidate = tmp_path / "candidate.py"
    candidate.write_text(f"from example_ops import {op.name.partition('.')[2]}\n")
    accepted(candidate, op, (EXAMPLES_FOLDER,))


def test_a_launch_of_no_threads_is_accepted(tmp_path: Path) -> None:
    def samples(rng: Any) -> Any:
        yield SampleInput("rows", (rng("rows").normal((4, 6)),))
        yield SampleInput("empty", (np.zeros((0, 6)),))

    op = OpInfo("small.same", lambda x: mx.abs(x), np.abs, samples, "|x|", dtypes=("float32",))
    text = ELEMENTWISE.format(name="same", arrays=1, second="", expression="metal::abs(p)")
    candidate = tmp_path / "candidate.py"
    candidate.write_text(
        text.replace("    if not x.size:\n        return mx.zeros(x.shape, x.dtype)\n", "").replace(
            "min(x.size, 64)", "64"
        )
    )
    assert "if not" not in candidate.read_text()
    accepted(candidate, op)


FLAT = """
import mlx.core as mx

KERNEL = mx.fast.metal_kernel(
    name="flat",
    input_names=["x", "w"],
    output_names=["y"],
    source="uint i = thread_position_in_grid.x; y[i] = T(float(x[i]) * float(w[i]));",
)


def flat(x, w):
    wide = mx.contiguous(mx.broadcast_to(w{scaled}, x.shape)).reshape(-1)
    return KERNEL(
        inputs=[x.reshape(-1), wide],
        output_shapes=[(x.size,)],
        output_dtypes=[x.dtype],
        grid=(x.size, 1, 1),
        threadgroup=(1, 1, 1),
        template=[("T", x.dtype)],
    )[0].reshape(x.shape)
"""


def test_a_copy_that_is_flattened_is_no_computing(tmp_path: Path) -> None:
    def samples(rng: Any) -> Any:
        yield SampleInput("rows", (rng("x").normal((4, 6)), rng("w").normal((6,))))

    op = OpInfo("small.flat", mx.multiply, np.multiply, samples, "x w", dtypes=("float32",))
    candidate = tmp_path / "candidate.py"
    candidate.write_text(FLAT.format(scaled=""))
    accepted(candidate, op)
    candidate.write_text(FLAT.format(scaled=" * 2").replace("float(w[i])", "float(w[i]) / 2"))
    with mx.stream(mx.cpu):
        assert "computed-outside" in judge(candidate, op).codes


def test_there_are_twenty() -> None:
    assert len(CATALOGUE) + len(SMALL) + len(BY_ROW) >= 20
