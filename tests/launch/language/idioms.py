"""Norms, rotary embeddings, convolutions and tiles, and the C++ that public kernels are written in."""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np

from language.groups import SYNC
from language.row import Row
from language.simd import LANES

_program = partial(Row, "Programs", alone=True)
_idiom = partial(Row, "Idioms", alone=True)

HALVES = (np.arange(256) % 17 - 8).astype("float16")
LEFT, RIGHT = ((np.arange(256) % k - k // 2).astype("float32") for k in (7, 5))


def sums(values: Any, function: Any = np.sum) -> Any:
    """Of each simdgroup's lanes, for all of them."""
    return np.repeat(function(values.reshape(2, 32), axis=1), 32)


def meetings(counts: Any) -> Any:
    """What ``simd_sum(1)`` adds up to in a loop that lane ``i`` runs ``counts[i]`` times."""
    groups = counts.reshape(2, 32)
    return np.array([sum(int((groups[i // 32] > k).sum()) for k in range(counts[i])) for i in range(64)])


def _normalised() -> Any:
    x = HALVES.astype("float64")
    x -= x.mean()
    return x / np.sqrt((x * x).mean() + 1e-5)


def _rotated(V: Any) -> Any:
    x, angle = LANES % 8, 6.0 * 2.0 ** (-(LANES % 8) / 8 * 2)
    first, second = V.p[2 * x].astype("float64"), V.p[2 * x + 1].astype("float64")
    turned = first * np.cos(angle) - second * np.sin(angle), first * np.sin(angle) + second * np.cos(angle)
    return turned[0] + 2 * turned[1]


def _convolved(V: Any) -> Any:
    image, weights = np.pad(V.p.reshape(8, 8), 1), V.g[:9].reshape(3, 3)
    return np.array([(image[y : y + 3, x : x + 3] * weights).sum() for y in range(8) for x in range(8)])


PROGRAMS = (
    _program(
        "layer norm of vectors of four: a threadgroup sum in the header",
        """
        threadgroup float local_sums[32];
        float sum[1] = {0}, normalizer[1];
        float4 f = float4(*reinterpret_cast<const device vec<T, 4>*>(a + i * 4));
        lang_initialize<1>(local_sums, thread_index_in_simdgroup, simdgroup_index_in_threadgroup);
        sum[0] = f.x + f.y + f.z + f.w;
        lang_threadgroup_sum<1>(sum, local_sums, thread_index_in_simdgroup, simdgroup_index_in_threadgroup);
        f -= sum[0] / 256;
        normalizer[0] = dot(f, f);
        lang_threadgroup_sum(normalizer, local_sums, thread_index_in_simdgroup, simdgroup_index_in_threadgroup);
        f *= metal::precise::rsqrt(normalizer[0] / 256 + 1e-5f);
        device vec<T, 4>& w_ = reinterpret_cast<device vec<T, 4>*>(out)[i];
        w_ = vec<T, 4>(f);
        """,
        lambda V: _normalised(),
        "float16",
        header="""
template <int N = 1> inline void lang_initialize(threadgroup float* xs, uint simd_lane_id, uint simd_group_id) {
  if (simd_group_id == 0) { for (int i = 0; i < N; i++) xs[N * simd_lane_id + i] = 0; }
  threadgroup_barrier(mem_flags::mem_threadgroup);
}
template <int N = 1>
inline void lang_threadgroup_sum(thread float* x, threadgroup float* xs, uint simd_lane_id, uint simd_group_id) {
  for (int i = 0; i < N; i++) x[i] = simd_sum(x[i]);
  threadgroup_barrier(mem_flags::mem_threadgroup);
  if (simd_lane_id == 0) { for (int i = 0; i < N; i++) xs[N * simd_group_id + i] = x[i]; }
  threadgroup_barrier(mem_flags::mem_threadgroup);
  for (int i = 0; i < N; i++) { x[i] = xs[N * simd_lane_id + i]; x[i] = simd_sum(x[i]); }
}
""",
        inputs={"a": HALVES},
        template=(("T", "float16"),),
        ulp=1,
    ),
    _program(
        "rotary embedding: `if constexpr` on template flags, `fast::`",
        "float2 f; lang_rope<float, B, true>(p, f, 3, 2.0f, uint2(i % 8, i / 8), 8); out[i] = f.x + 2 * f.y;",
        lambda V: _rotated(V),
        "float32",
        header="""
template <typename T, bool traditional, bool forward>
void lang_rope(
    const device T* in, thread float2& result, const int offset, const float scale, uint2 pos, uint half_dim) {
  float L = scale * static_cast<float>(offset);
  float theta = L * metal::exp2(-static_cast<float>(pos.x) / static_cast<float>(half_dim) * 2.0f);
  float costheta = metal::fast::cos(theta), sintheta = metal::fast::sin(theta);
  uint index_1 = traditional ? 2 * pos.x : pos.x, index_2 = traditional ? index_1 + 1 : index_1 + half_dim;
  float x1 = static_cast<float>(in[index_1]), x2 = static_cast<float>(in[index_2]);
  if constexpr (forward) {
    result = float2(x1 * costheta - x2 * sintheta, x1 * sintheta + x2 * costheta);
  } else {
    result = {x2 * sintheta + x1 * costheta, x2 * costheta - x1 * sintheta};
  }
}
""",
        template=(("B", True),),
        ulp=64,
        atol=2e-5,
    ),
    _program(
        "convolution: parameters in a `constant` struct of const members",
        "out[i] = lang_conv<2>(p, g, &lang_params, int2(i % 8, i / 8));",
        lambda V: _convolved(V),
        "float32",
        header="""
template <int NDIM> struct LangConv {
  const int N;
  const int iS[NDIM], wS[NDIM], pad[NDIM];
  const size_t in_strides[NDIM];
  const bool flip;
};
constant LangConv<2> lang_params = {1, {8, 8}, {3, 3}, {1, 1}, {8, 1}, false};
template <int NDIM>
float lang_conv(const device float* in, const device float* wt, const constant LangConv<NDIM>* params, int2 at) {
  float acc = 0;
  for (short h = 0; h < params->wS[0]; ++h) {
    for (short w = 0; w < params->wS[1]; ++w) {
      int y = at.y + h - params->pad[0], x = at.x + w - params->pad[1];
      if (y < 0 || y >= params->iS[0] || x < 0 || x >= params->iS[1]) continue;
      acc += in[y * params->in_strides[0] + x * params->in_strides[1]] * wt[(params->flip ? 2 - h : h) * 3 + w];
    }
  }
  return acc;
}
""",
    ),
    _program(
        "product of matrices in tiles of threadgroup memory",
        f"""
        threadgroup float A[8][8 + 1], B[8][8 + 1];
        uint tx = thread_position_in_threadgroup.x, ty = thread_position_in_threadgroup.y;
        uint row = threadgroup_position_in_grid.y * 8 + ty, col = threadgroup_position_in_grid.x * 8 + tx;
        float acc = 0;
        for (uint tile = 0; tile < 2; ++tile) {{
          A[ty][tx] = left[row * 16 + tile * 8 + tx];
          B[ty][tx] = right[(tile * 8 + ty) * 16 + col];
          {SYNC}
          #pragma unroll
          for (uint e_ = 0; e_ < 8; ++e_) acc = fma(A[ty][e_], B[e_][tx], acc);
          {SYNC}
        }}
        out[row * 16 + col] = acc;
        """,
        lambda V: (LEFT.reshape(16, 16) @ RIGHT.reshape(16, 16)).ravel(),
        "float32",
        inputs={"left": LEFT, "right": RIGHT},
        grid=(16, 16, 1),
        threadgroup=(8, 8, 1),
    ),
    _program(
        "transposition through a padded tile",
        f"""
        threadgroup float tile[8][8 + 1];
        uint2 at = thread_position_in_threadgroup.xy, group = threadgroup_position_in_grid.xy;
        uint2 from = group * 8 + at, to = group.yx * 8 + at;
        tile[at.y][at.x] = a[from.y * 16 + from.x];
        {SYNC}
        out[to.y * 16 + to.x] = tile[at.x][at.y];
        """,
        lambda V: np.arange(256).reshape(16, 16).T.ravel(),
        "float32",
        inputs={"a": np.arange(256, dtype="float32")},
        grid=(16, 16, 1),
        threadgroup=(8, 8, 1),
    ),
    _program(
        "a double buffer in threadgroup memory",
        f"""
        threadgroup half s_[2][8][8 + 1];
        uint now = 0;
        half total = 0;
        s_[0][i / 8][i % 8] = half(p[i]);
        for (int k_ = 0; k_ < 4; ++k_) {{
          {SYNC}
          total += s_[now][i % 8][i / 8];
          s_[now ^ 1][i / 8][i % 8] = s_[now][(i / 8 + 1) % 8][i % 8];
          now ^= 1;
        }}
        out[i] = total;
        """,
        lambda V: sum(np.roll(V.p.reshape(8, 8).astype("float16"), -k, 0).T for k in range(4)).ravel(),
        "float16",
    ),
    _program(
        "histogram of bytes: threads of a group share 256 counters",
        f"""
        threadgroup atomic<uint> bins[256];
        for (uint k_ = i; k_ < 256; k_ += 64) atomic_store_explicit(bins + k_, 0, memory_order_relaxed);
        {SYNC}
        atomic_fetch_add_explicit(&bins[a[i]], 1, memory_order_relaxed);
        {SYNC}
        for (uint k_ = i; k_ < 256; k_ += 64) out[k_] = atomic_load_explicit(&bins[k_], memory_order_relaxed);
        """,
        lambda V: np.bincount(V.a, minlength=256),
        "uint32",
    ),
    _program(
        "a maximum of floats by `atomic_fetch_max` on their ordered bits",
        f"""
        threadgroup atomic_uint best;
        if (i == 0) atomic_store_explicit(&best, 0u, memory_order_relaxed);
        {SYNC}
        uint key = as_type<uint>(p[i]);
        key = (key >> 31) ? ~key : key | 0x80000000u;
        atomic_fetch_max_explicit(&best, key, memory_order_relaxed);
        {SYNC}
        key = atomic_load_explicit(&best, memory_order_relaxed);
        out[i] = as_type<float>((key >> 31) ? key & 0x7fffffffu : ~key);
        """,
        lambda V: np.full(64, V.p.max()),
        "float32",
    ),
)

COUNT_LOOP = "uint o = 0; for (uint k_ = 0; k_ < i % 4; ++k_) o += {}; out[i] = o;"

IDIOMS = (
    _idiom(
        "`##` makes the name of a simd operation",
        "out[i] = LANG_ALL(sum, p[i]) + LANG_ALL(max, g[i]);",
        lambda V: sums(V.p) + sums(V.g, np.max),
        "float32",
        header="#define LANG_ALL(op, v_) simd_##op(v_)",
    ),
    _idiom(
        "`##` makes the name of a simd operation, in a loop of different length",
        COUNT_LOOP.format("LANG_ALL(sum, 1u)"),
        lambda V: meetings(LANES % 4),
        "uint32",
        header="#define LANG_ALL(op, v_) simd_##op(v_)",
    ),
    _idiom(
        "a macro that declares functions with simd operations",
        COUNT_LOOP.format("lang_all_sum(1u)"),
        lambda V: meetings(LANES % 4),
        "uint32",
        header="#define LANG_DEFINE(op) uint lang_all_##op(uint v_) { return simd_##op(v_); }\nLANG_DEFINE(sum)",
    ),
    _idiom(
        "`##` makes the name of a barrier",
        "threadgroup float s_[64]; s_[i] = p[i]; LANG_MEET(barrier, threadgroup); out[i] = s_[63 - i];",
        lambda V: V.p[::-1],
        "float32",
        header="#define LANG_MEET(what, memory) threadgroup_##what(mem_flags::mem_##memory)",
    ),
    _idiom(
        "a lambda that holds barriers",
        "threadgroup float s_[64]; auto swap_ = [&](float v_, uint k_) { s_[i] = v_; "
        f"{SYNC} float r_ = s_[k_]; {SYNC} return r_; }}; float o = swap_(p[i], 63 - i); out[i] = swap_(o, i ^ 1);",
        lambda V: V.p[63 - (LANES ^ 1)],
        "float32",
    ),
    _idiom(
        "a lambda within a lambda, with a simd operation, in a loop of different length",
        "auto f = [&](uint v_) { auto f_ = [](uint w_) { return simd_sum(w_); }; return f_(v_); }; "
        + COUNT_LOOP.format("f(1u)"),
        lambda V: meetings(LANES % 4),
        "uint32",
    ),
    _idiom(
        "lambdas as arguments, generic lambdas",
        "auto f = [&](auto v_, int k_) { return v_ + decltype(v_)(k_); }; out[i] = f(p[i], 2) + f(n[i] % 9, 3) + "
        "lang_apply(g[i], [i](float v_) { return v_ * i; });",
        lambda V: V.p + 2 + np.fmod(V.n, 9) + 3 + V.g * LANES,
        "float32",
        header="template <typename F> float lang_apply(float v, F f) { return f(v); }",
    ),
    _idiom(
        "barriers and simd operations in constructors and operators",
        "threadgroup float s_[64]; lang_turned o(s_, i, p[i]); out[i] = (o + o).v;",
        lambda V: 2 * sums(V.p[::-1].copy(), np.max),
        "float32",
        header="struct lang_turned {\n  float v;\n  lang_turned(float x) : v(simd_max(x)) {}\n"
        "  lang_turned(threadgroup float* s, uint i, float x) {\n    s[i] = x;\n"
        "    threadgroup_barrier(mem_flags::mem_threadgroup);\n    v = s[63 - i];\n  }\n};\n"
        "lang_turned operator+(lang_turned a, lang_turned b) { return lang_turned(a.v + b.v); }",
    ),
    _idiom(
        "a functor with a simd operation in branches, and behind them",
        "lang_all o; uint f = 0; if (i % 4 == 0) f = o(1u); else f = 100 * o(1u); out[i] = f + 10000 * o(1u);",
        lambda V: np.where(LANES % 4, 2400, 8) + 320000,
        "uint32",
        header="struct lang_all { uint operator()(uint v_) const { return simd_sum(v_); } };",
    ),
    _idiom(
        "`return` out of a loop in a function with simd operations",
        "out[i] = lang_first(i);",
        lambda V: np.where(LANES % 5 < 4, LANES % 5 * 100, sums(LANES % 5 == 4)),
        header="int lang_first(uint i) { for (uint k = 0; k < 4; ++k) { if (k == i % 5) return k * 100; simd_sum(1); } "
        "return simd_sum(1); }",
    ),
    _idiom(
        "arrays of threadgroup memory as arguments: references and pointers to rows",
        f"threadgroup float o[8][9]; o[i / 8][i % 8] = p[i]; {SYNC} "
        "out[i] = lang_a(o, i) + lang_b(o, i) + lang_c(o, i);",
        lambda V: 3 * V.p.reshape(8, 8).T.ravel(),
        "float32",
        header="float lang_a(threadgroup float (&t)[8][9], uint i) { return t[i % 8][i / 8]; }\n"
        "float lang_b(threadgroup float (*t)[9], uint i) { return t[i % 8][i / 8]; }\n"
        "float lang_c(const threadgroup float t[][9], uint i) { return t[i % 8][i / 8]; }",
    ),
    _idiom(
        "aligned structs as 16-byte loads into threadgroup memory",
        f"threadgroup float s_[64]; lang_load<float, 4>(s_, p, i); {SYNC} out[i] = s_[63 - i];",
        lambda V: V.p[::-1],
        "float32",
        header="template <typename T, short N> struct lang_loader { struct alignas(N * sizeof(T)) ReadVector { "
        "uint8_t v[sizeof(T) * N]; }; };\n"
        "template <typename T, short N> void lang_load(threadgroup T* dst, const device T* src, uint i) {\n"
        "  typedef typename lang_loader<T, N>::ReadVector R;\n"
        "  if (i < 16) *((threadgroup R*)(&dst[i * N])) = *((const device R*)(&src[i * N]));\n}",
    ),
    _idiom(
        "one piece of threadgroup memory as several types",
        f"threadgroup float raw[128]; threadgroup half* o = (threadgroup half*)raw; threadgroup int* f = "
        f"(threadgroup int*)(raw + 64); o[i] = half(p[i]); f[i] = n[i]; {SYNC} "
        "out[i] = float(o[63 - i]) + f[i ^ 1] % 10;",
        lambda V: V.p[::-1] + np.fmod(V.n[LANES ^ 1], 10),
        "float32",
    ),
    _idiom(
        "`volatile` threadgroup memory",
        f"volatile threadgroup float s_[64]; threadgroup volatile int o; s_[i] = p[i]; if (i == 0) o = 3; {SYNC} "
        "out[i] = s_[63 - i] + o;",
        lambda V: V.p[::-1] + 3,
        "float32",
    ),
    _idiom(
        "designated initialisers",
        "lang_pair o = {.a_ = 1, .b_ = p[i]}; out[i] = o.a_ + o.b_;",
        lambda V: V.p + 1,
        "float32",
        header="struct lang_pair { int a_; float b_; };",
    ),
    _idiom(
        "`metal` under another name, `::metal::`, `using metal::…`",
        "using metal::simd_sum; out[i] = mtl::max(p[i], g[i]) + ::metal::simd_max(1.0f) + simd_sum(1.0f);",
        lambda V: np.maximum(V.p, V.g) + 33,
        "float32",
        header="namespace mtl = metal;",
    ),
    _idiom(
        "variables called like functions of the library",
        "float max = -INFINITY, exp = 2, sum = 1, abs = 3; for (int k_ = 0; k_ < 4; ++k_) "
        "max = metal::max(max, p[(i + k_) % 64]); out[i] = max + exp + sum + abs;",
        lambda V: np.max([np.roll(V.p, -k) for k in range(4)], 0) + 6,
        "float32",
    ),
    _idiom(
        "lines that end in carriage returns",
        "float o = p[i];\r\nLANG_TWICE(o);\r\n// a comment \\\r\nthat goes on\r\nout[i] = o;\r\n",
        lambda V: V.p * 2,
        "float32",
        header="#define LANG_TWICE(v_) \\\r\n  v_ = v_ * 2; \\\r\n  v_ = v_\r\n",
    ),
)

ROWS = (*PROGRAMS, *IDIOMS)
