#include <metal_stdlib>

struct RopeParams {
  float base;
  float scale;
  int offset;
  bool forward;
};

// In place: each thread turns one pair of a head's first and second half.
template <typename T>
kernel void rope(
    device T* x,
    constant RopeParams& params,
    constant uint2& shape,  // heads, positions
    uint3 pair [[thread_position_in_grid]],
    uint3 pairs [[threads_per_grid]]) {
  const float position = params.scale * float(pair.y + params.offset);
  const float angle = position * metal::exp2(-float(pair.x) / pairs.x * metal::log2(params.base));
  const float sine = params.forward ? metal::sin(angle) : -metal::sin(angle);
  const float cosine = metal::cos(angle);
  device T* head = x + (size_t(pair.z) * shape.y + pair.y) * 2 * pairs.x;
  const float a = head[pair.x], b = head[pair.x + pairs.x];
  head[pair.x] = T(a * cosine - b * sine);
  head[pair.x + pairs.x] = T(b * cosine + a * sine);
}

template [[host_name("rope_float32")]] kernel void rope<float>(
    device float*, constant RopeParams&, constant uint2&, uint3, uint3);
template [[host_name("rope_bfloat16")]] kernel void rope<bfloat>(
    device bfloat*, constant RopeParams&, constant uint2&, uint3, uint3);
