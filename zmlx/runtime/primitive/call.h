// What the launches of one call in Python have in common, however often MLX evaluates them.
#pragma once

#include "host/python.h"

#include "mlx/array.h"

#include <stdint.h>
#include <string.h>

#include <algorithm>
#include <memory>
#include <stdexcept>
#include <string>
#include <vector>

namespace mx = mlx::core;

namespace zmlx {

// The head of nanobind's objects (nb_inst): where the C++ object is.
struct Instance {
  ptrdiff_t references;
  void* type;
  int32_t offset;
  uint32_t state : 2;
  uint32_t direct : 1;
};

inline void* inside(Object* object) {
  auto* instance = static_cast<Instance*>(object);
  void* at = static_cast<char*>(object) + instance->offset;
  return instance->direct ? at : *static_cast<void**>(at);
}

inline mx::array& array_of(Object* object) { return *static_cast<mx::array*>(inside(object)); }

inline std::string text(const mx::Shape& shape) {
  std::string found = "(";
  for (size_t i = 0; i < shape.size(); ++i) found += (i ? ", " : "") + std::to_string(shape[i]);
  return found + (shape.size() == 1 ? ",)" : ")");
}

// zmlx_launch_buffers of host/runtime.cpp.
using Launcher = uint64_t (*)(
    const Plan*, const Buffer*, int roomy, uint32_t checked, unsigned threads, const Extent* grid, const Extent* group);

struct Derivation;
// Python's, for tangents and cotangents; 0 if there are results.
using Derive = void (*)(Derivation*, uint64_t token);

// primitive.py has it too. The pointers are read while the call is made, but for those in `plan`.
struct CallArguments {
  const Plan* plan;
  Launcher launcher;
  Derive derive;  // null without a reference
  const char* name;
  const char* const* messages;        // by Outcome, MESSAGES of them; null where there is none
  const char* const* outside;         // two for each output: past its end, in front of it
  const int32_t* const* shapes;       // of the outputs
  const uint32_t* ranks;
  const char* no_gradient;
  const char* no_tangent;
  uint64_t token;
  Extent grid;
  Extent group;
  uint32_t threads;
  uint32_t contiguous;  // inputs are to be row-contiguous
  uint32_t filled;      // there is an init_value
};

constexpr uint32_t MESSAGES = 24;

struct Call {
  Plan plan;
  std::vector<Parameter> parameters;
  Launcher launcher;
  Derive derive;
  std::string name;
  std::vector<std::string> messages;
  std::vector<std::string> outside;
  std::string no_gradient, no_tangent;
  uint64_t token;
  Extent grid, group;
  uint32_t threads;
  bool contiguous;
  bool filled;
  std::vector<mx::Shape> shapes;
  std::vector<mx::Dtype> dtypes;
  std::vector<std::string> fills;  // the bytes of one element
};

inline std::shared_ptr<const Call> make_call(const CallArguments& given, Object* samples) {
  auto call = std::make_shared<Call>();
  call->parameters.assign(given.plan->parameters, given.plan->parameters + given.plan->parameter_count);
  call->plan = *given.plan;
  call->plan.parameters = call->parameters.data();
  call->launcher = given.launcher;
  call->derive = given.derive;
  call->name = given.name;
  for (uint32_t i = 0; i < MESSAGES; ++i) call->messages.emplace_back(given.messages[i] ? given.messages[i] : "");
  call->no_gradient = given.no_gradient;
  call->no_tangent = given.no_tangent;
  call->token = given.token;
  call->grid = given.grid;
  call->group = given.group;
  call->threads = given.threads;
  call->contiguous = given.contiguous;
  call->filled = given.filled;
  for (uint32_t i = 0; i < given.plan->outputs; ++i) {
    call->outside.emplace_back(given.outside[2 * i]);
    call->outside.emplace_back(given.outside[2 * i + 1]);
    call->shapes.emplace_back(given.shapes[i], given.shapes[i] + given.ranks[i]);
    const mx::array& sample = array_of(given.plan->python->list_item(samples, i));
    call->dtypes.push_back(sample.dtype());
    call->fills.emplace_back(sample.data<char>(), sample.itemsize());
  }
  return call;
}

}  // namespace zmlx
