// Tangents and cotangents of a launch: Python computes them from the kernel's reference (primitive.py).
#pragma once

#include "primitive/call.h"

namespace zmlx {

enum Kind : uint32_t { JVP = 0, VJP = 1 };
enum What : uint32_t { PRIMALS = 0, DIRECTIONS = 1, ARGNUMS = 2, BATCH = 3, KIND = 4 };

struct Derivation {
  Kind kind;
  const std::vector<mx::array>* primals;
  const std::vector<mx::array>* directions;  // tangents, or cotangents
  const std::vector<int>* argnums;
  const mx::Shape* batch;
  std::vector<mx::array> results{};
  std::string error{};

  uint32_t count(uint32_t what) const {
    switch (what) {
      case PRIMALS: return static_cast<uint32_t>(primals->size());
      case DIRECTIONS: return static_cast<uint32_t>(directions->size());
      case ARGNUMS: return static_cast<uint32_t>(argnums->size());
      case BATCH: return static_cast<uint32_t>(batch->size());
      default: return kind;
    }
  }

  int32_t number(uint32_t what, uint32_t index) const { return what == BATCH ? (*batch)[index] : (*argnums)[index]; }
  const mx::array& array(uint32_t what, uint32_t index) const { return (what == PRIMALS ? *primals : *directions)[index]; }
};

inline std::vector<mx::array> derived(const Call& call, Derivation derivation) {
  if (!call.derive) throw std::invalid_argument(derivation.kind == JVP ? call.no_tangent : call.no_gradient);
  call.derive(&derivation, call.token);
  if (!derivation.error.empty()) throw std::invalid_argument(derivation.error);
  return std::move(derivation.results);
}

}  // namespace zmlx
