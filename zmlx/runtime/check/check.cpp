// The checker: linked into every checked kernel. One launch at a time, on one OS thread.
//
// Every array of a launch is copied into a slot of its own in one large reservation of address space, far from its
// neighbours, so that any address belongs to one array, and an index that is wrong by up to 2^32 elements still
// names the array that it missed.

#define ZMLX_CHECKER
#include "check/memory.h"

#include <pthread.h>
#include <setjmp.h>
#include <signal.h>
#include <ucontext.h>

namespace zmlx {
namespace check {

State S;
uint32_t schedule;

namespace {

sigjmp_buf back;
pthread_t runner;
volatile sig_atomic_t running;
uint64_t order_seed;

bool equal(const Finding& a, const Finding& b) {
  return a.kind == b.kind && a.detail == b.detail && a.pc == b.pc && a.other_pc == b.other_pc && a.slot == b.slot &&
      a.line == b.line && a.access == b.access && a.other_access == b.other_access;
}

// Where every thread of the running threadgroup is, for the report of a launch that was stopped.
void take_stock(Check& check, const Group& group) {
  check.stopped_group = S.group_number;
  check.stopped_thread = thread_of(S.me);
  check.last_pc = S.last_pc;
  check.waiting_count = 0;
  for (uint32_t thread = 0; thread < group.threads; ++thread) {
    const Simdgroup& simd = group.simdgroup[thread / SIMD_WIDTH];
    const uint32_t bit = 1u << thread % SIMD_WIDTH;
    Waiting now{5, 0, 1, thread};
    if (thread / SIMD_WIDTH < group.first_simdgroup || !(simd.live & bit))
      now.what = 4;
    else if ((simd.at_simd | simd.at_barrier) & bit) {
      now.what = S.wait[thread].what;
      now.pc = S.wait[thread].pc;
    }
    if (thread == check.stopped_thread) continue;
    bool known = false;
    for (uint32_t i = 0; i < check.waiting_count && !known; ++i)
      if (check.waiting[i].what == now.what && check.waiting[i].pc == now.pc) {
        ++check.waiting[i].threads;
        known = true;
      }
    if (!known && check.waiting_count < MAX_WAITS) check.waiting[check.waiting_count++] = now;
  }
}

// Where the interrupted code was.
uintptr_t interrupted(const void* context) {
  const auto* c = static_cast<const ucontext_t*>(context);
#if defined(__APPLE__) && defined(__aarch64__)
  return c->uc_mcontext->__ss.__pc;
#elif defined(__APPLE__)
  return c->uc_mcontext->__ss.__rip;
#elif defined(__x86_64__)
  return static_cast<uintptr_t>(c->uc_mcontext.gregs[REG_RIP]);
#elif defined(__aarch64__)
  return c->uc_mcontext.pc;
#else
  return 0;
#endif
}

void on_signal(int, siginfo_t*, void* context) {
  if (!running || !pthread_equal(pthread_self(), runner)) return;
  running = 0;
  S.check->stopped = 1;
  S.check->stopped_pc = offset_of(reinterpret_cast<const void*>(interrupted(context) + 1));
  if (S.group != nullptr) take_stock(*S.check, *S.group);
  siglongjmp(back, 1);
}

// At every launch: each checked kernel is a library with a handler of its own, and the last one that ran has put its there.
// SIGURG is ignored by default, so one that comes late does nothing.
void listen() {
  struct sigaction action {};
  action.sa_sigaction = on_signal;
  action.sa_flags = SA_SIGINFO | SA_ONSTACK | SA_RESTART;
  sigemptyset(&action.sa_mask);
  sigaction(SIGURG, &action, nullptr);
}

void begin_group(uint64_t order) {
  S.group_order = order;
  S.group_number = group_in_order(order);
  S.group = nullptr;
  const uint32_t now = tick();
  S.group_times[order] = now;
  S.oldest = S.fenced[0] = S.fenced[1] = at_time(now);
  S.executed = 0;
  for (uint32_t i = 0; i < MAX_GROUP_THREADS / SIMD_WIDTH; ++i) {
    S.simd_fenced[0][i] = S.simd_fenced[1][i] = S.oldest;
    S.simd_executed[i] = S.simd_operated[i] = 0;
  }
  S.arrived_pc = S.finished = S.stopped_threads = 0;
}

void divergence(Detail detail, uint32_t thread, uint32_t other_thread, bool other_waits, uint64_t value) {
  Finding f = start_finding(DIVERGENCE, detail, NO_SLOT, 0, 0, READ, S.wait[thread].pc);
  f.line = S.wait[thread].line;
  f.thread = thread;
  f.other_thread = other_thread;
  if (other_waits) {
    f.other_pc = S.wait[other_thread].pc;
    f.other_line = S.wait[other_thread].line;
  }
  f.other_group = f.group;
  f.value = value;
  report(f);
}

}  // namespace

uint32_t tick() {
  if (++S.time >= MAX_TIME) {
    S.check->stopped = 2;
    running = 0;
    siglongjmp(back, 1);
  }
  return S.time;
}

uint64_t group_in_order(uint64_t order) {
  const Extent& groups = S.check->launch.groups;
  const uint64_t count = uint64_t(groups.x) * groups.y * groups.z;
  switch (schedule) {
    case REVERSED:
      return count - 1 - order;
    case RANDOM: {
      // A stride without a common factor with the count visits every group once.
      uint64_t stride = order_seed % count | 1;
      for (;;) {
        uint64_t a = count, b = stride;
        while (b) {
          const uint64_t rest = a % b;
          a = b;
          b = rest;
        }
        if (a == 1) break;
        ++stride;
      }
      return (order * (stride % count) + order_seed / 7) % count;
    }
    default:
      return order;
  }
}

__attribute__((noinline)) void report(Finding& finding) {
  Check& check = *S.check;
  for (uint32_t i = 0; i < check.finding_count; ++i)
    if (equal(check.findings[i], finding)) {
      ++check.findings[i].count;
      return;
    }
  if (check.finding_count == MAX_FINDINGS) {
    ++check.dropped;
    return;
  }
  finding.count = 1;
  check.findings[check.finding_count++] = finding;
}

// The running thread ends here, as if it had returned.
void stop_thread() {
  ++S.stopped_threads;
  ++S.all_stopped;
  Fiber* me = self();
  me->group->finish(me);
  __builtin_unreachable();
}

// Makes memory between the arrays readable. Every page may be a mapping of its own, of which a process has so many.
static bool open_page(uintptr_t address, size_t size) {
  constexpr uint32_t MOST = 4096;
  const uintptr_t page = static_cast<uintptr_t>(sysconf(_SC_PAGESIZE));
  const uintptr_t first = address & ~(page - 1), end = page_up(address + size);
  if (end > S.base + S.span || S.opened >= MOST) return false;
  for (uintptr_t at = first; at < end; at += page) {
    const Slot& slot = S.slot[(at - S.base) >> S.shift];
    if (slot.data && at >= slot.data && at < page_up(slot.data + slot.bytes)) continue;
    ++S.opened;
    if (mprotect(reinterpret_cast<void*>(at), page, PROT_READ) != 0) return false;
  }
  return true;
}

// Memory of the engine and of the running thread itself.
static bool is_own(uintptr_t address, uint32_t access) {
  const uintptr_t here = reinterpret_cast<uintptr_t>(__builtin_frame_address(0));
  // The scheduler runs no code of the kernel.
  if (here - S.stacks >= S.stacks_span || address - (here & ~(STACK_SIZE - 1)) < STACK_SIZE) return true;
  // Its variables, and the launch's scalars and shapes, are on the stack that called it.
  if (address - S.frame < (1u << 20) || address - reinterpret_cast<uintptr_t>(S.check) < sizeof(Check)) return true;
  return address - S.image < S.image_span && !(access & WRITE);
}

void outside(uintptr_t address, size_t size, uint32_t access, uint32_t pc) {
  const uintptr_t relative = address - S.base;
  if (size == 0 || (relative >= S.span && is_own(address, access))) return;
  Finding f = start_finding(OUT_OF_BOUNDS, PLAIN, NO_SLOT, 0, size, access, pc);
  f.value = address;
  if (relative >= S.span) {
    f.detail = address - S.stacks < S.stacks_span ? OTHER_THREAD : UNKNOWN_MEMORY;
  } else {
    const uint32_t number = static_cast<uint32_t>(relative >> S.shift);
    const Slot& slot = S.slot[number];
    if (slot.data == 0) {
      f.detail = UNKNOWN_MEMORY;
    } else {
      f.slot = number;
      f.offset = static_cast<int64_t>(address - slot.data);
      const uint64_t offset = static_cast<uint64_t>(f.offset);
      if (offset < slot.bytes && slot.bytes - offset >= size) f.detail = READ_ONLY;
    }
  }
  report(f);
  // A value that is read from outside may not be used: the thread goes on, and reads zeros.
  if (access == READ && relative < S.span && open_page(address, size)) return;
  stop_thread();
}

}  // namespace check
}  // namespace zmlx

