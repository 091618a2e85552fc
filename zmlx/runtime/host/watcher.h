// Ends launches that do not end by themselves: at Ctrl-C, and after $ZMLX_TIME_LIMIT seconds.
//
// A launch runs without Python's lock, and its caller is one of its workers: nobody is there to see a signal. So one
// thread sleeps until SIGINT wakes it, or a time limit has passed, and then sends a signal to the workers, whose handler
// jumps out of the kernel. SIGINT's handler is ours while a launch runs, and calls the one that was there.
#pragma once

#include "host/launch.h"
#include "host/python.h"
#include "host/signals.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <time.h>

#include <atomic>
#include <mutex>
#include <vector>

namespace zmlx {
namespace {

inline int64_t milliseconds() {
  timespec now{};
  clock_gettime(CLOCK_MONOTONIC, &now);
  return int64_t(now.tv_sec) * 1000 + now.tv_nsec / 1000000;
}

// What SIGINT's handler touches.
std::atomic<int> wake_up{-1};
std::atomic<uint32_t> presses{0};
std::atomic<bool> listens{false};
struct sigaction before_us;

void on_interrupt(int signal, siginfo_t* info, void* context) {
  const int error = errno;
  if (before_us.sa_flags & SA_SIGINFO)
    before_us.sa_sigaction(signal, info, context);
  else if (before_us.sa_handler)  // null: it came while the first launch was putting this one in its place
    before_us.sa_handler(signal);
  presses.fetch_add(1, std::memory_order_relaxed);
  const int to = wake_up.load(std::memory_order_relaxed);
  if (to >= 0 && write(to, "", 1) < 0) {
    // The pipe is full, so that the watcher wakes up in any case.
  }
  errno = error;
}

// SIGURG is ignored by default: one that comes late does nothing.
constexpr int STOP_SIGNAL = SIGURG;

void on_stop(int signal, siginfo_t*, void*) {
  if (!guard) return;
  const uint32_t error = __atomic_load_n(&guard->launch->error, __ATOMIC_RELAXED);
  if (error == INTERRUPTED || error == TOO_LONG) jump_back(signal);
}

class Watcher {
 public:
  explicit Watcher(const Python& python) : python_(python) {
    int ends[2];
    if (pipe(ends)) return;
    for (int end : ends) {
      fcntl(end, F_SETFD, FD_CLOEXEC);
      fcntl(end, F_SETFL, O_NONBLOCK);
    }
    pthread_attr_t attributes;
    pthread_attr_init(&attributes);
    pthread_attr_setdetachstate(&attributes, PTHREAD_CREATE_DETACHED);
    // Signals are for the other threads.
    sigset_t all, old;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &old);
    pthread_t id;
    read_ = ends[0];
    write_ = ends[1];
    if (pthread_create(&id, &attributes, [](void* p) -> void* { static_cast<Watcher*>(p)->watch(); return nullptr; }, this)) {
      ::close(ends[0]);
      ::close(ends[1]);
      read_ = write_ = -1;
    }
    pthread_sigmask(SIG_SETMASK, &old, nullptr);
    pthread_attr_destroy(&attributes);
    wake_up = write_;
  }

  // `limit` in milliseconds, 0: none.
  void begin(Launch& launch, uint32_t limit) {
    {
      std::lock_guard<std::mutex> lock(mutex_);
      launch_ = &launch;
      caller_ = pthread_self();
      ++serial_;
      deadline_ = limit ? milliseconds() + limit : 0;
    }
    presses.store(0, std::memory_order_relaxed);
    struct sigaction ours {};
    ours.sa_sigaction = on_interrupt;
    sigemptyset(&ours.sa_mask);
    ours.sa_flags = SA_SIGINFO | SA_ONSTACK;
    struct sigaction there {};
    ours.sa_flags |= SA_RESTART;
    sigaction(SIGINT, &ours, &there);
    const bool handled = (there.sa_flags & SA_SIGINFO) || (there.sa_handler != SIG_IGN && there.sa_handler != SIG_DFL);
    if (!handled) {
      sigaction(SIGINT, &there, nullptr);
    } else if (!(there.sa_flags & SA_SIGINFO) || there.sa_sigaction != on_interrupt) {
      before_us = there;
      listens.store(true, std::memory_order_relaxed);
    }
    if (limit && write_ >= 0 && write(write_, "", 1) < 0) {
      // The pipe is full: the watcher wakes up in any case.
    }
  }

