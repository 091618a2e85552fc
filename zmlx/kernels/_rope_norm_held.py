"""RMS norm of each head and its rotation where a thread holds its pairs of all heads of a group, in Metal.

That is so where all of a head is rotated and W threads have a chunk of pairs each, wherever the arrays begin: the order
in which a head is added up is another one than that of chunks which are read twice, and results must not depend on an
address. The loads of all heads are under way before the first value is used.
"""

from __future__ import annotations

from zmlx.kernels._rope_msl import on_heads

HEADER = """
// The angles of N pairs of a token that has one position.
template <int N, typename P>
METAL_FUNC void zmlx_angles_at(thread float* c, thread float* s, long position, P words, uint half_, uint i) {
  for (int j = 0; j < N; ++j) {
    const zmlx_turn turn = zmlx_turned(position, words[half_ + i + j], words[i + j]);
    c[j] = turn.cosine;
    s[j] = turn.sine;
  }
}

// As zmlx_hold_heads, also where addresses are not aligned; `sure`: they are.
template <typename T, int N, bool PACKED, bool INTERLEAVED, typename P>
METAL_FUNC void zmlx_hold_anywhere(
    thread zmlx_raw_pairs<T, N, PACKED, INTERLEAVED>* held, P in, size_t stride, uint heads, uint i, uint half_,
    bool sure) {
  using chunk = zmlx_chunk<T, N, PACKED>;
  if (sure) {
    zmlx_hold_heads(held, in, stride, heads, i, half_);
    return;
  }
  in += INTERLEAVED ? 2 * i : i;
  _Pragma("unroll") for (uint h = 0; h < ZMLX_HEADS; ++h) {
    held[h].low = chunk::raw(in, N, 0.0f);
    held[h].high = chunk::raw(in + (INTERLEAVED ? N : half_), N, 0.0f);
    in += h + 1 < heads ? stride : 0;
  }
}
"""


#: Whether all of a head is rotated, by whole chunks of which a thread has one at most.
HELD = "W > 1 && rest == 0 && half_ % N == 0 && half_ <= W * N"


def sure(arrays: str) -> str:
    """Whether the chunks of ``arrays`` and weights are at aligned addresses then."""
    tests = [f"chunk::aligned({array})" for array in arrays.split()]
    tests += [f"zmlx_chunk<U, N, PACKED>::aligned({weight})" for weight in ("q_weight", "k_weight")]
    return " && ".join(tests)


# What a thread beyond the pairs holds is another one's: it adds nothing and stores nothing.
FORWARD = f"""
      const uint i = start < half_ ? start : 0;
      zmlx_raw_pairs<T, N, PACKED, INTERLEAVED> held[ZMLX_HEADS];
      float wa[N], wb[N], c[N], s[N], scales[ZMLX_HEADS];
      using weights = zmlx_pairs<U, N, PACKED, INTERLEAVED>;
      device T* out = q_out;
      uint there = 0;
      {
    on_heads(
        "qk",
        "zmlx_hold_anywhere(held, ARRAY + at, stride, heads, i, half_, sure); "
        "weights::load(wa, wb, ARRAY_weight, i, half_, N, sure); out = ARRAY_out + at; there = heads;",
    )
}
      zmlx_angles_at<N>(c, s, place.p[0], words, half_, i);
      ZMLX_UNROLL for (uint h = 0; h < ZMLX_HEADS; ++h) {{
        float squares = 0.0f;
        for (int j = 0; j < N; ++j) {{
          squares = fma(held[h].a(j), held[h].a(j), squares);
          squares = fma(held[h].b(j), held[h].b(j), squares);
        }}
        scales[h] = start < half_ ? squares : 0.0f;
      }}
      team.template sums<int(ZMLX_HEADS)>(scales);
      if (!inside || start >= half_) continue;
      float a_sine[N], b_sine[N];
      for (int j = 0; j < N; ++j) {{
        a_sine[j] = wa[j] * s[j];
        b_sine[j] = wb[j] * s[j];
        wa[j] *= c[j];
        wb[j] *= c[j];
      }}
      ZMLX_UNROLL for (uint h = 0; h < ZMLX_HEADS; ++h) {{
        const float scale = rsqrt(scales[h] * share + added);
        float a[N], b[N];
        for (int j = 0; j < N; ++j) {{
          const float first = held[h].a(j) * scale, second = held[h].b(j) * scale;
          a[j] = fma(first, wa[j], -(second * b_sine[j]));
          b[j] = fma(second, wb[j], first * a_sine[j]);
        }}
        zmlx_pairs<T, N, PACKED, INTERLEAVED>::store(out, a, b, i, half_, N, sure);
        out += h + 1 < there ? stride : 0;
      }}
"""

