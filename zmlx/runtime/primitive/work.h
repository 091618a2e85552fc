// One evaluation of a launch: the memory of its arrays as MLX has given it, and the kernel run on it.
#pragma once

#include "host/bands.h"
#include "primitive/call.h"

#include <stdlib.h>

#include <mutex>
#include <set>

namespace zmlx {

// The streams on which a launch has failed, by number, until `settle` of primitive.cpp has looked after them.
class Failures {
 public:
  void add(int stream) {
    const std::lock_guard<std::mutex> lock(mutex_);
    streams_.insert(stream);
  }

  void remove(int stream) {
    const std::lock_guard<std::mutex> lock(mutex_);
    streams_.erase(stream);
  }

  bool has(int stream) {
    const std::lock_guard<std::mutex> lock(mutex_);
    return streams_.count(stream) != 0;
  }

 private:
  std::mutex mutex_;
  std::set<int> streams_;
};

inline Failures& failures() {
  static Failures all;
  return all;
}

// Outputs up to this many elements get no room of their own: as in memory.py.
constexpr size_t SMALL = 1 << 14;

// Outputs of so many bytes are not filled with zeros, which the kernel overwrites: as in memory.py.
constexpr size_t MANY_BYTES = 1 << 20;

// How MLX's operations may read a row-contiguous array.
inline mx::array::Flags row_contiguous(const mx::array& array) {
  const auto long_axes =
      std::count_if(array.shape().begin(), array.shape().end(), [](int extent) { return extent > 1; });
  return {true, true, long_axes <= 1};
}

// Memory of MLX's. Where there is none, mx::allocator::malloc says nothing, and counts it as taken for ever, so that
// evaluations wait for memory that nobody gives back: for much of it the system is asked first.
inline mx::allocator::Data memory(size_t bytes) {
  constexpr size_t MUCH = size_t(1) << 30;
  void* probe = bytes < MUCH ? nullptr : malloc(bytes);
  free(probe);
  if (bytes >= MUCH && !probe)
    throw std::runtime_error("[metal_kernel] Unable to allocate " + std::to_string(bytes) + " bytes for an output.");
  return mx::allocator::malloc(bytes);
}

class Work {
 public:
  Work(std::shared_ptr<const Call> call, mx::Shape batch, int stream)
      : call_(std::move(call)), batch_(std::move(batch)), stream_(stream) {
    for (int extent : batch_) repeats_ *= static_cast<size_t>(extent);
    // A room is around all that vmap makes: of several launches in one array, each writes in the runtime's own memory,
    // which is looked at after it.
    roomy_ = batch_.empty() && (call_->filled || std::any_of(call_->shapes.begin(), call_->shapes.end(), [](auto& shape) {
                                  return elements(shape) > SMALL;
                                }));
  }

  void add_input(const mx::array& array) {
    const auto* data = array.data_shared_ptr() ? array.data<char>() : nullptr;
    inputs_.emplace_back(array, const_cast<char*>(data), batch_.size());
  }

  void add_output(mx::array& array) {
    const size_t edge = roomy_ ? BAND : 0;
    auto room = memory(array.nbytes() + 2 * edge);
    char* data = static_cast<char*>(room.buffer().raw_ptr());
    array.set_data(
        std::move(room), array.size(), array.strides(), row_contiguous(array), static_cast<int64_t>(edge));
    outputs_.emplace_back(array, data + edge, batch_.size());
    rooms_.push_back(outputs_.back());
    rooms_.back().buffer.buf = data;
    rooms_.back().buffer.len = static_cast<ptrdiff_t>(array.nbytes() + 2 * edge);
  }

  // On the stream's thread. What it throws, MLX raises in Python where it waits for the stream.
  void run() {
    for (size_t i = 0; i < outputs_.size(); ++i)
      if (call_->filled || outputs_[i].all < MANY_BYTES) fill(outputs_[i], call_->fills[i]);
    if (!call_->grid.x || !call_->grid.y || !call_->grid.z) return;
    std::vector<int> position(batch_.size(), 0);
    for (size_t repeat = 0; repeat < repeats_; ++repeat) {
      launch(position);
      for (size_t axis = batch_.size(); axis-- > 0;) {
        if (++position[axis] < batch_[axis]) break;
        position[axis] = 0;
      }
    }
  }

 private:
  // An array's memory without the axes of the batch, and their strides in bytes.
  struct Memory {
    Memory(const mx::array& array, char* data, size_t batch) : data(data) {
      const ptrdiff_t itemsize = static_cast<ptrdiff_t>(array.itemsize());
      size_t size = 1;
      for (size_t axis = 0; axis < array.ndim(); ++axis) {
        const ptrdiff_t stride = array.strides()[axis] * itemsize;
        if (axis < batch) {
          steps.push_back(array.shape()[axis] == 1 ? 0 : stride);
          continue;
        }
        extents.push_back(array.shape()[axis]);
        strides.push_back(stride);
        size *= static_cast<size_t>(array.shape()[axis]);
      }
      all = array.nbytes();
      buffer.itemsize = itemsize;
      buffer.ndim = static_cast<int>(extents.size());
      buffer.len = static_cast<ptrdiff_t>(size) * itemsize;
    }

