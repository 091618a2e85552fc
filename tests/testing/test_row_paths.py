"""The path of a launch is told from its template and its rows."""

from __future__ import annotations

from collections import Counter
from typing import Any

import mlx.core as mx
import pytest

from zmlx.testing.row_paths import PATHS, paths_of, unreached


def taken(call: Any, shape: tuple[int, ...], *, backend: str, kernel: str, **override: Any) -> set[str]:
    """The paths of a launch, recorded and not run."""
    import contextlib

    from zmlx.kernels import _rows
    from zmlx.launch import recording

    forced = _rows.override(**override) if override else contextlib.nullcontext()
    with recording(backend) as records, forced:
        call(mx.ones(shape))
    (record,) = (r for r in records if r.kernel.name == kernel)
    return set(paths_of(record, shape))


def rmsnorm(x: Any) -> Any:
    from zmlx.kernels.norms import rmsnorm

    return rmsnorm(x, mx.ones(x.shape[-1]))


@pytest.mark.parametrize(
    ("shape", "override", "among", "not_among"),
    [
        ((4, 64), {"width": 8}, {"held whole", "team in a simdgroup"}, {"ragged", "longer than held"}),
        ((4, 63), {"width": 8}, {"held in part", "ragged"}, {"held whole", "whole chunks"}),
        ((4, 67), {"width": 8}, {"held in part", "longer than held"}, {"held whole"}),
        ((4, 68), {"width": 8}, {"held whole", "longer than held"}, {"held in part"}),
        ((4, 512), {"width": 64}, {"wide team", "held whole, wide team"}, {"threads without a row"}),
        ((17, 4), {"width": 8}, {"threads without a row"}, {"rows beyond the grid"}),
        ((33, 4), {"width": 8, "groups": 2}, {"rows beyond the grid"}, {"wide team"}),
        ((4, 64), {"width": 8, "packed": True}, {"packed float32", "held whole, packed"}, {"not packed"}),
        ((4, 64), {}, {"one thread", "nothing held"}, {"held whole", "held in part"}),
    ],
)
def test_rows(shape: tuple[int, ...], override: dict[str, Any], among: set[str], not_among: set[str]) -> None:
    found = taken(rmsnorm, shape, backend="cpu", kernel="zmlx_rmsnorm", **override)
    assert {f"row: {path}" for path in among} <= found
    assert not {f"row: {path}" for path in not_among} & found


def test_spans_are_half_a_row() -> None:
    from zmlx.kernels.transformer import swiglu

    found = taken(swiglu, (300, 36), backend="cpu", kernel="zmlx_swiglu", width=8, groups=2)
    assert {"span: ragged", "span: rows beyond the grid", "span: one chunk a thread"} <= found
    found = taken(swiglu, (3, 2048), backend="cpu", kernel="zmlx_swiglu")
    assert {"span: several chunks a thread", "span: whole chunks", "span: not packed"} <= found


def test_blocks_and_columns() -> None:
    def gradient(x: Any) -> Any:
        return mx.vjp(lambda x: rmsnorm(x), [x], [mx.ones_like(x)])

    blocks = taken(gradient, (2100, 2**15), backend="cuda", kernel="zmlx_rmsnorm_vjp")
    assert {"block: several blocks", "block: packed float32", "block: wide team"} <= blocks
    assert "block: several blocks" not in taken(gradient, (40, 5), backend="cpu", kernel="zmlx_rmsnorm_vjp")
    columns = taken(gradient, (40, 5), backend="cuda", kernel="zmlx_column_sum")
    assert columns == {"column: shared by threads", "column: packed"}


def test_runs() -> None:
    def gradient(x: Any) -> Any:
        return mx.vjp(lambda x: rmsnorm(x), [x], [mx.ones_like(x)])

    runs = taken(gradient, (2100, 4096), backend="cuda", kernel="zmlx_rmsnorm_vjp")
    assert {"run: held whole", "run: several rows", "run: wide team", "run: packed float32"} <= runs
    runs = taken(gradient, (7, 5), backend="cuda", kernel="zmlx_rmsnorm_vjp")
    assert {"run: held in part", "run: one simdgroup", "run: ragged"} <= runs


def test_a_kernel_of_another_kind_has_no_path() -> None:
    import zmlx
    from zmlx.launch import recording

    plain = zmlx.metal_kernel("plain", ["x"], ["y"], "y[thread_position_in_grid.x] = T(1);")
    with recording("cpu") as records:
        plain(
            inputs=[mx.ones(4)],
            template=[("T", mx.float32)],
            grid=(4, 1, 1),
            threadgroup=(4, 1, 1),
            output_shapes=[(4,)],
            output_dtypes=[mx.float32],
        )
    assert paths_of(records[0], (4,)) == ()


def test_what_no_launch_took_is_named() -> None:
    counts = Counter(f"span: {path}" for path in PATHS["span"])
    assert unreached(["span"], counts) == []
    del counts["span: packed float16"]
    assert unreached(["span"], counts) == ["span: packed float16"]
    assert "row: held whole, packed" in unreached(["row"], counts)