# The queries first, then the keys: the weights' gradients stay in registers until a team has all its rows of one array.
BACKWARD = f"""
    const uint i = start < half_ ? start : 0;
    const bool mine = start < half_;
    using weights = zmlx_pairs<U, N, PACKED, INTERLEAVED>;
    using totals = zmlx_pairs<float, N, PACKED, INTERLEAVED>;
    for (uint array = 0; array < 2; ++array) {{
      const uint parts = array == 0 ? q_groups : groups - q_groups;
      const uint limit = uint(q_shape[0]) * parts * tokens;
      device T* const results = array == 0 ? q_out : k_out;
      float wa[N], wb[N], ta[N], tb[N];
      zmlx_fill<N>(ta, 0.0f);
      zmlx_fill<N>(tb, 0.0f);
      if (array == 0)
        weights::load(wa, wb, q_weight, i, half_, N, sure);
      else
        weights::load(wa, wb, k_weight, i, half_, N, sure);
      for (uint lowest = threadgroup_position_in_grid.x * together; lowest < limit;
           lowest += threadgroups_per_grid.x * together) {{
        const uint own = lowest + thread_index_in_threadgroup / W;
        const bool inside = own < limit;  // other threads take part in the reductions, with some row
        const uint row = inside ? own : lowest;
        const uint token = row % tokens, sequence = row / tokens / parts;
        const uint group = row / tokens % parts + (array == 0 ? 0 : q_groups);
        zmlx_raw_pairs<T, N, PACKED, INTERLEAVED> held[ZMLX_HEADS], turned[ZMLX_HEADS];
        device T* out = results;
        uint there = 0;
        {
    on_heads(
        "qk",
        "zmlx_hold_anywhere(held, ARRAY + at, stride, heads, i, half_, sure); "
        "zmlx_hold_anywhere(turned, ARRAY_g + at, stride, heads, i, half_, sure); out += at; there = heads;",
    )
}
        PLACE
        float c[N], s[N], sums[2 * ZMLX_HEADS];
        zmlx_angles_at<N>(c, s, place.p[0], words, half_, i);
        ZMLX_UNROLL for (uint h = 0; h < ZMLX_HEADS; ++h) {{
          float squares = 0.0f, along = 0.0f;
          for (int j = 0; j < N; ++j) {{
            const float a = held[h].a(j), b = held[h].b(j), u = turned[h].a(j), v = turned[h].b(j);
            squares = fma(a, a, fma(b, b, squares));
            along = fma(fma(u, c[j], v * s[j]) * a, wa[j], along);
            along = fma(fma(v, c[j], -(u * s[j])) * b, wb[j], along);
          }}
          sums[h] = mine ? squares : 0.0f;
          sums[ZMLX_HEADS + h] = mine ? along : 0.0f;
        }}
        team.template sums<int(2 * ZMLX_HEADS)>(sums);
        if (!inside || !mine) continue;
        ZMLX_UNROLL for (uint h = 0; h < ZMLX_HEADS; ++h) {{
          if (h >= there) break;
          const float scale = rsqrt(sums[h] * share + added);
          const float back = scale * scale * (sums[ZMLX_HEADS + h] * share);
          float da[N], db[N];
          for (int j = 0; j < N; ++j) {{
            const float a = held[h].a(j), b = held[h].b(j), u = turned[h].a(j), v = turned[h].b(j);
            const float first = fma(u, c[j], v * s[j]), second = fma(v, c[j], -(u * s[j]));
            ta[j] = fma(first, a * scale, ta[j]);
            tb[j] = fma(second, b * scale, tb[j]);
            da[j] = scale * (first * wa[j] - a * back);
            db[j] = scale * (second * wb[j] - b * back);
          }}
          zmlx_pairs<T, N, PACKED, INTERLEAVED>::store(out, da, db, i, half_, N, sure);
          out += h + 1 < there ? stride : 0;
        }}
      }}
      if (mine) totals::store(array == 0 ? q_part : k_part, ta, tb, i, half_, N, false);
    }}
"""
