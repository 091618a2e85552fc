// Metal's small matrices, floatCxR and halfCxR with C columns of R rows (Metal Shading Language Specification, sections
// 2.3 and 6.9 <metal_matrix>): m[c][r] is the element in column c and row r, and a matrix in memory is its columns.
#pragma once

#include "msl/geometric.h"

namespace metal {

template <class T, int C, int R>
struct matrix {
  vec<T, R> columns[C];

  matrix() = default;
  // A scalar fills the diagonal.
  template <class S, detail::if_lane<S> = 0>
  ZMLX_FN explicit constexpr matrix(S diagonal) : columns{} {
    for (int c = 0; c < C; ++c) {
      columns[c] = vec<T, R>(static_cast<T>(0));
      if (c < R) columns[c][c] = static_cast<T>(diagonal);
    }
  }
  // Columns.
  template <class... A,
            enable_if_t<sizeof...(A) == C && (detail::same<detail::vector_of_t<A>, vec<T, R>>() && ...), int> = 0>
  ZMLX_FN constexpr matrix(A... of) : columns{static_cast<vec<T, R>>(of)...} {}
  // Elements, column after column.
  template <class... A, enable_if_t<sizeof...(A) == C * R && (detail::is_lane<A>() && ...), int> = 0, class = void>
  ZMLX_FN constexpr matrix(A... elements) : columns{} {
    const T all[] = {static_cast<T>(elements)...};
    for (int c = 0; c < C; ++c)
      for (int r = 0; r < R; ++r) columns[c][r] = all[c * R + r];
  }
  template <class U, enable_if_t<!detail::same<T, U>(), int> = 0>
  ZMLX_FN explicit constexpr matrix(matrix<U, C, R> other) : columns{} {
    for (int c = 0; c < C; ++c) columns[c] = vec<T, R>(other.columns[c]);
  }
  ZMLX_FN constexpr vec<T, R>& operator[](size_t c) { return columns[c]; }
  ZMLX_FN constexpr const vec<T, R>& operator[](size_t c) const { return columns[c]; }
};

#define ZMLX_BY_COLUMN(op)                                                                      \
  template <class T, int C, int R>                                                              \
  ZMLX_FN constexpr matrix<T, C, R> operator op(matrix<T, C, R> a, matrix<T, C, R> b) {         \
    for (int c = 0; c < C; ++c) a.columns[c] = a.columns[c] op b.columns[c];                    \
    return a;                                                                                   \
  }                                                                                             \
  template <class T, int C, int R>                                                              \
  ZMLX_FN constexpr matrix<T, C, R>& operator op##=(matrix<T, C, R>& a, matrix<T, C, R> b) {    \
    return a = a op b;                                                                          \
  }
ZMLX_BY_COLUMN(+)
ZMLX_BY_COLUMN(-)
#undef ZMLX_BY_COLUMN

template <class T, int C, int R>
ZMLX_FN constexpr matrix<T, C, R> operator-(matrix<T, C, R> a) {
  for (int c = 0; c < C; ++c) a.columns[c] = -a.columns[c];
  return a;
}
template <class T, int C, int R, class S, detail::if_lane<S> = 0>
ZMLX_FN constexpr matrix<T, C, R> operator*(matrix<T, C, R> a, S s) {
  for (int c = 0; c < C; ++c) a.columns[c] = a.columns[c] * static_cast<T>(s);
  return a;
}
template <class T, int C, int R, class S, detail::if_lane<S> = 0>
ZMLX_FN constexpr matrix<T, C, R> operator*(S s, matrix<T, C, R> a) {
  return a * s;
}
template <class T, int C, int R>
ZMLX_FN constexpr vec<T, R> operator*(matrix<T, C, R> a, vec<T, C> v) {
  vec<T, R> sum = a.columns[0] * v[0];
  for (int c = 1; c < C; ++c) sum += a.columns[c] * v[c];
  return sum;
}
template <class T, int C, int R>
ZMLX_FN constexpr vec<T, C> operator*(vec<T, R> v, matrix<T, C, R> a) {
  vec<T, C> found(static_cast<T>(0));
  for (int c = 0; c < C; ++c) {
    T sum = v[0] * a.columns[c][0];
    for (int r = 1; r < R; ++r) sum += v[r] * a.columns[c][r];
    found[c] = sum;
  }
  return found;
}
template <class T, int C, int R, int K>
ZMLX_FN constexpr matrix<T, C, R> operator*(matrix<T, K, R> a, matrix<T, C, K> b) {
  matrix<T, C, R> found;
  for (int c = 0; c < C; ++c) found.columns[c] = a * b.columns[c];
  return found;
}
template <class T, int C, int R, class B>
ZMLX_FN constexpr matrix<T, C, R>& operator*=(matrix<T, C, R>& a, B b) {
  return a = a * b;
}
template <class T, int C, int R>
ZMLX_FN constexpr bool operator==(matrix<T, C, R> a, matrix<T, C, R> b) {
  for (int c = 0; c < C; ++c)
    for (int r = 0; r < R; ++r)
      if (a.columns[c][r] != b.columns[c][r]) return false;
  return true;
}
template <class T, int C, int R>
ZMLX_FN constexpr bool operator!=(matrix<T, C, R> a, matrix<T, C, R> b) {
  return !(a == b);
}

template <class T, int C, int R>
ZMLX_FN constexpr matrix<T, R, C> transpose(matrix<T, C, R> a) {
  matrix<T, R, C> found;
  for (int c = 0; c < C; ++c)
    for (int r = 0; r < R; ++r) found.columns[r][c] = a.columns[c][r];
  return found;
}

// By the first row: n - 1 columns are left of each of its minors.
template <class T>
ZMLX_FN constexpr T determinant(matrix<T, 2, 2> a) {
  return a[0][0] * a[1][1] - a[1][0] * a[0][1];
}
template <class T, int N, enable_if_t<(N > 2), int> = 0>
ZMLX_FN constexpr T determinant(matrix<T, N, N> a) {
  T sum = static_cast<T>(0);
  for (int c = 0; c < N; ++c) {
    matrix<T, N - 1, N - 1> rest;
    for (int k = 0; k < N - 1; ++k)
      for (int r = 1; r < N; ++r) rest[k][r - 1] = a[k + (k >= c)][r];
    const T part = a[c][0] * determinant(rest);
    sum = c % 2 ? sum - part : sum + part;
  }
  return sum;
}

#define ZMLX_NAMES(T)                                                                            \
  using T##2x2 = matrix<T, 2, 2>;                                                                \
  using T##2x3 = matrix<T, 2, 3>;                                                                \
  using T##2x4 = matrix<T, 2, 4>;                                                                \
  using T##3x2 = matrix<T, 3, 2>;                                                                \
  using T##3x3 = matrix<T, 3, 3>;                                                                \
  using T##3x4 = matrix<T, 3, 4>;                                                                \
  using T##4x2 = matrix<T, 4, 2>;                                                                \
  using T##4x3 = matrix<T, 4, 3>;                                                                \
  using T##4x4 = matrix<T, 4, 4>;
ZMLX_NAMES(float)
ZMLX_NAMES(half)
ZMLX_NAMES(bfloat)
#undef ZMLX_NAMES

}  // namespace metal
