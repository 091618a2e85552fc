"""Whole programs in the manner of public kernels: sorting, the largest elements, scans."""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np

from language.groups import SYNC
from language.row import Row
from language.simd import LANES

_program = partial(Row, "Programs", alone=True)

SORT_HEADER = """
template <typename T> METAL_FUNC void thread_swap(thread T& a, thread T& b) { T w = a; a = b; b = w; }
template <typename T> METAL_FUNC void thread_swap(threadgroup T& a, threadgroup T& b) { T w = a; a = b; b = w; }
template <typename T> struct LessThan {
  static constexpr constant T init = Limits<T>::max;
  METAL_FUNC bool operator()(T a, T b) { return a < b; }
};
template <typename ValT, typename IdxT, bool ARG_SORT, short N_PER_THREAD, typename CompareOp>
struct ThreadSort {
  static METAL_FUNC void sort(thread ValT (&vals)[N_PER_THREAD], thread IdxT (&idxs)[N_PER_THREAD]) {
    CompareOp op;
    #pragma unroll
    for (short i = 0; i < N_PER_THREAD; ++i) {
      #pragma unroll
      for (short j = i & 1; j < N_PER_THREAD - 1; j += 2) {
        if (op(vals[j + 1], vals[j])) {
          thread_swap(vals[j + 1], vals[j]);
          if (ARG_SORT) thread_swap(idxs[j + 1], idxs[j]);
        }
      }
    }
  }
};
template <typename ValT, typename IdxT, short BLOCK_THREADS, short N_PER_THREAD, typename CompareOp = LessThan<ValT>>
struct BlockMergeSort {
  using thread_sort_t = ThreadSort<ValT, IdxT, true, N_PER_THREAD, CompareOp>;
  static METAL_FUNC int merge_partition(
      const threadgroup ValT* As, const threadgroup ValT* Bs, short A_sz, short B_sz, short sort_md) {
    CompareOp op;
    short A_st = max(0, sort_md - B_sz);
    short A_ed = min(sort_md, A_sz);
    while (A_st < A_ed) {
      short md = A_st + (A_ed - A_st) / 2;
      auto a = As[md];
      auto b = Bs[sort_md - 1 - md];
      if (op(b, a)) { A_ed = md; } else { A_st = md + 1; }
    }
    return A_ed;
  }
  static METAL_FUNC void merge_step(
      const threadgroup ValT* As, const threadgroup ValT* Bs, const threadgroup IdxT* As_idx,
      const threadgroup IdxT* Bs_idx, short A_sz, short B_sz, thread ValT (&vals)[N_PER_THREAD],
      thread IdxT (&idxs)[N_PER_THREAD]) {
    CompareOp op;
    short a_idx = 0, b_idx = 0;
    for (int i = 0; i < N_PER_THREAD; ++i) {
      auto a = (a_idx < A_sz) ? As[a_idx] : ValT(CompareOp::init);
      auto b = (b_idx < B_sz) ? Bs[b_idx] : ValT(CompareOp::init);
      bool pred = (b_idx < B_sz) && (a_idx >= A_sz || op(b, a));
      vals[i] = pred ? b : a;
      idxs[i] = pred ? Bs_idx[b_idx] : As_idx[a_idx];
      b_idx += short(pred);
      a_idx += short(!pred);
    }
  }
  static METAL_FUNC void sort(
      threadgroup ValT* tgp_vals, threadgroup IdxT* tgp_idxs, uint3 lid) {
    short idx = lid.x * N_PER_THREAD;
    thread ValT thread_vals[N_PER_THREAD];
    thread IdxT thread_idxs[N_PER_THREAD];
    for (int i = 0; i < N_PER_THREAD; ++i) { thread_vals[i] = tgp_vals[idx + i]; thread_idxs[i] = tgp_idxs[idx + i]; }
    thread_sort_t::sort(thread_vals, thread_idxs);
    for (int merge_threads = 2; merge_threads <= BLOCK_THREADS; merge_threads *= 2) {
      threadgroup_barrier(mem_flags::mem_threadgroup);
      for (int i = 0; i < N_PER_THREAD; ++i) { tgp_vals[idx + i] = thread_vals[i]; tgp_idxs[idx + i] = thread_idxs[i]; }
      threadgroup_barrier(mem_flags::mem_threadgroup);
      int merge_group = lid.x / merge_threads;
      int merge_lane = lid.x % merge_threads;
      int sort_sz = N_PER_THREAD * merge_threads;
      int sort_st = N_PER_THREAD * merge_threads * merge_group;
      int A_st = sort_st, A_ed = sort_st + sort_sz / 2, B_st = sort_st + sort_sz / 2, B_ed = sort_st + sort_sz;
      const threadgroup ValT* As = tgp_vals + A_st;
      const threadgroup ValT* Bs = tgp_vals + B_st;
      int A_sz = A_ed - A_st, B_sz = B_ed - B_st;
      int sort_md = N_PER_THREAD * merge_lane;
      int partition = merge_partition(As, Bs, A_sz, B_sz, sort_md);
      As += partition;
      Bs += sort_md - partition;
      A_sz -= partition;
      B_sz -= sort_md - partition;
      merge_step(As, Bs, tgp_idxs + A_st + partition, tgp_idxs + B_st + sort_md - partition, A_sz, B_sz,
                 thread_vals, thread_idxs);
    }
    threadgroup_barrier(mem_flags::mem_threadgroup);
    for (int i = 0; i < N_PER_THREAD; ++i) { tgp_vals[idx + i] = thread_vals[i]; tgp_idxs[idx + i] = thread_idxs[i]; }
  }
};
"""

