"""What Metal's compiler has besides the library: small matrices, Apple's type names, builtins, attributes, traits."""

from __future__ import annotations

from functools import partial

import numpy as np

from language.row import Row

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
)
TRAITS = (
    _traits(
        "`remove_addrspace_t`, `remove_volatile_t`, `add_const_t`",
        "remove_addrspace_t<float> v_ = x[i]; metal::remove_volatile_t<volatile float> w_ = v_; "
        "metal::add_const_t<float> u_ = w_; out[i] = u_;",
        lambda values: X,
    ),
    _traits(
        "`is_vector_v`, `is_empty_v`, `is_class_v`, `is_trivially_copyable_v`",
        "struct E {}; out[i] = is_vector_v<float4> + 2 * is_vector_v<float> + 4 * is_empty_v<E> + "
        "8 * is_class_v<E> + 16 * is_trivially_copyable_v<float3>;",
        _each(29),
    ),
    _traits(
        "`is_reference_v`, `is_array_v`, `is_base_of_v`, `conjunction_v`",
        "struct B {}; struct D : B {}; out[i] = is_reference_v<float&> + 2 * is_array_v<int[3]> + "
        "4 * is_base_of_v<B, D> + 8 * conjunction_v<is_class<B>, is_array<int>>;",
        _each(7),
    ),
)

ROWS = (*MATRICES, *TYPES, *WORDS, *BUILTINS, *TRAITS)
