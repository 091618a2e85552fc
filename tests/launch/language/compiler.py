"""What Metal's compiler has besides the library: small matrices, Apple's type names, builtins, attributes, traits."""

from __future__ import annotations

from functools import partial

import numpy as np

from language.row import Row
from language.values import Values

N = np.arange(16)
X = (N % 7 - 3).astype("float32")
_own = partial(Row, alone=True, inputs={"x": X}, grid=(16, 1, 1), threadgroup=(16, 1, 1), dtype="float32")
_matrices = partial(_own, "Small matrices")
_types = partial(_own, "Apple's own types")
_words = partial(_own, "Attributes and address spaces")
_builtins = partial(_own, "Builtins of the compiler")
_traits = partial(_own, "More type traits")

A = np.array([[1, 2, 3], [4, 5, 6], [7, 8, 10]], "float64")  # A[r][c]
COLUMNS = "float3x3 a_(float3(1, 4, 7), float3(2, 5, 8), float3(3, 6, 10)); "
V = np.array([1, -2, 3], "float64")


def _each(value):
    return lambda values: np.broadcast_to(np.asarray(value), (16,))


def _overflows(values: Values) -> np.ndarray:
    """By Python's whole numbers, which have no bounds."""
    steps = (
        ("n", "m", int.__add__, 32, True),
        ("u", "w", int.__sub__, 32, False),
        ("l", "n", int.__mul__, 64, True),
        ("q", "q", int.__mul__, 64, False),
        ("s", "r", int.__sub__, 16, True),
        ("c", "a", int.__add__, 8, False),
    )
    found = []
    for i in range(64):
        beyond, mixed = 0, 0
        for a, b, operation, bits, signed in steps:
            true = operation(int(values[a][i]), int(values[b][i]))
            kept = true % 2**bits
            if signed and kept >= 2 ** (bits - 1):
                kept -= 2**bits
            beyond = beyond * 2 + (kept != true)
            mixed ^= kept - 2**64 * (kept >= 2**63)
        whole = ((beyond << 32) ^ mixed) % 2**64
        found.append(whole - 2**64 * (whole >= 2**63))
    return np.array(found, dtype=np.int64)