SORTING = (
    _program(
        "block merge sort: structs of static functions, references to local arrays",
        f"""
        using sort_kernel = BlockMergeSort<float, uint, 16, 4>;
        threadgroup float vals[64];
        threadgroup uint idxs[64];
        uint3 lid = thread_position_in_threadgroup;
        for (int k_ = lid.x; k_ < 64; k_ += 16) {{ vals[k_] = p[k_]; idxs[k_] = k_; }}
        {SYNC}
        sort_kernel::sort(vals, idxs, lid);
        {SYNC}
        for (int k_ = lid.x; k_ < 64; k_ += 16) out[k_] = vals[k_] + p[idxs[k_]];
        """,
        lambda V: 2 * np.sort(V.p),
        "float32",
        header=SORT_HEADER,
        grid=(16, 1, 1),
        threadgroup=(16, 1, 1),
    ),
    _program(
        "bitonic sort of pairs, the largest first: top-k with ties by index",
        f"""
        struct Pair {{ float value; int index; }};
        threadgroup Pair s_[64];
        auto before = [](Pair a_, Pair b_) {{
          return a_.value > b_.value || (a_.value == b_.value && a_.index < b_.index);
        }};
        s_[i] = {{p[i], int(i)}};
        for (uint size = 2; size <= 64; size <<= 1) {{
          for (uint stride = size >> 1; stride > 0; stride >>= 1) {{
            {SYNC}
            uint other = i ^ stride;
            if (other > i) {{
              bool up = (i & size) == 0;
              Pair a_ = s_[i], b_ = s_[other];
              if (before(a_, b_) != up) {{ s_[i] = b_; s_[other] = a_; }}
            }}
          }}
        }}
        {SYNC}
        if (i < 8) out[i] = s_[i].index;
        """,
        lambda V: np.lexsort((LANES, -V.p))[:8],
    ),
    _program(
        "top-k by repeated argmax: `simd_shuffle_down` of a struct's members",
        """
        IndexValPair<float> best{Limits<uint>::max, Limits<float>::min};
        float a_ = p[i], b_ = p[i + 32];
        for (int k_ = 0; k_ < 4; ++k_) {
          best = {i, a_};
          if (b_ > best.val) best = {i + 32, b_};
          for (uint offset = 16; offset > 0; offset /= 2) best = argmax(best, shuffled(best, offset));
          best.index = simd_broadcast(best.index, 0);
          if (best.index == i) a_ = -INFINITY;
          if (best.index == i + 32) b_ = -INFINITY;
          if (i == 0) out[k_] = best.index;
        }
        """,
        lambda V: np.lexsort((LANES, -V.p))[:4],
        "uint32",
        header="""
template <typename U> struct IndexValPair { uint32_t index; U val; };
template <typename U> IndexValPair<U> argmax(IndexValPair<U> best, IndexValPair<U> current) {
  if (best.val < current.val || (best.val == current.val && best.index > current.index)) return current;
  return best;
}
template <typename U> IndexValPair<U> shuffled(IndexValPair<U> v, uint by) {
  return IndexValPair<U>{simd_shuffle_down(v.index, by), simd_shuffle_down(v.val, by)};
}
""",
        grid=(32, 1, 1),
        threadgroup=(32, 1, 1),
    ),
)

