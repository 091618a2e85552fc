"""Random race-free kernels are without a finding, and mutations of them are caught."""

from __future__ import annotations

import os
import random
from collections import Counter

import pytest
from grammar import make_kernel, mutations

import zmlx

pytestmark = pytest.mark.cpu

#: Mutations that need not break a rule. A swapped lane only computes something else; a barrier that lets memory be used
#: again is needed only if it is; threads of one simdgroup need no more than a barrier of simdgroups.
PERHAPS_HARMLESS = ("swapped lane", "reuse", "only of simdgroups", "counter not set")


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
    certain = [m for m in mutations(kernel) if m.what in ("barrier in a branch", "hand-over barrier removed")]
    mutation = random.Random(seed).choice(certain)
    check = check_kernel(mutation.kernel, f"mutated_{seed}")
    assert check.findings, f"{mutation.what}\n{mutation.kernel.source}"


#: How many random kernels to check. Each costs about a second, most of it compilation; ask for 500 now and then.
EXAMPLES = int(os.environ.get("ZMLX_FUZZ_EXAMPLES", "6"))


@pytest.mark.slow
def test_race_free_kernels_and_a_mutation_of_each(record_property):
    caught, planted = Counter(), Counter()
    for seed in range(EXAMPLES):
        kernel = make_kernel(seed)
        check = check_kernel(kernel, f"free_{seed}")
        assert not check.findings, f"seed {seed}\n{kernel.source}\n\n{check.report()}"
        mutation = random.Random(seed).choice(list(mutations(kernel)))
        planted[mutation.what] += 1
        caught[mutation.what] += bool(check_kernel(mutation.kernel, f"mutated_{seed}").findings)
    record_property("caught", {what: f"{caught[what]} of {planted[what]}" for what in planted})
    certain = [what for what in planted if not any(perhaps in what for perhaps in PERHAPS_HARMLESS)]
    wrong, found = (sum(counter[what] for what in certain) for counter in (planted, caught))
    assert found >= 0.9 * wrong or EXAMPLES < 100, dict(caught)
