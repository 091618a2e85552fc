// The functions of simdgroup matrices without fibers: called once for a simdgroup, on the places where the elements of
// its lanes lie. matrices.py writes the calls; what they compute is what msl/simdgroup_matrix.h does lane by lane.
#pragma once

#include "host/regions.h"
#include "msl/simdgroup_matrix.h"

namespace zmlx {

// The matrix of one simdgroup: two elements a lane, `stride` bytes from one lane's to the next.
template <class T>
struct Held {
  unsigned char* lane0;
  uint32_t stride;

  ZMLX_FN T* elements(uint32_t lane) const { return reinterpret_cast<T*>(lane0 + lane * stride); }
  // Lanes lie side by side: two neighbours have four elements of a row, one after the other.
  bool is_packed() const { return stride == 2 * sizeof(T); }
};

// The matrix that `mine`, in or part of the place of thread `index`, belongs to.
template <class P, class T>
ZMLX_FN Held<T> held(Each<P>&, uint32_t index, metal::simdgroup_matrix<T, 8, 8>& mine) {
  unsigned char* here = reinterpret_cast<unsigned char*>(&mine.thread_elements());
  return {here - index % SIMD_WIDTH * sizeof(P), sizeof(P)};
}

}  // namespace zmlx

namespace metal {
namespace zmlx_matrices {

using zmlx::Held;

// Calls f(lane, row, column, count) for neighbouring elements that lie side by side with the lanes in `mask`.
template <class T, class F>
ZMLX_FN void each_part(Held<T> matrix, uint32_t mask, F f) {
  const auto part = [&](uint32_t lane, auto count) ZMLX_LAMBDA {
    f(lane, zmlx_detail::matrix_row(lane), zmlx_detail::matrix_column(lane), count);
  };
  // Unrolled, rows and columns are constants.
  if (mask == ~0u && matrix.is_packed()) {
#pragma GCC unroll 16
    for (uint32_t lane = 0; lane < 32; lane += 2) part(lane, integral_constant<size_t, 4>{});
  } else if (mask == ~0u) {
#pragma GCC unroll 32
    for (uint32_t lane = 0; lane < 32; ++lane) part(lane, integral_constant<size_t, 2>{});
  } else {
    zmlx_detail::each(mask, [&](uint32_t lane) ZMLX_LAMBDA { part(lane, integral_constant<size_t, 2>{}); });
  }
}
// The elements of the lanes in `mask`, zero those of others. Converted all at once, so that the compiler vectorises.
template <class T>
ZMLX_FN void take(float (&to)[64], Held<T> from, uint32_t mask) {
  T all[64];
  if (mask != ~0u) __builtin_memset(all, 0, sizeof(all));
  each_part(from, mask, [&](uint32_t lane, uint32_t row, uint32_t column, auto count) ZMLX_LAMBDA {
    __builtin_memcpy(&all[row * 8 + column], from.elements(lane), count * sizeof(T));
  });
  for (uint32_t i = 0; i < 64; ++i) to[i] = static_cast<float>(all[i]);
}
template <class T, class F>
ZMLX_FN void give(const F (&from)[64], Held<T> to, uint32_t mask) {
  T all[64];
  for (uint32_t i = 0; i < 64; ++i) all[i] = static_cast<T>(from[i]);
  each_part(to, mask, [&](uint32_t lane, uint32_t row, uint32_t column, auto count) ZMLX_LAMBDA {
    __builtin_memcpy(to.elements(lane), &all[row * 8 + column], count * sizeof(T));
  });
}

template <class T>
ZMLX_FN void simdgroup_load(uint32_t mask, Held<T> matrix, const T* source, ulong stride = 8,
                            ulong2 origin = ulong2(0ul), bool transpose = false) {
  if (mask != ~0u) {  // elsewhere there may be nothing to read
    zmlx_detail::each(mask, [&](uint32_t lane) ZMLX_LAMBDA {
      for (uint32_t i = 0; i < 2; ++i)
        matrix.elements(lane)[i] = source[zmlx_detail::matrix_offset(lane, i, stride, origin, transpose)];
    });
    return;
  }
  T all[64];
  const T* first = source + (origin.y * stride + origin.x);
  if (transpose) {
    for (uint32_t column = 0; column < 8; ++column)
      for (uint32_t row = 0; row < 8; ++row) all[row * 8 + column] = first[column * stride + row];
  } else {
    for (uint32_t row = 0; row < 8; ++row) __builtin_memcpy(all + row * 8, first + row * stride, 8 * sizeof(T));
  }
  give(all, matrix, mask);
}

template <class T>
ZMLX_FN void simdgroup_store(uint32_t mask, Held<T> matrix, T* target, ulong stride = 8,
                             ulong2 origin = ulong2(0ul), bool transpose = false) {
  zmlx_detail::each(mask, [&](uint32_t lane) ZMLX_LAMBDA {
    for (uint32_t i = 0; i < 2; ++i)
      target[zmlx_detail::matrix_offset(lane, i, stride, origin, transpose)] = matrix.elements(lane)[i];
  });
}

template <class A, class B>
ZMLX_FN void multiply(float (&product)[64], Held<A> a, Held<B> b, uint32_t mask) {
  float left[64], right[64];
  take(left, a, mask);
  take(right, b, mask);
  zmlx_detail::multiply(left, right, product);
}

template <class D, class A, class B>
ZMLX_FN void simdgroup_multiply(uint32_t mask, Held<D> d, Held<A> a, Held<B> b) {
  float product[64];
  multiply(product, a, b, mask);
  give(product, d, mask);
}

template <class D, class A, class B, class C>
ZMLX_FN void simdgroup_multiply_accumulate(uint32_t mask, Held<D> d, Held<A> a, Held<B> b, Held<C> c) {
  float product[64], sum[64];
  multiply(product, a, b, mask);
  take(sum, c, mask);
  for (uint32_t i = 0; i < 64; ++i) sum[i] += product[i];
  give(sum, d, mask);
}

}  // namespace zmlx_matrices
}  // namespace metal
