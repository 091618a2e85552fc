// The pool of worker threads that all host kernels share. Built once a machine, loaded once a process.

#include "host/fiber.h"
#include "host/launch.h"
#include "host/python.h"

#include <pthread.h>
#include <setjmp.h>
#include <signal.h>
#include <sys/mman.h>
#include <unistd.h>

#include <atomic>
#include <condition_variable>
#include <mutex>
#include <new>

namespace zmlx {
namespace {

char* reserve(size_t bytes, size_t alignment) {
  void* at = mmap(nullptr, bytes + alignment, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (at == MAP_FAILED) return nullptr;
  return reinterpret_cast<char*>((reinterpret_cast<uintptr_t>(at) + alignment - 1) & ~(alignment - 1));
}

// A worker's own stack holds the variables of all threads of a threadgroup (host/regions.h); the system's default is
// half a megabyte on macOS.
constexpr size_t WORKER_STACK = 16 * 1024 * 1024;
// How far from the stack pointer a function's first access to its frame may be.
constexpr ptrdiff_t MAX_FRAME = 64 * 1024;

// Address space only: a page costs memory when a fiber first touches it.
bool prepare(Worker& worker, bool fibers) {
  if (!worker.memory) worker.memory = reserve(4 * MAX_GROUP_MEMORY, 4096);
  if (fibers && !worker.stacks) {
    worker.stacks = reserve(size_t(MAX_GROUP_THREADS) * STACK_SIZE, STACK_SIZE);
    // The lowest page of each stack faults instead of letting an overflow run into the neighbour.
    const size_t page = static_cast<size_t>(sysconf(_SC_PAGESIZE));
    for (uint32_t i = 0; worker.stacks && i < MAX_GROUP_THREADS; ++i)
      mprotect(worker.stacks + i * STACK_SIZE, page, PROT_NONE);
  }
  return worker.memory && (worker.stacks || !fibers);
}

// A kernel that divides by zero, leaves its arrays or overflows its stack ends its launch, not the process: the
// signal's handler jumps back to the worker, which gives up its fibers. A signal from elsewhere goes to the handler
// that was there before.
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

constexpr int SIGNALS[] = {SIGFPE, SIGSEGV, SIGBUS};
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
  const char* at = static_cast<const char*>(address);
  const char* stacks = guard->worker->stacks;
  const bool on_fiber = stacks && at >= stacks && at < stacks + size_t(MAX_GROUP_THREADS) * STACK_SIZE;
  // The worker's own stack: what does not fit there faults where the stack ends.
  const char* top = stack_pointer(context);
  const bool at_top = top && at > top - MAX_FRAME && at < top + MAX_FRAME;
  return on_fiber || at_top ? STACK : ACCESS;
}

void on_signal(int signal, siginfo_t* info, void* context) {
  if (guard) {
    __atomic_store_n(&guard->launch->error, cause(signal, info->si_addr, context), __ATOMIC_RELAXED);
    // Where the jump does not restore the mask, it is as in here, with the signal blocked.
    sigset_t caught;
    sigemptyset(&caught);
    sigaddset(&caught, signal);
    pthread_sigmask(SIG_UNBLOCK, &caught, nullptr);
    siglongjmp(guard->back, 1);
  }
  for (size_t i = 0; i < sizeof(SIGNALS) / sizeof(*SIGNALS); ++i)
    if (SIGNALS[i] == signal) sigaction(signal, &previous[i], nullptr);
  // On return the instruction runs again and the signal goes where it went before.
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

struct Job {
  Entry entry;
  Launch* launch;
  bool fibers;
  uint64_t groups;
  uint64_t chunk;
  std::atomic<uint64_t> next{0};
  std::atomic<bool> no_memory{false};

  void work(Worker& worker) {
    if (!prepare(worker, fibers)) {
      no_memory = true;
      return;
    }
    for (;;) {
      const uint64_t begin = next.fetch_add(chunk, std::memory_order_relaxed);
      if (begin >= groups) return;
      if (__atomic_load_n(&launch->error, __ATOMIC_RELAXED) != OK) return;
      run(worker, begin, begin + chunk < groups ? begin + chunk : groups);
    }
  }

 private:
  void run(Worker& worker, uint64_t begin, uint64_t end) {
    Guard here;
    here.launch = launch;
    here.worker = &worker;
    if (sigsetjmp(here.back, SAVE_MASK) == 0) {
      guard = &here;
      entry(launch, &worker, begin, end);
    }
    guard = nullptr;
  }
};

class Pool {
 public:
  explicit Pool(unsigned threads) {
    pthread_attr_t attributes;
    pthread_attr_init(&attributes);
    pthread_attr_setstacksize(&attributes, WORKER_STACK);
    pthread_attr_setdetachstate(&attributes, PTHREAD_CREATE_DETACHED);
    for (unsigned i = 1; i < threads; ++i) {
      pthread_t id;
      if (pthread_create(&id, &attributes, [](void* p) -> void* { static_cast<Pool*>(p)->serve(); return nullptr; }, this))
        break;  // the system has no more threads: those that there are do the work
      ++helpers_;
    }
    pthread_attr_destroy(&attributes);
  }

  // One launch at a time: concurrent callers take turns, each with all workers.
  void run(Job& job, unsigned wanted) {
    std::lock_guard<std::mutex> turn(turn_);
    if (wanted > 1 && helpers_ > 0) {
      const unsigned helping = wanted - 1 < helpers_ ? wanted - 1 : helpers_;
      {
        std::lock_guard<std::mutex> lock(mutex_);
        job_ = &job;
        wanted_ = helping;
        running_ = helping;
        ++generation_;
      }
      if (helping == helpers_)
        wake_.notify_all();
      else
        for (unsigned i = 0; i < helping; ++i) wake_.notify_one();
    }
    give_signal_stack();
    job.work(caller_);
    if (wanted > 1 && helpers_ > 0) {
      std::unique_lock<std::mutex> lock(mutex_);
      running_ -= wanted_;  // workers that have not woken up yet are not waited for
      wanted_ = 0;
      done_.wait(lock, [this] { return running_ == 0; });
      job_ = nullptr;
    }
  }

 private:
  void serve() {
    give_signal_stack();
    Worker worker{};
    uint64_t seen = 0;
    for (;;) {
      Job* job;
      {
        std::unique_lock<std::mutex> lock(mutex_);
        wake_.wait(lock, [&] { return generation_ != seen && wanted_ > 0; });
        seen = generation_;
        --wanted_;
        job = job_;
      }
      job->work(worker);
      {
        std::lock_guard<std::mutex> lock(mutex_);
        --running_;
      }
      done_.notify_one();
    }
  }

  unsigned helpers_ = 0;
  Worker caller_{};
  std::mutex turn_;
  std::mutex mutex_;
  std::condition_variable wake_, done_;
  Job* job_ = nullptr;
  unsigned wanted_ = 0;
  unsigned running_ = 0;
  uint64_t generation_ = 0;
};

std::atomic<Pool*> pool{nullptr};
std::mutex setup_mutex;

// After a fork the workers are gone with the parent: the child starts new ones, and leaves the old pool alone, since
// its locks may have been held. So may the one in front of it.
void forget_pool() {
  pool = nullptr;
  new (&setup_mutex) std::mutex;
}

// The pool is never destroyed: workers may outlive the interpreter's last moments.
Pool& the_pool(unsigned threads) {
  if (Pool* there = pool.load(std::memory_order_acquire)) return *there;
  std::lock_guard<std::mutex> lock(setup_mutex);
  static const int once = pthread_atfork(nullptr, nullptr, forget_pool);
  (void)once;
  if (!pool) pool = new Pool(threads);
  return *pool;
}

// False if there is no memory for the workers.
bool run_all(Entry entry, Launch& launch, bool fibers, unsigned threads) {
  Job job;
  job.entry = entry;
  job.launch = &launch;
  job.fibers = fibers;
  job.groups = uint64_t(launch.groups.x) * launch.groups.y * launch.groups.z;
  // Several chunks a worker, so that uneven groups even out.
  job.chunk = job.groups / (threads * 8u);
  if (job.chunk == 0) job.chunk = 1;
  const uint64_t work = uint64_t(launch.grid.x) * launch.grid.y * launch.grid.z;
  // Waking a worker costs some microseconds: tiny grids run where they are.
  const bool small = job.groups < 2 || (!fibers && work < 4096 && launch.group.x > 1);
  Pool& workers = the_pool(threads);
  {
    std::lock_guard<std::mutex> lock(setup_mutex);
    catch_signals();
  }
  // Nor is there anything to do for more workers than threadgroups.
  const unsigned most = job.groups < threads ? static_cast<unsigned>(job.groups) : threads;
  workers.run(job, small ? 1 : most);
  return !job.no_memory;
}

uint64_t result(uint32_t outcome, uint32_t detail = 0) { return uint64_t(detail) << 32 | outcome; }

}  // namespace
}  // namespace zmlx

// Runs all threadgroups of a launch on up to `threads` threads (the pool's size is that of its first launch).
// Returns 0, or 1 when there is no memory for the workers. `launch->error` says how the kernel itself fared.
extern "C" __attribute__((visibility("default"))) int zmlx_run(
    zmlx::Entry entry, zmlx::Launch* launch, int fibers, unsigned threads) {
  return zmlx::run_all(entry, *launch, fibers != 0, threads) ? 0 : 1;
}

// Runs a program on lists of evaluated arrays, with Python's lock held; no extent of `grid` and `group` is 0. Inputs
// from the one numbered `checked` on must be row-contiguous. Returns 0, or an `Error` or `Outcome` and its detail.
extern "C" __attribute__((visibility("default"))) uint64_t zmlx_launch(
    const zmlx::Plan* plan, zmlx::Object* inputs, zmlx::Object* outputs, uint32_t checked, unsigned threads,
    uint32_t grid_x, uint32_t grid_y, uint32_t grid_z, uint32_t group_x, uint32_t group_y, uint32_t group_z) {
  const zmlx::Arrays arrays(*plan, inputs, outputs);
  if (!arrays.ok()) return zmlx::result(zmlx::RAISED);
  const uint32_t strided = arrays.first_not_contiguous(checked);
  if (strided < plan->inputs) return zmlx::result(zmlx::NOT_CONTIGUOUS, strided);
  const zmlx::Arguments arguments(*plan, arrays);
  zmlx::Launch launch{
      arguments.pointers(),
      {grid_x, grid_y, grid_z},
      {group_x, group_y, group_z},
      {(grid_x - 1) / group_x + 1, (grid_y - 1) / group_y + 1, (grid_z - 1) / group_z + 1},
      zmlx::OK,
      0};
  void* state = plan->python->release_lock();
  const bool enough = zmlx::run_all(plan->entry, launch, plan->fibers != 0, threads);
  plan->python->take_lock(state);
  if (!enough) return zmlx::result(zmlx::NO_MEMORY);
  return zmlx::result(launch.error, launch.error == zmlx::OK ? 0 : launch.group_memory);
}
