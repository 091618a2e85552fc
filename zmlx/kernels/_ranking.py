"""Metal functions that order the values of a row: the largest, the next ones, and how many are above a threshold.

A number's rank is an unsigned integer, so that numbers compare as their ranks do. What is equal is told apart by its
place in the row, the lowest first. So the order is total, and threads agree on it whatever each of them has seen.
"""

from __future__ import annotations

import mlx.core as mx

from zmlx.kernels import _check, _check_numbers

#: The most values that are picked from a row: each pick is a pass over it.
MAX_PICKS = 64
#: Counts and places go through float32, which has all integers up to here.
MAX_LENGTH = 2**24

RANKING = """
// Larger numbers have larger ranks; both zeros have one, NaN has the largest, and no number has 0.
METAL_FUNC uint zmlx_rank(float v) {
  const uint bits = as_type<uint>(v == 0.0f ? 0.0f : v);
  const uint rank = (bits & 0x80000000u) != 0u ? ~bits : bits | 0x80000000u;
  return v != v ? 0xff800001u : rank;
}

// A value of a row: its rank and its place. Nothing has rank 0, and is behind all; before the first is rank ~0.
struct zmlx_pick {
  uint rank;
  uint place;
};
#define ZMLX_BEFORE_ALL {0xffffffffu, 0u}

METAL_FUNC zmlx_pick zmlx_better(zmlx_pick a, zmlx_pick b) {
  const bool second = b.rank > a.rank || (b.rank == a.rank && b.place < a.place);
  a.rank = second ? b.rank : a.rank;
  a.place = second ? b.place : a.place;
  return a;
}

// The best of what the threads of a team bring.
template <int W>
METAL_FUNC zmlx_pick zmlx_best(thread zmlx_team<W>& team, zmlx_pick mine) {
  if (W == 1) return mine;
  for (ushort apart = (W < 32 ? W : 32) / 2; apart > 0; apart /= 2) {
    const zmlx_pick other = {simd_shuffle_xor(mine.rank, apart), simd_shuffle_xor(mine.place, apart)};
    mine = zmlx_better(mine, other);
  }
  if (W <= 32) return mine;
  constexpr int groups = W > 32 ? W / 32 : 1;
  const float values[2] = {as_type<float>(mine.rank), as_type<float>(mine.place)};
  threadgroup const float* met = team.template exchanged<2>(values);
  for (int s = 0; s < groups; ++s) {
    const zmlx_pick other = {as_type<uint>(met[s]), as_type<uint>(met[groups + s])};
    mine = zmlx_better(mine, other);
  }
  return mine;
}

// `own`: the best that this thread has of the row behind `last`, of those that are `allowed`. `value` is what is
// ordered; both see the value of the row as `v[j]` and its place as `at`.
#define ZMLX_OWN(own, last, value, allowed)                                        \\
  {                                                                                \\
    zmlx_pick parts[N];                                                            \\
    for (int j = 0; j < N; ++j) parts[j].rank = 0u, parts[j].place = 0xffffffffu;  \\
    ZMLX_VALUES(0.0f, false, {                                                     \\
      const uint begin = kept ? start + k * (W * N) : i;                           \\
      for (int j = 0; j < N; ++j) {                                                \\
        const uint at = begin + j;                                                 \\
        const uint rank = zmlx_rank(value);                                        \\
        const bool better = at < reach && (allowed) && rank > parts[j].rank &&     \\
                            (rank < last.rank || (rank == last.rank && at > last.place)); \\
        parts[j].rank = better ? rank : parts[j].rank;                             \\
        parts[j].place = better ? at : parts[j].place;                             \\
      }                                                                            \\
    })                                                                             \\
    for (int j = 1; j < N; ++j) parts[0] = zmlx_better(parts[0], parts[j]);        \\
    own = parts[0];                                                                \\
  }

// A row is picked from, the best first: FIRST once, then NEXT for each pick, which goes to `last`. Only the thread that
// had it looks at its values again.
#define ZMLX_FIRST(last, own, value, allowed)                                      \\
  zmlx_pick last = ZMLX_BEFORE_ALL, own;                                           \\
  ZMLX_OWN(own, last, value, allowed)
#define ZMLX_NEXT(last, own, value, allowed)                                       \\
  {                                                                                \\
    last = zmlx_best<W>(team, own);                                                \\
    if (own.place == last.place) ZMLX_OWN(own, last, value, allowed)               \\
  }
"""


def check_picks(function: str, x: mx.array, k: int, *, name: str = "x") -> None:
    """Rows of a supported dtype, of which ``k`` values can be picked.

    Raises
    ------
    TypeError
        ``x`` is not an MLX array of a supported dtype, or ``k`` is not an integer.
    ValueError
        ``x`` is 0-d or has rows of more than 2**24 values, or ``k`` is not from 1 to 64, or more than a row has.
    """
    check_length(function, x, name)
    _check_numbers.check_integer(function, k, "k")
    most = min(MAX_PICKS, x.shape[-1])
    if not 1 <= k <= most:
        raise ValueError(
            f"[{function}] Expected `k` to be from 1 to {most} (at most {MAX_PICKS}, and no more than the last "
            f"dimension of `{name}`, which has shape {tuple(x.shape)}), got {k}."
        )


def check_length(function: str, x: mx.array, name: str) -> None:
    """Rows of a supported dtype whose places float32 can count.

    Raises
    ------
    TypeError
        Not an MLX array, or of another dtype.
    ValueError
        0-d, or rows of more than 2**24 values.
    """
    _check.check_rows(function, x, name)
    if x.shape[-1] > MAX_LENGTH:
        raise ValueError(
            f"[{function}] Expected the last dimension of `{name}` to be at most 2**24, got shape {tuple(x.shape)}. "
            "Split the rows, and choose among what is chosen of the parts."
        )


def ranked_places(x: mx.array, k: int) -> mx.array:
    """The places of the ``k`` largest values of each row, in MLX operations: the order of `RANKING`."""
    x32 = x.astype(mx.float32)
    bits = mx.where(x32 == 0, mx.zeros_like(x32), x32).view(mx.uint32)
    sign = mx.array(0x80000000, mx.uint32)
    rank = mx.where((bits & sign) != 0, mx.array(0xFFFFFFFF, mx.uint32) - bits, bits | sign)
    rank = mx.where(mx.isnan(x32), mx.array(0xFF800001, mx.uint32), rank).astype(mx.int64)
    keys = (0xFFFFFFFF - rank) * MAX_LENGTH + mx.arange(x.shape[-1], dtype=mx.int64)
    return (mx.sort(keys, axis=-1)[..., :k] % MAX_LENGTH).astype(mx.uint32)
