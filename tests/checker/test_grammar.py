"""Random race-free kernels are without a finding, and mutations of them are caught."""

from __future__ import annotations

import random
from collections import Counter

import pytest
from grammar import make_kernel, mutations

import zmlx

pytestmark = pytest.mark.cpu

#: Mutations that change what a kernel computes and break no rule: there is nothing to find.
HARMLESS = {"swapped lane"}


def check_kernel(kernel, name, **options):
    import mlx.core as mx

    launched = zmlx.metal_kernel(name=name, input_names=["x"], output_names=["out"], source=kernel.source)
    size = 2 * kernel.group
    with zmlx.checked(raise_on_finding=False, **options) as check:
        launched(
            inputs=[(mx.arange(size) % 7).astype(mx.float32) + 0.25],
            output_shapes=[(size,)],
            output_dtypes=[mx.float32],
            grid=(size, 1, 1),
            threadgroup=(kernel.group, 1, 1),
            stream=mx.cpu,
        )
    return check


@pytest.mark.parametrize("seed", range(8))
def test_race_free_kernels_are_clean(seed):
    kernel = make_kernel(seed)
    check = check_kernel(kernel, f"free_{seed}")
    assert not check.findings, f"{kernel.source}\n\n{check.report()}"


@pytest.mark.parametrize("seed", range(6))
def test_a_mutation_is_caught(seed):
    kernel = make_kernel(100 + seed)
    certain = [m for m in mutations(kernel) if m.what in ("barrier in a branch", "counter not set", "second writer")]
    mutation = random.Random(seed).choice(certain)
    check = check_kernel(mutation.kernel, f"mutated_{seed}")
    assert check.findings, f"{mutation.what}\n{mutation.kernel.source}"


@pytest.mark.slow
def test_500_race_free_kernels_and_a_mutation_of_each(record_property):
    caught, planted = Counter(), Counter()
    for seed in range(500):
        kernel = make_kernel(seed)
        check = check_kernel(kernel, f"free_{seed}")
        assert not check.findings, f"seed {seed}\n{kernel.source}\n\n{check.report()}"
        mutation = random.Random(seed).choice(list(mutations(kernel)))
        planted[mutation.what] += 1
        caught[mutation.what] += bool(check_kernel(mutation.kernel, f"mutated_{seed}").findings)
    record_property("caught", {what: f"{caught[what]} of {planted[what]}" for what in planted})
    wrong = sum(count for what, count in planted.items() if what not in HARMLESS)
    found = sum(count for what, count in caught.items() if what not in HARMLESS)
    assert found / wrong > 0.75, dict(caught)
