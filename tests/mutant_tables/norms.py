"""Faults of `rmsnorm` and `layernorm`."""

from __future__ import annotations

from zmlx.testing.mutants import Mutant

RMSNORM = "zmlx/kernels/_rmsnorm.py"
LAYERNORM = "zmlx/kernels/_layernorm.py"
WEIGHTED = "zmlx/kernels/_weighted_norms.py"

OF_RMSNORM = ("tests/kernels", "tests/test_ops.py", "-k", "test_norms or rmsnorm")
OF_LAYERNORM = ("tests/kernels", "tests/test_ops.py", "-k", "test_norms or layernorm")

BARRIER = "threadgroup_barrier(mem_flags::mem_threadgroup);"
EPS = "eps placement"
ODD = "off by one"
SMALL = "16-bit accumulation"
GRADIENT = "wrong gradient"
NAN = "missing NaN"
TAIL = "dropped tail"
INDEX = "32-bit index"
UNSYNCED = "removed barrier"
CAST = "removed cast"
REFERENCE = "wrong reference"
NARROW = "16-bit index"
LOOP = "removed loop"
VALUE = "wrong value"

_MEETS_AGAIN = (
    "the next block's first sum comes between: a barrier of all threads, or a meeting of a simdgroup's lanes, which no "
    "schedule here takes apart; the language promises no order for those"
)

_RMSNORM = (
    Mutant(
        "rmsnorm_eps_outside_the_root",
        EPS,
        RMSNORM,
        "rsqrt(team.sum(zmlx_sum<N>(part)) / length + added)",
        "(rsqrt(team.sum(zmlx_sum<N>(part)) / length) + added)",
        OF_RMSNORM,
    ),
    Mutant(
        "rmsnorm_length_in_16_bits",
        NARROW,
        RMSNORM,
        "/ length + added",
        "/ ushort(length) + added",
        OF_RMSNORM,
    ),
    Mutant(
        "rmsnorm_vjp_length_in_16_bits",
        NARROW,
        RMSNORM,
        "(part)) / length + eps",
        "(part)) / ushort(length) + eps",
        OF_RMSNORM,
    ),
    Mutant("rmsnorm_vjp_without_eps", EPS, RMSNORM, "(part)) / length + eps", "(part)) / length", OF_RMSNORM),
    Mutant(
        "rmsnorm_held_vjp_without_eps", EPS, RMSNORM, "met[0] / length + eps", "met[0] / length", OF_RMSNORM
    ),
    Mutant(
        "rmsnorm_held_vjp_missing_term",
        GRADIENT,
        RMSNORM,
        "(c * w[k].at(j) - v * back)",
        "(c * w[k].at(j))",
        OF_RMSNORM,
    ),
    Mutant(
        "rmsnorm_vjp_missing_term",
        GRADIENT,
        RMSNORM,
        "(c[j] * w[j] - v[j] * back)",
        "(c[j] * w[j])",
        OF_RMSNORM,
    ),
    Mutant(
        "rmsnorm_vjp_sign",
        GRADIENT,
        RMSNORM,
        "c[j] * w[j] - v[j] * back",
        "c[j] * w[j] + v[j] * back",
        OF_RMSNORM,
    ),
    Mutant("rmsnorm_vjp_first_barrier", UNSYNCED, RMSNORM, BARRIER, "", OF_RMSNORM, 1),
    Mutant(
        "rmsnorm_vjp_second_barrier",
        UNSYNCED,
        RMSNORM,
        BARRIER,
        "",
        OF_RMSNORM,
        2,
        equivalent=_MEETS_AGAIN,
    ),
    Mutant(
        "rmsnorm_vjp_only_the_last_block",
        LOOP,
        RMSNORM,
        "if (block > begin) sums",
        "if (false) sums",
        OF_RMSNORM,
    ),
    Mutant(
        "rmsnorm_vjp_without_the_last_row",
        ODD,
        RMSNORM,
        "min(begin + run, rows)",
        "min(begin + run, rows - 1)",
        OF_RMSNORM,
    ),
    Mutant(
        "rmsnorm_vjp_offset_in_32_bits",
        INDEX,
        RMSNORM,
        "in = x + size_t(block + k)",
        "in = x + (block + k)",
        OF_RMSNORM,
    ),
    Mutant(
        "rmsnorm_squares_in_16_bits",
        SMALL,
        RMSNORM,
        "part[j] = fma(v[j], v[j], part[j]);\n    })",
        "part[j] = static_cast<T>(fma(v[j], v[j], part[j]));\n    })",
        OF_RMSNORM,
    ),
)

