"""Small programs with the verdict of Metal's compiler and the paragraph that gives it (MSL: the Metal Shading Language
Specification, version 4 of 2025-06-05, whose numbers differ from those of versions before and after; C++17: ISO/IEC
14882:2017, on which it builds, MSL 1.5; other words: the public thread). ``w`` has 4 elements and so is constant,
``x`` has 64, ``z`` no rank.
"""

from __future__ import annotations

from typing import NamedTuple


class Program(NamedTuple):
    name: str
    source: str
    paragraph: str
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
    # ---- address spaces of pointers
    Program("device pointer to a constant input", "const device float* p = w; out[0] = p[0];", "MSL 4"),
    Program("constant pointer to a device input", "const constant float* p = x; out[0] = p[0];", "MSL 4"),
    Program("threadgroup pointer to an output", "threadgroup float* p = out; p[0] = 1;", "MSL 4"),
    Program("thread pointer to an output", "thread float* p = out; p[0] = 1;", "MSL 4"),
    Program("thread pointer to an element", "thread float* p = &out[0]; *p = 1;", "MSL 4"),
    Program(
        "device pointer to threadgroup memory",
        "threadgroup float s[4]; device float* p = s; p[0] = 1;",
        "MSL 4",
    ),
    Program(
        "thread pointer to threadgroup memory",
        "threadgroup float s[4]; thread float* p = s; p[0] = 1;",
        "MSL 4",
    ),
    Program("device pointer to a local", "float s[4]; device float* p = s; p[0] = 1;", "MSL 4"),
    Program(
        "constant pointer to a local",
        "float s[4] = {1}; const constant float* p = s; out[0] = p[0];",
        "MSL 4",
    ),
    Program("threadgroup pointer to a local", "float s; threadgroup float* p = &s; *p = 1;", "MSL 4"),
    Program(
        "a constant pointer or a device one, by a condition",
        "const device float* p = x; auto q = p[0] > 0 ? p : w; out[0] = q[0];",
        "MSL 4",
    ),
    Program("device pointer to a scalar input", "const device float* p = &z; out[0] = *p;", "MSL 4"),
    Program("device pointer to a shape", "const device int* p = x_shape; out[0] = p[0];", "MSL 4"),
    Program("assigned", "const device float* p = x; p = w; out[0] = p[0];", "MSL 4"),
    Program("C cast of a constant input", "out[0] = ((const device float4*)w)[0][0];", "MSL 4"),
    Program("C cast of an output to thread", "thread float* p = (thread float*)out; *p = 1;", "MSL 4"),
    Program("C cast of threadgroup to device", "threadgroup float s[4]; ((device float*)s)[0] = 1;", "MSL 4"),
    Program("C cast of threadgroup to thread", "threadgroup float s[4]; ((thread float*)s)[0] = 1;", "MSL 4"),
    Program("C cast of a local to device", "float s[4]; ((device float*)s)[0] = 1;", "MSL 4"),
    Program("C cast of device to constant", "out[0] = ((const constant float*)x)[0];", "MSL 4"),
    Program("reinterpret_cast", "out[0] = reinterpret_cast<const device float4*>(w)[0][0];", "MSL 4"),
    Program("static_cast", "out[0] = static_cast<const device float*>(w)[0];", "MSL 4"),
    Program("thread reference to an input", "thread const float& r = x[0]; out[0] = r;", "MSL 4"),
    Program("device reference to a local", "float s = 1; device float& r = s; out[0] = r;", "MSL 4"),
    Program("device reference to a constant input", "const device float& r = w[0]; out[0] = r;", "MSL 4"),
    Program("constant reference to an input", "const constant float& r = x[0]; out[0] = r;", "MSL 4"),
    Program("helper takes device, given constant", "out[0] = read(w, 0);", "MSL 4", _READ.format("device")),
    Program(
        "helper takes device, given threadgroup",
        "threadgroup float s[4]; out[0] = read(s, 0);",
        "MSL 4",
        _READ.format("device"),
    ),
    Program(
        "helper takes device, given thread",
        "float s[4]; out[0] = read(s, 0);",
        "MSL 4",
        _READ.format("device"),
    ),
    Program("helper takes constant, given device", "out[0] = read(x, 0);", "MSL 4", _READ.format("constant")),
    Program(
        "helper takes threadgroup, given device", "out[0] = read(x, 0);", "MSL 4", _READ.format("threadgroup")
    ),
    Program("helper takes thread, given device", "out[0] = read(x, 0);", "MSL 4", _READ.format("thread")),
    Program("template takes device, given constant", "out[0] = typed(w, 0);", "MSL 4", _TYPED),
    Program(
        "template takes device, given threadgroup",
        "threadgroup float s[4]; out[0] = typed(s, 0);",
        "MSL 4",
        _TYPED,
    ),
    Program("explicit template, given constant", "out[0] = typed<float>(w, 0);", "MSL 4", _TYPED),
    Program(
        "two helpers, neither fits",
        "float s[4]; out[0] = read(s, 0);",
        "MSL 4",
        _READ.format("device") + _READ.format("constant"),
    ),
    Program(
        "between helpers",
        "out[0] = outer(w);",
        "MSL 4",
        _READ.format("device") + "float outer(const constant float* p) { return read(p, 0); }\n",
    ),
    Program(
        "inside a template",
        "out[0] = outer(w);",
        "MSL 4",
        _READ.format("device") + "template <class P> float outer(P p) { return read(p, 0); }\n",
    ),
    Program(
        "in a kernel template", "const device T* p = w; out[0] = p[0];", "MSL 4", template=(("T", "float"),)
    ),
    Program(
        "member of a struct",
        "view v; v.p = w; out[0] = v.p[0];",
        "MSL 4",
        "struct view { const device float* p; };\n",
    ),
    # ---- where variables may be
    Program(
        "constexpr array at program scope", "out[0] = t[0];", "MSL 4.2", "constexpr float t[2] = {1, 2};\n"
    ),
    Program("const array at program scope", "out[0] = t[0];", "MSL 4.2", "const float t[2] = {1, 2};\n"),
    Program("constexpr number at program scope", "out[0] = c;", "MSL 4.2", "constexpr float c = 2.0f;\n"),
    Program("static constexpr at program scope", "out[0] = c;", "MSL 4.2", "static constexpr int c = 2;\n"),
    Program("mutable global", "t[0] += 1; out[0] = t[0];", "MSL 4.2", "float t[2];\n"),
    Program("in a namespace", "out[0] = n::c;", "MSL 4.2", "namespace n { constexpr float c = 1; }\n"),
    Program(
        "static data member", "out[0] = S::c;", "MSL 4.2", "struct S { static constexpr float c = 1; };\n"
    ),
    Program("static local", "static int n = 0; out[0] = n;", "MSL 5.3"),
    Program(
        "static local of a helper",
        "out[0] = f();",
        "MSL 5.3",
        "float f() { static int n = 0; return ++n; }\n",
    ),
    Program("constant local", "constant float t[2] = {1, 2}; out[0] = t[0];", "MSL 4.3"),
    Program("device local", "device float v = 1; out[0] = v;", "MSL 4.3"),
    Program(
        "threadgroup in a helper",
        "out[0] = f(1);",
        "MSL 4.4",
        "float f(float v) {\n  threadgroup float s[2];\n  s[0] = v;\n  return s[0];\n}\n",
    ),
    Program(
        "array of a size from memory",
        "int n = x_shape[0]; float v[n]; v[0] = 1; out[0] = v[0];",
        "C++17 [dcl.array]",
    ),
    Program(
        "array of a size from a parameter",
        "",
        "C++17 [dcl.array]",
        "float f(int n) { float v[n]; return v[0]; }\n",
    ),
    # ---- names
    Program("named half", "int half = 1; out[0] = half;", "MSL 2.1"),
    Program("named bfloat", "int bfloat = 1; out[0] = bfloat;", "MSL 2.1"),
    Program("named device", "int device = 1; out[0] = device;", "MSL 4.1"),
    Program("output declared again", "float out[2] = {1, 2}; float v = out[0];", "C++17 [basic.scope.block]"),
    Program("input declared again", "float x = 3; out[0] = x;", "C++17 [basic.scope.block]"),
    Program(
        "attribute declared again",
        I + "uint3 thread_position_in_grid = uint3(0);",
        "C++17 [basic.scope.block]",
    ),
    Program("local declared twice", "float a = 1; int a = 2; out[0] = a;", "C++17 [basic.scope.block]"),
    # ---- atomics
    *(
        Program(f"atomic {kind}", _rmw("fetch_add", kind), "MSL 2.6")
        for kind in ("char", "uchar", "short", "ushort", "half", "bfloat", "long")
    ),
    *(
        Program(
            f"atomic output of {dtype}",
            "atomic_fetch_add_explicit(&out[0], 1, " + R + ");",
            "MSL 6.15.4.6" if dtype == "uint64" else "MSL 2.6",
            "",
            dtype,
            True,
        )
        for dtype in ("int8", "uint8", "int16", "uint16", "int64", "uint64", "float16", "bfloat16")
    ),
    Program("float maximum", _rmw("fetch_max", "float"), "MSL 6.15.4.5"),
    Program("float minimum", _rmw("fetch_min", "float"), "MSL 6.15.4.5"),
    Program("bits of a float", _rmw("fetch_or", "float"), "MSL 6.15.4.5"),
    Program("ulong sum", _rmw("fetch_add", "ulong"), "MSL 6.15.4.5"),
    Program("ulong fetch_max", _rmw("fetch_max", "ulong"), "MSL 6.15.4.5"),
    Program("ulong store", _rmw("store", "ulong"), "MSL 6.15.4.1"),
    Program("bool sum", _rmw("fetch_add", "bool"), "MSL 6.15.4.5"),
    Program("threadgroup float sum", _rmw("fetch_add", "float", "threadgroup"), "MSL 6.15.4"),
    Program("acq_rel", _rmw("fetch_add", "uint", order="memory_order_acq_rel"), "MSL 6.15.1"),
    Program("acquire", "atomic_load_explicit((device atomic_uint*)out, memory_order_acquire);", "MSL 6.15.1"),
    Program("seq_cst", _rmw("fetch_add", "int", order="memory_order_seq_cst"), "MSL 6.15.1"),
    # ---- simdgroups
    Program("64-bit simd_sum", "out[0] = simd_sum(1l);", "MSL 6.9.2"),
    Program("64-bit simd_max", "ulong v = 1; out[0] = simd_max(v);", "MSL 6.9.2"),
    # ---- implicit conversions
    Program("int4 to float4", "int4 v = int4(1); float4 f = v; out[0] = f.x;", "MSL 2.22"),
    Program("int4 to uint4", "int4 v = int4(1); uint4 u = v; out[0] = u.x;", "MSL 2.22"),
    Program("float4 to half4", "float4 f = float4(1); half4 h = f; out[0] = h.x;", "MSL 2.22"),
    Program("half4 to float4", "half4 h = half4(1); float4 f = h; out[0] = f.x;", "MSL 2.22"),
    Program("half4 assigned to float4", "float4 f; f = half4(1); out[0] = f.x;", "MSL 2.22"),
    Program("float2 to float4", "float2 a = float2(1); float4 f = a; out[0] = f.x;", "MSL 2.22"),
    Program("a comparison to float4", "float4 f = float4(1) > float4(0); out[0] = f.x;", "MSL 2.22"),
    Program("bool4 to uint4", "bool4 b = true; uint4 u = b; out[0] = u.x;", "MSL 2.22"),
    Program("vector to scalar", "float4 a = float4(1); float f = a; out[0] = f;", "MSL 2.22"),
    Program("vector assigned to an element", "out[0] = float4(1);", "MSL 2.22"),
    Program(
        "vector argument", "out[0] = first(int4(1));", "MSL 2.22", "float first(float4 v) { return v.x; }\n"
    ),
    Program(
        "vector argument of no overload",
        "out[0] = first(int4(1));",
        "MSL 2.22",
        "float first(float4 v) { return v.x; }\nfloat first(half4 v) { return v.x; }\n",
    ),
    Program(
        "vector result", "out[0] = made(1).x;", "MSL 2.22", "float4 made(int n) { int4 v = n; return v; }\n"
    ),
    Program("float4 and int4 added", "float4 a = float4(1) + int4(1); out[0] = a.x;", "MSL 3.1"),
    Program("half4 added to float4", "float4 a = 1; half4 b = 1; a += b; out[0] = a.x;", "MSL 3.1"),
    Program("float4 and float2 added", "float4 a = float4(1) + float2(1); out[0] = a.x;", "MSL 3.1"),
    Program("swizzle of another length", "float4 a = 1; a.xy = float4(2); out[0] = a.x;", "MSL 2.22"),
    Program("uint4 times float4", "auto f = uint4(1) * float4(2); out[0] = f.x;", "MSL 3.1"),
    Program("vector as a condition", "float4 f = float4(1); if (f) out[0] = 1;", "MSL 2.22"),
    Program("vector in a loop's condition", "int2 i = 3; while (i) i -= 1; out[0] = i.x;", "MSL 2.22"),
    Program(
        "vector in a template",
        "out[0] = copied<half2>(float2(1)).x;",
        "MSL 2.22",
        "template <class T> T copied(float2 v) { T t = v; return t; }\n",
    ),
    Program("bfloat to half", "bfloat b = bfloat(1.0f); half h = b; out[0] = h;", "MSL 2.22"),
    Program("half to bfloat", "half h = 1.0h; bfloat b = h; out[0] = b;", "MSL 2.22"),
    Program(
        "bfloat argument for half", "out[0] = f(bfloat(1.0f));", "MSL 2.22", "half f(half h) { return h; }\n"
    ),
    Program("float to bfloat", "bfloat b = x[0]; out[0] = b;", "github.com/tracel-ai/cubecl/issues/1522"),
    Program("float assigned to bfloat", "bfloat b; b = exp(x[0]); out[0] = b;", "MSL 2.22"),
    Program(
        "float argument for bfloat", "out[0] = f(x[0]);", "MSL 2.22", "float f(bfloat b) { return b; }\n"
    ),
    Program("float returned as bfloat", "out[0] = f(x[0]);", "MSL 2.22", "bfloat f(float v) { return v; }\n"),
    Program("bfloat times float to bfloat", "bfloat b = bfloat(1); b = b * x[0]; out[0] = b;", "MSL 2.22"),
    Program(
        "float to a template's bfloat", "T b = x[0]; out[0] = b;", "MSL 2.22", template=(("T", "bfloat16_t"),)
    ),
    # ---- arguments of library functions
    Program("maximum of two types", "out[0] = max(float4(1), int4(2)).x;", "MSL 2.22"),
    Program("maximum of two lengths", "out[0] = fast::max(float4(1), float2(2)).x;", "MSL 2.22"),
    Program("product of two types", "out[0] = dot(float4(1), half4(1));", "MSL 2.22"),
    Program("fma of two types", "out[0] = fma(float4(1), float4(2), half4(3)).x;", "MSL 2.22"),
    Program("mix of two types", "out[0] = mix(float4(1), float4(2), half4(0.5h)).x;", "MSL 2.22"),
    Program("clamp of two lengths", "out[0] = clamp(float4(1), float2(0), 3.0f).x;", "MSL 2.22"),
    Program("selection of two types", "out[0] = select(float4(1), half4(2), bool4(true)).x;", "MSL 2.22"),
    Program("selection by floats", "float4 v = 1; out[0] = select(v, v, v).x;", "MSL 2.22"),
    Program("exp of integers", "out[0] = exp(int4(1)).x;", "MSL 2.22"),
    Program("any of floats", "out[0] = any(float4(1));", "MSL 2.22"),
    Program("all of integers", "out[0] = all(uint2(1));", "MSL 2.22"),
    Program("difference of two types", "out[0] = absdiff(uint4(1), int4(2)).x;", "MSL 2.22"),
    Program("a vector as a lane", "out[0] = simd_shuffle(x[0], ushort2(1));", "MSL 2.22"),
    Program(
        "filling of another type", "out[0] = simd_shuffle_and_fill_up(float2(1), half2(1), 1).x;", "MSL 2.22"
    ),
    Program(
        "a vector as an atomic's value",
        f"atomic_store_explicit((device atomic_int*)out, int2(1), {R});",
        "MSL 2.22",
    ),
    Program(
        "elements of a matrix of another type",
        "simdgroup_float8x8 m; m.thread_elements() = half2(1); simdgroup_store(m, out, 8);",
        "MSL 2.22",
    ),
    Program(
        "result of a template that deduces",
        "half4 h = twice(float4(1)); out[0] = h.x;",
        "MSL 2.22",
        "template <class T> vec<T, 4> twice(vec<T, 4> v) { return v * 2; }\n",
    ),
    Program(
        "argument of a template that deduces",
        "out[0] = sum<float>(half4(1));",
        "MSL 2.22",
        "template <class T> T sum(vec<T, 4> v) { return v.x + v.y; }\n",
    ),
    Program("power of bfloat and float", "bfloat b = pow(bfloat(x[0]), x[1]); out[0] = b;", "MSL 2.22"),
    Program("exp to a scalar", "out[0] = exp(float4(1));", "MSL 2.22"),
    # ---- arguments of overloads that differ
    Program(
        "vector for a method",
        "S s; out[0] = s.f(int4(1));",
        "MSL 2.22",
        "struct S { float f(float4 v) { return v.x; } float f(half4 v) { return v.x; } };\n",
    ),
    Program(
        "vector for a constructor",
        "S s(int4(1)); out[0] = s.v;",
        "MSL 2.22",
        "struct S { float v; S(float4 f) : v(f.x) {} S(half4 h) : v(h.x) {} };\n",
    ),
    Program(
        "vector for a constructor of a template",
        "auto s = S<float>(int4(1)); out[0] = s.v;",
        "MSL 2.22",
        "template <class T> struct S { T v; S(float4 f) : v(f.x) {} S(half4 h) : v(h.x) {} };\n",
    ),
    Program("vector for a lambda", "auto f = [](float4 v) { return v.x; }; out[0] = f(int4(1));", "MSL 2.22"),
    Program(
        "vector for a functor",
        "first f; out[0] = f(int4(1));",
        "MSL 2.22",
        "struct first { float operator()(float4 v) const { return v.x; } };\n",
    ),
    Program(
        "overloads of numbers and vectors",
        "out[0] = f(float3(1));",
        "MSL 2.22",
        "float f(float v) { return v; }\nfloat f(float2 v) { return v.x; }\nfloat f(float4 v) { return v.x; }\n",
    ),
    Program(
        "constructor takes device, given constant",
        "view v(w); out[0] = v.p[0];",
        "MSL 4",
        "struct view { const device float* p; view(const device float* q) : p(q) {} };\n",
    ),
    Program(
        "methods by address space, neither fits",
        "S s; out[0] = s.f(w);",
        "MSL 4",
        "struct S {\n  float f(const device float* p) { return *p; }\n"
        "  float f(const threadgroup float* p) { return *p; }\n};\n",
    ),
    # ---- bit-fields
    Program(
        "vector to a bit-field",
        "S s; s.a = float4(1); out[0] = s.a;",
        "MSL 2.22",
        "struct S { uint a : 4; };\n",
    ),
    Program(
        "bit-fields from a vector",
        "S s = {uint2(1)}; out[0] = s.a;",
        "MSL 2.22",
        "struct S { uint a : 4; };\n",
    ),
    Program(
        "bit-field to a bfloat's vector",
        "S s; s.a = 1; bfloat4 b = float4(s.a); out[0] = b.x;",
        "MSL 2.22",
        "struct S { uint a : 4; };\n",
    ),
    # ---- what auto stands for
    Program("auto int4 to float4", "auto v = int4(1); float4 f = v; out[0] = f.x;", "MSL 2.22"),
    Program("auto float to bfloat", "auto v = x[0]; bfloat b = v; out[0] = b;", "MSL 2.22"),
    Program("float to an auto bfloat", "auto b = bfloat(1); b = x[0]; out[0] = b;", "MSL 2.22"),
    Program("auto bfloat to half", "auto b = bfloat(1); half h = b; out[0] = h;", "MSL 2.22"),
    Program(
        "auto of a library function", "auto v = step(0.5f, float4(1)); half4 h = v; out[0] = h.x;", "MSL 2.22"
    ),
    Program(
        "auto of a comparison", "auto m = float4(1) < float4(2); float4 f = m; out[0] = f.x;", "MSL 2.22"
    ),
    Program("auto of a swizzle", "auto s = float4(1).xy; float4 f = s; out[0] = f.x;", "MSL 2.22"),
    Program("auto reference", "float4 a = 1; auto& r = a; r = int4(1); out[0] = r.x;", "MSL 2.22"),
    Program(
        "auto in a loop", "float4 t[2] = {1, 2}; for (auto v : t) { half4 h = v; out[0] = h.x; }", "MSL 2.22"
    ),
    Program(
        "auto result",
        "float4 f = g(1); out[0] = f.x;",
        "MSL 2.22",
        "auto g(int n) { int4 v = n; return v; }\n",
    ),
    Program(
        "structured binding",
        "pair p; auto [a, b] = p; a = b; out[0] = a.x;",
        "MSL 2.22",
        "struct pair { float4 a; half4 b; };\n",
    ),
    Program(
        "generic lambda",
        "auto f = [](auto a, auto b) { return a + b; }; out[0] = f(float4(1), int4(2)).x;",
        "MSL 3.1",
    ),
    Program("auto pointer without const", "auto p = x; device float* q = p; q[0] = 1;", "C++17 [conv.qual]"),
    Program("threadgroup auto pointer to an output", "threadgroup auto* p = &out[0]; *p = 1;", "MSL 4"),
    # ---- pointers
    Program("pointer to another type", "const device int* p = x; out[0] = p[0];", "C++17 [conv.ptr]"),
    Program("pointer assigned to another type", "device int* p; p = out; p[0] = 1;", "C++17 [conv.ptr]"),
    Program("pointer to a vector", "device float4* p = out; p[0] = 1;", "C++17 [conv.ptr]"),
    Program(
        "pointer argument of another type",
        "out[0] = f(x);",
        "C++17 [conv.ptr]",
        "float f(const device int* p) { return p[0]; }\n",
    ),
    Program("const dropped", "device float* p = x; p[0] = 1;", "C++17 [conv.qual]"),
    Program(
        "const dropped for an argument",
        "f(x);",
        "C++17 [conv.qual]",
        "void f(device float* p) { p[0] = 1; }\n",
    ),
]

