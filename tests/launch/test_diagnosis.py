"""Errors of compilers, by the author's lines, with what to do."""

from __future__ import annotations

import re

import pytest

import zmlx
from zmlx.errors import KernelCompileError, TranslationError
from zmlx.launch.diagnosis import compile_error
from zmlx.metal.signature import ArrayType, KernelSource, make_signature

pytestmark = pytest.mark.cpu

BEGIN = "uint i = thread_position_in_grid.x;\n"


def signature(source, header="", x=("float32", 1), template=(), **creation):
    """The signature of a kernel named ``k`` with an input ``x``."""
    kernel = KernelSource("k", ("x",), ("out",), source, header, **creation)
    return make_signature(kernel, [ArrayType(*x)], ["float32"], template)


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
    assert (
        "`s` is a Python number or a 0-d array in this call, which is a value in Metal and no array"
        in message
    )
    assert "`x`" not in message


@pytest.mark.parametrize(
    ("source", "line"),
    [
        (BEGIN + "float v = x[i]\nout[i] = v;", 2),
        (BEGIN + "float v = x[i]\n\n// more\nout[i] = v;", 2),
        (BEGIN + "out[i] = x[i]\nif (i > 3) out[i] = 0;", 2),
        (BEGIN + "{ out[i] = x[i] }", 2),
        (BEGIN + "float v = x[i];\nout[i] = v\nout[i] += 1;", 3),
        (BEGIN + "float v = x[i]\n\tout[i] = v;", 2),
        (BEGIN + "float v\nout[i] = x[i];", 2),
        (BEGIN + "out[i] = x[i]", 2),
        (BEGIN + "out[i] = x[i] out[i] += 1;", 2),
        (BEGIN + "out[i] = x[i]\n  // the end\n", 2),
    ],
)
def test_a_missing_semicolon_is_told_where_it_is_missing(source, line):
    assert f"source line {line}" in refused(source).splitlines()[1]


def test_nothing_is_suggested_for_what_is_like_nothing():
    assert "What to do" not in refused(BEGIN + "out[i] = completely_unknown(x[i]);")


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
    message = str(compile_error(signature("a\nb\nc"), CLANG_ASSERTION, "refused"))
    assert "  source line 3: too large for Metal\n    c" in message


@pytest.mark.parametrize(
    ("source", "header", "hint"),
    [
        (
            "out[i] = f(x[i]);",
            "float f(float v) { return v + thread_position_in_grid.x; }\n",
            "`thread_position_in_grid` is a parameter of the kernel, which functions of the header do not see",
        ),
        (
            "out[i] = f(x[i]);",
            "float f(float v) { return v + x_shape[0]; }\n",
            "`x_shape` is declared only if `source` mentions it, and functions of the header do not see it.",
        ),
        ("out[i] = out_shape[0];", "", "only inputs have a `_shape`"),
        (
            "out[i] = head_dim;",
            "",
            'if `head_dim` is a template argument, pass it with the call: template=[("head_dim", …)].',
        ),
        ("float weight = x[i]; out[i] = wieght;", "", "`wieght` is nothing here; did you mean `weight`?"),
        ("out[i] = threadPositionInGrid.x;", "", "did you mean `thread_position_in_grid`?"),
        ("out[i] = blockIdx.x;", "", "did you mean `threadgroup_position_in_grid`?"),
        ("out[i] = x[gid.x];", "", "did you mean `thread_position_in_grid`?"),
        (
            "out[i] = f(x[i]);",
            "T f(T v) { return v; }\n",
            "make the function a template of its own, and pass it with",
        ),
        ("x[i] = 1;", "", "`x` is an input, whose elements are const: write to an output."),
        ("device float* p = x; p[i] = 1;", "", "pointers into it are `const device` or `const constant`."),
        (
            "void f(float v) { }",
            "",
            "`source` is the body of one function: put other functions into `header`.",
        ),
        (
            "add(out, i);",
            "void add(device atomic<float>* p, uint i) { atomic_store_explicit(p + i, 1.0f, memory_order_relaxed); }\n",
            "`out` holds plain numbers; atomics need metal_kernel(…, atomic_outputs=True).",
        ),
        (
            "out[i] = x * 2;",
            "",
            "`x` is an array of 1 dimension in this call, and so a pointer: write `x[0]`",
        ),
        ("float v = x; out[i] = v;", "", "`x` is an array of 1 dimension in this call"),
        (
            "device float* p = out + i;\natomic_fetch_add_explicit(p, 1.0f, memory_order_relaxed);",
            "",
            "outputs hold plain numbers; atomics on them need metal_kernel(…, atomic_outputs=True).",
        ),
    ],
)
def test_more_of_what_to_do(source, header, hint):
    message = refused(BEGIN + source, header)
    assert hint in message.replace("\n", " ")
    assert message.count("What to do") == 1


def test_a_plain_store_to_an_atomic_output():
    message = refused(BEGIN + "out[i] = 1.0f;", atomic_outputs=True)
    assert (
        "`out` holds atomics, since atomic_outputs=True: use atomic_store_explicit(&out[i], value, "
        in message
    )


def test_what_a_scalar_does_not_have():
    message = refused(BEGIN + "out[i] = x_shape[0];", scalars=("x",))
    assert (
        "What to do: `x` is a Python number or a 0-d array in this call, which has no `x_shape`." in message
    )


