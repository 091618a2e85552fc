"""Scans of rows in Metal: the threads that share a row join what they have by Kogge and Stone's steps.

A row is cut into tiles of K chunks a thread. A tile's loads are all under way before the first value is used, and its
threads meet once. What is joined is a struct M with the members of `SUM`: numbers that are added, numbers that are
multiplied, or the steps ``u -> a * u + b`` of a linear recurrence.
"""

from __future__ import annotations

SCAN = """
// Joins the N values of a chunk, in the order in which the scan goes, in chains that do not wait for each other.
template <typename M, int N, bool REVERSE>
METAL_FUNC void zmlx_scan_chunk(thread M* v) {
  constexpr int C = N < 16 ? N : 16;
  for (int j = 1; j < C; ++j)
    for (int c = 0; c < N; c += C) {
      const int i = REVERSE ? N - 1 - c - j : c + j;
      v[i] = M::join(v[REVERSE ? i + 1 : i - 1], v[i]);
    }
  for (int c = C; c < N; c += C) {
    const M before = v[REVERSE ? N - c : c - 1];
    for (int j = 0; j < C; ++j) {
      const int i = REVERSE ? N - 1 - c - j : c + j;
      v[i] = M::join(before, v[i]);
    }
  }
}

// Each thread of the W that share a tile brings what its K chunks are joined to, and gets what is before each of them
// in the tile; the result is what the tile is joined to. The chunks of all threads come one after the other, K times.
template <typename M, int K, int W, int GROUPS = (W > 32 ? W / 32 : 1)>
METAL_FUNC M zmlx_scan_tile(thread M* chunks, thread zmlx_team<W>& team) {
  constexpr ushort TOGETHER = W < 32 ? W : 32;
  constexpr int SIZE = int(M::SIZE);
  const uint place = team.lane % TOGETHER;
  M whole[K];
  for (int k = 0; k < K; ++k) {
    M upto = chunks[k];
    chunks[k] = M::none();
    if (W > 1) {
      for (ushort apart = 1; apart < TOGETHER; apart *= 2) {
        const M other = upto.up(apart);
        if (place >= apart) upto = M::join(other, upto);
      }
      const M other = upto.up(1);
      if (place > 0) chunks[k] = other;
      upto = upto.at(team.lane - place + TOGETHER - 1);
    }
    whole[k] = upto;
  }
  if (W > 32) {
    threadgroup float* met = team.scratch + team.turn;
    team.turn ^= ZMLX_SCRATCH / 2;
    if (team.lane == 0)
      for (int k = 0; k < K; ++k) whole[k].write(met + (k * GROUPS + team.simdgroup) * SIZE);
    threadgroup_barrier(mem_flags::mem_threadgroup);
    // Every simdgroup scans what all of them have, so that each lane reads one of them.
    for (int k = 0; k < K; ++k) {
      M upto = M::none();
      if (team.lane < GROUPS) upto = M::read(met + (k * GROUPS + team.lane) * SIZE);
      for (ushort apart = 1; apart < GROUPS; apart *= 2) {
        const M other = upto.up(apart);
        if (team.lane >= apart) upto = M::join(other, upto);
      }
      const M before = upto.at(team.simdgroup > 0 ? team.simdgroup - 1 : 0);
      if (team.simdgroup > 0) chunks[k] = M::join(before, chunks[k]);
      whole[k] = upto.at(GROUPS - 1);
    }
  }
  M run = M::none();
  for (int k = 0; k < K; ++k) {
    chunks[k] = M::join(run, chunks[k]);
    run = M::join(run, whole[k]);
  }
  return run;
}
"""

SUM = """
struct zmlx_added {
  enum : int { SIZE = 1 };  // numbers
  float value;

  static METAL_FUNC zmlx_added none() { return zmlx_added{0.0f}; }
  static METAL_FUNC zmlx_added join(zmlx_added a, zmlx_added b) { return zmlx_added{a.value + b.value}; }
  METAL_FUNC zmlx_added up(ushort by) const { return zmlx_added{simd_shuffle_up(value, by)}; }
  METAL_FUNC zmlx_added at(ushort lane) const { return zmlx_added{simd_shuffle(value, lane)}; }
  METAL_FUNC void write(threadgroup float* to) const { *to = value; }
  static METAL_FUNC zmlx_added read(threadgroup const float* from) { return zmlx_added{*from}; }
};

// What is before a tile, and what its additions lost in rounding (Knuth's two-sum): a long row has many tiles.
struct zmlx_added_before {
  float sum, lost;

  static METAL_FUNC zmlx_added_before none() { return zmlx_added_before{0.0f, 0.0f}; }
  METAL_FUNC void add(zmlx_added tile) {
    const float total = sum + tile.value, part = total - sum;
    const float more = (sum - (total - part)) + (tile.value - part);
    lost = isfinite(more) ? lost + more : 0.0f;
    sum = total;
  }
  METAL_FUNC float with(zmlx_added upto) const { return sum + (lost + upto.value); }
};
"""

