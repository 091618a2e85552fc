"""Small programs with the verdict of Metal's compiler and the section that gives it (MSL: the Metal Shading Language
Specification; other words: the public thread). ``w`` has 4 elements and so is constant, ``x`` has 64, ``z`` no rank.
"""

from __future__ import annotations

from typing import NamedTuple


class Program(NamedTuple):
    name: str
    source: str
    section: str
    header: str = ""
    dtype: str = "float32"
    atomic: bool = False
    template: tuple[tuple[str, str | int | bool], ...] = ()


I = "uint i = thread_position_in_grid.x; "  # noqa: E741
R = "memory_order_relaxed"
_READ = "float read(const {} float* p, uint i) {{ return p[i]; }}\n"
_ANY = "template <class P> float any_of(P p, uint i) { return p[i]; }\n"
_TYPED = "template <class T> T typed(const device T* p, uint i) { return p[i]; }\n"


def _rmw(operation: str, kind: str, space: str = "device", order: str = R) -> str:
    if space == "device":
        return f"atomic_{operation}_explicit((device atomic<{kind}>*)out, {kind}(1), {order});"
    return f"threadgroup atomic<{kind}> a; atomic_{operation}_explicit(&a, {kind}(1), {order});"


REFUSED = [
    # ---- vectors that would have to become something else by themselves
    Program("float4 of an int4", "int4 v = int4(1); float4 f = v; out[0] = f.x;", "MSL, Vector Data Types"),
    Program(
        "half4 of a float4", "float4 v = float4(1); half4 h = v; out[0] = h.x;", "MSL, Vector Data Types"
    ),
    Program("float4 of a half4", "half4 v = half4(1); float4 f = v; out[0] = f.x;", "MSL, Vector Data Types"),
    Program("uint4 of an int4", "uint4 u = int4(1); out[0] = u.x;", "MSL, Vector Data Types"),
    Program(
        "float4 of a comparison",
        "float4 a = float4(1); float4 f = a < a; out[0] = f.x;",
        "MSL, Vector Data Types",
    ),
    Program("float3 of a float4", "float3 f = float4(1); out[0] = f.x;", "MSL, Vector Data Types"),
    Program("float of a float4", "float s = float4(1); out[0] = s;", "MSL, Vector Data Types"),
    Program(
        "int4 assigned to a float4",
        "float4 f = float4(1); f = int4(2); out[0] = f.x;",
        "MSL, Vector Data Types",
    ),
    Program("float4 plus int4", "float4 f = float4(1) + int4(2); out[0] = f.x;", "MSL, Vector Data Types"),
    Program("float4 plus half4", "auto f = float4(1) + half4(2); out[0] = f.x;", "MSL, Vector Data Types"),
    Program(
        "uint4 times float4",
        "uint4 u = uint4(1); auto f = u * float4(2); out[0] = f.x;",
        "MSL, Vector Data Types",
    ),
    Program("a vector as a condition", "float4 f = float4(1); if (f) out[0] = 1;", "MSL, Vector Data Types"),
    Program(
        "half4 returned as float4",
        "out[0] = widened(half4(1)).x;",
        "MSL, Vector Data Types",
        "float4 widened(half4 h) { return h; }",
    ),
    Program(
        "float2 in a template",
        "out[0] = copied<half2>(float2(1)).x;",
        "MSL, Vector Data Types",
        "template <class T> T copied(float2 v) { T t = v; return t; }",
    ),
    # ---- address spaces of pointers
    Program(
        "device pointer to a constant input",
        "const device float* p = w; out[0] = p[0];",
        "MSL, Address Spaces",
    ),
    Program(
        "constant pointer to a device input",
        "const constant float* p = x; out[0] = p[0];",
        "MSL, Address Spaces",
    ),
    Program(
        "threadgroup pointer to an output", "threadgroup float* p = out; p[0] = 1;", "MSL, Address Spaces"
    ),
    Program("thread pointer to an output", "thread float* p = out; p[0] = 1;", "MSL, Address Spaces"),
    Program("thread pointer to an element", "thread float* p = &out[0]; *p = 1;", "MSL, Address Spaces"),
    Program(
        "device pointer to threadgroup memory",
        "threadgroup float s[4]; device float* p = s; p[0] = 1;",
        "MSL, Address Spaces",
    ),
    Program(
        "thread pointer to threadgroup memory",
        "threadgroup float s[4]; thread float* p = s; p[0] = 1;",
        "MSL, Address Spaces",
    ),
    Program("device pointer to a local", "float s[4]; device float* p = s; p[0] = 1;", "MSL, Address Spaces"),
    Program(
        "constant pointer to a local",
        "float s[4] = {1}; const constant float* p = s; out[0] = p[0];",
        "MSL, Address Spaces",
    ),
    Program(
        "threadgroup pointer to a local", "float s; threadgroup float* p = &s; *p = 1;", "MSL, Address Spaces"
    ),
    Program(
        "device pointer to a scalar input", "const device float* p = &z; out[0] = *p;", "MSL, Address Spaces"
    ),
    Program(
        "device pointer to a shape", "const device int* p = x_shape; out[0] = p[0];", "MSL, Address Spaces"
    ),
    Program("assigned", "const device float* p = x; p = w; out[0] = p[0];", "MSL, Address Spaces"),
    Program("C cast of a constant input", "out[0] = ((const device float4*)w)[0][0];", "MSL, Address Spaces"),
    Program(
        "C cast of an output to thread",
        "thread float* p = (thread float*)out; *p = 1;",
        "MSL, Address Spaces",
    ),
    Program(
        "C cast of threadgroup to device",
        "threadgroup float s[4]; ((device float*)s)[0] = 1;",
        "MSL, Address Spaces",
    ),
    Program(
        "C cast of threadgroup to thread",
        "threadgroup float s[4]; ((thread float*)s)[0] = 1;",
        "MSL, Address Spaces",
    ),
    Program("C cast of a local to device", "float s[4]; ((device float*)s)[0] = 1;", "MSL, Address Spaces"),
    Program("C cast of device to constant", "out[0] = ((const constant float*)x)[0];", "MSL, Address Spaces"),
    Program(
        "reinterpret_cast", "out[0] = reinterpret_cast<const device float4*>(w)[0][0];", "MSL, Address Spaces"
    ),
    Program("static_cast", "out[0] = static_cast<const device float*>(w)[0];", "MSL, Address Spaces"),
    Program(
        "thread reference to an input", "thread const float& r = x[0]; out[0] = r;", "MSL, Address Spaces"
    ),
    Program(
        "device reference to a local", "float s = 1; device float& r = s; out[0] = r;", "MSL, Address Spaces"
    ),
    Program(
        "device reference to a constant input",
        "const device float& r = w[0]; out[0] = r;",
        "MSL, Address Spaces",
    ),
    Program(
        "constant reference to an input", "const constant float& r = x[0]; out[0] = r;", "MSL, Address Spaces"
    ),
    Program(
        "helper takes device, given constant",
        "out[0] = read(w, 0);",
        "MSL, Address Spaces",
        _READ.format("device"),
    ),
    Program(
        "helper takes device, given threadgroup",
        "threadgroup float s[4]; out[0] = read(s, 0);",
        "MSL, Address Spaces",
        _READ.format("device"),
    ),
    Program(
        "helper takes device, given thread",
        "float s[4]; out[0] = read(s, 0);",
        "MSL, Address Spaces",
        _READ.format("device"),
    ),
    Program(
        "helper takes constant, given device",
        "out[0] = read(x, 0);",
        "MSL, Address Spaces",
        _READ.format("constant"),
    ),
    Program(
        "helper takes threadgroup, given device",
        "out[0] = read(x, 0);",
        "MSL, Address Spaces",
        _READ.format("threadgroup"),
    ),
    Program(
        "helper takes thread, given device",
        "out[0] = read(x, 0);",
        "MSL, Address Spaces",
        _READ.format("thread"),
    ),
    Program("template takes device, given constant", "out[0] = typed(w, 0);", "MSL, Address Spaces", _TYPED),
    Program(
        "template takes device, given threadgroup",
        "threadgroup float s[4]; out[0] = typed(s, 0);",
        "MSL, Address Spaces",
        _TYPED,
    ),
    Program(
        "explicit template, given constant", "out[0] = typed<float>(w, 0);", "MSL, Address Spaces", _TYPED
    ),
    Program(
        "two helpers, neither fits",
        "float s[4]; out[0] = read(s, 0);",
        "MSL, Address Spaces",
        _READ.format("device") + _READ.format("constant"),
    ),
    Program(
        "between helpers",
        "out[0] = outer(w);",
        "MSL, Address Spaces",
        _READ.format("device") + "float outer(const constant float* p) { return read(p, 0); }\n",
    ),
    Program(
        "inside a template",
        "out[0] = outer(w);",
        "MSL, Address Spaces",
        _READ.format("device") + "template <class P> float outer(P p) { return read(p, 0); }\n",
    ),
    Program(
        "in a kernel template",
        "const device T* p = w; out[0] = p[0];",
        "MSL, Address Spaces",
        template=(("T", "float"),),
    ),
    Program(
        "member of a struct",
        "view v; v.p = w; out[0] = v.p[0];",
        "MSL, Address Spaces",
        "struct view { const device float* p; };\n",
    ),
    # ---- where variables may be
    Program(
        "constexpr array at program scope",
        "out[0] = t[0];",
        "MSL, Constant Address Space",
        "constexpr float t[2] = {1, 2};\n",
    ),
    Program(
        "const array at program scope",
        "out[0] = t[0];",
        "MSL, Constant Address Space",
        "const float t[2] = {1, 2};\n",
    ),
    Program(
        "constexpr number at program scope",
        "out[0] = c;",
        "MSL, Constant Address Space",
        "constexpr float c = 2.0f;\n",
    ),
    Program(
        "static constexpr at program scope",
        "out[0] = c;",
        "MSL, Constant Address Space",
        "static constexpr int c = 2;\n",
    ),
    Program("mutable global", "t[0] += 1; out[0] = t[0];", "MSL, Constant Address Space", "float t[2];\n"),
    Program(
        "in a namespace",
        "out[0] = n::c;",
        "MSL, Constant Address Space",
        "namespace n { constexpr float c = 1; }\n",
    ),
    Program(
        "static data member",
        "out[0] = S::c;",
        "MSL, Constant Address Space",
        "struct S { static constexpr float c = 1; };\n",
    ),
    Program("static local", "static int n = 0; out[0] = n;", "MSL, Constant Address Space"),
    Program(
        "static local of a helper",
        "out[0] = f();",
        "MSL, Constant Address Space",
        "float f() { static int n = 0; return ++n; }\n",
    ),
    Program("constant local", "constant float t[2] = {1, 2}; out[0] = t[0];", "MSL, Constant Address Space"),
    Program("device local", "device float v = 1; out[0] = v;", "MSL, Device Address Space"),
    Program(
        "threadgroup in a helper",
        "out[0] = f(1);",
        "MSL, Threadgroup Address Space",
        "float f(float v) {\n  threadgroup float s[2];\n  s[0] = v;\n  return s[0];\n}\n",
    ),
    Program(
        "array of a size from memory",
        "int n = x_shape[0]; float v[n]; v[0] = 1; out[0] = v[0];",
        "MSL, Restrictions",
    ),
    Program(
        "array of a size from a parameter",
        "",
        "MSL, Restrictions",
        "float f(int n) { float v[n]; return v[0]; }\n",
    ),
    # ---- names
    Program("named half", "int half = 1; out[0] = half;", "MSL, Scalar Data Types"),
    Program("named uint", "int uint = 1; out[0] = uint;", "MSL, Scalar Data Types"),
    Program("named float2", "float float2 = 1; out[0] = float2;", "MSL, Vector Data Types"),
    Program("named device", "int device = 1; out[0] = device;", "MSL, Device Address Space"),
    Program("output declared again", "float out[2] = {1, 2}; float v = out[0];", "C++ [basic.scope.block]"),
    Program("input declared again", "float x = 3; out[0] = x;", "C++ [basic.scope.block]"),
    Program(
        "attribute declared again", I + "uint3 thread_position_in_grid = uint3(0);", "C++ [basic.scope.block]"
    ),
    Program("local declared twice", "float a = 1; int a = 2; out[0] = a;", "C++ [basic.scope.block]"),
    # ---- atomics
    *(
        Program(f"atomic {kind}", _rmw("fetch_add", kind), "MSL, Atomic Data Types")
        for kind in ("char", "uchar", "short", "ushort", "half", "bfloat", "long")
    ),
    *(
        Program(
            f"atomic output of {dtype}",
            "atomic_fetch_add_explicit(&out[0], 1, " + R + ");",
            "MSL, Atomic Data Types",
            "",
            dtype,
            True,
        )
        for dtype in ("int8", "uint8", "int16", "uint16", "int64", "uint64", "float16", "bfloat16")
    ),
    Program("float maximum", _rmw("fetch_max", "float"), "MSL, Atomic Functions"),
    Program("float minimum", _rmw("fetch_min", "float"), "MSL, Atomic Functions"),
    Program("bits of a float", _rmw("fetch_or", "float"), "MSL, Atomic Functions"),
    Program("ulong sum", _rmw("fetch_add", "ulong"), "MSL, Atomic Functions"),
    Program("ulong fetch_max", _rmw("fetch_max", "ulong"), "MSL, Atomic Functions"),
    Program("ulong store", _rmw("store", "ulong"), "MSL, Atomic Functions"),
    Program("bool sum", _rmw("fetch_add", "bool"), "MSL, Atomic Functions"),
    Program("threadgroup float sum", _rmw("fetch_add", "float", "threadgroup"), "MSL, Atomic Functions"),
    Program("acq_rel", _rmw("fetch_add", "uint", order="memory_order_acq_rel"), "MSL, Atomic Functions"),
    Program(
        "acquire",
        "atomic_load_explicit((device atomic_uint*)out, memory_order_acquire);",
        "MSL, Atomic Functions",
    ),
    Program("seq_cst", _rmw("fetch_add", "int", order="memory_order_seq_cst"), "MSL, Atomic Functions"),
    # ---- simdgroups
    Program("64-bit simd_sum", "out[0] = simd_sum(1l);", "MSL, SIMD-group Functions"),
    Program("64-bit simd_max", "ulong v = 1; out[0] = simd_max(v);", "MSL, SIMD-group Functions"),
]