  void end() {
    stop_listening();
    std::lock_guard<std::mutex> lock(mutex_);
    launch_ = nullptr;
  }

  void add_worker(pthread_t id) { workers_.push_back(id); }

  // Unless somebody has put another handler over ours.
  static void stop_listening() {
    if (!listens.exchange(false, std::memory_order_relaxed)) return;
    struct sigaction now {};
    sigaction(SIGINT, &before_us, &now);
    if (!(now.sa_flags & SA_SIGINFO) || now.sa_sigaction != on_interrupt) sigaction(SIGINT, &now, nullptr);
  }

  void close() {
    ::close(read_);
    ::close(write_);
  }

 private:
  // How long a launch may go on after Ctrl-C: most end by themselves.
  static constexpr int64_t GRACE = 200;

  void watch() {
    for (;;) {
      int wait = -1;
      {
        std::lock_guard<std::mutex> lock(mutex_);
        if (launch_ && deadline_) {
          const int64_t left = deadline_ - milliseconds();
          wait = left < 0 ? 0 : left > 1000000 ? 1000000 : static_cast<int>(left) + 1;
        }
      }
      sleep(wait);
      Launch* late = nullptr;
      uint64_t serial;
      {
        std::lock_guard<std::mutex> lock(mutex_);
        serial = serial_;
        if (launch_ && deadline_ && milliseconds() >= deadline_) late = launch_;
      }
      if (late)
        stop(serial, TOO_LONG);
      else if (presses.load(std::memory_order_relaxed))
        interrupt(serial);
    }
  }

  // Until something is written to the pipe, or for so many milliseconds.
  void sleep(int wait) {
    pollfd what{read_, POLLIN, 0};
    poll(&what, 1, wait);
    char bytes[64];
    while (read(read_, bytes, sizeof bytes) > 0) {
    }
  }

  void interrupt(uint64_t serial) {
    const uint32_t seen = presses.load(std::memory_order_relaxed);
    const int64_t until = milliseconds() + GRACE;
    for (int64_t now = milliseconds(); now < until; now = milliseconds()) {
      sleep(static_cast<int>(until - now));
      if (!is_running(serial)) return;
    }
    // A handler of the program's own need not raise anything, and what it does it does after the launch. Who presses
    // Ctrl-C again means it.
    if (seen > 1 || presses.load(std::memory_order_relaxed) > 1 || python_.interrupts()) stop(serial, INTERRUPTED);
  }

  bool is_running(uint64_t serial) {
    std::lock_guard<std::mutex> lock(mutex_);
    return launch_ && serial_ == serial;
  }

  void stop(uint64_t serial, Error error) {
    struct sigaction ours {}, there {};
    ours.sa_sigaction = on_stop;
    ours.sa_flags = SA_SIGINFO | SA_ONSTACK | SA_RESTART;
    sigemptyset(&ours.sa_mask);
    sigaction(STOP_SIGNAL, &ours, &there);
    for (;;) {
      {
        std::lock_guard<std::mutex> lock(mutex_);
        if (!launch_ || serial_ != serial) break;
        uint32_t fine = OK;
        __atomic_compare_exchange_n(&launch_->error, &fine, error, false, __ATOMIC_RELAXED, __ATOMIC_RELAXED);
        pthread_kill(caller_, STOP_SIGNAL);
        for (pthread_t worker : workers_) pthread_kill(worker, STOP_SIGNAL);
      }
      poll(nullptr, 0, 5);  // a worker may be between two pieces of work: again, until the launch is over
    }
    sigaction(STOP_SIGNAL, &there, nullptr);
  }

  const Python& python_;
  int read_ = -1, write_ = -1;
  std::mutex mutex_;
  Launch* launch_ = nullptr;
  pthread_t caller_{};
  std::vector<pthread_t> workers_;
  uint64_t serial_ = 0;
  int64_t deadline_ = 0;
};

}  // namespace
}  // namespace zmlx