PRODUCT = """
struct zmlx_multiplied {
  enum : int { SIZE = 1 };  // numbers
  float value;

  static METAL_FUNC zmlx_multiplied none() { return zmlx_multiplied{1.0f}; }
  static METAL_FUNC zmlx_multiplied join(zmlx_multiplied a, zmlx_multiplied b) {
    return zmlx_multiplied{a.value * b.value};
  }
  METAL_FUNC zmlx_multiplied up(ushort by) const { return zmlx_multiplied{simd_shuffle_up(value, by)}; }
  METAL_FUNC zmlx_multiplied at(ushort lane) const { return zmlx_multiplied{simd_shuffle(value, lane)}; }
  METAL_FUNC void write(threadgroup float* to) const { *to = value; }
  static METAL_FUNC zmlx_multiplied read(threadgroup const float* from) { return zmlx_multiplied{*from}; }
};

struct zmlx_multiplied_before {
  float product;

  static METAL_FUNC zmlx_multiplied_before none() { return zmlx_multiplied_before{1.0f}; }
  METAL_FUNC void add(zmlx_multiplied tile) { product *= tile.value; }
  METAL_FUNC float with(zmlx_multiplied upto) const { return product * upto.value; }
};
"""

# Nothing before, u = 0, stays nothing, whatever it is multiplied by: an infinite factor makes no NaN of it.
RECURRENCE = """
// u -> factor * u + shift
struct zmlx_step {
  enum : int { SIZE = 2 };  // numbers
  float factor, shift;

  static METAL_FUNC float of(zmlx_step step, float u) {
    return u == 0.0f ? step.shift : fma(step.factor, u, step.shift);
  }
  static METAL_FUNC zmlx_step none() { return zmlx_step{1.0f, 0.0f}; }
  static METAL_FUNC zmlx_step join(zmlx_step a, zmlx_step b) {
    return zmlx_step{a.factor * b.factor, of(b, a.shift)};
  }
  METAL_FUNC zmlx_step up(ushort by) const {
    return zmlx_step{simd_shuffle_up(factor, by), simd_shuffle_up(shift, by)};
  }
  METAL_FUNC zmlx_step at(ushort lane) const {
    return zmlx_step{simd_shuffle(factor, lane), simd_shuffle(shift, lane)};
  }
  METAL_FUNC void write(threadgroup float* to) const {
    to[0] = factor;
    to[1] = shift;
  }
  static METAL_FUNC zmlx_step read(threadgroup const float* from) { return zmlx_step{from[0], from[1]}; }
};
"""

# `start` and `k` count from where the scan begins: in reverse that is the row's end, and chunks stay where they are.
_TILES = """
    constexpr int HELD = K > 0 ? K : 1;
    constexpr uint TILE = HELD * W * N;
    const uint tiles = (length + TILE - 1) / TILE;
    const uint mine = REVERSE ? (W - 1) * N - start : start;
    BEFORE
    for (uint n = 0; n < tiles; ++n) {
      const uint begin = (REVERSE ? tiles - 1 - n : n) * TILE + mine;
      const bool sure = full && begin - mine + TILE <= length;
"""


def scan_of_rows(before: str, tile: str) -> str:
    """What `each_row` runs for a scan: ``before`` declares what is before a tile, and ``tile`` works on the thread's
    HELD chunks, which begin at ``begin + k * W * N``; chunk `ZMLX_TURN(k)` is the k-th in the order of the scan.
    ``sure``: all of them are whole and aligned. All threads of the threadgroup go through it."""
    return f"{_TILES.replace('BEFORE', before)}{tile}    }}\n"


#: Chunks in the order of the scan.
TURN = "#define ZMLX_TURN(k) (REVERSE ? HELD - 1 - (k) : (k))\n"
