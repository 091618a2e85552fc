// Functions of Metal's compiler (a clang) that g++ or NVRTC does not have.
#pragma once

#include "msl/integer.h"

#if !defined(__clang__) && !defined(ZMLX_CUDA)
#define __builtin_assume(condition) ((condition) ? static_cast<void>(0) : __builtin_unreachable())
#endif

#if defined(ZMLX_CUDA)
namespace zmlx_builtin {
ZMLX_FN int popcount(unsigned int x) { return __popc(x); }
ZMLX_FN int popcountl(unsigned long x) { return __popcll(x); }
ZMLX_FN int clz(unsigned int x) { return __clz(static_cast<int>(x)); }
ZMLX_FN int clzl(unsigned long x) { return __clzll(static_cast<long>(x)); }
ZMLX_FN int ctz(unsigned int x) { return __ffs(static_cast<int>(x)) - 1; }
ZMLX_FN int ctzl(unsigned long x) { return __ffsll(static_cast<long>(x)) - 1; }
ZMLX_FN int ffs(int x) { return __ffs(x); }
ZMLX_FN int ffsl(long x) { return __ffsll(x); }
ZMLX_FN int parity(unsigned int x) { return __popc(x) & 1; }
}  // namespace zmlx_builtin
#define __builtin_popcount(x) ::zmlx_builtin::popcount(x)
#define __builtin_popcountl(x) ::zmlx_builtin::popcountl(x)
#define __builtin_popcountll(x) ::zmlx_builtin::popcountl(x)
#define __builtin_clz(x) ::zmlx_builtin::clz(x)
#define __builtin_clzl(x) ::zmlx_builtin::clzl(x)
#define __builtin_clzll(x) ::zmlx_builtin::clzl(x)
#define __builtin_ctz(x) ::zmlx_builtin::ctz(x)
#define __builtin_ctzl(x) ::zmlx_builtin::ctzl(x)
#define __builtin_ctzll(x) ::zmlx_builtin::ctzl(x)
#define __builtin_ffs(x) ::zmlx_builtin::ffs(x)
#define __builtin_ffsl(x) ::zmlx_builtin::ffsl(x)
#define __builtin_parity(x) ::zmlx_builtin::parity(x)
#endif
