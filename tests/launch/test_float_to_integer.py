"""Floats that an integer does not hold: the same value on the host in every form, type and way of running.

The right values are what CUDA gives, measured on an H100: int and uint saturate and NaN is 0; long NaN is its smallest
number; 8 and 16 bits are the lowest ones of what 32 bits would be.
"""

from __future__ import annotations

import math

import numpy as np
import pytest

import zmlx
from zmlx.launch import host
from zmlx.launch.records import launch_counts, reset_launch_counts

pytestmark = pytest.mark.cpu

VALUES = [
    -300.0, math.nan, math.inf, -math.inf, 5e9, -3e9, -1.0, 2.0**31, -(2.0**31), 2.0**32, 2.0**63, -(2.0**63), 2.0**64,
    1e30, -1e30, -1e9, 70000.0, -70000.0, 300.7, -0.9, 0.9, 0.0, -0.0, 2147483520.0, 4294967040.0, 9e18, 1.8e19,
]  # fmt: skip
TYPES = ["int8", "uint8", "int16", "uint16", "int32", "uint32", "int64", "uint64"]
METAL = dict(zip(TYPES, ["int8_t", "uchar", "short", "ushort", "int", "uint", "long", "ulong"], strict=True))
READ = "uint i = thread_position_in_grid.x; float f = x[i];"

#: Statements that put the float ``f`` in ``out[i]``, an array of ``TO``.
FORMS = {
    "in braces": "TO a[2] = {TO(f), (TO)f}; out[i] = a[0] == a[1] ? a[0] : 0;",
    "volatile": "volatile TO n = 0; n = f; out[i] = n;",
    "functional": "out[i] = TO(f);",
    "c-style": "out[i] = (TO)f;",
    "c-style, of an element": "out[i] = (TO)x[i] + 0;",
    "static_cast": "out[i] = static_cast<TO>(f);",
    "a store": "out[i] = f;",
    "a store through a pointer": "device TO* p = out + i; *p = f;",
    "a declaration": "TO n = f; out[i] = n;",
    "a declaration in parentheses": "TO n(f); out[i] = n;",
    "the second of a declaration": "TO m = 1, n = f; out[i] = n;",
    "const": "const TO n = f + 0.0f; out[i] = n;",
    "an assignment": "TO n; n = f; out[i] = n;",
    "a conditional": "TO n = i < 1000u ? f : 0.0f; out[i] = n;",
    "a compound assignment": "TO n = 0; n += f; out[i] = n;",
    "a local array": "TO a[2]; a[1] = f; out[i] = a[1];",
    "a member": "Held h; h.n = f; out[i] = h.n;",
    "a result": "out[i] = result_of(f);",
    "a result of a template": "out[i] = convert_to<TO>(f);",
    "an argument": "out[i] = same(f);",
    "an overload's argument": "out[i] = over(f, 0) + over(0.0f, 0.0f);",
    "a method's argument": "Adder m; out[i] = m.same_of(f);",
    "a declaration by decltype": "decltype(same(0)) n = f; out[i] = n;",
    "auto, and a store": "auto n = f + 0.0f; out[i] = n;",
    "auto, and an argument": "auto g = f; out[i] = same(g);",
    "a lambda's argument": "auto k = [](TO n) { return n; }; out[i] = k(f);",
    "a constructor's initialiser": "Built b(f); out[i] = b.n;",
    "a lambda": "auto g = [](float v) -> TO { return v; }; out[i] = g(f);",
    "a macro": "out[i] = CAST(f);",
    "a macro with a type": "out[i] = CAST_TO(TO, f);",
    "an alias": "using A = TO; A n = f; out[i] = n;",
    "a vector": "out[i] = vec<TO, 2>(float2(f, 1.0f)).x;",
    "a vector's constructor": "out[i] = vec<TO, 4>(f, f, f, f).w;",
    "a vector of one value": "out[i] = vec<TO, 4>(f).y;",
    "a component": "vec<TO, 4> v(0); v.z = f; out[i] = v.z;",
    "a loop's variable": "for (TO n = f, once = 0; once < 1; once++) out[i] = n;",
    "cast_to": "out[i] = cast_to<TO>(f);",
    "bfloat's float": "out[i] = TO(float(f));",
}
HEADER = """
struct Held { TO n; };
struct Built { TO n; Built(float v) : n(v) {} };
inline TO result_of(float v) { return v; }
template <typename U> U convert_to(float v) { U u = v; return u; }
inline TO same(TO n) { return n; }
inline TO over(TO n, int) { return n; }
inline TO over(TO n, float) { return n; }
struct Adder { TO same_of(TO n) thread const { return n; } };
#define CAST(v) TO(v)
#define CAST_TO(T_, v) static_cast<T_>(v)
"""


