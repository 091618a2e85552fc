// Fibers: the threads of a threadgroup, on one OS thread, switched by hand.
//
// A context is a stack pointer. x86-64 and arm64 switch in a few instructions; other machines start a fiber with makecontext and switch with _setjmp/_longjmp.
#pragma once

#include <stddef.h>
#include <stdint.h>

#if (defined(__x86_64__) || defined(__aarch64__)) && !defined(ZMLX_PORTABLE_FIBERS)
#define ZMLX_ASM_FIBERS 1
#else
#include <setjmp.h>
#include <ucontext.h>
#endif

namespace zmlx {

// Stacks are aligned to their size, so that a fiber finds its own record from any address on its stack. What a fiber
// uses begins at a place that differs from stack to stack: equal places on aligned stacks share a few sets of the
// caches, and switching would miss all of them every time.
constexpr size_t STACK_SIZE = 256 * 1024;
constexpr size_t STACK_STAGGER = 64 * 1024;

inline __attribute__((always_inline)) uintptr_t stack_top(uintptr_t on_stack) {
  const uintptr_t number = on_stack / STACK_SIZE;
  return number * STACK_SIZE + STACK_SIZE - number * 5 * 64 % STACK_STAGGER;
}

#if ZMLX_ASM_FIBERS

using Context = void*;

// The switch is inlined, and jumps instead of returning, so that calls and returns stay paired as the processor's
// return predictor expects: with fibers that wait at the same place it then guesses right. All registers in which a
// compiler may keep a value, callee-saved ones too, are declared overwritten (k0 as well, which is no mask but holds
// integers); only those that cannot be (frame and base pointers) are saved by hand.
#if defined(__x86_64__)
inline __attribute__((always_inline)) void switch_context(Context& save, Context load) {
  Context* at = &save;
  asm volatile(
      "leaq -128(%%rsp), %%rsp\n\t"  // step over the red zone
      "pushq %%rbp\n\t"
      "pushq %%rbx\n\t"
      "leaq 1f(%%rip), %%rax\n\t"
      "pushq %%rax\n\t"
      "movq %%rsp, (%0)\n\t"
      "movq %1, %%rsp\n\t"
      "popq %%rax\n\t"
      "jmpq *%%rax\n"
      "1:\n\t"
      "popq %%rbx\n\t"
      "popq %%rbp\n\t"
      "leaq 128(%%rsp), %%rsp"
      : "+D"(at), "+S"(load)
      :
      : "rax", "rcx", "rdx", "r8", "r9", "r10", "r11", "r12", "r13", "r14", "r15", "memory", "cc", "xmm0", "xmm1",
        "xmm2", "xmm3", "xmm4", "xmm5", "xmm6", "xmm7", "xmm8", "xmm9", "xmm10", "xmm11", "xmm12", "xmm13", "xmm14",
        "xmm15"
#if defined(__AVX512F__)
        , "xmm16", "xmm17", "xmm18", "xmm19", "xmm20", "xmm21", "xmm22", "xmm23", "xmm24", "xmm25", "xmm26", "xmm27",
        "xmm28", "xmm29", "xmm30", "xmm31", "k0", "k1", "k2", "k3", "k4", "k5", "k6", "k7"
#endif
#if defined(__APX_F__)
        , "r16", "r17", "r18", "r19", "r20", "r21", "r22", "r23", "r24", "r25", "r26", "r27", "r28", "r29", "r30", "r31"
#endif
  );
}

// A new fiber starts at `entry` as if it had been called: 8 bytes off a multiple of 16.
inline Context make_context(char* top, void (*entry)()) {
  void** sp = reinterpret_cast<void**>(top) - 2;
  sp[0] = reinterpret_cast<void*>(entry);
  sp[1] = nullptr;
  return sp;
}
#else
inline __attribute__((always_inline)) void switch_context(Context& save, Context load) {
  register Context* at asm("x0") = &save;
  register Context to asm("x1") = load;
  asm volatile(
      "adr x9, 1f\n\t"
      "stp x29, x9, [sp, #-32]!\n\t"
      "str x19, [sp, #16]\n\t"
      "mov x10, sp\n\t"
      "str x10, [x0]\n\t"
      "mov sp, x1\n\t"
      "ldr x9, [sp, #8]\n\t"
      "br x9\n"
      "1:\n\t"
      "ldr x19, [sp, #16]\n\t"
      "ldr x29, [sp], #32"
      : "+r"(at), "+r"(to)
      :
      : "x2", "x3", "x4", "x5", "x6", "x7", "x8", "x9", "x10", "x11", "x12", "x13", "x14", "x15", "x16", "x17", "x20",
        "x21", "x22", "x23", "x24", "x25", "x26", "x27", "x28", "x30", "memory", "cc", "v0", "v1", "v2", "v3", "v4",
        "v5", "v6", "v7", "v8", "v9", "v10", "v11", "v12", "v13", "v14", "v15", "v16", "v17", "v18", "v19", "v20",
        "v21", "v22", "v23", "v24", "v25", "v26", "v27", "v28", "v29", "v30", "v31"
#if defined(__linux__) && !defined(__ANDROID__)
        , "x18"  // reserved elsewhere
#endif
#if defined(__ARM_FEATURE_SVE)
        , "p0", "p1", "p2", "p3", "p4", "p5", "p6", "p7", "p8", "p9", "p10", "p11", "p12", "p13", "p14", "p15"
#endif
  );
}

inline Context make_context(char* top, void (*entry)()) {
  void** sp = reinterpret_cast<void**>(top) - 4;
  sp[0] = nullptr;
  sp[1] = reinterpret_cast<void*>(entry);
  return sp;
}
#endif

// What the scheduler needs to be switched back to: its stack pointer, which the switch saves.
struct MainContext {
  Context context() { return nullptr; }
};

#else

struct PortableContext {
  jmp_buf jump;
  ucontext_t start;
  bool started;
};
using Context = PortableContext*;

// The context itself lies at the top of the fiber's stack.
inline Context make_context(char* top, void (*entry)()) {
  uintptr_t at = (reinterpret_cast<uintptr_t>(top) - sizeof(PortableContext)) & ~uintptr_t(63);
  Context context = reinterpret_cast<Context>(at);
  char* base = reinterpret_cast<char*>(at & ~(STACK_SIZE - 1));
  getcontext(&context->start);
  context->start.uc_stack.ss_sp = base;
  context->start.uc_stack.ss_size = static_cast<size_t>(reinterpret_cast<char*>(at) - base);
  context->start.uc_link = nullptr;
  makecontext(&context->start, entry, 0);
  context->started = false;
  return context;
}

inline void switch_context(Context& save, Context load) {
  save->started = true;
  if (_setjmp(save->jump) != 0) return;
  if (load->started) _longjmp(load->jump, 1);
  load->started = true;
  setcontext(&load->start);
}

struct MainContext {
  PortableContext storage;
  Context context() { return &storage; }
};

#endif

}  // namespace zmlx
