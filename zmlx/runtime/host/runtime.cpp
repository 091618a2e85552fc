// The pool of worker threads that all host kernels share. Built once a machine, loaded once a process.

#include "host/bands.h"
#include "host/fiber.h"
#include "host/launch.h"
#include "host/python.h"
#include "host/signals.h"
#include "host/watcher.h"

#if defined(__linux__)
#include <sched.h>
#endif
#include <stdlib.h>

#include <atomic>
#include <condition_variable>
#include <mutex>
#include <new>

namespace zmlx {
namespace {

// A worker's own stack holds the variables of all threads of a threadgroup (host/regions.h); the system's default is
// half a megabyte on macOS.
constexpr size_t WORKER_STACK = 16 * 1024 * 1024;
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

struct Job {
  Entry entry;
  Launch* launch;
  bool fibers;
  uint64_t groups;
  uint64_t chunk;
  Bands* bands = nullptr;            // of a launch on Python's objects,
  const Python* python = nullptr;    // which is watched,
  uint32_t time_limit = 0;           // and may take so many milliseconds (0: any)
  uint32_t damage = 0;               // see Bands::close
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
      helpers_.push_back(id);
    }
    pthread_attr_destroy(&attributes);
  }

  // One launch at a time: concurrent callers take turns, each with all workers.
  void run(Job& job, unsigned wanted) {
    std::lock_guard<std::mutex> turn(turn_);
    if (job.bands && !job.bands->open(arena_)) {
      job.no_memory = true;
      return;
    }
    Watcher* watcher = job.python ? watching(*job.python) : nullptr;
    if (watcher) watcher->begin(*job.launch, job.time_limit);
    spread(job, wanted);
    if (watcher) watcher->end();
    if (job.bands) job.damage = job.bands->close();
  }

  // What a forked child must undo.
  void forget() {
    Watcher::stop_listening();
    wake_up = -1;
    if (Watcher* watcher = watcher_) watcher->close();
  }

 private:
  Watcher* watching(const Python& python) {
    if (!watcher_) {
      Watcher* made = new Watcher(python);
      for (pthread_t id : helpers_) made->add_worker(id);
      watcher_ = made;
    }
    return watcher_;
  }

  void spread(Job& job, unsigned wanted) {
    if (wanted > 1 && !helpers_.empty()) {
      const unsigned helping = wanted - 1 < helpers_.size() ? wanted - 1 : static_cast<unsigned>(helpers_.size());
      {
        std::lock_guard<std::mutex> lock(mutex_);
        job_ = &job;
        wanted_ = helping;
        running_ = helping;
        ++generation_;
      }
      keep_off_the_callers_processor();
      if (helping == helpers_.size())
        wake_.notify_all();
      else
        for (unsigned i = 0; i < helping; ++i) wake_.notify_one();
    }
    give_signal_stack();
    job.work(caller_);
    if (wanted > 1 && !helpers_.empty()) {
      std::unique_lock<std::mutex> lock(mutex_);
      running_ -= wanted_;  // workers that have not woken up yet are not waited for
      wanted_ = 0;
      done_.wait(lock, [this] { return running_ == 0; });
      job_ = nullptr;
    }
  }

  // Linux likes to wake a thread on the processor of the one that wakes it. With few processors a helper then waits there
  // until the caller has done the work alone: on two, relu of 16 MB took 3.7 ms, and takes 2.3 this way.
  void keep_off_the_callers_processor() {
#if defined(__linux__)
    const int here = sched_getcpu();
    cpu_set_t others;  // of those that the caller may use now
    if (here < 0 || sched_getaffinity(0, sizeof others, &others) != 0) return;  // or there are more than it has room for
    CPU_CLR(here, &others);
    if (CPU_COUNT(&others) == 0 || CPU_EQUAL(&others, &helpers_processors_)) return;
    for (pthread_t id : helpers_) pthread_setaffinity_np(id, sizeof others, &others);
    helpers_processors_ = others;
#endif
  }

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

  std::vector<pthread_t> helpers_;
  std::atomic<Watcher*> watcher_{nullptr};
  Arena arena_;
  Worker caller_{};
  std::mutex turn_;
  std::mutex mutex_;
  std::condition_variable wake_, done_;
  Job* job_ = nullptr;
  unsigned wanted_ = 0;
  unsigned running_ = 0;
  uint64_t generation_ = 0;
#if defined(__linux__)
  cpu_set_t helpers_processors_{};
#endif
};

std::atomic<Pool*> pool{nullptr};
std::mutex setup_mutex;

