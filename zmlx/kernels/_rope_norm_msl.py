"""RMS norm of each head and its rotation in one pass, in Metal: `FORWARD`, and `BACKWARD` with the weights' gradients.

W threads have a token's group of heads. Each reads its chunks twice, the second time from the cache: once for what is
summed, once for the results.
"""

from __future__ import annotations

from zmlx.kernels import _rope_norm_held
from zmlx.kernels._rope_msl import PLACE, groups_of, on_heads

HEADER = """
// ZMLX_CHUNKS, but with the body once where every access looks at its address anyway: these bodies are long to compile.
#define ZMLX_COLUMNS(start, length, stride, ...)                   \\
  if (PACKED) {                                                    \\
    for (uint i = start; i < length; i += stride) {                \\
      const uint count = length - i < N ? length - i : N;          \\
      __VA_ARGS__                                                  \\
    }                                                              \\
  } else {                                                         \\
    ZMLX_CHUNKS(start, length, stride, __VA_ARGS__)                \\
  }

// Adds the squares of the thread's chunks of some heads to `sums`, one for each head.
template <typename T, int N, int W, bool PACKED, typename P>
METAL_FUNC void zmlx_head_squares(thread float* sums, P in, size_t stride, uint heads, uint start, uint length) {
  using chunk = zmlx_chunk<T, N, PACKED>;
  _Pragma("unroll 1") for (uint h = 0; h < heads; ++h) {
    float part[N], v[N];
    zmlx_fill<N>(part, 0.0f);
    ZMLX_COLUMNS(start, length, W * N, {
      chunk::load(v, in + h * stride + i, count, 0.0f);
      for (int j = 0; j < N; ++j) part[j] = fma(v[j], v[j], part[j]);
    })
    sums[h] += zmlx_sum<N>(part);
  }
}

// N pairs of some heads: times the head's scale and the weights, then rotated.
template <typename T, typename U, int N, bool PACKED, bool INTERLEAVED, typename P, typename Q>
METAL_FUNC void zmlx_norm_rotate(
    P in, device T* out, Q weight, const thread float* scales, size_t stride, uint heads, const thread float* c,
    const thread float* s, uint i, uint half_, uint count) {
  using pairs = zmlx_pairs<T, N, PACKED, INTERLEAVED>;
  float wa[N], wb[N];
  zmlx_pairs<U, N, PACKED, INTERLEAVED>::load(wa, wb, weight, i, half_, count, false);
  _Pragma("unroll 1") for (uint h = 0; h < heads; ++h) {
    float a[N], b[N];
    pairs::load(a, b, in + h * stride, i, half_, count, false);
    for (int j = 0; j < N; ++j) {
      const float first = a[j] * scales[h] * wa[j], second = b[j] * scales[h] * wb[j];
      a[j] = fma(first, c[j], -(second * s[j]));
      b[j] = fma(second, c[j], first * s[j]);
    }
    pairs::store(out + h * stride, a, b, i, half_, count, false);
  }
}

template <typename T, typename U, int N, bool PACKED, typename P, typename Q>
METAL_FUNC void zmlx_norm_scale(
    P in, device T* out, Q weight, const thread float* scales, size_t stride, uint heads, uint i, uint count) {
  using chunk = zmlx_chunk<T, N, PACKED>;
  float w[N], v[N];
  zmlx_chunk<U, N, PACKED>::load(w, weight + i, count, 0.0f);
  _Pragma("unroll 1") for (uint h = 0; h < heads; ++h) {
    chunk::load(v, in + h * stride + i, count, 0.0f);
    for (int j = 0; j < N; ++j) v[j] = v[j] * scales[h] * w[j];
    chunk::store(out + h * stride + i, v, count);
  }
}

// With u the cotangent rotated back, and xhat = x * scale:
//   dx = scale * (u * weight - xhat * mean(u * weight * xhat)),  dweight = sum over rows of u * xhat.
// These add x * x and u * weight * x of N pairs of some heads, or of N numbers that are not rotated, to `sums`: the
// squares of all heads first.
template <typename T, typename U, int N, bool PACKED, bool INTERLEAVED, typename P, typename G, typename Q>
METAL_FUNC void zmlx_norm_meet(
    thread float* sums, P in, G cotangent, Q weight, size_t stride, uint heads, const thread float* c,
    const thread float* s, uint i, uint half_, uint count) {
  using pairs = zmlx_pairs<T, N, PACKED, INTERLEAVED>;
  float wa[N], wb[N];
  zmlx_pairs<U, N, PACKED, INTERLEAVED>::load(wa, wb, weight, i, half_, count, false);
  _Pragma("unroll 1") for (uint h = 0; h < heads; ++h) {
    float a[N], b[N], u[N], v[N];
    pairs::load(a, b, in + h * stride, i, half_, count, false);
    pairs::load(u, v, cotangent + h * stride, i, half_, count, false);
    for (int j = 0; j < N; ++j) {
      const float first = fma(u[j], c[j], v[j] * s[j]), second = fma(v[j], c[j], -(u[j] * s[j]));
      u[j] = fma(first * wa[j], a[j], second * wb[j] * b[j]);
      v[j] = fma(a[j], a[j], b[j] * b[j]);
    }
    sums[h] += zmlx_sum<N>(v);
    sums[ZMLX_HEADS + h] += zmlx_sum<N>(u);
  }
}
template <typename T, typename U, int N, bool PACKED, typename P, typename G, typename Q>
METAL_FUNC void zmlx_norm_meet_rest(
    thread float* sums, P in, G cotangent, Q weight, size_t stride, uint heads, uint i, uint count) {
  using chunk = zmlx_chunk<T, N, PACKED>;
  float w[N], u[N], v[N];
  zmlx_chunk<U, N, PACKED>::load(w, weight + i, count, 0.0f);
  _Pragma("unroll 1") for (uint h = 0; h < heads; ++h) {
    chunk::load(v, in + h * stride + i, count, 0.0f);
    chunk::load(u, cotangent + h * stride + i, count, 0.0f);
    for (int j = 0; j < N; ++j) {
      u[j] = u[j] * w[j] * v[j];
      v[j] = v[j] * v[j];
    }
    sums[h] += zmlx_sum<N>(v);
    sums[ZMLX_HEADS + h] += zmlx_sum<N>(u);
  }
}

// The gradients, from the scales and the means of all heads; those of the weights are added to `part`.
template <typename T, typename U, int N, bool PACKED, bool INTERLEAVED, typename P, typename G, typename Q>
METAL_FUNC void zmlx_norm_back(
    P in, G cotangent, device T* out, Q weight, device float* part, const thread float* sums, size_t stride, uint heads,
    const thread float* c, const thread float* s, uint i, uint half_, uint count) {
  using pairs = zmlx_pairs<T, N, PACKED, INTERLEAVED>;
  using totals = zmlx_pairs<float, N, PACKED, INTERLEAVED>;
  float wa[N], wb[N], ta[N], tb[N];
  zmlx_pairs<U, N, PACKED, INTERLEAVED>::load(wa, wb, weight, i, half_, count, false);
  totals::load(ta, tb, part, i, half_, count, false);
  _Pragma("unroll 1") for (uint h = 0; h < heads; ++h) {
    const float scale = sums[h], back = sums[ZMLX_HEADS + h];
    float a[N], b[N], u[N], v[N];
    pairs::load(a, b, in + h * stride, i, half_, count, false);
    pairs::load(u, v, cotangent + h * stride, i, half_, count, false);
    for (int j = 0; j < N; ++j) {
      const float first = fma(u[j], c[j], v[j] * s[j]), second = fma(v[j], c[j], -(u[j] * s[j]));
      ta[j] = fma(first, a[j] * scale, ta[j]);
      tb[j] = fma(second, b[j] * scale, tb[j]);
      a[j] = scale * (first * wa[j] - a[j] * back);
      b[j] = scale * (second * wb[j] - b[j] * back);
    }
    pairs::store(out + h * stride, a, b, i, half_, count, false);
  }
  totals::store(part, ta, tb, i, half_, count, false);
}
template <typename T, typename U, int N, bool PACKED, typename P, typename G, typename Q>
METAL_FUNC void zmlx_norm_back_rest(
    P in, G cotangent, device T* out, Q weight, device float* part, const thread float* sums, size_t stride, uint heads,
    uint i, uint count) {
  using chunk = zmlx_chunk<T, N, PACKED>;
  using totals = zmlx_chunk<float, N, PACKED>;
  float w[N], t[N], u[N], v[N];
  zmlx_chunk<U, N, PACKED>::load(w, weight + i, count, 0.0f);
  totals::load(t, part + i, count, 0.0f);
  _Pragma("unroll 1") for (uint h = 0; h < heads; ++h) {
    const float scale = sums[h], back = sums[ZMLX_HEADS + h];
    chunk::load(v, in + h * stride + i, count, 0.0f);
    chunk::load(u, cotangent + h * stride + i, count, 0.0f);
    for (int j = 0; j < N; ++j) {
      t[j] = fma(u[j], v[j] * scale, t[j]);
      v[j] = scale * (u[j] * w[j] - v[j] * back);
    }
    chunk::store(out + h * stride + i, v, count);
  }
  totals::store(part + i, t, count);
}
"""