#include "check/group.h"
#include "check/tsan.h"

extern "C" void zmlx_entry(zmlx::Launch* launch, zmlx::Worker* worker, uint64_t begin, uint64_t end);

#define ZMLX_EXPORT extern "C" __attribute__((visibility("default")))

// Puts a launch's arrays in their slots. Returns 0, or 1 when there is no address space or memory for them.
ZMLX_EXPORT int zmlx_check_prepare(zmlx::check::Check* check) {
  using namespace zmlx;
  using namespace zmlx::check;
  __builtin_memset(static_cast<void*>(&S), 0, sizeof S);
  S.check = check;
  schedule = check->schedule;
  for (uint32_t shift : SHIFTS) {
    S.span = uintptr_t(SLOTS) << shift;
    S.shift = shift;
    S.base = reinterpret_cast<uintptr_t>(reserve(S.span, PROT_NONE));
    if (S.base) break;
  }
  if (!S.base) return 1;
  const uint64_t groups = uint64_t(check->launch.groups.x) * check->launch.groups.y * check->launch.groups.z;
  S.group_times = static_cast<uint32_t*>(reserve(page_up(groups * 4 + 4), PROT_READ | PROT_WRITE));
  S.group_fences = static_cast<uint32_t*>(reserve(page_up(groups * 4 + 4), PROT_READ | PROT_WRITE));
  if (!S.group_times || !S.group_fences) return 1;
  S.random = check->seed;
  order_seed = next_random();
  find_image();
  listen();
  auto** buffers = const_cast<void**>(check->launch.buffers);
  for (uint32_t i = 0; i < check->array_count; ++i) {
    const Array& array = check->arrays[i];
    S.slot[i].writable = array.writable != 0;
    S.slot[i].defined = array.defined != 0;
    if (!open_slot(i, array.bytes, array.itemsize, DEVICE_SPACE, array.writable ? array.shadowed : 0)) return 1;
    if (array.from && array.bytes) __builtin_memcpy(reinterpret_cast<void*>(S.slot[i].data), array.from, array.bytes);
    buffers[array.parameter] = reinterpret_cast<void*>(S.slot[i].data + array.start);
  }
  return 0;
}

