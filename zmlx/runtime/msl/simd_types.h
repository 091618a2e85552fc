// <simd/simd.h>: the names that Apple's vector library has for Metal's types, and its namespace.
#pragma once

#include "msl/matrix.h"

namespace metal {

#define ZMLX_NAMES(name, T)                                                             \
  using simd_##name##2 = T##2;                                                          \
  using simd_##name##3 = T##3;                                                          \
  using simd_##name##4 = T##4;                                                          \
  using vector_##name##2 = T##2;                                                        \
  using vector_##name##3 = T##3;                                                        \
  using vector_##name##4 = T##4;                                                        \
  using simd_packed_##name##2 = packed_##T##2;                                          \
  using simd_packed_##name##3 = packed_##T##3;                                          \
  using simd_packed_##name##4 = packed_##T##4;                                          \
  namespace simd {                                                                      \
  using name##2 = T##2;                                                                 \
  using name##3 = T##3;                                                                 \
  using name##4 = T##4;                                                                 \
  using packed_##name##2 = packed_##T##2;                                               \
  using packed_##name##3 = packed_##T##3;                                               \
  using packed_##name##4 = packed_##T##4;                                               \
  }
ZMLX_NAMES(char, char)
ZMLX_NAMES(uchar, uchar)
ZMLX_NAMES(short, short)
ZMLX_NAMES(ushort, ushort)
ZMLX_NAMES(int, int)
ZMLX_NAMES(uint, uint)
ZMLX_NAMES(long, long)
ZMLX_NAMES(ulong, ulong)
ZMLX_NAMES(half, half)
ZMLX_NAMES(float, float)
#undef ZMLX_NAMES

#define ZMLX_NAMES(T, size)               \
  using simd_##T##size = T##size;         \
  using matrix_##T##size = T##size;       \
  namespace simd {                        \
  using metal::T##size;                   \
  }
#define ZMLX_SIZES(T)                                                                                   \
  ZMLX_NAMES(T, 2x2) ZMLX_NAMES(T, 2x3) ZMLX_NAMES(T, 2x4) ZMLX_NAMES(T, 3x2) ZMLX_NAMES(T, 3x3)        \
  ZMLX_NAMES(T, 3x4) ZMLX_NAMES(T, 4x2) ZMLX_NAMES(T, 4x3) ZMLX_NAMES(T, 4x4)
ZMLX_SIZES(float)
ZMLX_SIZES(half)
#undef ZMLX_SIZES
#undef ZMLX_NAMES

}  // namespace metal