SCAN_HEADER = """
#define DEFINE_SIMD_SCAN()                                               \\
  template <typename T, metal::enable_if_t<sizeof(T) < 8, bool> = true>  \\
  T simd_scan(T val) {                                                   \\
    return simd_scan_impl(val);                                          \\
  }                                                                      \\
                                                                         \\
  template <typename T, metal::enable_if_t<sizeof(T) == 8, bool> = true> \\
  T simd_scan(T val) {                                                   \\
    for (int i = 1; i <= 16; i *= 2) {                                   \\
      val = operator()(val, simd_shuffle_and_fill_up(val, init, i));     \\
    }                                                                    \\
    return val;                                                          \\
  }
template <typename U> struct CumSum {
  DEFINE_SIMD_SCAN()
  static constexpr constant U init = static_cast<U>(0);
  template <typename T> U operator()(U a, T b) { return a + b; }
  U simd_scan_impl(U x) { return simd_prefix_inclusive_sum(x); }
};
template <typename U> struct CumMax {
  static constexpr constant U init = Limits<U>::min;
  template <typename T> U operator()(U a, T b) { return (a >= b) ? a : b; }
  U simd_scan(U x) {
    for (int i = 1; i <= 16; i *= 2) { U y = simd_shuffle_and_fill_up(x, init, i); x = (x >= y) ? x : y; }
    return x;
  }
};
template <typename U, typename Op> U block_scan(U value, threadgroup U* sums, uint lane, uint simd, uint simds) {
  Op op;
  value = op.simd_scan(value);
  if (lane == 31) sums[simd] = value;
  threadgroup_barrier(mem_flags::mem_threadgroup);
  if (simd == 0) {
    U prefix = op.simd_scan(lane < simds ? sums[lane] : U(Op::init));
    sums[lane] = simd_shuffle_and_fill_up(prefix, U(Op::init), 1u);
  }
  threadgroup_barrier(mem_flags::mem_threadgroup);
  return op(value, sums[simd]);
}
"""

_SCAN = """
        threadgroup T sums[32];
        out[i] = block_scan<T, OP>(T(ARRAY[i]), sums, thread_index_in_simdgroup, simdgroup_index_in_threadgroup,
                                   simdgroups_per_threadgroup);
"""

SCANS = (
    _program(
        "scan: an operation as template argument, `enable_if_t`, sums",
        _SCAN.replace("OP", "CumSum<T>").replace("ARRAY", "n"),
        lambda V: np.cumsum(V.n, dtype="int32"),
        header=SCAN_HEADER,
        template=(("T", "int32"),),
    ),
    _program(
        "scan: 64 bits",
        _SCAN.replace("OP", "CumSum<T>").replace("ARRAY", "l"),
        lambda V: np.cumsum(V.l, dtype="int64"),
        "int64",
        header=SCAN_HEADER,
        template=(("T", "int64"),),
    ),
    _program(
        "scan: maximum of half",
        _SCAN.replace("OP", "CumMax<T>").replace("ARRAY", "h"),
        lambda V: np.maximum.accumulate(V.h),
        "float16",
        atol=1e-7,
        header=SCAN_HEADER,
        template=(("T", "float16"),),
    ),
    _program(
        "segmented work: a counter of threads that are done, `while (true)`",
        f"""
        threadgroup atomic_uint done;
        threadgroup uint next_[64];
        if (i == 0) atomic_store_explicit(&done, 0u, memory_order_relaxed);
        uint left = u[i] % 7, rounds = 0;
        {SYNC}
        while (true) {{
          next_[i] = left;
          {SYNC}
          left = next_[(i + 1) % 64];
          if (left > 0) --left;
          else atomic_fetch_add_explicit(&done, 1u, memory_order_relaxed);
          {SYNC}
          ++rounds;
          if (atomic_load_explicit(&done, memory_order_relaxed) >= 200u) break;
          {SYNC}
        }}
        out[i] = rounds * 100 + left;
        """,
        lambda V: _rounds(V.u % 7),
        "uint32",
    ),
)


def _rounds(left: Any) -> Any:
    done = rounds = 0
    while done < 200:
        left = np.roll(left, -1).astype("int64")
        done += int((left == 0).sum())
        left = np.maximum(left - 1, 0)
        rounds += 1
    return rounds * 100 + left


ROWS = (*SORTING, *SCANS)
