// The hooks of checked runs: what check/check.cpp wants to know of a threadgroup besides its memory accesses.
//
// In ordinary builds every macro here is empty and nothing is declared. A checked build (ZMLX_CHECKED) compiles the
// kernel with the compiler's thread-sanitizer instrumentation and links check/check.cpp, which implements the functions.
#pragma once

#include <stddef.h>
#include <stdint.h>

#if defined(ZMLX_CHECKED)

// The engine's own functions are not part of the kernel, and must not be instrumented.
#define ZMLX_UNCHECKED __attribute__((no_sanitize("thread", "undefined")))
// What the kernel calls and a finding may be about: inlined, so that the call's place is one of the kernel's own.
#define ZMLX_INLINE inline __attribute__((always_inline))
#if defined(__clang__)
#define ZMLX_NOINLINE_IF_CHECKED ZMLX_UNCHECKED __attribute__((noinline, nomerge))
#else
#define ZMLX_NOINLINE_IF_CHECKED ZMLX_UNCHECKED __attribute__((noinline))
#endif

// What the compiler makes of large copies and fills, in the kernel's own object file.
#if defined(__ELF__) && !defined(ZMLX_CHECKER)
asm("memcpy = zmlx_checked_copy");
asm("memmove = zmlx_checked_copy");
asm("memset = zmlx_checked_fill");
#endif

namespace zmlx {

struct Fiber;
struct Group;
struct Simdgroup;

namespace check {

// What a thread waits for.
enum Wait : uint32_t { RUNNING = 0, BARRIER = 1, SIMD = 2, SIMD_BARRIER = 3 };

void begins(Fiber* me);
void waits(Fiber* me, Wait what, uint32_t flags, uint32_t line, const void* pc);
void resumes(Fiber* me);
void returns(Fiber* me);
void releases(Group& group);
void collects(Group& group, Simdgroup& simd, uint32_t mask, uint32_t chosen);

// Called by the simd operation that is being carried out. A lane reads from lane `from`; `edge`: it may be one behind the
// last, as at the ends of shuffles up and down, where nobody uses the value.
void reads_lane(uint32_t lane, uint32_t from, uint32_t mask, bool edge);
// Two lanes name different lanes to broadcast from.
void lanes_differ(uint32_t lane, uint32_t from, uint32_t other_from);
// Integers of 64 bits are reduced.
void reduces_wide(uint32_t lane);

// The order of threads: 0 is that of ordinary launches.
extern __attribute__((visibility("hidden"))) uint32_t schedule;
uint32_t first_thread(uint32_t count);
uint32_t next_lane(uint32_t runnable);
uint32_t next_simdgroup(Group& group, uint32_t current, uint32_t proposed);

// A threadgroup variable of `bytes` bytes, whose elements have `element`; extents of a two- or three-dimensional one.
char* place(int id, const char* name, size_t bytes, size_t element, size_t columns, size_t planes);

template <class T>
struct Shape {
  using Element = T;
  static constexpr size_t columns = 0, planes = 0;
};
template <class T, size_t N>
struct Shape<T[N]> {
  using Element = typename Shape<T>::Element;
  static constexpr size_t columns = Shape<T>::columns, planes = Shape<T>::planes;
};
template <class T, size_t N, size_t M>
struct Shape<T[N][M]> {
  using Element = T;
  static constexpr size_t columns = M, planes = 0;
};
template <class T, size_t N, size_t M, size_t K>
struct Shape<T[N][M][K]> {
  using Element = T;
  static constexpr size_t columns = K, planes = M;
};

// Whether a simd operation is a barrier.
template <class Op, class = void>
struct IsFence {
  static constexpr Wait wait = SIMD;
};
template <class Op>
struct IsFence<Op, decltype(static_cast<void>(Op::is_fence))> {
  static constexpr Wait wait = SIMD_BARRIER;
};

}  // namespace check
}  // namespace zmlx

#define ZMLX_ON_CHECK(...) __VA_ARGS__

#else

#define ZMLX_UNCHECKED
#define ZMLX_INLINE inline
#define ZMLX_NOINLINE_IF_CHECKED
#define ZMLX_ON_CHECK(...)

#endif
