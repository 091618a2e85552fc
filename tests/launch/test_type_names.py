"""Variables named like a type of Metal's library, which they may hide: the same numbers on every path."""

from __future__ import annotations

import numpy as np
import pytest
from test_cuda_compile import compile_all, known, record
from test_cuda_compile import installed as installed  # a fixture

import zmlx
from zmlx.launch import watch

pytestmark = pytest.mark.cpu

WORDS = (
    "uint",
    "float2",
    "uchar",
    "vec",
    "size_t",
    "int4",
    "bool2",
    "packed_float3",
    "uint32_t",
    "atomic_uint",
)
MEET = "threadgroup_barrier(mem_flags::mem_threadgroup);"
#: How the threads meet, and the path that it takes.
PATHS = {"loop": "", "regions": MEET, "fibers": f"if (x[i] < 1e9f) {{ {MEET} }}"}
X = np.linspace(-3, 5, 64).astype(np.float32)

#: Programs with NAME for the name and MEET for where threads meet, and what they write.
PROGRAMS = {
    "an integer": ("int NAME = int(x[i]) + 1; MEET out[i] = float(NAME * 2);", (np.trunc(X) + 1) * 2),
    "a float": ("float NAME = x[i] * 2.0f; MEET NAME += 1; out[i] = NAME;", X * 2 + 1),
    "a float that an integer becomes": (
        "int NAME = 0; NAME = x[i] * 1.5f; MEET out[i] = NAME;",
        np.trunc(X * 1.5),
    ),
    "an array": ("float NAME[2] = {x[i], 2}; MEET out[i] = NAME[0] * NAME[1];", X * 2),
    "a loop": ("float s = 0; for (int NAME = 0; NAME < 3; ++NAME) s += x[i] * NAME; MEET out[i] = s;", X * 3),
    "no cast": (
        "float NAME = x[i]; float d = (NAME) - 1.0f; MEET out[i] = d + (NAME) * 2.0f - (NAME * NAME);",
        X - 1 + X * 2 - X * X,
    ),
    "an inner scope": (
        "{ float NAME = x[i]; out[i] = NAME; } MEET uint q = 2u; int4 v = int4(1); out[i] += q + v.y + (uint)2.5f;",
        X + 5,
    ),
    "threadgroup memory": ("threadgroup float NAME[64]; NAME[i] = x[i]; MEET out[i] = NAME[i];", X),
    "auto": ("auto NAME = x[i] * 3.0f; MEET int n = NAME; out[i] = n + NAME;", np.trunc(X * 3) + X * 3),
    "a pointer": ("const device float* NAME = x + i; MEET out[i] = NAME[0] + *NAME;", X * 2),
    "a parameter": ("auto f = [&](float NAME) { return NAME * NAME; }; MEET out[i] = f(x[i]);", X * X),
}


def source(program: str, word: str, path: str) -> str:
    text = PROGRAMS[program][0].replace("NAME", word).replace("MEET", PATHS[path])
    return "uint i = thread_position_in_grid.x; " + text


def words(program: str, path: str) -> tuple[str, ...]:
    """A third of the words, so that each is in each program once, and in a third of the programs on each path."""
    first = (list(PROGRAMS).index(program) + list(PATHS).index(path)) % len(PATHS)
    return WORDS[first :: len(PATHS)]


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize("program", PROGRAMS)
def test_values(program, path):
    import mlx.core as mx

    paths = set()
    for word in words(program, path):
        kernel = zmlx.metal_kernel("k", ["x"], ["out"], source(program, word, path))
        with watch() as seen:
            (out,) = kernel(
                inputs=[mx.array(X)],
                output_shapes=[X.shape],
                output_dtypes=[mx.float32],
                grid=(64, 1, 1),
                threadgroup=(64, 1, 1),
                stream=mx.cpu,
            )
        np.testing.assert_allclose(np.array(out), PROGRAMS[program][1], rtol=1e-6, err_msg=word)
        paths |= {launch.path for launch in seen}
    # Regions leave a name that they are unsure of, and all lambdas, to fibers.
    assert paths == {path} or (path == "regions" and paths <= {"regions", "fibers"})
    assert path in paths or program == "a parameter"


@pytest.mark.tools
def test_cuda_text(installed):
    archs = known(("sm_90",), installed)
    compile_all((record(source(p, word, "regions")) for p in PROGRAMS for word in WORDS), archs)