ACCEPTED = [
    Program("device pointer to an input", "const device float* p = x + 1; out[0] = p[0];", "MSL 4.1"),
    Program("constant pointer to a small input", "const constant float* p = w; out[0] = p[0];", "MSL 4.2"),
    Program("auto pointer", "auto p = w; auto q = x; out[0] = p[0] + q[0];", "MSL 4"),
    Program("device pointer to an output", "device float* p = out; *p++ = 1;", "MSL 4.1"),
    Program("threadgroup pointer", "threadgroup float s[4]; threadgroup float* p = s; p[0] = 1;", "MSL 4.4"),
    Program("thread pointer", "float s[4]; thread float* p = s; p[0] = 1; out[0] = s[0];", "MSL 4.3"),
    Program("thread reference", "float s; thread float& r = s; r = 1; out[0] = s;", "MSL 4.3"),
    Program("constant reference", "const constant float& r = w[0]; out[0] = r + z;", "MSL 4.2"),
    Program("device reference", "device float& r = out[0]; r = x[0];", "MSL 4.1"),
    Program("constant shape", "const constant int* p = x_shape; out[0] = p[0] + x_ndim;", "MSL 4.2"),
    Program(
        "C cast to vectors", "device float4* p = (device float4*)out; p[0] = float4(1, 2, 3, 4);", "MSL 4.1"
    ),
    Program("reinterpret_cast", "out[0] = reinterpret_cast<const device uint*>(x)[0];", "MSL 4.1"),
    Program("cast of constant to constant", "out[0] = ((const constant float4*)w)[0].x;", "MSL 4.2"),
    Program("helper for device", "out[0] = read(x, 0);", "MSL 4", _READ.format("device")),
    Program("helper for constant", "out[0] = read(w, 0);", "MSL 4", _READ.format("constant")),
    Program(
        "helper for threadgroup",
        "threadgroup float s[4]; out[0] = read(s, 0);",
        "MSL 4",
        _READ.format("threadgroup"),
    ),
    Program("helper for thread", "float s[4] = {1}; out[0] = read(s, 0);", "MSL 4", _READ.format("thread")),
    Program(
        "a template for all",
        "float s[2] = {1}; out[0] = any_of(x, 0) + any_of(w, 0) + any_of(s, 0);",
        "MSL 4",
        _ANY,
    ),
    Program("a template for device", "out[0] = typed(x, 0);", "MSL 4", _TYPED),
    Program(
        "overloads by address space",
        "out[0] = read(x, 0) + read(w, 0);",
        "MSL 1.5.1",
        _READ.format("device") + _READ.format("constant"),
    ),
    Program(
        "struct of pointers",
        "view v = {x}; out[0] = v.p[0];",
        "MSL 4.1",
        "struct view { const device float* p; };\n",
    ),
    Program(
        "struct read from device memory",
        "pair p = ((const device pair*)x)[0]; out[0] = p.a;",
        "MSL 4.1",
        "struct pair { float a, b; };\n",
    ),
    Program(
        "member functions",
        "acc a; a.add(1); out[0] = a.total;",
        "MSL 4.3",
        "struct acc { float total = 0; void add(float v) { total += v; } };\n",
    ),
    Program("constant at program scope", "out[0] = t[0];", "MSL 4.2", "constant float t[2] = {1, 2};\n"),
    Program("constant constexpr", "out[0] = c;", "MSL 4.2", "constant constexpr float c = 1;\n"),
    Program("static constant", "out[0] = c;", "MSL 5.3", "static constant constexpr int c = 1;\n"),
    Program(
        "static constant member",
        "out[0] = S::c;",
        "MSL 4.2",
        "struct S { static constant constexpr int c = 1; };\n",
    ),
    Program(
        "constant in a namespace", "out[0] = n::c;", "MSL 4.2", "namespace n { constant float c = 1; }\n"
    ),
    Program("enumeration", "out[0] = two;", "MSL 1.5", "enum { one = 1, two = 2 };\n"),
    Program("constexpr local", "constexpr int n = 4; float v[n] = {1}; out[0] = v[0];", "MSL 4.3"),
    Program("const local as a size", "const int n = 4; float v[n] = {1}; out[0] = v[0];", "MSL 4.3"),
    Program(
        "template argument as a size", "float v[N] = {1}; out[0] = v[0];", "MSL 4.3", template=(("N", 4),)
    ),
    Program("computed size", "constexpr int n = ceildiv(10, 4); float v[n] = {1}; out[0] = v[0];", "MSL 4.3"),
    Program("local in an inner block", "{ float x = 3; out[0] = x; }", "C++17 [basic.scope.block]"),
    Program(
        "local of a loop",
        "for (int i = 0; i < 2; ++i) { float w = i; out[i] = w; }",
        "C++17 [basic.scope.block]",
    ),
    Program(
        "names of OpenCL",
        "float local = 1, global = 2, generic = 3, pipe = 4; out[0] = local + global;",
        "MSL 1.5",
    ),
    Program("vector constructors", "float4 v = float4(1, float2(2, 3), 4); out[0] = v.x;", "MSL 2.2.2"),
    Program(
        "vec template",
        "vec<T, 4> v = vec<T, 4>(1, 2, 3, 4); out[0] = v.w;",
        "MSL 2.2",
        template=(("T", "float"),),
    ),
    Program("swizzles", "float4 v = float4(1); v.xy = v.zw; out[0] = v.xyz.z;", "MSL 2.2.1"),
    Program("half arithmetic", "half h = 1.0h; h += half(x[0]); out[0] = h * 2;", "MSL 2.1"),
    Program("bfloat arithmetic", "bfloat b = bfloat(x[0]); out[0] = float(b) * 2;", "MSL 2.1"),
    Program(
        "implicit conversions", "int n = x[0]; uint u = n; float f = u; half h = f; out[0] = h;", "MSL 2.22"
    ),
    Program("as_type", "uint u = as_type<uint>(x[0]); out[0] = as_type<float>(u);", "MSL 2.21"),
    Program(
        "lambda",
        "auto f = [&](float v) { return v + z; }; out[0] = f(x[0]);",
        "MSL 1.5.4",
    ),
    Program(
        "mathematics",
        "out[0] = exp(x[0]) + metal::fast::log(2.0f) + precise::sqrt(max(x[1], 0.0f));",
        "MSL 6.5",
    ),
    Program(
        "simd functions", "out[0] = simd_sum(x[0]) + simd_shuffle_down(x[1], 2) + simd_max(3);", "MSL 6.9.2"
    ),
    Program("64-bit shuffle", "out[0] = simd_shuffle_down(1l, 2);", "mlx/backend/metal/kernels/utils.h"),
    Program(
        "barriers", "threadgroup_barrier(mem_flags::mem_threadgroup | mem_flags::mem_device);", "MSL 6.9.1"
    ),
    Program(
        "threadgroup array of 2 dimensions", "threadgroup float4 s[2][3]; s[1][2] = float4(0);", "MSL 4.4"
    ),
    # ---- names of the library's types, which are no words of the language
    Program("named uint", "int uint = 1; out[0] = (uint) - 2;", "C++17 [basic.scope.hiding]"),
    Program(
        "named float2", "float float2 = 1; float2 += 1; out[0] = float2 * 2;", "C++17 [basic.scope.hiding]"
    ),
    Program("named vec", "float vec[2] = {1, 2}; out[0] = vec[1];", "C++17 [basic.scope.hiding]"),
    Program(
        "parameter named uchar",
        "out[0] = f(2);",
        "C++17 [basic.scope.hiding]",
        "float f(int uchar) { return uchar; }\n",
    ),
    # ---- functions
    Program(
        "pointer to a function",
        "float (*f)(float) = twice; out[0] = f(x[0]);",
        "MSL 1.5.4",
        "float twice(float v) { return 2 * v; }\n",
    ),
    Program(
        "pointer to a function as an argument",
        "out[0] = apply(twice, x[0]);",
        "MSL 1.5.4",
        "float twice(float v) { return 2 * v; }\nfloat apply(float (*f)(float), float v) { return f(v); }\n",
    ),
    # ---- conversions
    Program(
        "scalars to vectors",
        "float4 v = x[0]; half2 h = x[1]; int2 i = 3; v = 2; out[0] = v.x + h.x + i.x;",
        "MSL 2.22",
    ),
    Program(
        "vector and scalar", "float4 v = float4(1) * x[0] + 2; v *= half(2.0h); out[0] = v.x;", "MSL 3.1"
    ),
    Program("int vector and scalar", "uint4 v = uint4(1) << 2; v += 1; v = v & 3u; out[0] = v.x;", "MSL 3.1"),
    Program(
        "vectors by constructors",
        "float4 f = float4(int4(1)); half4 h = half4(f); out[0] = h.x;",
        "MSL 2.2.2",
    ),
    Program("vectors of parts", "float2 a = 1; float4 f = float4(a, a.yx); out[0] = f.w;", "MSL 2.2.2"),
    Program("packed to plain", "packed_float3 p = float3(1); float3 q = p; out[0] = q.x;", "MSL 2.2.3"),
    Program("a condition of all", "if (all(float4(x[0]) > 0)) out[0] = 1;", "MSL 6.4"),
    Program("as_type of vectors", "int4 i = as_type<int4>(float4(1)); out[0] = i.x;", "MSL 2.21"),
    Program(
        "bool vectors", "bool4 b = float4(x[0]) > 0; b = isnan(float4(1)); out[0] = any(b) + b.x;", "MSL 3.1"
    ),
    Program(
        "a comparison in select", "float4 v = 1; v = select(v, float4(2), v > 1.0f); out[0] = v.x;", "MSL 6.4"
    ),
    Program(
        "geometry",
        "out[0] = dot(float4(1), float4(2)) + length(float2(1)) + distance(float3(1), float3(2));",
        "MSL 6.8",
    ),
    Program("difference of integers", "uint4 d = absdiff(int4(1), int4(2)); out[0] = d.x;", "MSL 6.3"),
    Program(
        "packed and plain", "packed_float4 p = float4(1); float4 v = float4(p); out[0] = v.x;", "MSL 2.2.3"
    ),
    Program(
        "bfloat to float", "bfloat b = bfloat(x[0]); float f = b; f += b * 2.0f; out[0] = f + b;", "MSL 2.22"
    ),
    Program(
        "float to bfloat, written",
        "bfloat b = bfloat(x[0]); b = static_cast<bfloat>(2.5f * x[1]); out[0] = b;",
        "MSL 2.21",
    ),
    Program("bfloat and bfloat", "bfloat b = bfloat(x[0]); b = b + b; b = b * b; out[0] = b;", "MSL 3.1"),
    Program("half and float", "half h = x[0]; h = h * x[1]; float f = h; out[0] = f;", "MSL 2.22"),
    Program("const added", "const device float* p = out; out[1] = p[0];", "C++17 [conv.qual]"),
    Program(
        "a vector argument",
        "out[0] = first(float4(int4(1))) + first(half4(2));",
        "MSL 1.5.1",
        "float first(float4 v) { return v.x; }\nfloat first(half4 v) { return v.x; }\n",
    ),
    Program(
        "numbers beside vectors",
        "float4 v = step(0.5f, float4(1)); v = mix(v, 1.0f, 0.5f); v = clamp(v, 0, 1); v = max(0.0f, v);"
        " v = fma(v, 2.0f, v); half4 h = max(half4(1), 0.0h); int4 n = min(int4(1), 3); out[0] = v.x + h.x + n.x;",
        "MSL 2.22",
    ),
    Program(
        "vectors of one type in the library",
        "float4 v = ldexp(float4(1), int4(1)); v = select(v, float4(0), isnan(v) || v > 1); int4 n = abs(int4(-1));"
        " v = precise::pow(v, v); n = clamp(n, int4(0), int4(9)); out[0] = dot(v, v) + any(v > 0) + n.x;",
        "MSL 6.5",
    ),
    Program(
        "sizes by library functions",
        "constexpr int n = max(3, 4); constexpr uint k = min(3u, 4u); float v[n + k + clamp(7, 0, 3)];"
        " v[0] = 1; out[0] = v[0];",
        "MSL 6.3",
    ),
    Program(
        "bfloat in the library",
        "bfloat b = pow(2, bfloat(x[0])); b = max(b, bfloat(2)); float f = max(b, x[1]); f = pow(b, x[2]); out[0] = f;",
        "MSL 2.22",
    ),
    Program(
        "filling of one type", "out[0] = simd_shuffle_and_fill_up(float2(1), float2(2), 1).x;", "MSL 6.9.2"
    ),
    Program(
        "simdgroup matrices",
        "simdgroup_float8x8 a, b(1.0f), c = make_filled_simdgroup_matrix<float, 8>(0.0f); simdgroup_half8x8 h;"
        " threadgroup half s[64]; simdgroup_load(h, s, 8); simdgroup_load(a, x, 8, ulong2(0, 1), true);"
        " simdgroup_multiply_accumulate(c, a, b, c); simdgroup_multiply(c, a, h); c.thread_elements()[0] *= 2;"
        " thread auto& e = c.thread_elements(); e = float2(1); simdgroup_store(c, out, 8);",
        "MSL 6.7",
    ),
    Program(
        "vectors that templates deduce",
        "out[0] = sum(float4(1)) + sum((const device float2*)x) + T(scalar<half4>::type(1));",
        "C++17 [temp.deduct.type]",
        "template <class T> T sum(vec<T, 4> v) { return v.x + v.y; }\n"
        "template <class T, int N> T sum(const device vec<T, N>* v) { return v[0][0]; }\n"
        "template <class T> struct scalar { typedef T type; };\n"
        "template <class T, int N> struct scalar<vec<T, N>> { typedef T type; };\n",
        template=(("T", "float"),),
    ),
    Program(
        "functions with the names of the library's",
        "out[0] = any(x[0]) + erf(x[0]) + max(x[0], x[1]) + select(x[0], x[1], true) + dot(float2(1), x[0]);",
        "C++17 [over.match.best]",
        "template <class T> T any(T v) { return v; }\ntemplate <class T> T erf(T v) { return v; }\n"
        "template <class T> T max(T a, T b) { return a; }\ntemplate <class T> T select(T a, T b, bool) { return a; }\n"
        "template <class A, class B> float dot(A a, B b) { return 1; }\n",
    ),
    Program(
        "overloads that fit",
        "S s; S t(float4(1)); auto g = [](float4 v) { return v.x; }; out[0] = s.f(half4(1)) + t.f(float4(2)) + g(1);",
        "MSL 1.5.1",
        "struct S {\n  float v = 0;\n  S() {}\n  S(float4 f) : v(f.x) {}\n  float f(float4 v) { return v.x; }\n"
        "  float f(half4 v) { return v.x; }\n};\n",
    ),
    Program(
        "bit-fields",
        "S s; s.a = 3; s.b = x[0]; s.b += s.a; float4 f = s.b; out[0] = f.x;",
        "C++17 [class.bit]",
        "struct S { uint a : 4; int b : 4; };\n",
    ),
    Program(
        "auto of all kinds",
        "auto v = float4(1); auto h = half4(v); auto& r = v; r = float4(h); auto m = v < r; bool4 b = m; auto f = v.x;"
        " float4 s = f; device auto* p = &out[0]; *p = s.x + any(b);",
        "MSL 2.22",
    ),
    *(
        Program(f"{kind} {operation}", _rmw(operation, kind), "MSL 6.15.4")
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
    Program("float sum", _rmw("fetch_add", "float"), "MSL 6.15.4.5"),
    Program("float difference", _rmw("fetch_sub", "float"), "MSL 6.15.4.5"),
    Program("float exchange", _rmw("exchange", "float"), "MSL 6.15.4.3"),
    Program("bool store", _rmw("store", "bool"), "MSL 6.15.4.1"),
    Program(
        "ulong maximum", "atomic_max_explicit((device atomic_ulong*)out, 1ul, " + R + ");", "MSL 6.15.4.6"
    ),
    Program(
        "ulong minimum", "atomic_min_explicit((device atomic_ulong*)out, 1ul, " + R + ");", "MSL 6.15.4.6"
    ),
    Program("threadgroup sum", _rmw("fetch_add", "uint", "threadgroup"), "MSL 6.15.4.5"),
    Program("threadgroup maximum", _rmw("fetch_max", "int", "threadgroup"), "MSL 6.15.4.5"),
    *(
        Program(
            f"atomic output of {dtype}",
            f"atomic_fetch_add_explicit(&out[0], 1, {R});",
            "MSL 2.6",
            "",
            dtype,
            True,
        )
        for dtype in ("int32", "uint32", "float32")
    ),
]