MATRICES = (
    _matrices(
        "`m * v`, `v * m`",
        COLUMNS
        + "float3 v_(1, -2, 3); float3 l_ = a_ * v_, r_ = v_ * a_; out[i] = i < 8 ? l_[i % 3] : r_[i % 3];",
        lambda values: np.where(N < 8, (A @ V)[N % 3], (V @ A)[N % 3]),
    ),
    _matrices(
        "`m * m`, `m[c][r]`",
        COLUMNS + "float3x3 p_ = a_ * a_; out[i] = p_[i % 3][i / 6];",
        lambda values: (A @ A)[N // 6, N % 3],
    ),
    _matrices(
        "`+ - *` and `+= -= *=` with numbers",
        COLUMNS + "float3x3 b_ = 2 * a_ - a_ * 0.5f; b_ += a_; b_ *= 2; b_ -= -a_; out[i] = b_[i % 3][1];",
        lambda values: 6.0 * A[1, N % 3],
    ),
    _matrices(
        "of one number, of elements, of another type",
        "float4x4 d_(3); float2x3 e_(1, 2, 3, 4, 5, 6); half2x3 h_(e_); "
        "out[i] = i < 4 ? d_[i % 4][1] : float(h_[1][i % 3]);",
        lambda values: np.where(N < 4, np.where(N % 4 == 1, 3, 0), 4 + N % 3),
    ),
    _matrices(
        "`transpose`, `determinant`",
        COLUMNS + "float3x3 t_ = transpose(a_); float4x4 f_(2); "
        "out[i] = i == 0 ? determinant(a_) : i == 1 ? determinant(f_) : t_[i % 3][0];",
        lambda values: np.where(N == 0, -3, np.where(N == 1, 16, A[N % 3, 0])),
    ),
    _matrices(
        "as arguments, arrays and in memory",
        "float2x2 m_[2]; m_[0] = float2x2(1); m_[1] = twice(m_[0]); "
        "out[i] = m_[1][1].y + x[i] + float(sizeof(float3x3) == 48);",
        lambda values: 3 + X,
        header="float2x2 twice(float2x2 m) { return m * 2; }",
    ),
)
TYPES = (
    _types(
        "`simd_float4`, `simd::float3`, `vector_float4`",
        "simd_float4 p_(x[i]); simd::float3 q_(1); vector_float4 r_ = p_; out[i] = r_.w + q_.z;",
        lambda values: X + 1,
        header="#include <simd/simd.h>",
    ),
    _types(
        "`simd_int2`, `simd_uchar4`, `simd_float4x4`",
        "simd_int2 p_(int(i), 2); simd_uchar4 q_(3); simd_float4x4 m_(4); out[i] = p_.x + p_.y + q_.w + m_[3][3];",
        lambda values: N + 9.0,
    ),
    _types(
        "`vec<T, 8>`, `vec<T, 16>`",
        "vec<float, 8> p_ = ((const device vec<float, 8>*)x)[i / 8]; vec<float, 8> q_ = p_ * 2 + 1.0f; q_ += p_; "
        "vec<int, 16> r_ = int(i); r_ = r_ - 1; out[i] = q_[i % 8] + r_[15];",
        lambda values: 3 * X + N,
    ),
    _types(
        "`vec<T, 32>`, `vec<T, 64>`, their `~ << >>` and signs of zeros",
        "vec<uint, 32> p_ = i; p_ = ~(p_ << 2u) >> 1; vec<float, 64> q_(0); q_ = -q_; "
        "out[i] = float(p_[31] & 255u) + (signbit(q_[63]) ? 1000 : 0);",
        lambda values: ((~(N << 2) & 0xFFFFFFFF) >> 1 & 255) + 1000,
    ),
    _types(
        "`simd_packed_float3`, `simd::packed_uint2`",
        "simd_packed_float3 p_(x[i], 1, 2); simd::packed_uint2 q_(i, 3); "
        "out[i] = p_.x + p_.z + q_.x + q_.y + (sizeof(p_) == 12);",
        lambda values: X + N + 6,
        header="#include <simd/simd.h>",
    ),
)
WORDS = (
    _words(
        "attributes of a helper's parameters",
        "threadgroup float s_[16]; s_[i] = x[i]; threadgroup_barrier(mem_flags::mem_threadgroup); "
        "out[i] = taken(s_, 15 - i);",
        lambda values: X[::-1],
        header="inline float taken(threadgroup float* s_ [[threadgroup(0)]], uint l) { return s_[l]; }",
    ),
    _words(
        "`threadgroup alignas(16) float s[…]`",
        "threadgroup alignas(16) float s_[16], u_[16]; s_[i] = x[i]; u_[i] = 1; "
        "threadgroup_barrier(mem_flags::mem_threadgroup); out[i] = s_[15 - i] + u_[i];",
        lambda values: X[::-1] + 1,
    ),
    _words(
        "sizes of `threadgroup` arrays that are computed",
        "constexpr int n_ = 4; threadgroup float s_[1 << n_], u_[n_ > 4 ? 4 : 16], w_[SIZE]; "
        "s_[i] = x[i]; u_[i] = half(1); w_[i] = 2; "
        "threadgroup_barrier(mem_flags::mem_threadgroup); out[i] = s_[15 - i] + u_[i] + w_[i];",
        lambda values: X[::-1] + 3,
        header="#define SIZE 64 >> 2\n",
    ),
    _words(
        "a macro that declares a `threadgroup` array, twice",
        "SHARED(s_) SHARED(u_) s_[i] = x[i]; u_[i] = 2 * x[i]; "
        "threadgroup_barrier(mem_flags::mem_threadgroup); out[i] = s_[15 - i] + u_[i];",
        lambda values: X[::-1] + 2 * X,
        header="#define SHARED(name) threadgroup float name[16];\n",
    ),
    _words(
        "an `enum` beside integers, floats and halves",
        "for (int k_ = 0; k_ < LAST; ++k_)"
        "  out[i] = (i < HALF ? x[i] * LAST : x[i] + HALF) + half(1) * HALF + (LAST == 5);",
        lambda values: np.where(np.arange(16) < 8, X * 5, X + 8) + 9,
        header="enum { HALF = 1 << 3, LAST = 5 };\n",
    ),
    _words(
        "`coherent(device)`",
        "coherent(device) device float* p_ = out; p_[i] = x[i];",
        lambda values: X,
    ),
    _words(
        "constructors with an address space",
        "Pair p_(x[i]); Pair q_; out[i] = p_.a + q_.b;",
        lambda values: X + 5,
        header="struct Pair { float a, b; Pair() thread : a(0), b(5) {} constexpr Pair(float v) : a(v), b(0) {} "
        "constexpr Pair(float v) constant : a(v), b(0) {} };",
    ),
    _words(
        "what a newer Metal has, behind `#if`",
        "#if __METAL_VERSION__ >= 400\ntensor<device float> t_;\n#endif\nout[i] = x[i];",
        lambda values: X,
        header="#if __METAL_VERSION__ >= 400\n#include <metal_tensor>\n#endif",
    ),
    _words(
        "what another macro guards, `__has_include`",
        "#if __has_include(<metal_stdlib>) && !__has_include(<metal_tensor>)\nout[i] = x[i] + WAY;\n#endif",
        lambda values: X + 1,
        header="#define NEWER (__METAL_VERSION__ >= 400)\n#if NEWER\n#include <metal_tensor>\n"
        "#define WAY 2\n#else\n#define WAY 1\n#endif",
    ),
    _words(
        "`= default`, `operator=` and members by address space",
        "Boxed p_(x[i]), q_; q_ = p_; out[i] = q_.get() + q_[1];",
        lambda values: 2 * X + 1,
        header="struct Boxed { float v; Boxed() thread = default; Boxed(float a) thread : v(a) {} "
        "Boxed(const thread Boxed& o) thread = default; "
        "thread Boxed& operator=(const thread Boxed& o) thread { v = o.v; return *this; } "
        "device Boxed& operator=(const thread Boxed& o) device { v = o.v; return *this; } "
        "float get() const thread { return v; } float get() const device { return v; } "
        "float operator[](int k) const thread { return v + k; } float operator()(int) const { return v; } };",
    ),
    _words(
        "`__attribute__((aligned(16)))` of threadgroup memory",
        "threadgroup float s_[16] __attribute__((aligned(16))); threadgroup __attribute__((aligned(16))) half u_[16]; "
        "s_[i] = x[i]; u_[i] = 1; threadgroup_barrier(mem_flags::mem_threadgroup); out[i] = s_[15 - i] + u_[i];",
        lambda values: X[::-1] + 1,
    ),
)
BUILTINS = (
    _builtins(
        "`__builtin_popcount`, `__builtin_clz`, `__builtin_ctz`",
        "out[i] = __builtin_popcount(i) + 100 * __builtin_clz(i + 1) + 10000 * __builtin_ctz(i + 1);",
        lambda values: (
            np.array([bin(n).count("1") + 100 * (32 - (n + 1).bit_length()) for n in range(16)])
            + 10000 * np.array([((n + 1) & -(n + 1)).bit_length() - 1 for n in range(16)])
        ),
    ),
    _builtins(
        "`__builtin_popcountl`, `__builtin_clzl`, `__builtin_ffs`",
        "out[i] = __builtin_popcountl(ulong(i) << 40) + 100 * __builtin_clzl(ulong(i + 1)) + __builtin_ffs(16);",
        lambda values: np.array(
            [bin(n).count("1") + 100 * (64 - (n + 1).bit_length()) + 5 for n in range(16)]
        ),
    ),
    _builtins(
        "`__builtin_assume`, `__builtin_expect`",
        "__builtin_assume(i < 64); out[i] = __builtin_expect(x[i] > 0, 1) ? x[i] : 0.0f;",
        lambda values: np.maximum(X, 0),
    ),
    _builtins(
        "`__builtin_bswap32`, `__builtin_bitreverse32`, `__builtin_rotateleft32`",
        "out[i] = (__builtin_bswap32(i) >> 24) + (__builtin_bitreverse32(i) >> 28) * 100 + "
        "__builtin_rotateleft32(0x80000000u | i, 1) % 16 * 10000;",
        lambda values: np.array(
            [n + 100 * int(f"{n:04b}"[::-1], 2) + 10000 * ((2 * n + 1) % 16) for n in range(16)]
        ),
    ),
    _builtins(
        "`__builtin_clzs`, `__builtin_ctzll`, `__builtin_parityl`, `__builtin_clrsb`",
        "out[i] = __builtin_clzs(ushort(i + 1)) + 100 * __builtin_ctzll(ulong(i + 1) << 40) + "
        "10000 * __builtin_parityl(i) + 20000 * (__builtin_clrsb(int(i)) & 31);",
        lambda values: np.array(
            [
                16
                - (n + 1).bit_length()
                + 100 * (40 + ((n + 1) & -(n + 1)).bit_length() - 1)
                + 10000 * (bin(n).count("1") % 2)
                + 20000 * (31 - n.bit_length())
                for n in range(16)
            ]
        ),
    ),
    _builtins(
        "`__builtin_elementwise_max`, `__builtin_fabsf`, `__builtin_fmaf`, `__builtin_inff`",
        "float v_ = __builtin_elementwise_max(x[i], -1.0f); "
        "out[i] = __builtin_fmaf(__builtin_fabsf(v_), 2.0f, v_) + (__builtin_inff() > 1);",
        lambda values: 2 * np.abs(np.maximum(X, -1)) + np.maximum(X, -1) + 1,
    ),
    _builtins(
        "`__builtin_nontemporal_load`, `__builtin_memcpy`, `__builtin_mul_overflow`",
        "float v_ = __builtin_nontemporal_load(&x[i]); uint u_; __builtin_memcpy(&u_, &v_, 4); int r_; "
        "__builtin_nontemporal_store(as_type<float>(u_) + __builtin_mul_overflow(1 << 20, 1 << 20, &r_), &out[i]);",
        lambda values: X + 1,
    ),
    Row(
        "Builtins of the compiler",
        "`__builtin_add_overflow`, `_sub_`, `_mul_` of all widths and signs",
        "int a_; uint b_; long c_; ulong d_; short e_; uchar f_; long g_ = 0; g_ = g_ * 2 + "
        "__builtin_add_overflow(n[i], m[i], &a_); g_ = g_ * 2 + __builtin_sub_overflow(u[i], w[i], &b_); g_ = g_ * 2 + "
        "__builtin_mul_overflow(l[i], long(n[i]), &c_); g_ = g_ * 2 + __builtin_mul_overflow(q[i], q[i], &d_); "
        "g_ = g_ * 2 + __builtin_sub_overflow(s[i], r[i], &e_); g_ = g_ * 2 + __builtin_add_overflow(c[i], a[i], &f_); "
        "out[i] = (g_ << 32) ^ a_ ^ b_ ^ c_ ^ long(d_) ^ e_ ^ f_;",
        _overflows,
        dtype="int64",
    ),
)
TRAITS = (
    _traits(
        "`remove_addrspace_t`, `remove_volatile_t`, `add_const_t`",
        "remove_addrspace_t<float> v_ = x[i]; metal::remove_volatile_t<volatile float> w_ = v_; "
        "metal::add_const_t<float> u_ = w_; out[i] = u_;",
        lambda values: X,
    ),
    _traits(
        "`is_vector_v`, `is_class_v`, `is_trivially_copyable_v`",
        "struct E {}; out[i] = is_vector_v<float4> + 2 * is_vector_v<float> + "
        "8 * is_class_v<E> + 16 * is_trivially_copyable_v<float3>;",
        _each(25),
    ),
    _traits(
        "`is_reference_v`, `is_array_v`, `is_base_of_v`, `conjunction_v`",
        "struct B {}; struct D : B {}; out[i] = is_reference_v<float&> + 2 * is_array_v<int[3]> + "
        "4 * is_base_of_v<B, D> + 8 * conjunction_v<is_class<B>, is_array<int>>;",
        _each(7),
    ),
    _traits(
        "`rank_v`, `extent_v`, `remove_all_extents_t`, `alignment_of`",
        "out[i] = rank_v<int[2][3]> + 10 * extent_v<int[2][3], 1> + 100 * alignment_of<int>::value + "
        "1000 * is_same_v<remove_all_extents_t<int[2][3]>, int>;",
        _each(1432),
    ),
    _traits(
        "`is_function_v`, `is_object_v`, `is_trivial_v`, `is_default_constructible_v`, `common_type_t`",
        "out[i] = is_function_v<float(int)> + 2 * is_function_v<int> + 4 * is_object_v<int> + 8 * is_object_v<int&> + "
        "16 * is_trivial_v<int> + 32 * is_default_constructible_v<float2> + "
        "64 * is_same_v<common_type_t<int, half, float>, float>;",
        _each(1 + 4 + 16 + 32 + 64),
    ),
)

ROWS = (*MATRICES, *TYPES, *WORDS, *BUILTINS, *TRAITS)
