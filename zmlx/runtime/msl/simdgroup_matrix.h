// <metal_simdgroup_matrix>: 8x8 matrices of float, half or bfloat that the 32 lanes of a simdgroup hold together.
//
// Each lane has two neighbouring elements of a row, where Apple's GPUs have them too: kernels reach into
// thread_elements() knowing which. Products are summed up in float, in the order of the inner index, and rounded
// to the result's type once.
#pragma once

#include "msl/vector.h"

namespace metal {

template <class T, int Cols, int Rows = Cols>
struct simdgroup_matrix {
  static_assert(Cols == 8 && Rows == 8, "simdgroup_matrix: Metal has 8x8 matrices only");
  static_assert(detail::is_floating<T>(), "simdgroup_matrix: the elements are float, half or bfloat");
  using storage_type = vec<T, 2>;

  ZMLX_FN simdgroup_matrix() : elements_(T(0)) {}
  // The value on the diagonal, and zero elsewhere.
  ZMLX_FN explicit simdgroup_matrix(T diagonal);
#if !defined(ZMLX_CUDA)
  // The same of a lane that is told which it is, where threads are no fibers (matrices.py).
  ZMLX_FN simdgroup_matrix(zmlx::Lane lane, T diagonal);
  ZMLX_FN simdgroup_matrix(zmlx::Lane, const simdgroup_matrix& other) : elements_(other.elements_) {}
#endif

  ZMLX_FN storage_type& thread_elements() { return elements_; }
  ZMLX_FN const storage_type& thread_elements() const { return elements_; }

