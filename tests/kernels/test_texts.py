"""Kernels made from formulas have one text: the key of the cache, and what golden values say they are of."""

from __future__ import annotations

import subprocess
import sys

import pytest

pytestmark = pytest.mark.cpu

#: The texts' digest, after other formulas were read first; in each process objects lie elsewhere in memory.
DIGEST = """
import hashlib, sys
from zmlx.testing.launches import recorded_launches
from zmlx.testing.op_db import op_db

names = ("losses.js_div", "norms.layernorm_residual", "softmax.sink_softmax", "fused.bias_geglu", "losses.kl_div")
ops = {op.name: op for op in op_db}
texts = {}
for name in names if sys.argv[1] == "forward" else reversed(names):
    texts[name] = "".join(record.kernel.source for record in recorded_launches(ops[name], "float32", "cuda"))
print(hashlib.sha256("".join(texts[name] for name in names).encode()).hexdigest())
"""


def test_a_kernels_text_is_the_same_in_every_process() -> None:
    found = {
        subprocess.run(
            [sys.executable, "-c", DIGEST, order], capture_output=True, text=True, check=True
        ).stdout
        for order in ("forward", "backward", "forward")
    }
    assert len(found) == 1