_EACH_GROUP = """
  threadgroup float scratch[ZMLX_SCRATCH];
  zmlx_team<W> team{scratch, thread_index_in_simdgroup, simdgroup_index_in_threadgroup, 0};
  const uint tokens = q_shape[2], length = q_shape[3], half_ = words_shape[1], rest = length - 2 * half_;
  const uint groups = GROUPS, rows = uint(q_shape[0]) * groups * tokens;
  const size_t stride = size_t(tokens) * length;
  const uint together = threads_per_threadgroup.x / W;
  const uint start = thread_index_in_threadgroup % W * N;
  const float added = eps, share = 1.0f / length;
  using chunk = zmlx_chunk<T, N, PACKED>;
  const bool hold = HOLDS, sure = SURE;
  BEFORE
  for (uint lowest = threadgroup_position_in_grid.x * together; lowest < rows;
       lowest += threadgroups_per_grid.x * together) {
    const uint own = lowest + thread_index_in_threadgroup / W;
    const bool inside = own < rows;  // other threads take part in the reductions, with some row
    const uint row = inside ? own : lowest;
    const uint token = row % tokens, group = row / tokens % groups, sequence = row / tokens / groups;
    PLACE
    BODY
  }
"""


def _each_group(body: str, aligned: str, before: str = "") -> str:
    return (
        _EACH_GROUP.replace("GROUPS", groups_of("qk"))
        .replace("HOLDS", _rope_norm_held.HELD)
        .replace("SURE", _rope_norm_held.sure(aligned))
        .replace("BEFORE", before)
        .replace("BODY", body)
        .replace("PLACE", PLACE)
    )


