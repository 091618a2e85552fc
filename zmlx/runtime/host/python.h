// A launch whose arrays are Python objects, in one call: their memory is looked up, the kernel runs without Python's
// lock, and the memory is let go of, whatever happened. Nothing here needs Python's headers: what is used of Python is
// its stable ABI, and host_call.py hands over the functions.
#pragma once

#include "host/launch.h"

#include <stddef.h>
#include <stdint.h>

#include <vector>

namespace zmlx {

using Object = void;  // PyObject

// CPython's Py_buffer.
struct Buffer {
  void* buf;
  Object* obj;
  ptrdiff_t len;
  ptrdiff_t itemsize;
  int readonly;
  int ndim;
  char* format;
  ptrdiff_t* shape;
  ptrdiff_t* strides;
  ptrdiff_t* suboffsets;
  void* internal;
};

constexpr int ANY_STRIDES = 0x18;  // PyBUF_STRIDES: any layout, without asking for a format

// Functions of Python's.
struct Python {
  int (*get_buffer)(Object*, Buffer*, int flags);
  void (*release_buffer)(Buffer*);
  Object* (*list_item)(Object*, ptrdiff_t);
  void* (*release_lock)();
  void (*take_lock)(void*);
  ptrdiff_t (*list_size)(Object*);
  int (*interrupts)();  // whether Ctrl-C raises KeyboardInterrupt; takes Python's lock by itself
};

enum Role : uint32_t { INPUT = 0, SHAPE = 1, STRIDES = 2, NDIM = 3, OUTPUT = 4 };

struct Parameter {
  uint32_t role;
  uint32_t array;  // of the inputs, or of the outputs
};

// All that the launches of a program have in common. Never written to: any number of threads may use it at once.
struct Plan {
  const Python* python;
  Entry entry;
  const Parameter* parameters;
  uint32_t parameter_count;
  uint32_t inputs;
  uint32_t outputs;
  uint32_t fibers;
};

// What a launch ends with besides an `Error`; in the upper half of the result is what the word in brackets says.
enum Outcome : uint32_t {
  NO_MEMORY = 16,
  NOT_CONTIGUOUS = 17,  // (which input) it is not row-contiguous, and nothing has run
  RAISED = 18,          // a Python exception is set
  OUTSIDE = 19,         // (see Bands::close) it wrote outside of an output
  BAD_TIME_LIMIT = 20,  // $ZMLX_TIME_LIMIT is no number of seconds, and nothing has run
};

// The memory of a launch's arrays, held while this lives.
class Arrays {
 public:
  Arrays(const Plan& plan, Object* inputs, Object* outputs) : python_(*plan.python), inputs_(plan.inputs) {
    // Behind the outputs, their rooms: see bands.h.
    outputs_ = plan.outputs;
    roomy_ = python_.list_size(outputs) > static_cast<ptrdiff_t>(plan.outputs);
    const uint32_t found = plan.outputs * (roomy_ ? 2 : 1);
    held_.reserve(plan.inputs + found);
    ok_ = take(inputs, plan.inputs) && take(outputs, found);
  }

  // Of memory that somebody else holds: inputs, outputs and, if `roomy`, the outputs' rooms.
  Arrays(const Plan& plan, const Buffer* given, bool roomy)
      : python_(*plan.python),
        inputs_(plan.inputs),
        held_(given, given + plan.inputs + plan.outputs * (roomy ? 2 : 1)),
        outputs_(plan.outputs),
        roomy_(roomy),
        ok_(true),
        borrowed_(true) {}

  ~Arrays() {
    if (borrowed_) return;
    for (Buffer& buffer : held_) python_.release_buffer(&buffer);
  }

  Arrays(const Arrays&) = delete;
  Arrays& operator=(const Arrays&) = delete;

  bool ok() const { return ok_; }

  const Buffer& operator[](const Parameter& parameter) const {
    return held_[parameter.array + (parameter.role == OUTPUT ? inputs_ : 0)];
  }

  const Buffer& output(uint32_t number) const { return held_[inputs_ + number]; }
  const Buffer* room(uint32_t number) const { return roomy_ ? &held_[inputs_ + outputs_ + number] : nullptr; }

  // The first input from `begin` on that is not row-contiguous; the number of inputs if all are.
  uint32_t first_not_contiguous(uint32_t begin) const {
    while (begin < inputs_ && is_contiguous(held_[begin])) ++begin;
    return begin;
  }

 private:
  bool take(Object* list, uint32_t count) {
    for (uint32_t i = 0; i < count; ++i) {
      Object* array = python_.list_item(list, i);
      if (!array) return false;
      held_.emplace_back();  // in its place from the start: a buffer may point into itself
      if (python_.get_buffer(array, &held_.back(), ANY_STRIDES)) {
        held_.pop_back();
        return false;
      }
    }
    return true;
  }

  static bool is_contiguous(const Buffer& buffer) {
    ptrdiff_t expected = buffer.itemsize;
    bool contiguous = true;
    for (int axis = buffer.ndim; axis-- > 0;) {
      const ptrdiff_t extent = buffer.shape[axis];
      if (extent == 0) return true;
      if (extent != 1 && buffer.strides[axis] != expected) contiguous = false;
      expected *= extent;
    }
    return contiguous;
  }

  const Python& python_;
  const uint32_t inputs_;
  std::vector<Buffer> held_;
  uint32_t outputs_;
  bool roomy_;
  bool ok_;
  bool borrowed_ = false;
};

// One pointer a parameter, and the numbers that some of them point to.
class Arguments {
 public:
  Arguments(const Plan& plan, const Arrays& arrays) {
    size_t words = 0;
    for (uint32_t i = 0; i < plan.parameter_count; ++i) words += size(plan.parameters[i], arrays);
    words_.reserve(words);  // so that they stay where they are
    pointers_.reserve(plan.parameter_count);
    for (uint32_t i = 0; i < plan.parameter_count; ++i) add(plan.parameters[i], arrays[plan.parameters[i]]);
  }

  void* const* pointers() const { return pointers_.data(); }
  void set(uint32_t parameter, void* to) { pointers_[parameter] = to; }

 private:
  static size_t size(const Parameter& parameter, const Arrays& arrays) {
    if (parameter.role == INPUT || parameter.role == OUTPUT) return 0;
    return parameter.role == NDIM ? 1 : static_cast<size_t>(arrays[parameter].ndim);
  }

  void add(const Parameter& parameter, const Buffer& buffer) {
    void* at = buffer.buf;
    if (parameter.role == SHAPE) {
      at = more(buffer.ndim);  // half of it is used
      for (int axis = 0; axis < buffer.ndim; ++axis) static_cast<int*>(at)[axis] = static_cast<int>(buffer.shape[axis]);
    } else if (parameter.role == STRIDES) {
      at = more(buffer.ndim);
      for (int axis = 0; axis < buffer.ndim; ++axis)
        static_cast<int64_t*>(at)[axis] = buffer.strides[axis] / buffer.itemsize;
    } else if (parameter.role == NDIM) {
      at = more(1);
      *static_cast<int*>(at) = buffer.ndim;
    }
    pointers_.push_back(at);
  }

  void* more(int words) {
    words_.resize(words_.size() + words);
    return words_.data() + words_.size() - words;
  }

  std::vector<int64_t> words_;
  std::vector<void*> pointers_;
};

}  // namespace zmlx
