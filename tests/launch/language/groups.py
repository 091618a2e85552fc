"""Threadgroup memory, barriers and atomics."""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np

from language.row import Row

_memory = partial(Row, "Threadgroup memory", alone=True)
_barriers = partial(Row, "Barriers", alone=True)
_atomics = partial(Row, "Atomics", alone=True, atomic_outputs=True, init_value=0)
_shared = partial(Row, "Atomics in threadgroup memory", alone=True)

LANES = np.arange(64)
SYNC = "threadgroup_barrier(mem_flags::mem_threadgroup);"


def turned(values: Any) -> Any:
    return values[::-1]


MEMORY = (
    _memory(
        "an array", f"threadgroup int o[64]; o[i] = n[i]; {SYNC} out[i] = o[63 - i];", lambda V: turned(V.n)
    ),
    _memory(
        "arrays of two and three dimensions",
        f"threadgroup float o[8][9]; threadgroup half f[2][4][8]; o[i / 8][i % 8] = p[i]; "
        f"f[i / 32][i / 8 % 4][i % 8] = h[i]; {SYNC}"
        " out[i] = o[i % 8][i / 8] + f[1 - i / 32][i / 8 % 4][i % 8];",
        lambda V: V.p.reshape(8, 8).T.ravel() + np.roll(V.h, 32).astype("float32"),
        "float32",
    ),
    _memory(
        "a scalar",
        f"threadgroup int o; if (i == 17) o = n[i]; {SYNC} out[i] = o;",
        lambda V: np.full(64, V.n[17]),
    ),
    _memory(
        "a struct",
        f"struct lang_state {{ float sum; int4 where; half parts[4]; }}; threadgroup lang_state o; "
        f"if (i == 3) {{ o.sum = p[i]; o.where = int4(n[i]); o.parts[2] = h[i]; }} {SYNC}"
        " out[i] = o.sum + o.where.z % 10 + o.parts[2];",
        lambda V: np.full(64, V.p[3] + np.fmod(V.n[3], 10) + np.float32(V.h[3])),
        "float32",
    ),
    _memory(
        "a struct with a constructor",
        (
            f"threadgroup lang_best o[64]; o[i] = lang_best(); o[i].value = max(o[i].value, p[i]); "
            f"{SYNC} out[i] = o[i ^ 1].value + o[0].index;"
        ),
        lambda V: np.maximum(V.p[LANES ^ 1], -1) + 7,
        "float32",
        header="struct lang_best { float value = -1.0; int index = 7; };",
    ),
    _memory(
        "vectors",
        (
            f"threadgroup float4 o[16]; if (i < 16) o[i] = ((const device float4*)p)[i]; "
            f"{SYNC} out[i] = o[i / 4][i % 4];"
        ),
        lambda V: V.p,
        "float32",
    ),
    _memory(
        "bfloat, char, bool, long, complex",
        f"threadgroup bfloat o[64]; threadgroup char f[64]; threadgroup bool m_[64]; "
        f"threadgroup long y_[64]; threadgroup complex64_t z_[64]; o[i] = b[i]; f[i] = c[i]; "
        f"m_[i] = t[i]; y_[i] = l[i]; z_[i] = z[i]; {SYNC}"
        " uint k_ = 63 - i; out[i] = (abs(float(o[k_])) < 100 ? float(o[k_]) : 0) + f[k_] + m_[k_] + "
        "float(y_[k_] % 100) + z_[k_].imag;",
        lambda V: turned(np.where(np.abs(V.b) < 100, V.b, 0) + V.c + V.t + np.fmod(V.l, 100) + V.z.imag),
        "float32",
    ),
    _memory(
        "several in one declaration",
        (
            f"threadgroup int o[64], f[32], m_; o[i] = n[i]; if (i < 32) f[i] = m[i]; if (i == 0) m_ = 5; "
            f"{SYNC} out[i] = o[i ^ 1] / 2 + f[i % 32] / 4 + m_;"
        ),
        lambda V: _trunc(V.n[LANES ^ 1], 2) + _trunc(V.m[LANES % 32], 4) + 5,
    ),
    _memory(
        "sizes from template arguments",
        f"threadgroup T o[N][M + 1]; o[i / M][i % M] = T(p[i]); {SYNC} out[i] = o[i % N][i / N];",
        lambda V: V.p.astype("float16").reshape(8, 8).T.ravel(),
        "float16",
        template=(("T", "float16"), ("N", 8), ("M", 8)),
    ),
    _memory(
        "sizes from `constexpr` and macros",
        (
            f"constexpr int f = 8; threadgroup float o[LANG_ROWS * (f + 1)]; "
            f"o[i / f * (f + 1) + i % f] = p[i]; {SYNC} out[i] = o[i % LANG_ROWS * (f + 1) + i / f];"
        ),
        lambda V: V.p.reshape(8, 8).T.ravel(),
        "float32",
        header="#define LANG_ROWS 8",
    ),
    _memory(
        "pointers",
        (
            f"threadgroup float o[64]; threadgroup float* f = o + i; *f = p[i]; "
            f"{SYNC} const threadgroup float* m_ = &o[63]; out[i] = m_[-int(i)];"
        ),
        lambda V: turned(V.p),
        "float32",
    ),
    _memory(
        "as another type",
        (
            f"threadgroup float o[64]; o[i] = x[i]; {SYNC} threadgroup uint* f = (threadgroup uint*)o; "
            f"out[i] = f[63 - i] ^ reinterpret_cast<threadgroup uint4*>(o)[i / 4].y;"
        ),
        lambda V: turned(V.x.view("uint32")) ^ V.x.view("uint32")[LANES // 4 * 4 + 1],
        "uint32",
    ),
    _memory(
        "pointers and references as arguments",
        (
            f"threadgroup float o[64]; threadgroup float f; lang_put(o, i, p[i]); "
            f"{SYNC} if (i == 0) lang_set(f, o[5]); {SYNC} out[i] = lang_get(o + 1, (i + 62) % 63) + f;"
        ),
        lambda V: V.p[1 + (LANES + 62) % 63] + V.p[5],
        "float32",
        header=(
            "void lang_put(threadgroup float* to, uint k, float v) { to[k] = v; "
            "}\nfloat lang_get(const threadgroup float* from, uint k) { return from[k]; "
            "}\nvoid lang_set(threadgroup float& to, float v) { to = v; }"
        ),
    ),
    _memory(
        "overloads on the address space",
        (
            f"threadgroup float o[64]; o[i] = p[i]; {SYNC} out[i] = lang_second(o) + lang_second(g) + "
            f"lang_second(o + 2);"
        ),
        lambda V: np.full(64, V.p[1] + V.g[1] + V.p[3]),
        "float32",
        header=(
            "float lang_second(const device float* v) { return v[1]; "
            "}\nfloat lang_second(const threadgroup float* w) { return w[1]; }"
        ),
    ),
    _memory(
        "a reduction in a header function",
        (
            "threadgroup float o[2]; out[i] = lang_block_sum(p[i], o, thread_index_in_simdgroup, "
            "simdgroup_index_in_threadgroup);"
        ),
        lambda V: np.full(64, V.p.sum()),
        "float32",
        header=(
            f"float lang_block_sum(float v, threadgroup float* parts, uint lane, uint simd) {{ v = "
            f"simd_sum(v); if (lane == 0) parts[simd] = v; {SYNC} return parts[0] + parts[1]; }}"
        ),
    ),
    _memory(
        "used again behind a barrier",
        (
            f"threadgroup int o[64]; int f = 0; for (int k_ = 1; k_ < 4; ++k_) {{ o[i] = n[i] / k_; "
            f"{SYNC} f += o[(i + k_) % 64] / 4; {SYNC} }} out[i] = f;"
        ),
        lambda V: sum(_trunc(_trunc(np.roll(V.n, -k), k), 4) for k in (1, 2, 3)),
    ),
    _memory(
        "each threadgroup has its own",
        (
            f"threadgroup int o[32]; uint k_ = thread_position_in_threadgroup.x; o[k_] = n[i]; "
            f"{SYNC} out[i] = o[31 - k_];"
        ),
        lambda V: V.n.reshape(2, 32)[:, ::-1].ravel(),
        threadgroup=(32, 1, 1),
    ),
)


def _trunc(a: Any, b: int) -> Any:
    return np.trunc(a.astype("float64") / b).astype("int64")


BARRIERS = (
    *(
        _barriers(
            f"`mem_flags::{flag}`",
            (
                f"threadgroup int o[64]; o[i] = n[i]; threadgroup_barrier(mem_flags::{flag}{more}); "
                f"out[i] = o[63 - i];"
            ),
            lambda V: turned(V.n),
        )
        for flag, more in (("mem_threadgroup", ""), ("mem_device", " | mem_flags::mem_threadgroup"))
    ),
    _barriers(
        "`mem_flags::mem_device` on device memory",
        (
            "out[i] = n[i]; threadgroup_barrier(mem_flags::mem_device); int o = out[63 - i]; "
            "threadgroup_barrier(mem_flags::mem_device); out[i] = o;"
        ),
        lambda V: turned(V.n),
    ),
    _barriers(
        "`mem_flags::mem_none`, `mem_texture`",
        (
            f"threadgroup int o[64]; threadgroup_barrier(mem_flags::mem_none); o[i] = n[i]; "
            f"{SYNC} threadgroup_barrier(mem_flags::mem_texture); out[i] = o[63 - i];"
        ),
        lambda V: turned(V.n),
    ),
    _barriers(
        "`simdgroup_barrier`",
        (
            "threadgroup int o[64]; o[i] = n[i]; simdgroup_barrier(mem_flags::mem_threadgroup); "
            "out[i] = o[i ^ 31];"
        ),
        lambda V: V.n[LANES ^ 31],
    ),
    _barriers(
        "`metal::` in front",
        (
            "threadgroup int o[64]; o[i] = n[i]; "
            "metal::threadgroup_barrier(metal::mem_flags::mem_threadgroup); out[i] = o[63 - i];"
        ),
        lambda V: turned(V.n),
    ),
    _barriers(
        "`return` before a barrier",
        (
            f"threadgroup int o[64]; if (i >= 40) {{ out[i] = -1; return; }} o[i] = n[i]; "
            f"{SYNC} out[i] = o[39 - i];"
        ),
        lambda V: np.concatenate([V.n[39::-1], np.full(24, -1)]),
    ),
    _barriers(
        "in a macro",
        "threadgroup int o[64]; o[i] = n[i]; LANG_SYNC(); LANG_SWAP(o, i); LANG_SYNC(); out[i] = o[i];",
        lambda V: turned(V.n),
        header=(
            "#define LANG_SYNC() threadgroup_barrier(mem_flags::mem_threadgroup)\n#define LANG_SWAP(s, "
            "k) { int v_ = s[63 - k]; LANG_SYNC(); s[k] = v_; }"
        ),
    ),
    _barriers(
        "in a loop: a tree",
        (
            f"threadgroup float o[64]; o[i] = p[i]; {SYNC} for (uint k_ = 32; k_ > 0; "
            f"k_ >>= 1) {{ if (i < k_) o[i] += o[i + k_]; {SYNC} }} out[i] = o[0];"
        ),
        lambda V: np.full(64, V.p.sum()),
        "float32",
    ),
    _barriers(
        "in partial threadgroups of three dimensions",
        f"threadgroup int o[24]; uint3 k_ = thread_position_in_threadgroup, f = "
        f"threads_per_threadgroup; uint m_ = thread_index_in_threadgroup, y_ = f.x * f.y * f.z; "
        f"o[m_] = k_.x + 10 * k_.y + 100 * k_.z; {SYNC}"
        " uint3 e_ = thread_position_in_grid; out[(e_.z * 5 + e_.y) * 7 + e_.x] = o[y_ - 1 - m_] + "
        "1000 * y_;",
        lambda V: _positions(),
        grid=(7, 5, 3),
        threadgroup=(4, 3, 2),
    ),
    _barriers(
        "simd operations between barriers",
        (
            f"threadgroup float o[2]; float f = simd_sum(p[i]); if (simd_is_first()) o[i / 32] = f; "
            f"{SYNC} if (i < 32) {{ float m_ = simd_max(i < 2 ? o[i] : -1e9f); if (i == 0) o[0] = m_; "
            f"}} {SYNC} out[i] = o[0];"
        ),
        lambda V: np.full(64, max(V.p[:32].sum(), V.p[32:].sum())),
        "float32",
    ),
    _barriers(
        "with one thread a threadgroup",
        f"threadgroup int o; o = n[i]; {SYNC} out[i] = o + simd_sum(1);",
        lambda V: V.n + np.int32(1),
        threadgroup=(1, 1, 1),
    ),
)


def _positions() -> Any:
    out = np.zeros((3, 5, 7), int)
    for z, y, x in np.ndindex(out.shape):
        size = [min(n - s * (k // s), s) for k, s, n in ((x, 4, 7), (y, 3, 5), (z, 2, 3))]
        total = size[0] * size[1] * size[2]
        other = total - 1 - ((z % 2 * size[1] + y % 3) * size[0] + x % 4)
        place = other % size[0] + 10 * (other // size[0] % size[1]) + 100 * (other // size[0] // size[1])
        out[z, y, x] = place + 1000 * total
    return out.ravel()


RELAXED = "memory_order_relaxed"


def _fetched(name: str, kind: str, source: str, dtype: str, function: Any) -> Row:
    return _atomics(
        f"`atomic_fetch_{name}_explicit` on {kind}",
        f"atomic_fetch_{name}_explicit(&out[i % 4], {source}, {RELAXED});",
        lambda V: np.array([function(V, k) for k in range(4)]),
        dtype,
    )


ATOMICS = (
    _fetched("add", "int", "n[i]", "int32", lambda V, k: V.n[k::4].sum(dtype="int32")),
    _fetched("add", "uint", "u[i]", "uint32", lambda V, k: V.u[k::4].sum(dtype="uint32")),
    _fetched("add", "float", "p[i]", "float32", lambda V, k: V.p[k::4].sum()),
    _fetched("sub", "int", "n[i]", "int32", lambda V, k: -V.n[k::4].sum(dtype="int32")),
    _fetched("sub", "float", "p[i]", "float32", lambda V, k: -V.p[k::4].sum()),
    _fetched("max", "int", "n[i]", "int32", lambda V, k: max(V.n[k::4].max(), 0)),
    _fetched("min", "int", "n[i]", "int32", lambda V, k: min(V.n[k::4].min(), 0)),
    _fetched("max", "uint", "u[i]", "uint32", lambda V, k: V.u[k::4].max()),
    _fetched("or", "uint", "u[i]", "uint32", lambda V, k: np.bitwise_or.reduce(V.u[k::4])),
    _fetched("xor", "int", "n[i]", "int32", lambda V, k: np.bitwise_xor.reduce(V.n[k::4])),
    _atomics(
        "`atomic_fetch_and_explicit`, `_min` on uint",
        (
            f"atomic_fetch_and_explicit(&out[i % 4], u[i] | 7u, {RELAXED}); "
            f"atomic_fetch_min_explicit(&out[4], u[i] | 1u, {RELAXED});"
        ),
        lambda V: np.append([np.bitwise_and.reduce(V.u[k::4] | 7) & 255 for k in range(4)], 1),
        "uint32",
        init_value=255,
    ),
    _atomics(
        "the value before",
        (
            f"int o = atomic_fetch_add_explicit(&out[64], 1, {RELAXED}); "
            f"atomic_store_explicit(&out[o], 1, {RELAXED});"
        ),
        lambda V: np.append(np.ones(64, int), 64),
    ),
    _atomics(
        "`atomic_load_explicit`, `atomic_store_explicit`",
        (
            f"atomic_store_explicit(&out[i], n[i], {RELAXED}); "
            f"int o = atomic_load_explicit(out + i, {RELAXED}); "
            f"atomic_store_explicit(&out[i], o / 2, {RELAXED});"
        ),
        lambda V: _trunc(V.n, 2),
    ),
    _atomics(
        "`atomic_exchange_explicit`",
        (
            f"atomic_exchange_explicit(&out[i], 3, {RELAXED}); "
            f"int o = atomic_exchange_explicit(&out[i], int(i), {RELAXED}); "
            f"atomic_fetch_add_explicit(&out[i], o, {RELAXED});"
        ),
        lambda V: LANES + 3,
    ),
    _atomics(
        "`atomic_compare_exchange_weak_explicit`: a float maximum",
        (
            f"float o = atomic_load_explicit(&out[0], {RELAXED}); "
            f"while (o < p[i] && !atomic_compare_exchange_weak_explicit(&out[0], &o, p[i], {RELAXED}, "
            f"{RELAXED})) {{}}"
        ),
        lambda V: np.array([V.p.max()]),
        "float32",
    ),
    _atomics(
        "as an argument of a header function",
        "lang_count(out, i % 4); lang_count(&out[4], 0);",
        lambda V: np.array([16, 16, 16, 16, 64]),
        "uint32",
        header=(
            f"void lang_count(device atomic<uint>* bins, uint k) {{ atomic_fetch_add_explicit(bins + k, "
            f"1u, {RELAXED}); }}"
        ),
    ),
    _atomics(
        "over many threadgroups",
        f"atomic_fetch_add_explicit(&out[0], 1u, {RELAXED});",
        lambda V: np.array([100_000]),
        "uint32",
        grid=(100_000, 1, 1),
    ),
    Row(
        "Atomics",
        "casts of device memory",
        (
            f"atomic_fetch_add_explicit((device atomic_uint*)&out[i % 4], u[i], {RELAXED}); "
            f"atomic_fetch_max_explicit((device atomic_int*)out + 4, n[i], {RELAXED});"
        ),
        lambda V: np.append([V.u[k::4].sum(dtype="uint32") for k in range(4)], V.n.max()).astype("uint32"),
        "uint32",
        alone=True,
        init_value=0,
    ),
    Row(
        "Atomics",
        "`volatile`",
        (
            f"atomic_fetch_add_explicit((volatile device atomic_int*)&out[0], 1, {RELAXED}); "
            f"if (i == 70) out[0] = 0;"
        ),
        lambda V: np.array([64]),
        alone=True,
        init_value=0,
    ),
    Row(
        "Atomics",
        "`atomic_ulong`: `atomic_max_explicit`, `atomic_min_explicit`",
        (
            f"atomic_max_explicit((device atomic_ulong*)&out[0], q[i], {RELAXED}); "
            f"atomic_min_explicit((device atomic_ulong*)&out[1], q[i] | (1ul << 62), {RELAXED});"
        ),
        lambda V: np.array([V.q.max(), 2**62], "uint64"),
        "uint64",
        alone=True,
        init_value=2.0**63,
    ),
    Row(
        "Atomics",
        "`atomic_thread_fence`",
        (
            "atomic_thread_fence(mem_flags::mem_device, memory_order_seq_cst, thread_scope_device); "
            "out[i] = n[i];"
        ),
        lambda V: V.n,
        alone=True,
    ),
)

SHARED = (
    _shared(
        "a counter",
        (
            f"threadgroup atomic_int o; if (i == 0) atomic_store_explicit(&o, 0, {RELAXED}); "
            f"{SYNC} if (t[i]) atomic_fetch_add_explicit(&o, 1, {RELAXED}); "
            f"{SYNC} out[i] = atomic_load_explicit(&o, {RELAXED});"
        ),
        lambda V: np.full(64, V.t.sum()),
    ),
    _shared(
        "a histogram",
        (
            f"threadgroup atomic_uint o[8]; if (i < 8) atomic_store_explicit(&o[i], 0u, {RELAXED}); "
            f"{SYNC} atomic_fetch_add_explicit(&o[a[i] % 8], 1u, {RELAXED}); "
            f"{SYNC} if (i < 8) out[i] = atomic_load_explicit(&o[i], {RELAXED});"
        ),
        lambda V: np.bincount(V.a % 8, minlength=8),
        "uint32",
    ),
    _shared(
        "a float sum and maximum",
        (
            f"threadgroup atomic<float> o; threadgroup atomic_int f; "
            f"if (i == 0) {{ atomic_store_explicit(&o, 0.0, {RELAXED}); "
            f"atomic_store_explicit(&f, -1, {RELAXED}); }} {SYNC} atomic_fetch_add_explicit(&o, p[i], "
            f"{RELAXED}); atomic_fetch_max_explicit(&f, n[i], {RELAXED}); "
            f"{SYNC} out[i] = atomic_load_explicit(&o, {RELAXED}) + atomic_load_explicit(&f, {RELAXED}) % "
            f"1000;"
        ),
        lambda V: np.full(64, V.p.sum() + np.fmod(V.n.max(), 1000)),
        "float32",
    ),
    _shared(
        "slots handed out",
        (
            f"threadgroup atomic_uint o; threadgroup int f[64]; "
            f"if (i == 0) atomic_store_explicit(&o, 0u, {RELAXED}); "
            f"{SYNC} uint k_ = atomic_fetch_add_explicit(&o, 1u, {RELAXED}); f[k_] = 1; "
            f"{SYNC} out[i] = f[i];"
        ),
        lambda V: np.ones(64, int),
    ),
)

ROWS = (*MEMORY, *BARRIERS, *ATOMICS, *SHARED)
