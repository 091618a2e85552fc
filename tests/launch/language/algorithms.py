"""Whole programs in the manner of public kernels: attention and quantised products."""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np

from language.row import Row

_program = partial(Row, "Programs", alone=True)

_rng = np.random.default_rng(7)

# Small multiples of 1/4, so that products and sums are exact in any order.
Q, K, V_ = (_rng.integers(-4, 5, (16, 16)).astype("float32") / 4 for _ in range(3))


def _attention() -> Any:
    scores = Q.astype("float64") @ K.T.astype("float64") * 0.25
    p = np.exp(scores - scores.max(1, keepdims=True))
    return (p / p.sum(1, keepdims=True) @ V_).ravel()


ATTENTION = (
    _program(
        "flash attention: `simdgroup_matrix`, online softmax",
        """
        constexpr int D = 16, BQ = 8, BK = 8;
        threadgroup float scores[BQ][BK + 1], rescale[BQ];
        const device float* q_block = q + threadgroup_position_in_grid.x * BQ * D;
        uint lane = thread_index_in_simdgroup;
        simdgroup_matrix<float, 8, 8> queries[D / 8], acc[D / 8];
        for (int c_ = 0; c_ < D / 8; ++c_) {
          simdgroup_load(queries[c_], q_block + 8 * c_, D);
          acc[c_] = make_filled_simdgroup_matrix<float, 8, 8>(0.0f);
        }
        float row_max = Limits<float>::min, row_sum = 0;
        for (int block = 0; block < N; block += BK) {
          simdgroup_float8x8 s_(0), key;
          #pragma clang loop unroll(full)
          for (int c_ = 0; c_ < D / 8; ++c_) {
            simdgroup_load(key, k + block * D + 8 * c_, D, ulong2(0, 0), true);
            simdgroup_multiply_accumulate(s_, queries[c_], key, s_);
          }
          simdgroup_store(s_, &scores[0][0], BK + 1);
          simdgroup_barrier(mem_flags::mem_threadgroup);
          if (lane < BQ) {
            float new_max = row_max;
            for (int j_ = 0; j_ < BK; ++j_) new_max = metal::max(new_max, scores[lane][j_] * 0.25f);
            float factor = metal::exp(row_max - new_max);
            row_sum *= factor;
            for (int j_ = 0; j_ < BK; ++j_) {
              scores[lane][j_] = metal::exp(scores[lane][j_] * 0.25f - new_max);
              row_sum += scores[lane][j_];
            }
            row_max = new_max;
            rescale[lane] = factor;
          }
          simdgroup_barrier(mem_flags::mem_threadgroup);
          simdgroup_load(s_, &scores[0][0], BK + 1);
          for (int c_ = 0; c_ < D / 8; ++c_) {
            threadgroup float diagonal[8][8];
            diagonal[lane / 4][lane % 4 * 2] = lane / 4 == lane % 4 * 2 ? rescale[lane / 4] : 0;
            diagonal[lane / 4][lane % 4 * 2 + 1] = lane / 4 == lane % 4 * 2 + 1 ? rescale[lane / 4] : 0;
            simdgroup_barrier(mem_flags::mem_threadgroup);
            simdgroup_float8x8 scale_, value;
            simdgroup_load(scale_, &diagonal[0][0], 8);
            simdgroup_multiply(acc[c_], scale_, acc[c_]);
            simdgroup_load(value, v + block * D + 8 * c_, D);
            simdgroup_multiply_accumulate(acc[c_], s_, value, acc[c_]);
            simdgroup_barrier(mem_flags::mem_threadgroup);
          }
        }
        threadgroup float total[BQ], rows[BQ][D];
        if (lane < BQ) total[lane] = row_sum;
        for (int c_ = 0; c_ < D / 8; ++c_) simdgroup_store(acc[c_], &rows[0][8 * c_], D);
        simdgroup_barrier(mem_flags::mem_threadgroup);
        for (uint e_ = lane; e_ < BQ * D; e_ += 32)
          out[threadgroup_position_in_grid.x * BQ * D + e_] = rows[e_ / D][e_ % D] / total[e_ / D];
        """,
        lambda V: _attention(),
        "float32",
        inputs={"q": Q, "k": K, "v": V_},
        template=(("N", 16),),
        grid=(64, 1, 1),
        threadgroup=(32, 1, 1),
        ulp=64,
        atol=2e-6,
    ),
    _program(
        "decoding attention: simdgroups over keys, merged by maximum and sum",
        """
        constexpr int BN = 4, D = 16, PER = D / 16;
        typedef float U;
        thread U q_[PER], o[PER] = {0};
        threadgroup U outputs[BN * 16], max_scores[BN], sum_exp_scores[BN];
        const uint simd_gid = simdgroup_index_in_threadgroup, simd_lid = thread_index_in_simdgroup;
        for (int i_ = 0; i_ < PER; i_++) q_[i_] = simd_lid < 16 ? static_cast<U>(0.25) * q[simd_lid] : U(0);
        U max_score = -INFINITY, sum_exp_score = 0;
        k += simd_gid * D + simd_lid % 16;
        v += simd_gid * D + simd_lid % 16;
        for (int key = simd_gid; key < 16; key += BN) {
          U score = 0;
          for (int j_ = 0; j_ < PER; j_++) score += q_[j_] * k[j_];
          score = simd_sum(score);
          U new_max = max(max_score, score);
          U factor = fast::exp(max_score - new_max), exp_score = fast::exp(score - new_max);
          max_score = new_max;
          sum_exp_score = sum_exp_score * factor + exp_score;
          for (int j_ = 0; j_ < PER; j_++) o[j_] = o[j_] * factor + exp_score * v[j_];
          k += BN * D;
          v += BN * D;
        }
        if (simd_lid == 0) { max_scores[simd_gid] = max_score; sum_exp_scores[simd_gid] = sum_exp_score; }
        if (simd_lid < 16) outputs[simd_gid * 16 + simd_lid] = o[0];
        threadgroup_barrier(mem_flags::mem_threadgroup);
        if (simd_gid > 0) return;
        max_score = simd_lid < BN ? max_scores[simd_lid] : -INFINITY;
        U best = simd_max(max_score), factor = fast::exp(max_score - best);
        sum_exp_score = simd_sum(simd_lid < BN ? sum_exp_scores[simd_lid] * factor : 0);
        U total = 0;
        for (ushort g_ = 0; g_ < BN; ++g_) total += outputs[g_ * 16 + simd_lid % 16] * simd_shuffle(factor, g_);
        if (simd_lid < 16) out[simd_lid] = total / sum_exp_score;
        """,
        lambda V: _attention()[:16],
        "float32",
        inputs={"q": Q[0], "k": K, "v": V_},
        grid=(128, 1, 1),
        threadgroup=(128, 1, 1),
        ulp=64,
        atol=2e-6,
    ),
)