@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "complex64"])
def test_a_scalar_of_any_dtype_that_is_indexed(dtype):
    log = f"k source:1:9: error: no match for 'operator[]' (operand types are 'const metal::{dtype}_t' and 'int')\n"
    message = str(compile_error(signature("out[0] = x[0];", x=(dtype, 0)), log, "refused"))
    assert "`x` is a Python number or a 0-d array in this call" in message


@pytest.mark.parametrize(
    ("source", "line", "what"),
    [
        (BEGIN + "if (i < 4) {\n  out[i] = x[i];\n", 2, "`{` is never closed"),
        (BEGIN + "for (;;) { if (i < 4) { out[i] = 1; }\n", 2, "`{` is never closed"),
    ],
)
def test_a_brace_that_is_never_closed(source, line, what):
    assert f"  source line {line}: {what}" in refused(source)
    assert "zmlx entry" not in refused(source)


NVRTC = {
    'k source(2): error: identifier "T" is undefined\n': 'template=[("T", …)]. This call passes `N`.',
    'k source(2): error: identifier "outt" is undefined\n': "did you mean `out`?",
    'k source(2): error: no instance of function template "metal::atomic_store_explicit" matches the list\n': (
        "`out` holds plain numbers; atomics need metal_kernel(…, atomic_outputs=True)."
    ),
    "k source(2): error: expression must have arithmetic or unscoped enum type\n": "`x` is an array of 1 dimension",
    'k source(2): error: "x_ndim" has already been declared in the current scope\n': "`x_ndim` is a parameter of",
    "k source(2): error: expression must have a constant value\n": "arrays have a size that is known when the kernel",
}


@pytest.mark.parametrize(("log", "hint"), NVRTC.items(), ids=range(len(NVRTC)))
def test_hints_in_nvrtcs_words(log, hint):
    of = signature("uint i = 0;\nout[i] = x + T() + x_ndim;", template=[("N", 3)])
    assert hint in str(compile_error(of, log, "NVRTC refused it"))


@pytest.mark.parametrize(
    ("caret", "line"), [("  out[i] = 2;\n  ^\n", 1), ("  out[i] = 2;\n            ^\n", 2), ("", 2)]
)
def test_a_missing_semicolon_in_nvrtcs_words(caret, line):
    log = f'k source(2): error: expected a ";"\n{caret}'
    assert f"  source line {line}: " in str(
        compile_error(signature("uint i = 0\nout[i] = 2;"), log, "refused")
    )


def test_errors_of_the_translation_name_the_file_too(tmp_path):
    import mlx.core as mx

    file = tmp_path / "mine.py"
    file.write_text(
        "import zmlx\n\nkernel = zmlx.metal_kernel('wrong', ['x'], ['out'],\n    'double d = x[0];')\n"
    )
    scope = {}
    exec(compile(file.read_text(), str(file), "exec"), scope)
    arguments = {
        "output_shapes": [(1,)],
        "output_dtypes": [mx.float32],
        "grid": (1, 1, 1),
        "threadgroup": (1, 1, 1),
    }
    with pytest.raises(TranslationError) as error:
        scope["kernel"](inputs=[mx.ones(9)], **arguments, stream=mx.cpu)
    assert str(error.value).startswith(
        f"[metal_kernel] 'wrong', source line 1 ({file}:4): `double`: Metal has no double"
    )


def test_a_text_that_is_put_together_has_the_line_of_its_kernel():
    message = refused("\n".join(["float v = 1;", "out[0] = v +" + " oops();"]))
    assert re.search(r"\nThe kernel is made in .*test_diagnosis\.py:\d+\.$", message)


@pytest.mark.parametrize("use", ["x[0]", "*x", "f(x)", "(x + i)[0]"])
def test_a_number_that_is_used_like_an_array(use):
    message = refused(
        BEGIN + f"out[i] = {use};", "float f(const device float* p) { return p[0]; }\n", scalars=("x",)
    )
    assert "What to do: `x` is a Python number or a 0-d array in this call" in message


def test_a_bracket_too_many():
    lines = refused(BEGIN + "out[i] = 1; }\nout[i] = 2;").splitlines()
    assert lines[1] == "  source line 2: `}` closes nothing"
    assert not any("What to do" in line for line in lines)


def test_an_error_in_a_header_that_a_template_leads_to():
    """With template arguments the author's line is not where the compiler began."""
    import mlx.core as mx

    kernel = zmlx.metal_kernel(
        "wrong",
        ["x"],
        ["out"],
        "out[0] = 0;\nthreadgroup T s[N];\nthreadgroup_barrier(mem_flags::mem_none); out[0] = as_type<T>(s[0]);",
    )
    arguments = {
        "output_shapes": [(1,)],
        "output_dtypes": [mx.float32],
        "grid": (2, 1, 1),
        "threadgroup": (2, 1, 1),
    }
    template = [("T", mx.float32), ("N", 9000)]
    with pytest.raises(KernelCompileError) as error:
        kernel(inputs=[mx.ones(9)], template=template, **arguments, stream=mx.cpu)
    assert "source line 2: a threadgroup variable is larger than the 32768 bytes Metal has" in str(
        error.value
    )
    assert "memory.h" not in str(error.value)