// After a fork the workers are gone with the parent: the child starts new ones, and leaves the old pool alone, since
// its locks may have been held. So may the one in front of it.
void forget_pool() {
  if (Pool* there = pool.load(std::memory_order_relaxed)) there->forget();
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
bool run_all(Job& job, unsigned threads) {
  Launch& launch = *job.launch;
  job.groups = uint64_t(launch.groups.x) * launch.groups.y * launch.groups.z;
  // Several chunks a worker, so that uneven groups even out.
  job.chunk = job.groups / (threads * 8u);
  if (job.chunk == 0) job.chunk = 1;
  const uint64_t work = uint64_t(launch.grid.x) * launch.grid.y * launch.grid.z;
  // Waking a worker costs some microseconds: tiny grids run where they are.
  const bool small = job.groups < 2 || (!job.fibers && work < 4096 && launch.group.x > 1);
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

// Python's os.environ sets the process's environment too, so that this is what a program last said. In milliseconds;
// false if it is no positive number of seconds.
bool read_time_limit(uint32_t& limit) {
  limit = 0;
  const char* text = getenv("ZMLX_TIME_LIMIT");
  if (!text || !*text) return true;
  char* end = nullptr;
  const double seconds = strtod(text, &end);
  if (*end || !(seconds > 0)) return false;
  limit = seconds >= 4e6 ? 0 : seconds < 1e-3 ? 1 : static_cast<uint32_t>(seconds * 1e3);  // 46 days are no limit
  return true;
}

uint64_t result(uint32_t outcome, uint32_t detail = 0) { return uint64_t(detail) << 32 | outcome; }

// Runs a program on arrays. `locked`: Python's lock is held, and let go of meanwhile.
uint64_t launch_on(
    const Plan& plan, const Arrays& arrays, unsigned threads, Extent grid, Extent group, bool locked) {
  uint32_t time_limit;
  if (!read_time_limit(time_limit)) return result(BAD_TIME_LIMIT);
  Arguments arguments(plan, arrays);
  Bands bands(plan, arrays, arguments);
  Launch launch{
      arguments.pointers(),
      grid,
      group,
      {(grid.x - 1) / group.x + 1, (grid.y - 1) / group.y + 1, (grid.z - 1) / group.z + 1},
      OK,
      0};
  Job job;
  job.entry = plan.entry;
  job.launch = &launch;
  job.fibers = plan.fibers != 0;
  job.bands = &bands;
  job.python = plan.python;
  job.time_limit = time_limit;
  void* state = locked ? plan.python->release_lock() : nullptr;
  const bool enough = run_all(job, threads);
  if (locked) plan.python->take_lock(state);
  if (!enough) return result(NO_MEMORY);
  if (launch.error == OK && job.damage) return result(OUTSIDE, job.damage);
  return result(launch.error, launch.error == OK ? 0 : launch.group_memory);
}

}  // namespace
}  // namespace zmlx

// Runs all threadgroups of a launch on up to `threads` threads (the pool's size is that of its first launch).
// Returns 0, or 1 when there is no memory for the workers. `launch->error` says how the kernel itself fared.
extern "C" __attribute__((visibility("default"))) int zmlx_run(
    zmlx::Entry entry, zmlx::Launch* launch, int fibers, unsigned threads) {
  zmlx::Job job;
  job.entry = entry;
  job.launch = launch;
  job.fibers = fibers != 0;
  return zmlx::run_all(job, threads) ? 0 : 1;
}

// Runs a program on lists of evaluated arrays, with Python's lock held; no extent of `grid` and `group` is 0. Inputs
// from the one numbered `checked` on must be row-contiguous. Behind the outputs may stand their rooms (host/bands.h).
// Returns 0, or an `Error` or `Outcome` and its detail.
extern "C" __attribute__((visibility("default"))) uint64_t zmlx_launch(
    const zmlx::Plan* plan, zmlx::Object* inputs, zmlx::Object* outputs, uint32_t checked, unsigned threads,
    uint32_t grid_x, uint32_t grid_y, uint32_t grid_z, uint32_t group_x, uint32_t group_y, uint32_t group_z) {
  const zmlx::Arrays arrays(*plan, inputs, outputs);
  if (!arrays.ok()) return zmlx::result(zmlx::RAISED);
  const uint32_t strided = arrays.first_not_contiguous(checked);
  if (strided < plan->inputs) return zmlx::result(zmlx::NOT_CONTIGUOUS, strided);
  return zmlx::launch_on(
      *plan, arrays, threads, {grid_x, grid_y, grid_z}, {group_x, group_y, group_z}, /*locked=*/true);
}

// The same, without Python's lock, on memory that the caller describes: inputs, outputs and, if `roomy`, their rooms.
extern "C" __attribute__((visibility("default"))) uint64_t zmlx_launch_buffers(
    const zmlx::Plan* plan, const zmlx::Buffer* buffers, int roomy, uint32_t checked, unsigned threads,
    const zmlx::Extent* grid, const zmlx::Extent* group) {
  const zmlx::Arrays arrays(*plan, buffers, roomy != 0);
  const uint32_t strided = arrays.first_not_contiguous(checked);
  if (strided < plan->inputs) return zmlx::result(zmlx::NOT_CONTIGUOUS, strided);
  return zmlx::launch_on(*plan, arrays, threads, *grid, *group, /*locked=*/false);
}