WEIGHTS = _rng.integers(0, 16, (32, 64))
SCALES = (_rng.integers(1, 5, (32, 2)) / 4).astype("float16")
BIASES = (_rng.integers(-8, 9, (32, 2)) / 4).astype("float16")
X64 = (_rng.integers(-8, 9, 64) / 4).astype("float16")


def _packed(values: Any, bits: int) -> Any:
    per = 32 // bits
    parts = values.reshape(len(values), -1, per).astype("uint64") << np.arange(0, 32, bits, dtype="uint64")
    return parts.sum(-1).astype("uint32")


def _dequantised(weights: Any) -> Any:
    scales, biases = (np.repeat(a.astype("float64"), 32, axis=1) for a in (SCALES, BIASES))
    return weights * scales + biases


QUANTISED = (
    _program(
        "4-bit product of a matrix and a vector: nibbles in words of 16 bits",
        """
        const device uint16_t* ws = (const device uint16_t*)w;
        const uint row = simdgroup_index_in_threadgroup + 4 * threadgroup_position_in_grid.x;
        typedef float U;
        thread U x_thread[qm_values];
        U sum = load_vector<half, U, qm_values, 4>(x + thread_index_in_simdgroup * qm_values, x_thread);
        const device uint16_t* wl = ws + (row * 64 + thread_index_in_simdgroup * qm_values) / 4;
        const device half* sl = scales + row * 2 + thread_index_in_simdgroup * qm_values / 32;
        const device auto* bl = biases + row * 2 + thread_index_in_simdgroup * qm_values / 32;
        U result = 0;
        if (thread_index_in_simdgroup < 16) result = qdot<U, qm_values, 4>(wl, x_thread, sl[0], bl[0], sum);
        result = simd_sum(result);
        if (thread_index_in_simdgroup == 0) out[row] = static_cast<T>(result);
        """,
        lambda V: _dequantised(WEIGHTS) @ X64.astype("float64"),
        "float32",
        header="""
static constant constexpr const int qm_values = 4;
template <typename T, typename U, int values_per_thread, int bits>
inline U load_vector(const device T* x, thread U* x_thread) {
  static_assert(bits == 4 || bits == 8, "Template undefined for bits not in {4, 8}");
  U sum = 0;
  if (bits == 4) {
    for (int i = 0; i < values_per_thread; i += 4) {
      sum += x[i] + x[i + 1] + x[i + 2] + x[i + 3];
      x_thread[i] = x[i];
      x_thread[i + 1] = x[i + 1] / 16.0f;
      x_thread[i + 2] = x[i + 2] / 256.0f;
      x_thread[i + 3] = x[i + 3] / 4096.0f;
    }
  } else if (bits == 8) {
    for (int i = 0; i < values_per_thread; i++) { sum += x[i]; x_thread[i] = x[i]; }
  }
  return sum;
}
template <typename U, int values_per_thread, int bits>
inline U qdot(const device uint16_t* ws, const thread U* x_thread, U scale, U bias, U sum) {
  U accum = 0;
  for (int i = 0; i < (values_per_thread / 4); i++) {
    accum += (x_thread[4 * i] * (ws[i] & 0x000f) + x_thread[4 * i + 1] * (ws[i] & 0x00f0) +
              x_thread[4 * i + 2] * (ws[i] & 0x0f00) + x_thread[4 * i + 3] * (ws[i] & 0xf000));
  }
  return scale * accum + sum * bias;
}
""",
        inputs={
            "x": np.concatenate([X64, np.zeros(64, "float16")]),
            "w": _packed(WEIGHTS, 4),
            "scales": SCALES,
            "biases": BIASES,
        },
        template=(("T", "float32"),),
        grid=(32 * 32, 1, 1),
        threadgroup=(128, 1, 1),
    ),
    _program(
        "bytes of a word by `as_type`, `uchar4`, `char4`, pointers and shifts",
        """
        uint word = w[i];
        uchar4 bytes = as_type<uchar4>(word);
        char4 signed_bytes = as_type<char4>(word);
        const device uint8_t* at = (const device uint8_t*)w + 4 * i;
        thread uchar* mine = (thread uchar*)&word;
        int total = 0;
        for (int b_ = 0; b_ < 4; ++b_) {
          total += (bytes[b_] == at[b_]) + (mine[b_] == bytes[b_]) + (extract_bits(word, 8 * b_, 8u) == bytes[b_]);
          total += 10 * (signed_bytes[b_] == as_type<char>(bytes[b_]));
        }
        half2 halves = as_type<half2>(0x3c004000u);
        ushort2 words = as_type<ushort2>(word);
        out[i] = total + 100 * int(halves.x + halves.y) + 1000 * ((uint(words.y) << 16 | words.x) == word);
        """,
        lambda V: np.full(64, 12 + 40 + 300 + 1000),
        inputs={"w": _packed(WEIGHTS, 4).ravel()[:64]},
    ),
)

ROWS = (*ATTENTION, *QUANTISED)