_LAYERNORM = (
    Mutant(
        "layernorm_uncorrected_variance",
        VALUE,
        LAYERNORM,
        "max(moments[1] / length - off * off, 0.0f)",
        "max(moments[1] / length, 0.0f)",
        OF_LAYERNORM,
    ),
    Mutant(
        "layernorm_uncorrected_mean",
        VALUE,
        LAYERNORM,
        "(v[j] - mean - off) * scale, w",
        "(v[j] - mean) * scale, w",
        OF_LAYERNORM,
    ),
    Mutant(
        "layernorm_length_in_16_bits",
        NARROW,
        LAYERNORM,
        "moments[1] / length",
        "moments[1] / ushort(length)",
        OF_LAYERNORM,
    ),
    Mutant(
        "layernorm_eps_outside_the_root",
        EPS,
        LAYERNORM,
        "rsqrt(max(moments[1] / length - off * off, 0.0f) + added)",
        "(1.0f / (sqrt(max(moments[1] / length - off * off, 0.0f)) + added))",
        OF_LAYERNORM,
    ),
    Mutant(
        "layernorm_filling_counts",
        TAIL,
        LAYERNORM,
        "ZMLX_VALUES(mean, !full, {",
        "ZMLX_VALUES(mean, false, {",
        OF_LAYERNORM,
    ),
    Mutant(
        "layernorm_negative_variance",
        NAN,
        LAYERNORM,
        "max(moments[1] / length - off * off, 0.0f) + added",
        "moments[1] / length - 2 * off * off + added",
        OF_LAYERNORM,
    ),
    Mutant(
        "layernorm_vjp_uncorrected_variance",
        GRADIENT,
        LAYERNORM,
        "(part)) / length - off * off, 0.0f) + eps",
        "(part)) / length, 0.0f) + eps",
        OF_LAYERNORM,
    ),
    Mutant(
        "layernorm_vjp_missing_shift",
        GRADIENT,
        LAYERNORM,
        "c[j] * w[j] - shift -",
        "c[j] * w[j] -",
        OF_LAYERNORM,
    ),
    Mutant(
        "layernorm_vjp_missing_correction",
        GRADIENT,
        LAYERNORM,
        "(weighted)) / length - off * shift)",
        "(weighted)) / length)",
        OF_LAYERNORM,
    ),
    Mutant(
        "layernorm_held_vjp_missing_correction",
        GRADIENT,
        LAYERNORM,
        "(met[3] / length - off * shift)",
        "(met[3] / length)",
        OF_LAYERNORM,
    ),
    Mutant(
        "layernorm_held_vjp_beyond_the_row",
        TAIL,
        LAYERNORM,
        "there ? held[k].at(j) - mean : 0.0f",
        "held[k].at(j) - mean",
        OF_LAYERNORM,
    ),
    Mutant(
        "layernorm_vjp_uncorrected_weights",
        GRADIENT,
        LAYERNORM,
        "(v[j] - means[k] - offs[k])",
        "(v[j] - means[k])",
        OF_LAYERNORM,
    ),
    Mutant("layernorm_vjp_first_barrier", UNSYNCED, LAYERNORM, BARRIER, "", OF_LAYERNORM, 1),
    Mutant(
        "layernorm_vjp_second_barrier",
        UNSYNCED,
        LAYERNORM,
        BARRIER,
        "",
        OF_LAYERNORM,
        2,
        equivalent=_MEETS_AGAIN,
    ),
    Mutant(
        "layernorm_weights_swapped",
        GRADIENT,
        WEIGHTED,
        "dgamma, dbeta = mx.split",
        "dbeta, dgamma = mx.split",
        OF_LAYERNORM,
    ),
    Mutant(
        "layernorm_gamma_keeps_float32", CAST, WEIGHTED, "dgamma.astype(gamma.dtype)", "dgamma", OF_LAYERNORM
    ),
)

_REFERENCES = (
    Mutant(
        "rmsnorm_reference_without_eps",
        REFERENCE,
        WEIGHTED,
        "mx.mean(mx.square(x32), axis=-1, keepdims=True) + eps",
        "mx.mean(mx.square(x32), axis=-1, keepdims=True)",
        OF_RMSNORM,
    ),
    Mutant(
        "layernorm_reference_without_eps",
        REFERENCE,
        WEIGHTED,
        "mx.mean(mx.square(centred), axis=-1, keepdims=True) + eps",
        "mx.mean(mx.square(centred), axis=-1, keepdims=True)",
        OF_LAYERNORM,
    ),
)

MUTANTS = (*_RMSNORM, *_LAYERNORM, *_REFERENCES)
