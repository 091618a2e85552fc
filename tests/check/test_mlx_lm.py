"""Released mlx-lm, unmodified: the race in its fused losses is reported, and a barrier in a copy silences it."""

from __future__ import annotations

import importlib
import importlib.util

import pytest

import zmlx

pytestmark = [
    pytest.mark.cpu,
    pytest.mark.skipif(
        importlib.util.find_spec("mlx_lm") is None, reason="the package mlx_lm is not installed"
    ),
]

BARRIER = "threadgroup_barrier(mem_flags::mem_threadgroup);"


@pytest.fixture
def losses():
    with zmlx.pretend_metal("mlx_lm"):
        return importlib.import_module("mlx_lm.tuner.losses")


@pytest.fixture
def run_kl():
    """``run_kl(kernel)``: the forward loss kernel, launched as mlx-lm does, with the findings collected."""
    import mlx.core as mx

    def run(kernel):
        q, p = mx.random.normal((2, 3, 130)), mx.random.normal((2, 3, 130))
        with zmlx.checked(raise_on_finding=False) as check:
            kernel(
                inputs=[q, p],
                output_shapes=[(2, 3)],
                output_dtypes=[mx.float32],
                template=[("T", mx.float32), ("V", 130)],
                grid=(1024, 6, 1),
                threadgroup=(1024, 1, 1),
                stream=mx.cpu,
            )
        return check

    return run


@pytest.fixture
def kl_kernel(losses):
    with zmlx.pretend_metal("mlx_lm"):
        return losses._make_kl_forward_kernel()


def test_the_race_is_reported_with_both_lines(kl_kernel, run_kl):
    check = run_kl(kl_kernel)
    races = [finding for finding in check.findings if finding.kind == "data-race"]
    assert [[a.place.text for a in race.accesses] for race in races] == [
        ["shared[simd_group_id * 2 + 0] = sum_exp_q;", "max_q = shared[simd_lane_id * 2 + 0];"],
        ["shared[simd_group_id * 2 + 1] = sum_exp_p;", "max_p = shared[simd_lane_id * 2 + 1];"],
    ]
    assert all(access.place.file.endswith("losses.py") for race in races for access in race.accesses)


def test_the_barrier_with_mem_none_is_reported(kl_kernel, run_kl):
    orders = [finding for finding in run_kl(kl_kernel).findings if finding.kind == "memory-order"]
    assert orders
    assert {finding.source_line for finding in orders} == {"threadgroup_barrier(mem_flags::mem_none);"}


def test_with_the_barriers_in_place_there_is_no_finding(kl_kernel, run_kl):
    source = kl_kernel.source.source
    read = "max_p = shared[simd_lane_id * 2 + 1];\n"
    assert source.count(read) == 1
    repaired = source.replace(read, read + BARRIER + "\n").replace(
        "mem_flags::mem_none", "mem_flags::mem_threadgroup"
    )
    kernel = zmlx.metal_kernel(
        name="kl_repaired", input_names=["logits_q", "logits_p"], output_names=["out"], source=repaired
    )
    check = run_kl(kernel)
    assert not check.findings, check.report()
