// What MLX puts before every custom kernel: limits, strided indexing, log1p and small helpers.
//
// On Metal these are global names beside the library's; here they live where the kernel does, so that
// metal::log1p is an error on every back end, as it is on a Mac.
#pragma once

#include "msl/mlx_complex.h"

#define MTL_CONST

namespace metal {
namespace zmlx_kernel {

static constexpr int MAX_REDUCE_SPECIALIZED_DIMS = 4;
static constexpr int REDUCE_N_READS = 4;
static constexpr int REDUCE_N_WRITES = 4;
static constexpr int SOFTMAX_N_READS = 4;
static constexpr int RMS_N_READS = 4;
static constexpr int RMS_LOOPED_LIMIT = 4096;

ZMLX_FN uint16_t bfloat16_to_uint16(bfloat16_t x) { return x.bits; }
ZMLX_FN bfloat16_t uint16_to_bfloat16(uint16_t x) { return as_type<bfloat16_t>(x); }

// Elements that a thread handles for a type of this size.
template <typename U>
struct WorkPerThread {
  static_assert(sizeof(U) <= 8, "WorkPerThread: the type must have at most 8 bytes");
  static constexpr int n = 8 / sizeof(U);
};

// ------------------------------------------------------------ Limits
// max and min of a floating-point type are the infinities, its finite limits have names of their own.
template <typename U, bool = detail::is_floating<U>()>
struct Limits {
  static constexpr U max = numeric_limits<U>::max();
  static constexpr U min = numeric_limits<U>::min();
  static constexpr U finite_max = max;
  static constexpr U finite_min = min;
};
template <typename U>
struct Limits<U, true> {
  static constexpr U max = numeric_limits<U>::infinity();
  static constexpr U min = -numeric_limits<U>::infinity();
  static constexpr U finite_max = numeric_limits<U>::max();
  static constexpr U finite_min = -numeric_limits<U>::max();
};
template <typename T>
struct Limits<complex_t<T>, false> {
  static constexpr complex_t<T> max = complex_t<T>(Limits<T>::max, Limits<T>::max);
  static constexpr complex_t<T> min = complex_t<T>(Limits<T>::min, Limits<T>::min);
};

// ------------------------------------------------------------ indexing
// Where the element with this number in row-major order lies in an array of these shape and strides.
template <typename IdxT = int64_t>
ZMLX_FN IdxT elem_to_loc(IdxT elem, const int* shape, const int64_t* strides, int ndim) {
  IdxT loc = 0;
  for (int i = ndim - 1; i >= 0 && elem > 0; --i) {
    loc += (elem % shape[i]) * IdxT(strides[i]);
    elem /= shape[i];
  }
  return loc;
}

// The same for a position in a grid of (last axis, axis before, all others).
template <typename IdxT = int64_t>
ZMLX_FN IdxT elem_to_loc(uint3 elem, const int* shape, const int64_t* strides, int ndim) {
  IdxT loc = elem.x * IdxT(strides[ndim - 1]) + elem.y * IdxT(strides[ndim - 2]);
  for (int i = ndim - 3; i >= 0; --i) {
    loc += (elem.z % shape[i]) * IdxT(strides[i]);
    elem.z /= shape[i];
  }
  return loc;
}

template <typename IdxT = int64_t>
ZMLX_FN IdxT elem_to_loc_1(uint elem, const int64_t& stride) {
  return elem * IdxT(stride);
}
template <typename IdxT = int64_t>
ZMLX_FN IdxT elem_to_loc_2(uint2 elem, const int64_t* strides) {
  return elem.x * IdxT(strides[1]) + elem.y * IdxT(strides[0]);
}
template <typename IdxT = int64_t>
ZMLX_FN IdxT elem_to_loc_3(uint3 elem, const int64_t* strides) {
  return elem.x * IdxT(strides[2]) + elem.y * IdxT(strides[1]) + elem.z * IdxT(strides[0]);
}

// One position in two and in three arrays of the same shape.
template <typename IdxT = int64_t>
ZMLX_FN vec<IdxT, 2> elem_to_loc_2_nd(uint3 elem, const int* shape, const int64_t* a_strides,
                                      const int64_t* b_strides, int ndim) {
  return vec<IdxT, 2>(elem_to_loc<IdxT>(elem, shape, a_strides, ndim),
                      elem_to_loc<IdxT>(elem, shape, b_strides, ndim));
}
template <typename IdxT = int64_t>
ZMLX_FN vec<IdxT, 3> elem_to_loc_3_nd(uint3 elem, const int* shape, const int64_t* a_strides,
                                      const int64_t* b_strides, const int64_t* c_strides, int ndim) {
  return vec<IdxT, 3>(elem_to_loc<IdxT>(elem, shape, a_strides, ndim),
                      elem_to_loc<IdxT>(elem, shape, b_strides, ndim),
                      elem_to_loc<IdxT>(elem, shape, c_strides, ndim));
}

// elem_to_loc of 0, 1, 2, … one after the other, without a division for each. DIM is the number of axes, and
// 1 stands for "as many as the constructor is told" unless General is false.
template <int DIM, typename OffsetT = size_t, bool General = true>
struct LoopedElemToLoc {
  int dim;
  LoopedElemToLoc<DIM - 1, OffsetT, General> inner_looper;
  OffsetT offset{0};
  int index{0};