 private:
  storage_type elements_;
};

using simdgroup_float8x8 = simdgroup_matrix<float, 8, 8>;
using simdgroup_half8x8 = simdgroup_matrix<half, 8, 8>;
using simdgroup_bfloat8x8 = simdgroup_matrix<bfloat, 8, 8>;

namespace zmlx_detail {

// The first of a lane's two elements; the other is on its right.
ZMLX_FN constexpr uint matrix_row(uint lane) { return (lane >> 2 & 4u) + (lane >> 1 & 3u); }
ZMLX_FN constexpr uint matrix_column(uint lane) { return (lane >> 1 & 4u) + (lane & 1u) * 2u; }
// The lane that has an element.
ZMLX_FN constexpr uint matrix_lane(uint row, uint column) {
  return (row & 4u) << 2 | (column & 4u) << 1 | (row & 3u) << 1 | (column >> 1 & 1u);
}

// One lane's elements of a left and a right factor; of their product, in `left`.
struct Factors {
  float left[2], right[2];
};

#if defined(ZMLX_CUDA)
ZMLX_FN Factors multiply(Factors mine) {
  const uint row = matrix_row(this_lane()), column = matrix_column(this_lane());
  Factors product{{0.0f, 0.0f}, {0.0f, 0.0f}};
#pragma unroll
  for (uint k = 0; k < 8; ++k) {
    const float left = shuffle(all_lanes(), mine.left[k & 1], matrix_lane(row, k));
    const uint from = matrix_lane(k, column);
    product.left[0] = __fadd_rn(product.left[0], __fmul_rn(left, shuffle(all_lanes(), mine.right[0], from)));
    product.left[1] = __fadd_rn(product.left[1], __fmul_rn(left, shuffle(all_lanes(), mine.right[1], from)));
  }
  return product;
}
#else
// Rows of the right factor, each times one number of the left one: the compiler keeps a row of the product in registers.
ZMLX_FN void multiply(const float (&left)[64], const float (&right)[64], float (&product)[64]) {
  for (uint row = 0; row < 8; ++row) {
    float sum[8] = {};
    for (uint k = 0; k < 8; ++k)
      for (uint column = 0; column < 8; ++column) sum[column] += left[row * 8 + k] * right[k * 8 + column];
    for (uint column = 0; column < 8; ++column) product[row * 8 + column] = sum[column];
  }
}
struct Multiply {
  static void run(const Factors* in, Factors* out, const uint32_t*, uint32_t mask) {
    float left[64] = {}, right[64] = {}, product[64];
    each(mask, [&](uint32_t lane) {
      const uint at = matrix_row(lane) * 8 + matrix_column(lane);
      for (uint i = 0; i < 2; ++i) {
        left[at + i] = in[lane].left[i];
        right[at + i] = in[lane].right[i];
      }
    });
    multiply(left, right, product);
    each(mask, [&](uint32_t lane) {
      const uint at = matrix_row(lane) * 8 + matrix_column(lane);
      for (uint i = 0; i < 2; ++i) out[lane].left[i] = product[at + i];
    });
  }
};
ZMLX_INLINE Factors multiply(Factors mine, zmlx::Site site) { return meet<Multiply>(mine, 0u, site); }
#endif

template <class A, class B>
ZMLX_FN Factors factors(const A& a, const B& b) {
  return {{static_cast<float>(a.x), static_cast<float>(a.y)}, {static_cast<float>(b.x), static_cast<float>(b.y)}};
}

}  // namespace zmlx_detail

namespace zmlx_detail {
template <class T>
ZMLX_FN vec<T, 2> on_diagonal(uint lane, T value) {
  const uint row = matrix_row(lane), column = matrix_column(lane);
  return vec<T, 2>(row == column ? value : T(0), row == column + 1 ? value : T(0));
}
}  // namespace zmlx_detail

template <class T, int Cols, int Rows>
ZMLX_FN simdgroup_matrix<T, Cols, Rows>::simdgroup_matrix(T diagonal)
    : elements_(zmlx_detail::on_diagonal(zmlx_detail::this_lane(), diagonal)) {}
#if !defined(ZMLX_CUDA)
template <class T, int Cols, int Rows>
ZMLX_FN simdgroup_matrix<T, Cols, Rows>::simdgroup_matrix(zmlx::Lane lane, T diagonal)
    : elements_(zmlx_detail::on_diagonal(lane.index, diagonal)) {}
#endif

template <class T, int Cols, int Rows = Cols>
ZMLX_FN simdgroup_matrix<T, Cols, Rows> make_filled_simdgroup_matrix(T value) {
  simdgroup_matrix<T, Cols, Rows> matrix;
  matrix.thread_elements() = vec<T, 2>(value);
  return matrix;
}

namespace zmlx_detail {
// The offset of one of a lane's elements (0 or 1) in memory.
ZMLX_FN ulong matrix_offset(uint lane, uint element, ulong stride, ulong2 origin, bool transpose) {
  const uint row = matrix_row(lane), column = matrix_column(lane) + element;
  return transpose ? (origin.y + column) * stride + origin.x + row : (origin.y + row) * stride + origin.x + column;
}
}  // namespace zmlx_detail

// `origin` is (column, row) of the matrix's first element in memory, whose rows are `stride` elements apart.
template <class T, int Cols, int Rows>
ZMLX_FN void simdgroup_load(simdgroup_matrix<T, Cols, Rows>& matrix, const T* source, ulong stride = Cols,
                            ulong2 origin = ulong2(0ul), bool transpose = false) {
  for (uint i = 0; i < 2; ++i)
    matrix.thread_elements()[i] = source[zmlx_detail::matrix_offset(zmlx_detail::this_lane(), i, stride, origin, transpose)];
}
template <class T, int Cols, int Rows>
ZMLX_FN void simdgroup_store(simdgroup_matrix<T, Cols, Rows> matrix, T* target, ulong stride = Cols,
                             ulong2 origin = ulong2(0ul), bool transpose = false) {
  for (uint i = 0; i < 2; ++i)
    target[zmlx_detail::matrix_offset(zmlx_detail::this_lane(), i, stride, origin, transpose)] = matrix.thread_elements()[i];
}

#if defined(ZMLX_CUDA)
#define ZMLX_MATRIX_SITE
#define ZMLX_MATRIX_PRODUCT(a, b) \
  zmlx_detail::multiply(zmlx_detail::factors(a.thread_elements(), b.thread_elements()))
#else
#define ZMLX_MATRIX_SITE , zmlx::Site site = zmlx::Site(zmlx::UNNUMBERED + __builtin_LINE(), __builtin_LINE())
#define ZMLX_MATRIX_PRODUCT(a, b) \
  zmlx_detail::multiply(zmlx_detail::factors(a.thread_elements(), b.thread_elements()), site)
#endif

template <class D, class A, class B, int M, int K, int N>
ZMLX_FN void simdgroup_multiply(simdgroup_matrix<D, N, M>& d, simdgroup_matrix<A, K, M> a,
                                simdgroup_matrix<B, N, K> b ZMLX_MATRIX_SITE) {
  const zmlx_detail::Factors product = ZMLX_MATRIX_PRODUCT(a, b);
  d.thread_elements() = vec<D, 2>(static_cast<D>(product.left[0]), static_cast<D>(product.left[1]));
}
template <class D, class A, class B, class C, int M, int K, int N>
ZMLX_FN void simdgroup_multiply_accumulate(simdgroup_matrix<D, N, M>& d, simdgroup_matrix<A, K, M> a,
                                           simdgroup_matrix<B, N, K> b,
                                           simdgroup_matrix<C, N, M> c ZMLX_MATRIX_SITE) {
  const zmlx_detail::Factors product = ZMLX_MATRIX_PRODUCT(a, b);
  const auto& sum = c.thread_elements();
  d.thread_elements() = vec<D, 2>(static_cast<D>(static_cast<float>(sum.x) + product.left[0]),
                                  static_cast<D>(static_cast<float>(sum.y) + product.left[1]));
}

#undef ZMLX_MATRIX_SITE
#undef ZMLX_MATRIX_PRODUCT

}  // namespace metal
