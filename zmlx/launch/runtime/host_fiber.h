// Fibers: the threads of a threadgroup, on one OS thread, switched by hand.
//
// A context is a stack pointer; what a function call does not preserve needs no saving. x86-64 and arm64 switch in
// a few instructions; other machines start a fiber with makecontext and switch with _setjmp/_longjmp.
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

// Stacks are aligned to their size, so that a fiber finds its own record from any address on its stack.
constexpr size_t STACK_SIZE = 128 * 1024;

#if ZMLX_ASM_FIBERS

using Context = void*;

#if defined(__APPLE__)
#define ZMLX_SYMBOL(name) "_" #name
#else
#define ZMLX_SYMBOL(name) #name
#endif

extern "C" void zmlx_switch(Context* save, Context load);

#if defined(__x86_64__)
asm(".text\n.p2align 4\n" ZMLX_SYMBOL(zmlx_switch) ":\n"
    "  pushq %rbp\n  pushq %rbx\n  pushq %r12\n  pushq %r13\n  pushq %r14\n  pushq %r15\n"
    "  movq %rsp, (%rdi)\n  movq %rsi, %rsp\n"
    "  popq %r15\n  popq %r14\n  popq %r13\n  popq %r12\n  popq %rbx\n  popq %rbp\n"
    "  ret\n");

// At entry the stack must look as after a call: 8 bytes off a multiple of 16.
inline Context make_context(char* top, void (*entry)()) {
  void** sp = reinterpret_cast<void**>(top) - 8;
  for (int i = 0; i < 6; ++i) sp[i] = nullptr;
  sp[6] = reinterpret_cast<void*>(entry);
  sp[7] = nullptr;
  return sp;
}
#else
asm(".text\n.p2align 4\n" ZMLX_SYMBOL(zmlx_switch) ":\n"
    "  sub sp, sp, #160\n"
    "  stp x19, x20, [sp, #0]\n  stp x21, x22, [sp, #16]\n  stp x23, x24, [sp, #32]\n"
    "  stp x25, x26, [sp, #48]\n  stp x27, x28, [sp, #64]\n  stp x29, x30, [sp, #80]\n"
    "  stp d8, d9, [sp, #96]\n  stp d10, d11, [sp, #112]\n  stp d12, d13, [sp, #128]\n  stp d14, d15, [sp, #144]\n"
    "  mov x9, sp\n  str x9, [x0]\n  mov sp, x1\n"
    "  ldp x19, x20, [sp, #0]\n  ldp x21, x22, [sp, #16]\n  ldp x23, x24, [sp, #32]\n"
    "  ldp x25, x26, [sp, #48]\n  ldp x27, x28, [sp, #64]\n  ldp x29, x30, [sp, #80]\n"
    "  ldp d8, d9, [sp, #96]\n  ldp d10, d11, [sp, #112]\n  ldp d12, d13, [sp, #128]\n  ldp d14, d15, [sp, #144]\n"
    "  add sp, sp, #160\n  ret\n");

inline Context make_context(char* top, void (*entry)()) {
  void** sp = reinterpret_cast<void**>(top) - 20;
  for (int i = 0; i < 20; ++i) sp[i] = nullptr;
  sp[11] = reinterpret_cast<void*>(entry);  // x30, where `ret` goes
  return sp;
}
#endif

inline void switch_context(Context& save, Context& load) { zmlx_switch(&save, load); }

#else

struct Context {
  jmp_buf jump;
  ucontext_t start;
  bool started;
};

inline Context make_context(char* top, void (*entry)()) {
  Context context;
  char* base = reinterpret_cast<char*>(reinterpret_cast<uintptr_t>(top) & ~(STACK_SIZE - 1));
  getcontext(&context.start);
  context.start.uc_stack.ss_sp = base;
  context.start.uc_stack.ss_size = static_cast<size_t>(top - base);
  context.start.uc_link = nullptr;
  makecontext(&context.start, entry, 0);
  context.started = false;
  return context;
}

inline void switch_context(Context& save, Context& load) {
  save.started = true;
  if (_setjmp(save.jump) != 0) return;
  if (load.started) _longjmp(load.jump, 1);
  load.started = true;
  setcontext(&load.start);
}

#endif

}  // namespace zmlx