  ZMLX_FN LoopedElemToLoc(int dim_) : dim(dim_), inner_looper(dim_ - 1) {}

  ZMLX_FN void next(const int* shape, const int64_t* strides) { next(1, shape, strides); }

  ZMLX_FN void next(int n, const int* shape, const int64_t* strides) {
    if (dim == 0) {
      return;
    }
    const int size = shape[dim - 1];
    const int whole = index + n;
    if (whole >= size) {
      inner_looper.next(whole / size, shape, strides);
      index = whole % size;
      offset = inner_looper.offset + index * OffsetT(strides[dim - 1]);
    } else {
      index = whole;
      offset += n * OffsetT(strides[dim - 1]);
    }
  }

  ZMLX_FN OffsetT location() { return offset; }
};

template <typename OffsetT>
struct LoopedElemToLoc<1, OffsetT, true> {
  int dim;
  OffsetT offset{0};
  uint index{0};

  ZMLX_FN LoopedElemToLoc(int dim_) : dim(dim_) {}

  ZMLX_FN void next(const int* shape, const int64_t* strides) { next(1, shape, strides); }

  ZMLX_FN void next(int n, const int* shape, const int64_t* strides) {
    index += n;
    offset = dim > 1 ? elem_to_loc<OffsetT>(index, shape, strides, dim) : index * OffsetT(strides[0]);
  }

  ZMLX_FN OffsetT location() { return offset; }
};

template <typename OffsetT>
struct LoopedElemToLoc<1, OffsetT, false> {
  OffsetT offset{0};

  ZMLX_FN LoopedElemToLoc(int) {}
  ZMLX_FN void next(const int*, const int64_t* strides) { offset += OffsetT(strides[0]); }
  ZMLX_FN void next(int n, const int*, const int64_t* strides) { offset += n * OffsetT(strides[0]); }
  ZMLX_FN OffsetT location() { return offset; }
};

// ------------------------------------------------------------ calculation
template <typename T, typename U>
ZMLX_FN T ceildiv(T N, U M) {
  return (N + M - 1) / M;
}

// The error that 1 + x makes cancels between numerator and denominator (Goldberg 1991, theorem 4).
ZMLX_FN float log1p(float x) {
  const float u = 1.0f + x;
  const float y = x * (log(u) / (u - 1.0f));
  const float finite = u == 1.0f ? x : y;
  return u == INFINITY ? u : finite;
}
ZMLX_FN bfloat16_t log1p(bfloat16_t x) { return bfloat16_t(log1p(static_cast<float>(x))); }
ZMLX_FN complex64_t log1p(complex64_t z) {
  const float x = z.real;
  const float y = z.imag;
  const float angle = atan2(y, x + 1.0f);
  if (precise::sqrt(x * x + y * y) < 0.5f) {
    const float r = x * (2.0f + x) + y * y;
    return {r == 0.0f ? x : 0.5f * log1p(r), angle};
  }
  return {log(sqrt((x + 1.0f) * (x + 1.0f) + y * y)), angle};
}

// sqrt(x^2 + y^2) without overflow on the way
ZMLX_FN float hypot(float x, float y) {
  const float large = fmax(fabs(x), fabs(y));
  const float small = fmin(fabs(x), fabs(y));
  const float ratio = large == 0.0f ? 0.0f : small / large;
  const float r = ratio * ratio;
  const float root = precise::sqrt(1.0f + r);
  const float nearly = root == 1.0f && r > 0.0f ? large + large * r / 2.0f : large * root;
  const float exact = small == large ? M_SQRT2_F * large : nearly;
  const float number = isnan(x) || isnan(y) ? NAN : exact;
  return isinf(x) || isinf(y) ? INFINITY : number;
}

template <bool condition, typename T, typename U>
struct ConditionalType {
  using type = conditional_t<condition, T, U>;
};

// static_cast, but that to bool a subnormal is true and a complex number is true if either part is.
template <typename U, typename T>
ZMLX_FN U cast_to(T val) {
  if constexpr (detail::same<U, bool>() && is_complex_v<T>) {
    return cast_to<bool>(val.real) || cast_to<bool>(val.imag);
  } else if constexpr (detail::same<U, bool>() && detail::same<T, float>()) {
    return (as_type<uint32_t>(val) & 0x7fffffffu) != 0;
  } else if constexpr (detail::same<U, bool>() && detail::same<T, bfloat16_t>()) {
    return (val.bits & 0x7fff) != 0;
  } else {
    return detail::convert<U>(val);
  }
}

}  // namespace zmlx_kernel
}  // namespace metal

// Where a header's own `namespace mlx` begins, see translate/function.py.
namespace metal { namespace zmlx_kernel { namespace { namespace mlx {
using os_log = metal::os_log;
}}}}  // namespace metal::zmlx_kernel::mlx