// What host/runtime.cpp runs in place of the kernel's entry: all threadgroups, in the order of the schedule.
ZMLX_EXPORT void zmlx_check_entry(zmlx::Launch* outer, zmlx::Worker* worker, uint64_t, uint64_t) {
  using namespace zmlx::check;
  Check* check = reinterpret_cast<Check*>(outer);
  const zmlx::Extent& groups = check->launch.groups;
  const uint64_t count = uint64_t(groups.x) * groups.y * groups.z;
  S.stacks = reinterpret_cast<uintptr_t>(worker->stacks);
  S.stacks_span = zmlx::MAX_GROUP_THREADS * zmlx::STACK_SIZE;
  S.frame = reinterpret_cast<uintptr_t>(__builtin_frame_address(0)) - (1u << 20) + 4096;
  runner = pthread_self();
  if (sigsetjmp(back, 1) != 0) return;
  running = 1;
  for (uint64_t order = 0; order < count; ++order) {
    begin_group(order);
    zmlx_entry(&check->launch, worker, S.group_number, S.group_number + 1);
    __atomic_store_n(&check->groups_done, order + 1, __ATOMIC_RELAXED);
  }
  running = 0;
}

// Stops a launch that is under way in another thread.
ZMLX_EXPORT void zmlx_check_stop() {
  if (zmlx::check::running) pthread_kill(zmlx::check::runner, SIGURG);
}

