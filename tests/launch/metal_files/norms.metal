#include "row_sum.h"

constant bool has_bias [[function_constant(0)]];

template <typename T>
[[kernel]] void rms_norm(
    const device T* x [[buffer(0)]],
    const device T* weight [[buffer(1)]],
    device T* out [[buffer(2)]],
    constant float& eps [[buffer(3)]],
    constant uint& width [[buffer(4)]],
    uint row [[threadgroup_position_in_grid]],
    uint at [[thread_position_in_threadgroup]],
    uint size [[threads_per_threadgroup]],
    uint lane [[thread_index_in_simdgroup]],
    uint simdgroup [[simdgroup_index_in_threadgroup]],
    uint simdgroups [[simdgroups_per_threadgroup]]) {
  threadgroup float partial[32];
  x += size_t(row) * width;
  out += size_t(row) * width;
  float square = 0;
  for (uint i = at; i < width; i += size) {
    square += float(x[i]) * float(x[i]);
  }
  const float scale = precise::rsqrt(group_sum(square, partial, lane, simdgroup, simdgroups) / width + eps);
  for (uint i = at; i < width; i += size) {
    out[i] = T(float(x[i]) * scale * float(weight[i]));
  }
}

template <typename T>
[[kernel]] void layer_norm(
    const device T* x [[buffer(0)]],
    const device T* weight [[buffer(1)]],
    const device T* bias [[buffer(2), function_constant(has_bias)]],
    device T* out [[buffer(3)]],
    constant float& eps [[buffer(4)]],
    constant uint& width [[buffer(5)]],
    uint row [[threadgroup_position_in_grid]],
    uint at [[thread_position_in_threadgroup]],
    uint size [[threads_per_threadgroup]],
    uint lane [[thread_index_in_simdgroup]],
    uint simdgroup [[simdgroup_index_in_threadgroup]],
    uint simdgroups [[simdgroups_per_threadgroup]]) {
  threadgroup float partial[32];
  x += size_t(row) * width;
  out += size_t(row) * width;
  float sum = 0;
  for (uint i = at; i < width; i += size) {
    sum += float(x[i]);
  }
  const float mean = group_sum(sum, partial, lane, simdgroup, simdgroups) / width;
  threadgroup_barrier(mem_flags::mem_threadgroup);
  float square = 0;
  for (uint i = at; i < width; i += size) {
    square += (float(x[i]) - mean) * (float(x[i]) - mean);
  }
  const float scale = precise::rsqrt(group_sum(square, partial, lane, simdgroup, simdgroups) / width + eps);
  for (uint i = at; i < width; i += size) {
    out[i] = T((float(x[i]) - mean) * scale * float(weight[i]) + (has_bias ? float(bias[i]) : 0.0f));
  }
}

#define NORMS(name, type)                           \
  ROW_KERNEL("rms_norm_" #name, rms_norm, type)     \
  ROW_KERNEL("layer_norm_" #name, layer_norm, type)

NORMS(float32, float)
NORMS(float16, half)