def _each(function: str, templates: str, arguments: str) -> str:
    return on_heads("qk", f"{function}<{templates}>({arguments});")


FORWARD = _each_group(
    f"""
    if (hold) {{{_rope_norm_held.FORWARD}
      continue;
    }}
    float scales[ZMLX_HEADS];
    zmlx_fill<int(ZMLX_HEADS)>(scales, 0.0f);
    {_each("zmlx_head_squares", "T, N, W, PACKED", "scales, ARRAY + at, stride, heads, start, length")}
    team.template sums<int(ZMLX_HEADS)>(scales);
    if (!inside) continue;
    for (uint h = 0; h < ZMLX_HEADS; ++h) scales[h] = rsqrt(scales[h] * share + added);

    ZMLX_COLUMNS(start, half_, W * N, {{
      float c[N], s[N];
      zmlx_angles<N>(c, s, place, words, half_, 1.0f, i, count);
      {
        _each(
            "zmlx_norm_rotate",
            "T, U, N, PACKED, INTERLEAVED",
            "ARRAY + at, ARRAY_out + at, ARRAY_weight, scales, stride, heads, c, s, i, half_, count",
        )
    }
    }})
    ZMLX_COLUMNS(start, rest, W * N, {{
      {
        _each(
            "zmlx_norm_scale",
            "T, U, N, PACKED",
            "ARRAY + at + 2 * half_, ARRAY_out + at + 2 * half_, ARRAY_weight + 2 * half_, "
            "scales, stride, heads, i, count",
        )
    }
    }})
""",
    "q k q_out k_out",
)

