// What a kernel's signals become: a kernel that divides by zero, leaves its arrays, overflows its stack or traps ends
// its launch, not the process. The signal's handler jumps back to the worker, which gives up its fibers. A signal from
// elsewhere goes to the handler that was there before.
#pragma once

#include "host/fiber.h"
#include "host/launch.h"

#include <pthread.h>
#include <setjmp.h>
#include <signal.h>
#include <sys/mman.h>
#include <unistd.h>

namespace zmlx {
namespace {

inline char* reserve(size_t bytes, size_t alignment) {
  void* at = mmap(nullptr, bytes + alignment, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (at == MAP_FAILED) return nullptr;
  return reinterpret_cast<char*>((reinterpret_cast<uintptr_t>(at) + alignment - 1) & ~(alignment - 1));
}

// How far from the stack pointer a function's first access to its frame may be.
constexpr ptrdiff_t MAX_FRAME = 64 * 1024;

struct Guard {
  sigjmp_buf back;
  Launch* launch;
  Worker* worker;
};
thread_local Guard* guard = nullptr;

// Saving the signal mask to jump back to is a system call for each piece of work. macOS needs it: only a jump that
// restores the mask tells its kernel that the signal stack is free again.
#if defined(__APPLE__)
constexpr int SAVE_MASK = 1;
#else
constexpr int SAVE_MASK = 0;
#endif

// __builtin_trap is SIGILL on x86-64 and SIGTRAP on arm64.
constexpr int SIGNALS[] = {SIGFPE, SIGSEGV, SIGBUS, SIGILL, SIGTRAP};
struct sigaction previous[sizeof(SIGNALS) / sizeof(*SIGNALS)];

// The stack pointer at the time of a signal; null where this is not known.
const char* stack_pointer(const void* context) {
#if defined(__linux__) && defined(__x86_64__)
  return reinterpret_cast<const char*>(static_cast<const ucontext_t*>(context)->uc_mcontext.gregs[REG_RSP]);
#elif defined(__linux__) && defined(__aarch64__)
  return reinterpret_cast<const char*>(static_cast<const ucontext_t*>(context)->uc_mcontext.sp);
#elif defined(__APPLE__) && defined(__aarch64__)
  return reinterpret_cast<const char*>(static_cast<const ucontext_t*>(context)->uc_mcontext->__ss.__sp);
#else
  (void)context;
  return nullptr;
#endif
}

Error cause(int signal, const void* address, const void* context) {
  if (signal == SIGFPE) return ARITHMETIC;
  if (signal == SIGILL || signal == SIGTRAP) return TRAP;
  const char* at = static_cast<const char*>(address);
  const char* stacks = guard->worker->stacks;
  const bool on_fiber = stacks && at >= stacks && at < stacks + size_t(MAX_GROUP_THREADS) * STACK_SIZE;
  // The worker's own stack: what does not fit there faults where the stack ends.
  const char* top = stack_pointer(context);
  const bool at_top = top && at > top - MAX_FRAME && at < top + MAX_FRAME;
  return on_fiber || at_top ? STACK : ACCESS;
}

[[noreturn]] void jump_back(int signal) {
  // Where the jump does not restore the mask, it is as in here, with the signal blocked.
  sigset_t caught;
  sigemptyset(&caught);
  sigaddset(&caught, signal);
  pthread_sigmask(SIG_UNBLOCK, &caught, nullptr);
  siglongjmp(guard->back, 1);
}

void on_signal(int signal, siginfo_t* info, void* context) {
  if (guard) {
    __atomic_store_n(&guard->launch->error, cause(signal, info->si_addr, context), __ATOMIC_RELAXED);
    jump_back(signal);
  }
  for (size_t i = 0; i < sizeof(SIGNALS) / sizeof(*SIGNALS); ++i)
    if (SIGNALS[i] == signal) sigaction(signal, &previous[i], nullptr);
  // On return the instruction runs again and the signal goes where it went before. One that was sent does not come again
  // by itself, nor does that of a breakpoint.
  if (signal == SIGTRAP || info->si_code <= 0) raise(signal);
}

// Looks again at every launch: Python's faulthandler, which pytest turns on and off, puts its own handlers here.
void catch_signals() {
  struct sigaction action {};
  action.sa_sigaction = on_signal;
  action.sa_flags = SA_SIGINFO | SA_ONSTACK;
  sigemptyset(&action.sa_mask);
  for (size_t i = 0; i < sizeof(SIGNALS) / sizeof(*SIGNALS); ++i) {
    struct sigaction now {};
    sigaction(SIGNALS[i], nullptr, &now);
    if ((now.sa_flags & SA_SIGINFO) && now.sa_sigaction == on_signal) continue;
    previous[i] = now;
    sigaction(SIGNALS[i], &action, nullptr);
  }
}

// A handler cannot run on the stack that has just overflowed.
void give_signal_stack() {
  stack_t now{};
  if (sigaltstack(nullptr, &now) == 0 && !(now.ss_flags & SS_DISABLE)) return;
  stack_t stack{};
  stack.ss_size = 64 * 1024;
  stack.ss_sp = reserve(stack.ss_size, 4096);
  if (stack.ss_sp) sigaltstack(&stack, nullptr);
}

}  // namespace
}  // namespace zmlx