    // The memory at a position of the batch.
    Buffer at(const std::vector<int>& position) const {
      Buffer found = buffer;
      found.buf = data ? data + offset(position) : nullptr;
      found.shape = const_cast<ptrdiff_t*>(extents.data());
      found.strides = const_cast<ptrdiff_t*>(strides.data());
      return found;
    }

    ptrdiff_t offset(const std::vector<int>& position) const {
      ptrdiff_t sum = 0;
      for (size_t axis = 0; axis < position.size(); ++axis) sum += position[axis] * steps[axis];
      return sum;
    }

    char* data;
    size_t all;
    Buffer buffer{};
    std::vector<ptrdiff_t> extents, strides, steps;
  };

  // A row-contiguous copy.
  struct Copy {
    explicit Copy(const Buffer& from) : bytes(static_cast<size_t>(from.len)), strides(static_cast<size_t>(from.ndim)) {
      ptrdiff_t stride = from.itemsize;
      for (int axis = from.ndim; axis-- > 0;) {
        strides[static_cast<size_t>(axis)] = stride;
        stride *= from.shape[axis];
      }
      char* to = bytes.data();
      if (!bytes.empty()) copy(from, 0, static_cast<const char*>(from.buf), to);
    }

    static void copy(const Buffer& from, int axis, const char* at, char*& to) {
      if (axis == from.ndim) {
        memcpy(to, at, static_cast<size_t>(from.itemsize));
        to += from.itemsize;
        return;
      }
      for (ptrdiff_t i = 0; i < from.shape[axis]; ++i) copy(from, axis + 1, at + i * from.strides[axis], to);
    }

    std::vector<char> bytes;
    std::vector<ptrdiff_t> strides;
  };

  static size_t elements(const mx::Shape& shape) {
    size_t count = 1;
    for (int extent : shape) count *= static_cast<size_t>(extent);
    return count;
  }

  static void fill(const Memory& output, const std::string& element) {
    if (element.find_first_not_of('\0') == std::string::npos) {
      memset(output.data, 0, output.all);
      return;
    }
    for (size_t at = 0; at < output.all; at += element.size()) memcpy(output.data + at, element.data(), element.size());
  }

  void launch(const std::vector<int>& position) {
    std::vector<Buffer> buffers;
    for (const auto* group : {&inputs_, &outputs_})
      for (const Memory& memory : *group) buffers.push_back(memory.at(position));
    if (roomy_)
      for (const Memory& room : rooms_) buffers.push_back(room.at(position)), buffers.back().buf = room.buffer.buf;
    std::vector<std::unique_ptr<Copy>> copies;
    uint32_t checked = call_->contiguous ? 0 : call_->plan.inputs;
    for (;;) {
      const uint64_t result = call_->launcher(
          &call_->plan, buffers.data(), roomy_, checked, call_->threads, &call_->grid, &call_->group);
      const uint32_t outcome = static_cast<uint32_t>(result), detail = static_cast<uint32_t>(result >> 32);
      if (outcome == NOT_CONTIGUOUS) {
        copies.push_back(std::make_unique<Copy>(buffers[detail]));
        buffers[detail].buf = copies.back()->bytes.data();
        buffers[detail].strides = copies.back()->strides.data();
        checked = detail + 1;
        continue;
      }
      if (outcome) fail(outcome, detail);
      return;
    }
  }

  [[noreturn]] void fail(uint32_t outcome, uint32_t detail) {
    std::string what = outcome < MESSAGES ? call_->messages[outcome] : "";
    if (outcome == OUTSIDE) {
      const uint32_t output = detail >> 17;
      const bool before = detail >> 16 & 1;
      const ptrdiff_t distance = detail & 0xffff;
      const Buffer& buffer = outputs_[output].buffer;
      const ptrdiff_t count = (distance + buffer.itemsize - 1) / buffer.itemsize;
      what = call_->outside[2 * output + (before ? 1 : 0)];
      replace(what, "{distance}", std::to_string(distance));
      replace(what, "{plural}", distance == 1 ? "" : "s");
      replace(what, "{index}", std::to_string(before ? -count : buffer.len / buffer.itemsize + count - 1));
    }
    replace(what, "{bytes}", std::to_string(detail));
    // Who does not see the exception, which comes once, is to see this: NaN, and -1 in integers.
    for (const Memory& output : outputs_) memset(output.data, 0xff, output.all);
    const char* limit = getenv("ZMLX_TIME_LIMIT");
    replace(what, "{limit}", limit ? limit : "");
    failures().add(stream_);
    throw std::runtime_error(what);
  }

  static void replace(std::string& text, const std::string& what, const std::string& by) {
    const size_t at = text.find(what);
    if (at != std::string::npos) text.replace(at, what.size(), by);
  }

  const std::shared_ptr<const Call> call_;
  const mx::Shape batch_;
  const int stream_;
  size_t repeats_ = 1;
  bool roomy_;
  std::vector<Memory> inputs_, outputs_, rooms_;
};

}  // namespace zmlx