# A team adds the weights' gradients of its rows to a line of its own, so that the order of the additions is fixed; each
# thread has the same columns of all rows.
BACKWARD = _each_group(
    f"""
    float sums[2 * ZMLX_HEADS];
    zmlx_fill<int(2 * ZMLX_HEADS)>(sums, 0.0f);
    ZMLX_COLUMNS(start, half_, W * N, {{
      float c[N], s[N];
      zmlx_angles<N>(c, s, place, words, half_, 1.0f, i, count);
      {
        _each(
            "zmlx_norm_meet",
            "T, U, N, PACKED, INTERLEAVED",
            "sums, ARRAY + at, ARRAY_g + at, ARRAY_weight, stride, heads, c, s, i, half_, count",
        )
    }
    }})
    ZMLX_COLUMNS(start, rest, W * N, {{
      {
        _each(
            "zmlx_norm_meet_rest",
            "T, U, N, PACKED",
            "sums, ARRAY + at + 2 * half_, ARRAY_g + at + 2 * half_, ARRAY_weight + 2 * half_, stride, heads, i, count",
        )
    }
    }})
    team.template sums<int(2 * ZMLX_HEADS)>(sums);
    if (!inside) continue;
    for (uint h = 0; h < ZMLX_HEADS; ++h) {{
      sums[h] = rsqrt(sums[h] * share + added);
      sums[ZMLX_HEADS + h] = sums[h] * sums[h] * (sums[ZMLX_HEADS + h] * share);
    }}

    ZMLX_COLUMNS(start, half_, W * N, {{
      float c[N], s[N];
      zmlx_angles<N>(c, s, place, words, half_, 1.0f, i, count);
      {
        _each(
            "zmlx_norm_back",
            "T, U, N, PACKED, INTERLEAVED",
            "ARRAY + at, ARRAY_g + at, ARRAY_out + at, ARRAY_weight, ARRAY_part, "
            "sums, stride, heads, c, s, i, half_, count",
        )
    }
    }})
    ZMLX_COLUMNS(start, rest, W * N, {{
      {
        _each(
            "zmlx_norm_back_rest",
            "T, U, N, PACKED",
            "ARRAY + at + 2 * half_, ARRAY_g + at + 2 * half_, ARRAY_out + at + 2 * half_, ARRAY_weight + 2 * half_, "
            "ARRAY_part + 2 * half_, sums, stride, heads, i, count",
        )
    }
    }})
""",
    "q k q_g k_g q_out k_out",
    before=f"""
  device float* q_part =
      partial + (size_t(threadgroup_position_in_grid.x) * together + thread_index_in_threadgroup / W) * 2 * length;
  device float* k_part = q_part + length;
  if (hold) {{
    const uint q_groups = {groups_of("q")};
{_rope_norm_held.BACKWARD}
    return;
  }}
  float zeros[N];
  zmlx_fill<N>(zeros, 0.0f);
  ZMLX_COLUMNS(start, half_, W * N, {{
    using totals = zmlx_pairs<float, N, PACKED, INTERLEAVED>;
    totals::store(q_part, zeros, zeros, i, half_, count, false);
    totals::store(k_part, zeros, zeros, i, half_, count, false);
  }})
  ZMLX_COLUMNS(start, rest, W * N, {{
    using totals = zmlx_chunk<float, N, PACKED>;
    totals::store(q_part + 2 * half_ + i, zeros, count);
    totals::store(k_part + 2 * half_ + i, zeros, count);
  }})
""",
)
