"""Errors of compilers, by the author's lines, with what to do."""

from __future__ import annotations

import re

import pytest

import zmlx
from zmlx.errors import KernelCompileError
from zmlx.launch.diagnosis import compile_error
from zmlx.metal.signature import KernelSource

pytestmark = pytest.mark.cpu

BEGIN = "uint i = thread_position_in_grid.x;\n"


def refused(source, header="", inputs=("x",), scalars=(), **creation):
    """The message for a kernel that does not compile on the CPU."""
    import mlx.core as mx

    kernel = zmlx.metal_kernel("wrong", list(inputs), ["out"], source, header, **creation)
    with pytest.raises((KernelCompileError, ValueError)) as error:
        kernel(
            inputs=[2.0 if name in scalars else mx.arange(64, dtype=mx.float32) for name in inputs],
            output_shapes=[(64,)],
            output_dtypes=[mx.float32],
            grid=(64, 1, 1),
            threadgroup=(64, 1, 1),
            stream=mx.cpu,
        )
    return str(error.value)


@pytest.mark.parametrize(
    ("source", "hint"),
    [
        ("out[i] = thread_positon_in_grid.x;", "did you mean `thread_position_in_grid`?"),
        ("out[i] = simdgroup_index_in_threadgrup;", "did you mean `simdgroup_index_in_threadgroup`?"),
        ("out[i] = x_shpe[0];", "did you mean `x_shape`?"),
        ("out[i] = T(x[i]);", 'if `T` is a template argument, pass it with the call: template=[("T", …)].'),
        ("for (int j = 0; j < N; ++j) out[i] = j;", 'template=[("N", …)]'),
        ("T v = x[i]; out[i] = v;", 'template=[("T", …)]'),
        (
            "atomic_fetch_add_explicit(&out[i], 1.0f, memory_order_relaxed);",
            "`out` holds plain numbers; atomics need metal_kernel(…, atomic_outputs=True).",
        ),
        (
            "atomic_store_explicit(out + i, 1.0f, memory_order_relaxed);",
            "`out` holds plain numbers; atomics need metal_kernel(…, atomic_outputs=True).",
        ),
    ],
)
def test_what_to_do(source, hint):
    message = refused(BEGIN + source)
    assert "source line 2" in message
    (advice,) = re.findall(r"^  What to do: (.*)$", message, re.MULTILINE)
    assert hint in advice


def test_a_number_that_is_indexed():
    message = refused(BEGIN + "out[i] = x[i] * s[0];", inputs=("x", "s"), scalars=("s",))
    assert "one is a Python number or a 0-d array, which is a value in Metal and no array" in message


@pytest.mark.parametrize(
    ("source", "line"),
    [
        (BEGIN + "float v = x[i]\nout[i] = v;", 2),
        (BEGIN + "float v = x[i]\n\n// more\nout[i] = v;", 2),
        (BEGIN + "out[i] = x[i]\nif (i > 3) out[i] = 0;", 2),
        (BEGIN + "{ out[i] = x[i] }", 2),
    ],
)
def test_a_missing_semicolon_is_told_where_it_is_missing(source, line):
    assert f"source line {line}" in refused(source).splitlines()[1]


def test_nothing_is_suggested_for_what_is_like_nothing():
    assert "What to do" not in refused(BEGIN + "out[i] = completely_unknown;")


def test_the_authors_file_is_named(tmp_path):
    file = tmp_path / "mine.py"
    file.write_text(
        "import zmlx\n\nkernel = zmlx.metal_kernel('wrong', ['x'], ['out'], \"\"\"\n    float v = x[0];\n"
        '    out[0] = v + missing;\n""")\n'
    )
    scope = {}
    exec(compile(file.read_text(), str(file), "exec"), scope)
    import mlx.core as mx

    with pytest.raises(KernelCompileError) as error:
        scope["kernel"](
            inputs=[mx.ones(9)],
            output_shapes=[(1,)],
            output_dtypes=[mx.float32],
            grid=(1, 1, 1),
            threadgroup=(1, 1, 1),
            stream=mx.cpu,
        )
    assert f"  source line 3 ({file}:5): " in str(error.value)
    assert "    out[0] = v + missing;" in str(error.value)


def test_too_much_threadgroup_memory_is_told_plainly():
    message = refused(
        "threadgroup float big[9000];\nbig[0] = x[0];\n"
        "threadgroup_barrier(mem_flags::mem_threadgroup);\nout[0] = big[0];"
    )
    assert "source line 1" in message
    assert "a threadgroup variable is larger than the 32768 bytes Metal has" in message
    assert "In instantiation" not in message


@pytest.mark.parametrize("shapes", [False, True])
def test_more_buffers_than_metal_has(shapes):
    names = [f"a{k}" for k in range(16 if shapes else 31)]
    used = [f"{n}[i]" + (f" + {n}_shape[0]" if shapes else "") for n in names]
    message = refused(BEGIN + f"out[i] = {' + '.join(used)};", inputs=names)
    count = 33 if shapes else 32
    assert message.startswith(
        f"[metal_kernel] 'wrong' takes {count} buffers ({len(names)} inputs, 1 outputs, "
    )
    assert message.endswith("Metal has 31. Join arrays, or mention fewer of their shapes in the source.")


CLANG_ASSERTION = """memory.h:41:5: error: static assertion failed due to requirement 'x': too large for Metal
k source:3:7: note: in instantiation of function template specialization 'slot<float[9000]>' requested here
"""


def test_clang_names_the_line_behind_the_check():
    message = str(compile_error(KernelSource("k", (), ("out",), "a\nb\nc"), CLANG_ASSERTION, "refused"))
    assert "  source line 3: too large for Metal\n    c" in message