ACCEPTED = [
    # ---- vectors
    Program(
        "scalars become vectors",
        "float4 f = 1; half4 h = 2; f = f * 2 + 1; out[0] = f.x + h.x;",
        "MSL, Vector Data Types",
    ),
    Program(
        "explicit conversions",
        "float4 f = float4(int4(1)); half4 h = half4(f); out[0] = h.x;",
        "MSL, Vector Data Types",
    ),
    Program(
        "comparisons are bools",
        "bool4 m = float4(1) < float4(2); out[0] = m.x;",
        "MSL, Scalar and Vector Operators",
    ),
    Program(
        "a selection",
        "float4 a = float4(1), b = float4(2); out[0] = select(a, b, a < b).x;",
        "MSL, Relational Functions",
    ),
    Program(
        "vectors of parts",
        "float2 a = float2(1); float4 f = float4(a, a.yx); out[0] = f.w;",
        "MSL, Vector Data Types",
    ),
    Program(
        "packed vectors",
        "packed_float3 p = float3(1); float3 q = p; out[0] = q.x;",
        "MSL, Packed Vector Types",
    ),
    Program(
        "device pointer to an input",
        "const device float* p = x + 1; out[0] = p[0];",
        "MSL, Device Address Space",
    ),
    Program(
        "constant pointer to a small input",
        "const constant float* p = w; out[0] = p[0];",
        "MSL, Constant Address Space",
    ),
    Program("auto pointer", "auto p = w; auto q = x; out[0] = p[0] + q[0];", "MSL, Address Spaces"),
    Program("device pointer to an output", "device float* p = out; *p++ = 1;", "MSL, Device Address Space"),
    Program(
        "threadgroup pointer",
        "threadgroup float s[4]; threadgroup float* p = s; p[0] = 1;",
        "MSL, Threadgroup Address Space",
    ),
    Program(
        "thread pointer",
        "float s[4]; thread float* p = s; p[0] = 1; out[0] = s[0];",
        "MSL, Thread Address Space",
    ),
    Program(
        "thread reference", "float s; thread float& r = s; r = 1; out[0] = s;", "MSL, Thread Address Space"
    ),
    Program(
        "constant reference", "const constant float& r = w[0]; out[0] = r + z;", "MSL, Constant Address Space"
    ),
    Program("device reference", "device float& r = out[0]; r = x[0];", "MSL, Device Address Space"),
    Program(
        "constant shape",
        "const constant int* p = x_shape; out[0] = p[0] + x_ndim;",
        "MSL, Constant Address Space",
    ),
    Program(
        "C cast to vectors",
        "device float4* p = (device float4*)out; p[0] = float4(1, 2, 3, 4);",
        "MSL, Device Address Space",
    ),
    Program(
        "reinterpret_cast",
        "out[0] = reinterpret_cast<const device uint*>(x)[0];",
        "MSL, Device Address Space",
    ),
    Program(
        "cast of constant to constant",
        "out[0] = ((const constant float4*)w)[0].x;",
        "MSL, Constant Address Space",
    ),
    Program("helper for device", "out[0] = read(x, 0);", "MSL, Address Spaces", _READ.format("device")),
    Program("helper for constant", "out[0] = read(w, 0);", "MSL, Address Spaces", _READ.format("constant")),
    Program(
        "helper for threadgroup",
        "threadgroup float s[4]; out[0] = read(s, 0);",
        "MSL, Address Spaces",
        _READ.format("threadgroup"),
    ),
    Program(
        "helper for thread",
        "float s[4] = {1}; out[0] = read(s, 0);",
        "MSL, Address Spaces",
        _READ.format("thread"),
    ),
    Program(
        "a template for all",
        "float s[2] = {1}; out[0] = any_of(x, 0) + any_of(w, 0) + any_of(s, 0);",
        "MSL, Address Spaces",
        _ANY,
    ),
    Program("a template for device", "out[0] = typed(x, 0);", "MSL, Address Spaces", _TYPED),
    Program(
        "overloads by address space",
        "out[0] = read(x, 0) + read(w, 0);",
        "MSL, Address Spaces",
        _READ.format("device") + _READ.format("constant"),
    ),
    Program(
        "struct of pointers",
        "view v = {x}; out[0] = v.p[0];",
        "MSL, Device Address Space",
        "struct view { const device float* p; };\n",
    ),
    Program(
        "struct read from device memory",
        "pair p = ((const device pair*)x)[0]; out[0] = p.a;",
        "MSL, Device Address Space",
        "struct pair { float a, b; };\n",
    ),
    Program(
        "member functions",
        "acc a; a.add(1); out[0] = a.total;",
        "MSL, Thread Address Space",
        "struct acc { float total = 0; void add(float v) { total += v; } };\n",
    ),
    Program(
        "constant at program scope",
        "out[0] = t[0];",
        "MSL, Constant Address Space",
        "constant float t[2] = {1, 2};\n",
    ),
    Program(
        "constant constexpr",
        "out[0] = c;",
        "MSL, Constant Address Space",
        "constant constexpr float c = 1;\n",
    ),
    Program(
        "static constant",
        "out[0] = c;",
        "MSL, Constant Address Space",
        "static constant constexpr int c = 1;\n",
    ),
    Program(
        "static constant member",
        "out[0] = S::c;",
        "MSL, Constant Address Space",
        "struct S { static constant constexpr int c = 1; };\n",
    ),
    Program(
        "constant in a namespace",
        "out[0] = n::c;",
        "MSL, Constant Address Space",
        "namespace n { constant float c = 1; }\n",
    ),
    Program("enumeration", "out[0] = two;", "MSL, Metal and C++", "enum { one = 1, two = 2 };\n"),
    Program(
        "constexpr local",
        "constexpr int n = 4; float v[n] = {1}; out[0] = v[0];",
        "MSL, Thread Address Space",
    ),
    Program(
        "const local as a size",
        "const int n = 4; float v[n] = {1}; out[0] = v[0];",
        "MSL, Thread Address Space",
    ),
    Program(
        "template argument as a size",
        "float v[N] = {1}; out[0] = v[0];",
        "MSL, Thread Address Space",
        template=(("N", 4),),
    ),
    Program(
        "computed size",
        "constexpr int n = ceildiv(10, 4); float v[n] = {1}; out[0] = v[0];",
        "MSL, Thread Address Space",
    ),
    Program("local in an inner block", "{ float x = 3; out[0] = x; }", "C++ [basic.scope.block]"),
    Program(
        "local of a loop",
        "for (int i = 0; i < 2; ++i) { float w = i; out[i] = w; }",
        "C++ [basic.scope.block]",
    ),
    Program(
        "names of OpenCL",
        "float local = 1, global = 2, generic = 3, pipe = 4; out[0] = local + global;",
        "MSL, Metal and C++",
    ),
    Program(
        "vector constructors",
        "float4 v = float4(1, float2(2, 3), 4); out[0] = v.x;",
        "MSL, Vector Data Types",
    ),
    Program(
        "vec template",
        "vec<T, 4> v = vec<T, 4>(1, 2, 3, 4); out[0] = v.w;",
        "MSL, Vector Data Types",
        template=(("T", "float"),),
    ),
    Program(
        "swizzles", "float4 v = float4(1); v.xy = v.zw; out[0] = v.xyz.z;", "MSL, Accessing Vector Components"
    ),
    Program("half arithmetic", "half h = 1.0h; h += half(x[0]); out[0] = h * 2;", "MSL, Scalar Data Types"),
    Program("bfloat arithmetic", "bfloat b = bfloat(x[0]); out[0] = float(b) * 2;", "MSL, Scalar Data Types"),
    Program(
        "implicit conversions",
        "int n = x[0]; uint u = n; float f = u; half h = f; out[0] = h;",
        "MSL, Scalar Data Types",
    ),
    Program(
        "as_type",
        "uint u = as_type<uint>(x[0]); out[0] = as_type<float>(u);",
        "MSL, Type Conversions and Re-interpreting Data",
    ),
    Program(
        "lambda",
        "auto f = [&](float v) { return v + z; }; out[0] = f(x[0]);",
        "C++17 with the restrictions of MSL, Metal and C++",
    ),
    Program(
        "mathematics",
        "out[0] = exp(x[0]) + metal::fast::log(2.0f) + precise::sqrt(max(x[1], 0.0f));",
        "MSL, Math Functions",
    ),
    Program(
        "simd functions",
        "out[0] = simd_sum(x[0]) + simd_shuffle_down(x[1], 2) + simd_max(3);",
        "MSL, SIMD-group Functions",
    ),
    Program("64-bit shuffle", "out[0] = simd_shuffle_down(1l, 2);", "mlx/backend/metal/kernels/utils.h"),
    Program(
        "barriers",
        "threadgroup_barrier(mem_flags::mem_threadgroup | mem_flags::mem_device);",
        "MSL, Threadgroup and SIMD-group Synchronization Functions",
    ),
    Program(
        "threadgroup array of 2 dimensions",
        "threadgroup float4 s[2][3]; s[1][2] = float4(0);",
        "MSL, Threadgroup Address Space",
    ),
    *(
        Program(f"{kind} {operation}", _rmw(operation, kind), "MSL, Atomic Functions")
        for kind in ("int", "uint")
        for operation in (
            "fetch_add",
            "fetch_sub",
            "fetch_max",
            "fetch_min",
            "fetch_xor",
            "exchange",
            "store",
        )
    ),
    Program("float sum", _rmw("fetch_add", "float"), "MSL, Atomic Functions"),
    Program("float difference", _rmw("fetch_sub", "float"), "MSL, Atomic Functions"),
    Program("float exchange", _rmw("exchange", "float"), "MSL, Atomic Functions"),
    Program("bool store", _rmw("store", "bool"), "MSL, Atomic Functions"),
    Program(
        "ulong maximum",
        "atomic_max_explicit((device atomic_ulong*)out, 1ul, " + R + ");",
        "MSL, Atomic Functions",
    ),
    Program(
        "ulong minimum",
        "atomic_min_explicit((device atomic_ulong*)out, 1ul, " + R + ");",
        "MSL, Atomic Functions",
    ),
    Program("threadgroup sum", _rmw("fetch_add", "uint", "threadgroup"), "MSL, Atomic Functions"),
    Program("threadgroup maximum", _rmw("fetch_max", "int", "threadgroup"), "MSL, Atomic Functions"),
    *(
        Program(
            f"atomic output of {dtype}",
            f"atomic_fetch_add_explicit(&out[0], 1, {R});",
            "MSL, Atomic Data Types",
            "",
            dtype,
            True,
        )
        for dtype in ("int32", "uint32", "float32")
    ),
]