namespace zmlx {
namespace check {
namespace {

// Whether a floating-point number is NaN, or an infinity too.
bool is_special(const Slot& slot, uint64_t offset, uint32_t floating, bool infinity) {
  const auto* at = reinterpret_cast<const unsigned char*>(slot.data + offset);
  uint32_t bits = 0, exponent = 0x7f800000u;
  if (floating == 4) {
    __builtin_memcpy(&bits, at, 4);
  } else {
    uint16_t half;
    __builtin_memcpy(&half, at, 2);
    bits = floating == 2 ? uint32_t(half) << 16 : half;
    if (floating == 1) exponent = 0x7c00u;
  }
  const uint32_t rest = bits & (exponent == 0x7c00u ? 0x3ffu : 0x7fffffu);
  return (bits & exponent) == exponent && (infinity || rest != 0);
}

void look_for_nan(Check& check, uint32_t output) {
  for (uint32_t i = 0; i < check.array_count; ++i) {
    const Array& array = check.arrays[i];
    if (array.writable || !array.floating) continue;
    for (uint64_t at = 0; at < array.bytes; at += array.itemsize)
      if (is_special(S.slot[i], at, array.floating, true)) return;
  }
  const Slot& slot = S.slot[output];
  const Array& array = check.arrays[output];
  uint64_t found = 0;
  Finding f = start_finding(ARITHMETIC, NOT_A_NUMBER, output, 0, 0, WRITE, 0);
  for (uint64_t at = 0; at < array.bytes; at += array.itemsize) {
    if (!is_special(slot, at, array.floating, false)) continue;
    if (found++ != 0) continue;
    f.offset = static_cast<int64_t>(at);
    if (slot.cells && !(at & slot.skip)) f.pc = pc_of(slot.cells[at >> slot.shift].writer);
  }
  f.value = found;
  if (found) report(f);
}

}  // namespace
}  // namespace check
}  // namespace zmlx

// Looks for outputs that were never written, copies the outputs out and gives all memory back.
ZMLX_EXPORT void zmlx_check_finish(zmlx::check::Check* check) {
  using namespace zmlx::check;
  running = 0;
  check->accesses = S.accesses;
  const bool whole = !check->stopped && !check->outer.error;
  if (!whole && check->last_pc == 0) {
    check->last_pc = S.last_pc;
    check->stopped_thread = thread_of(S.me);
    check->stopped_group = S.group_number;
  }
  for (uint32_t i = 0; i < check->array_count; ++i) {
    const Array& array = check->arrays[i];
    const Slot& slot = S.slot[i];
    if (whole && S.all_stopped == 0 && slot.cells && !slot.defined && array.bytes) {
      Finding f = start_finding(UNINITIALIZED, NEVER_WRITTEN, i, 0, 0, READ, 0);
      uint64_t last_written = 0, missing = 0;
      for (uint64_t offset = 0; offset < slot.bytes; offset += array.itemsize) {
        if (offset & slot.skip) continue;
        const Mark writer = slot.cells[offset >> slot.shift].writer;
        if (writer != 0) {
          last_written = writer;
        } else if (missing++ == 0) {
          f.offset = static_cast<int64_t>(offset);
        }
      }
      f.value = missing;
      f.other_pc = pc_of(last_written);
      if (missing) report(f);
    }
    if (whole && check->arithmetic && array.writable && array.floating) look_for_nan(*check, i);
    if (array.to && array.bytes && slot.data)
      __builtin_memcpy(array.to, reinterpret_cast<const void*>(slot.data), array.bytes);
  }
  for (const Slot& slot : S.slot) {
    if (slot.cells) munmap(slot.cells, cell_bytes(slot.bytes));
    if (slot.others) munmap(slot.others, cell_bytes(slot.bytes));
  }
  const uint64_t groups = uint64_t(check->launch.groups.x) * check->launch.groups.y * check->launch.groups.z;
  if (S.group_times) munmap(S.group_times, page_up(groups * 4 + 4));
  if (S.group_fences) munmap(S.group_fences, page_up(groups * 4 + 4));
  if (S.base) munmap(reinterpret_cast<void*>(S.base), S.span);
}

ZMLX_EXPORT uint64_t zmlx_check_size() { return sizeof(zmlx::check::Check); }