def cuda(value: float, dtype: str) -> int:
    """What ``cvt.rzi`` makes of a float; see the tables of the PTX ISA and the measured values above."""
    bits, signed = int(dtype.lstrip("uint")), not dtype.startswith("u")
    wide = max(bits, 32)
    least, greatest = (-(2 ** (wide - 1)), 2 ** (wide - 1) - 1) if signed else (0, 2**wide - 1)
    if math.isnan(value):
        number = 0 if wide == 32 else (least if signed else 2**63)
    elif math.isinf(value):
        number = greatest if value > 0 else least
    else:
        number = min(max(int(value), least), greatest)
    number %= 2**bits
    return number - 2**bits if signed and number >= 2 ** (bits - 1) else number


def run(source, dtype, values=VALUES, header="", threadgroup=8, in_dtype=None, repeat=41):
    """The kernel's results for values repeated to some hundred threads, one set of results for each value."""
    import mlx.core as mx

    kernel = zmlx.metal_kernel("to_integer", ["x"], ["out"], source, header)
    x = mx.array(np.tile(np.array(values, np.float32), repeat)).astype(in_dtype or mx.float32)
    (out,) = kernel(
        inputs=[x],
        grid=(x.size, 1, 1),
        threadgroup=(threadgroup, 1, 1),
        output_shapes=[x.shape],
        output_dtypes=[getattr(mx, dtype)],
        stream=mx.cpu,
    )
    return [set(column.tolist()) for column in np.array(out).reshape(repeat, -1).T]


def wanted(dtype, values=VALUES):
    return [{cuda(float(np.float32(value)), dtype)} for value in values]


def all_forms(dtype):
    """One kernel of all forms: threads take the form that their row asks for."""
    blocks = "".join(f"case {k}: {{ {form} break; }}\n" for k, form in enumerate(FORMS.values()))
    return f"{READ}\nswitch (form[0]) {{\n{blocks}}}".replace("TO", METAL[dtype])


@pytest.mark.parametrize("dtype", TYPES)
def test_every_form_gives_what_cuda_gives(dtype):
    import mlx.core as mx

    kernel = zmlx.metal_kernel(
        "forms", ["x", "form"], ["out"], all_forms(dtype), HEADER.replace("TO", METAL[dtype])
    )
    x = mx.array(np.array(VALUES, np.float32))
    wrong = {}
    for k, name in enumerate(FORMS):
        (out,) = kernel(
            inputs=[x, mx.array([k])],
            grid=(x.size, 1, 1),
            threadgroup=(8, 1, 1),
            output_shapes=[x.shape],
            output_dtypes=[getattr(mx, dtype)],
            stream=mx.cpu,
        )
        right = [cuda(float(value), dtype) for value in np.array(x)]
        if out.tolist() != right:
            wrong[name] = [(v, g, r) for v, g, r in zip(VALUES, out.tolist(), right, strict=True) if g != r]
    assert wrong == {}


@pytest.mark.parametrize("dtype", TYPES)
@pytest.mark.parametrize("form", ["out[i] = TO(f);", "out[i] = f;", "TO n = f; out[i] = n;"])
def test_vectorised_loops_and_their_ends_agree(dtype, form):
    assert run(READ + form.replace("TO", METAL[dtype]), dtype) == wanted(dtype)


WAYS = {
    "regions": READ + "threadgroup float s[32]; uint l = thread_position_in_threadgroup.x; s[l] = f;"
    "threadgroup_barrier(mem_flags::mem_threadgroup); TO n = s[l]; threadgroup_barrier(mem_flags::mem_none);"
    "if (n < 100) n += 0.0f; out[i] = n;",
    "regions, of what is brought": READ + "TO n = simd_shuffle_xor(f, 0); out[i] = n;",
    "regions, a cast of what is brought": READ
    + "out[i] = (TO)simd_shuffle(f, thread_index_in_simdgroup) + 0;",
    "regions, a store of what is brought": READ + "out[i] = simd_shuffle_xor(f, 0);",
}


