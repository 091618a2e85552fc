"""Functions, templates, structs, control flow and macros."""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np

from language.row import Row
from language.simd import LANES

_code = partial(Row, "Functions, templates, structs")
_flow = partial(Row, "Control flow")
_macros = partial(Row, "Preprocessor")


CODE = (
    _code(
        "`inline`, `static`, `METAL_FUNC`",
        "out[i] = lang_a(p[i]) + lang_b(p[i]) + lang_c(p[i]);",
        lambda V: V.p * 6,
        "float32",
        header=(
            "inline float lang_a(float v) { return v; }\nstatic float lang_b(float v) { return 2 * v; "
            "}\nMETAL_FUNC float lang_c(float v) { return 3 * v; }"
        ),
    ),
    _code(
        "forward declarations, default arguments",
        "out[i] = lang_twice(p[i]) + lang_more(1);",
        lambda V: 2 * V.p + 4,
        "float32",
        header=(
            "float lang_twice(float v);\nfloat lang_more(float v, float w = 3) { return v + w; "
            "}\nfloat lang_twice(float v) { return 2 * v; }"
        ),
    ),
    _code(
        "overloads by type",
        (
            "out[i] = lang_kind(p[i]) + 10 * lang_kind(n[i]) + 100 * lang_kind(h[i]) + 1000 * "
            "lang_kind(float2(1));"
        ),
        lambda V: np.full(64, 4321),
        header=(
            "int lang_kind(float v) { return 1; } int lang_kind(int v) { return 2; "
            "} int lang_kind(half v) { return 3; } int lang_kind(float2 v) { return 4; }"
        ),
    ),
    _code(
        "overloads of library functions",
        "out[i] = exp(lang_dual(0, p[i])).second + exp(p[i] * 0);",
        lambda V: V.p + 1,
        "float32",
        header=(
            "struct lang_dual { float first, second; lang_dual(float a, float b) : first(a), second(b) "
            "{} };\nlang_dual exp(lang_dual v) { return lang_dual(metal::exp(v.first), v.second * "
            "metal::exp(v.first)); }"
        ),
    ),
    _code(
        "function templates",
        "out[i] = lang_fma<float, 3>(p[i]) + lang_fma<int, 2>(n[i] % 10);",
        lambda V: V.p * 3 + 1 + np.fmod(V.n, 10) * 2 + 1,
        "float32",
        header="template <typename T, int N> T lang_fma(T v) { return v * T(N) + T(1); }",
    ),
    _code(
        "struct templates with address-space pointers",
        "lang_loader<float, 4> o{p, i * 4 % 64}; float f[4]; o.load(f); out[i] = f[0] + f[3];",
        lambda V: V.p[LANES * 4 % 64] + V.p[(LANES * 4 + 3) % 64],
        "float32",
        header=(
            "template <typename T, int N> struct lang_loader { const device T* from; uint at; "
            "void load(thread T* to) const { for (int k = 0; k < N; ++k) to[k] = from[at + k]; } };"
        ),
    ),
    _code(
        "partial and full specialisations",
        (
            "out[i] = lang_size<float>::value + 10 * lang_size<vec<half, 3>>::value + 100 * "
            "lang_size<int>::value;"
        ),
        lambda V: np.full(64, 231),
        header=(
            "template <typename T> struct lang_size { static constexpr constant int value = 1; "
            "};\ntemplate <typename T, int N> struct lang_size<vec<T, N>> { static constexpr constant "
            "int value = N; };\ntemplate <> struct lang_size<int> { static constexpr constant int value "
            "= 2; };"
        ),
    ),
    _code(
        "variadic and template template parameters",
        "out[i] = lang_sum(1, 2, 3) + lang_apply<lang_plus>(4, n[i] % 5);",
        lambda V: 6 + 4 + np.fmod(V.n, 5),
        header=(
            "int lang_sum(int v) { return v; }\ntemplate <typename... R> int lang_sum(int v, R... rest) "
            "{ return v + lang_sum(rest...); }\ntemplate <typename T> struct lang_plus { T operator()(T "
            "a, T b) const { return a + b; } };\ntemplate <template <typename> class Op> int "
            "lang_apply(int a, int b) { return Op<int>()(a, b); }"
        ),
    ),
    _code(
        "member functions, constructors, static members",
        "lang_acc o(2); o.add(p[i]).add(1); out[i] = o.total * lang_acc::scale();",
        lambda V: (V.p + 3) * 4,
        "float32",
        header=(
            "struct lang_acc { float total; lang_acc(float v) : total(v) {} thread lang_acc& add(float "
            "v) { total += v; return *this; } static float scale() { return 4; } };"
        ),
    ),
    _code(
        "operator overloads",
        (
            "lang_pt o = lang_pt{p[i], 1} + lang_pt{g[i], 2}; o += lang_pt{1, 1}; "
            "out[i] = o.x_ * o.y_ + o[0] + (o == o);"
        ),
        lambda V: (V.p + V.g + 1) * 4 + 1,
        "float32",
        header=(
            "struct lang_pt { float x_, y_; thread lang_pt& operator+=(lang_pt b) { x_ += b.x_; "
            "y_ += b.y_; return *this; } float operator[](int k) const { return k; "
            "} };\nlang_pt operator+(lang_pt a, lang_pt b) { return lang_pt{a.x_ + b.x_, a.y_ + b.y_}; "
            "}\nbool operator==(lang_pt a, lang_pt b) { return a.x_ == b.x_; }"
        ),
    ),
    _code(
        "address-space qualified members",
        "lang_val o{p[i]}; out[i] = o.get();",
        lambda V: V.p,
        "float32",
        header=(
            "struct lang_val { float v; float get() const device { return v; "
            "} float get() const thread { return v; } float get() const threadgroup { return v; } };"
        ),
    ),
    _code(
        "namespaces, `using`, `typedef`, aliases",
        (
            "using F = lang_ns::real; typedef int lang_i; F o = lang_ns::twice(p[i]); lang_i f = 3; "
            "out[i] = o + f;"
        ),
        lambda V: 2 * V.p + 3,
        "float32",
        header=(
            "namespace lang_ns { using real = float; real twice(real v) { return 2 * v; "
            "} }\nusing namespace metal;"
        ),
    ),
    _code(
        "enums",
        "lang_mode o = lang_on; lang_level f = lang_level::high; out[i] = o + 10 * int(f);",
        lambda V: np.full(64, 1 + 70),
        header="enum lang_mode { lang_off, lang_on };\nenum class lang_level : uchar { low = 3, high = 7 };",
    ),
    _code(
        "`constant` tables",
        "out[i] = lang_table[i % 4] + lang_more_[1][i % 2] + lang_one;",
        lambda V: np.array([1, 2.5, 3, 4])[LANES % 4] + np.array([30, 40])[LANES % 2] + 100,
        "float32",
        header=(
            "constant float lang_table[4] = {1, 2.5, 3, 4};\nconstant constexpr float lang_more_[2][2] = "
            "{{10, 20}, {30, 40}};\nconstexpr constant int lang_one = 100;"
        ),
    ),
    _code(
        "half and vector tables",
        "out[i] = lang_h[i % 2] + lang_v[i % 2].y;",
        lambda V: np.array([0.5, 1.5])[LANES % 2] + np.array([2, 4])[LANES % 2],
        "float32",
        header=(
            "constant half lang_h[] = {0.5h, 1.5h};\nconstant float2 lang_v[2] = {float2(1, 2), "
            "float2(3, 4)};"
        ),
    ),
    _code(
        "pointers into `constant` memory as arguments",
        "out[i] = lang_at(lang_tab, i % 3);",
        lambda V: np.array([5, 6, 7])[LANES % 3],
        header="constant int lang_tab[3] = {5, 6, 7};\nint lang_at(constant int* t_, uint k) { return t_[k]; }",
    ),
    _code(
        "lambdas",
        (
            "auto o = [&](float v_) { return v_ * g[i]; }; auto f = [](int v_) { return v_ + 1; }; "
            "out[i] = o(p[i]) + f(2);"
        ),
        lambda V: V.p * V.g + 3,
        "float32",
    ),
    _code(
        "local arrays, structs, `auto`",
        (
            "struct lang_l { int a_; float b_[3]; }; lang_l o[2] = {{1, {2, 3, 4}}, {5, {p[i]}}}; "
            "auto f = p + i; auto& m_ = o[1].b_[2]; m_ = *f; out[i] = o[1].b_[0] + m_ + o[0].b_[1];"
        ),
        lambda V: 2 * V.p + 3,
        "float32",
    ),
    _code(
        "references and pointers of threads",
        "float o = 1, f = 2; lang_swap(o, f); thread float* m_ = &o; *m_ += 10; out[i] = o * 100 + f;",
        lambda V: np.full(64, 1201.0),
        "float32",
        header="void lang_swap(thread float& a, thread float& b) { float k = a; a = b; b = k; }",
    ),
    _code(
        "pointer arithmetic of arguments",
        "auto o = n + i; o -= i / 2; out[i] = *o / 2 + o[1] / 2 + (&o[1] - o);",
        lambda V: (lambda k: _half(V.n[k]) + _half(V.n[k + 1]) + 1)(LANES - LANES // 2),
    ),
    _code(
        "`static_assert`, type traits, `if constexpr`",
        (
            'static_assert(is_same_v<decltype(p[i] + 1), float>, "float"); '
            "out[i] = lang_trait<half>() + 10 * lang_trait<int>();"
        ),
        lambda V: np.full(64, 21),
        header=(
            "template <typename T> int lang_trait() { if constexpr (is_floating_point<T>::value) { "
            "return 1; } else { return 2; } }"
        ),
    ),
    _code(
        "attributes",
        "[[maybe_unused]] int o = 3; [[clang::loop_unroll]] out[i] = lang_attr(n[i]);".replace(
            "[[clang::loop_unroll]] ", ""
        ),
        lambda V: V.n,
        header=(
            "[[clang::noinline]] int lang_attr(int v [[maybe_unused]]) { return v; "
            "}\n__attribute__((always_inline)) int lang_attr2(int v) { return v; }"
        ),
    ),
    _code(
        "recursion through templates",
        "out[i] = lang_fact<5>::value;",
        lambda V: np.full(64, 120),
        header=(
            "template <int N> struct lang_fact { static constexpr constant int value = N * lang_fact<N - "
            "1>::value; };\ntemplate <> struct lang_fact<0> { static constexpr constant int value = 1; };"
        ),
    ),
    _code(
        "`union`, bit-fields",
        (
            "union { float f_; uint u_; } o; o.f_ = p[i]; struct { uint a_ : 3; uint b_ : 5; } f; "
            "f.a_ = u[i]; f.b_ = 7; out[i] = o.u_ ^ (f.a_ + f.b_);"
        ),
        lambda V: V.p.view("uint32") ^ ((V.u & 7) + 7),
        "uint32",
    ),
    _code(
        "`metal::` in front of anything",
        "out[i] = metal::max(metal::float2(p[i], 1).x, metal::fabs(g[i])) + metal::precise::sqrt(4.0f);",
        lambda V: np.maximum(V.p, np.abs(V.g)) + 2,
        "float32",
    ),
)


def _half(values: Any) -> Any:
    return np.trunc(values / 2).astype("int64")


FLOW = (
    _flow(
        "`if`, `else if`",
        "if (n[i] > 5) out[i] = 1; else if (n[i] < -5) out[i] = 2; else out[i] = 3;",
        lambda V: np.select([V.n > 5, V.n < -5], [1, 2], 3),
    ),
    _flow(
        "`for`, `break`, `continue`",
        (
            "int o = 0; for (int k_ = 0; k_ < 100; ++k_) { if (k_ % 3 == 0) continue; "
            "if (k_ > int(i)) break; o += k_; } out[i] = o;"
        ),
        lambda V: np.array([sum(k for k in range(n + 1) if k % 3) for n in LANES]),
    ),
    _flow(
        "`while`, `do`",
        (
            "int o = 0, f = i; while (f > 0) { o += f & 1; f >>= 1; } do { o += 100; } while (o < 300); "
            "out[i] = o;"
        ),
        lambda V: np.array([int(k).bit_count() + 300 for k in LANES]),
    ),
    _flow(
        "`switch` with fall through",
        (
            "int o = 0; switch (i % 5) { case 0: o += 1; case 1: o += 10; break; case 2: { int f = 7; "
            "o = f; break; } default: o = 3; } out[i] = o;"
        ),
        lambda V: np.array([11, 10, 7, 3, 3])[LANES % 5],
    ),
    _flow(
        "nested loops over local arrays",
        (
            "float o[4][4]; for (int k_ = 0; k_ < 4; ++k_) for (int y_ = 0; y_ < 4; "
            "++y_) o[k_][y_] = k_ * p[i] + y_; float f = 0; for (int k_ = 0; k_ < 4; "
            "++k_) f += o[k_][3 - k_]; out[i] = f;"
        ),
        lambda V: 6 * V.p + 6,
        "float32",
    ),
    _flow(
        "range-based `for`",
        "int o[3] = {1, 2, int(i)}; int f = 0; for (int k_ : o) f += k_; out[i] = f;",
        lambda V: LANES + 3,
    ),
    _flow(
        "`#pragma unroll`, `[[unroll]]`, `MLX_MTL_PRAGMA_UNROLL`",
        (
            "int o = 0;\n#pragma unroll\nfor (int k_ = 0; k_ < 4; "
            "++k_) o += k_;\n#pragma clang loop unroll(full)\nfor (int k_ = 0; k_ < 4; "
            "++k_) o += k_;\nMLX_MTL_PRAGMA_UNROLL\nfor (int k_ = 0; k_ < 4; ++k_) o += k_;\nout[i] = o;"
        ),
        lambda V: np.full(64, 18),
    ),
    _flow(
        "`return` from the kernel",
        "if (i > 10) return; out[i] = 5;",
        lambda V: np.where(LANES > 10, 3, 5),
        alone=True,
        init_value=3,
    ),
    _flow(
        "unused inputs and variables",
        "int o = 3; (void)o; out[i] = 1;",
        lambda V: np.ones(64, int),
        alone=True,
        inputs={"e": np.zeros(3, "float32")},
    ),
    _flow(
        "a loop that runs different times in each thread",
        "uint o = i, f = 0; while (o != 1 && o != 0) { o = o % 2 ? 3 * o + 1 : o / 2; ++f; } out[i] = f;",
        lambda V: np.array([_collatz(int(k)) for k in LANES]),
    ),
)


def _collatz(n: int) -> int:
    steps = 0
    while n > 1:
        n, steps = (3 * n + 1 if n % 2 else n // 2), steps + 1
    return steps


MACROS = (
    _macros(
        "object-like and function-like macros",
        "out[i] = LANG_SQUARE(n[i] % 10 + 1) + LANG_N;",
        lambda V: (np.fmod(V.n, 10) + 1) ** 2 + 5,
        header="#define LANG_N 5\n#define LANG_SQUARE(v) ((v) * (v))",
    ),
    _macros(
        "macros over several lines, pasting, stringizing",
        (
            "LANG_DECLARE(first); LANG_DECLARE(second); out[i] = var_first + var_second + "
            "sizeof(LANG_TEXT(ab));"
        ),
        lambda V: np.full(64, 2 + 3),
        header="#define LANG_DECLARE(name) \\\n  int var_##name = \\\n    1\n#define LANG_TEXT(v) #v",
    ),
    _macros(
        "`#if`, `#ifdef`, `#else`, `#elif`, `#undef`, `defined`",
        (
            "int o = 0;\n#if LANG_LEVEL > 2 && defined(LANG_LEVEL)\no += 1;\n#else\nthis is not "
            "C++\n#endif\n#ifdef LANG_NONE\n#error no\n#elif LANG_LEVEL == (1 << 2)\no += "
            "10;\n#endif\nout[i] = o;"
        ),
        lambda V: np.full(64, 11),
        header="#define LANG_LEVEL 4\n#define LANG_NONE 1\n#undef LANG_NONE",
    ),
    _macros(
        "`#include <metal_stdlib>`, `using namespace metal`",
        "out[i] = n[i];",
        lambda V: V.n,
        header="#include <metal_stdlib>\n#include <metal_math>\nusing namespace metal;",
    ),
    _macros(
        "address spaces as macros",
        (
            "LANG_TG float o[64]; LANG_DEV float* f = (LANG_DEV float*)out; o[i] = p[i]; "
            "threadgroup_barrier(mem_flags::mem_threadgroup); f[i] = o[63 - i];"
        ),
        lambda V: V.p[::-1],
        "float32",
        alone=True,
        header="#define LANG_TG threadgroup\n#define LANG_DEV device",
    ),
    _macros(
        "comments in odd places",
        "out[i] /* device */ = // threadgroup float s[3];\n  n[i] /* 1.0 */ ; /* simd_sum(1) */",
        lambda V: V.n,
    ),
)


ROWS = (*CODE, *FLOW, *MACROS)
