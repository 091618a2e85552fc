// What the other runtime headers need to know of the compiler: target, function attributes, fixed-width
// types.
//
// Two targets: ZMLX_HOST (g++ or clang, C++17) and ZMLX_CUDA (NVRTC, which brings no standard headers, or
// nvcc). Every standard header that the runtime uses on the host is included here, before any name of Metal
// is declared.
#pragma once

#if defined(__CUDACC_RTC__) || defined(__CUDACC__)
#define ZMLX_CUDA 1
#else
#define ZMLX_HOST 1
#include <stddef.h>
#include <stdint.h>
#endif

// ZMLX_FN: a runtime function, always inlined so that loops over it vectorise. ZMLX_CALL: large and rarely
// called.
#if defined(ZMLX_CUDA)
#define ZMLX_FN __device__ __forceinline__
#define ZMLX_LAMBDA
#else
#define ZMLX_FN __attribute__((always_inline)) inline
#define ZMLX_LAMBDA __attribute__((always_inline))
#endif

// Metal's own spelling of a library function, which authors use for their own.
#define METAL_FUNC ZMLX_FN

#if defined(__clang__)
#define MLX_MTL_PRAGMA_UNROLL _Pragma("clang loop unroll(full)")
#elif defined(ZMLX_CUDA)
#define MLX_MTL_PRAGMA_UNROLL _Pragma("unroll")
#else
#define MLX_MTL_PRAGMA_UNROLL _Pragma("GCC unroll 64")
#endif

// A fused multiply-add that costs one instruction. Without it the host multiplies and adds, and the maths
// falls back on constants short enough for the products to be exact.
#if defined(ZMLX_CUDA) || defined(__FMA__) || defined(__aarch64__) || defined(__ARM_FEATURE_FMA)
#define ZMLX_HAS_FMA 1
#else
#define ZMLX_HAS_FMA 0
#endif

// The compiler's own 16-bit float is used for conversions where it vectorises them. GCC does so on ARM only, and
// clang before 15 has the type on x86 only for processors that compute with it.
#if defined(ZMLX_HOST) && defined(__aarch64__)
#define ZMLX_NATIVE_HALF __fp16
#elif defined(ZMLX_HOST) && defined(__clang__) && defined(__F16C__) && \
    (defined(__AVX512FP16__) || __clang_major__ >= 15)
#define ZMLX_NATIVE_HALF _Float16
#endif

#if defined(__FAST_MATH__)
#error "The runtime's maths relies on NaN and infinities: compile without -ffast-math."
#endif

namespace metal {

using uchar = unsigned char;
using ushort = unsigned short;
using uint = unsigned int;
using ulong = unsigned long;

// As in Metal, where `long` has 64 bits; so it has on every platform that zmlx compiles for.
using int8_t = signed char;
using int16_t = short;
using int32_t = int;
using int64_t = long;
using uint8_t = uchar;
using uint16_t = ushort;
using uint32_t = uint;
using uint64_t = ulong;
using size_t = decltype(sizeof(0));
using ptrdiff_t = decltype(static_cast<char*>(nullptr) - static_cast<char*>(nullptr));
using intptr_t = long;
using uintptr_t = ulong;

static_assert(sizeof(long) == 8 && sizeof(size_t) == 8,
              "zmlx needs an LP64 platform, where `long` has 64 bits");

}  // namespace metal