@pytest.mark.parametrize("fibers", [False, True], ids=["regions", "fibers"])
@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("dtype", ["int32", "uint32", "int64", "uint8"])
def test_threads_that_meet(way, dtype, fibers, monkeypatch):
    if fibers:
        monkeypatch.setenv(host.FIBERS_VARIABLE, "1")
    host.forget_programs()
    reset_launch_counts()
    try:
        assert run(WAYS[way].replace("TO", METAL[dtype]), dtype, threadgroup=32) == wanted(dtype)
        assert {key.path for key in launch_counts()} == {"fibers" if fibers else "regions"}
    finally:
        host.forget_programs()


@pytest.mark.parametrize("dtype", ["int32", "uint16", "int64"])
def test_the_checker_computes_the_same(dtype):
    source = READ + "TO n = f; if (i % 2) out[i] = n; else out[i] = TO(x[i]);".replace("TO", METAL[dtype])
    with zmlx.checked() as report:
        got = run(source, dtype, repeat=3)
    assert got == wanted(dtype)
    assert not report.findings


@pytest.mark.parametrize("kind", ["float16", "bfloat16"])
@pytest.mark.parametrize("dtype", TYPES)
def test_small_floats(kind, dtype):
    import mlx.core as mx

    values = [-300.0, math.nan, math.inf, -math.inf, -1.0, 60000.0, -60000.0, 300.0, -0.5, 7.5]
    rounded = [float(v) for v in np.array(mx.array(values).astype(getattr(mx, kind)).astype(mx.float32))]
    source = (
        "uint i = thread_position_in_grid.x; T h = x[i]; TO n = float(h);"
        "out[i] = i % 3 == 0 ? TO(h) : i % 3 == 1 ? n : vec<TO, 2>(vec<T, 2>(h, h)).y;"
    )
    kernel = zmlx.metal_kernel("small", ["x"], ["out"], source.replace("TO", METAL[dtype]))
    x = mx.array(np.repeat(np.array(values, np.float32), 3)).astype(getattr(mx, kind))
    (out,) = kernel(
        inputs=[x],
        template=[("T", x.dtype)],
        grid=(x.size, 1, 1),
        threadgroup=(8, 1, 1),
        output_shapes=[x.shape],
        output_dtypes=[getattr(mx, dtype)],
        stream=mx.cpu,
    )
    assert out.reshape(-1, 3).tolist() == [[cuda(v, dtype)] * 3 for v in rounded]


@pytest.mark.parametrize("dtype", ["int32", "float32", "bfloat16"])
def test_a_template_argument_that_may_be_an_integer(dtype):
    import mlx.core as mx

    source = READ + "T t = static_cast<T>(f); T u = T(f); out[i] = (T)(i % 2 ? t : u);"
    kernel = zmlx.metal_kernel("templated", ["x"], ["out"], source)
    values = [1.5, 3e9, -3e9]
    (out,) = kernel(
        inputs=[mx.array(values)],
        template=[("T", getattr(mx, dtype))],
        grid=(3, 1, 1),
        threadgroup=(3, 1, 1),
        output_shapes=[(3,)],
        output_dtypes=[getattr(mx, dtype)],
        stream=mx.cpu,
    )
    right = (
        [1, 2**31 - 1, -(2**31)] if dtype == "int32" else mx.array(values).astype(getattr(mx, dtype)).tolist()
    )
    assert out.tolist() == right


def test_constants_stay_constants():
    source = """
        constexpr int tile = int(3.7f);
        constexpr uint wide = 2.5f * 2;
        float s[int(2.5f) + tile];
        vec<float, (int)2.2f> v(1.0f);
        s[tile] = v.x + wide;
        uint i = thread_position_in_grid.x;
        out[i] = s[tile] + sizeof(s) / sizeof(float);
    """
    assert run(source, "int32", [0.0]) == [{1 + 5 + 5}]


def test_atomics():
    source = "uint i = thread_position_in_grid.x; atomic_store_explicit(&out[i], x[i], memory_order_relaxed);"
    import mlx.core as mx

    kernel = zmlx.metal_kernel("stored", ["x"], ["out"], source, atomic_outputs=True)
    x = mx.array(np.array(VALUES, np.float32))
    (out,) = kernel(
        inputs=[x],
        grid=(x.size, 1, 1),
        threadgroup=(8, 1, 1),
        output_shapes=[x.shape],
        output_dtypes=[mx.int32],
        stream=mx.cpu,
    )
    assert out.tolist() == [cuda(float(v), "int32") for v in np.array(x)]
