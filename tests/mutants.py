"""Faults for zmlx/kernels, each of which a test must notice: `nox -s mutants`.

The operators are mistakes that people make in kernels: epsilons in the wrong place, sums in 16 bits, missing barriers.
Those of what all kernels share, of softmax, sums and GLU are here, those of the others in `mutant_tables`.
"""

from __future__ import annotations

from pathlib import Path

from zmlx.testing.mutants import Mutant
from zmlx.testing.mutants.mutant import load_table

SOFTMAX = "zmlx/kernels/softmax.py"
SUM = "zmlx/kernels/reductions.py"
GLU = "zmlx/kernels/transformer.py"
MATHS = "zmlx/kernels/_maths.py"
COLUMNS = "zmlx/kernels/_columns.py"
BLOCKS = "zmlx/kernels/_msl.py"
LOOPS = "zmlx/kernels/_row_loops.py"
RULES = "zmlx/kernels/_autodiff.py"


def _tests(*names: str) -> tuple[str, ...]:
    """The tests of kernels and of the table that have one of these names, by module, operation or parameter."""
    return ("tests/kernels", "tests/test_ops.py", "-k", " or ".join(names))


#: The tests of a family, and of what all families share.
OF_RMSNORM = _tests("test_norms", "rmsnorm")
OF_LAYERNORM = _tests("test_norms", "layernorm")
OF_SOFTMAX = _tests("test_softmax", "softmax")
OF_SUM = _tests("test_reductions", "sum", "test_more_rows")
OF_GLU = _tests("test_transformer", "glu", "test_more_rows")
OF_ALL = _tests("packed", "beyond", "gpu_shapes", "held", "wait", "anywhere")

BARRIER = "threadgroup_barrier(mem_flags::mem_threadgroup);"
OF_ROWS = "for (uint row = thread_position_in_grid.y; row < rows; row += {}) {{"
BEGIN = "const uint begin = thread_position_in_grid.x * (N * S);"

MAXIMUM, ODD, SMALL = "missing max subtraction", "off by one", "16-bit accumulation"
GRADIENT, NAN, TAIL, INDEX = "wrong gradient", "missing NaN", "dropped tail", "32-bit index"
UNSYNCED, HALVES, CAST = "removed barrier", "swapped halves", "removed cast"
NARROW, LOOP, VALUE = "16-bit index", "removed loop", "wrong value"

_SOFTMAX = (
    Mutant(
        "softmax_without_maximum",
        MAXIMUM,
        SOFTMAX,
        "zmlx_exp<T>(v[j] - top)",
        "zmlx_exp<T>(v[j])",
        OF_SOFTMAX,
        -1,
    ),
    Mutant(
        "softmax_powers_in_16_bits",
        SMALL,
        SOFTMAX,
        "part[j] += e;\n        if (kept)",
        "part[j] = static_cast<T>(part[j] + e);\n        if (kept)",
        OF_SOFTMAX,
    ),
    Mutant(
        "softmax_without_nan",
        NAN,
        SOFTMAX,
        "part[j] += e;\n        if (kept)",
        "part[j] += isnan(e) ? 0.0f : e;\n        if (kept)",
        OF_SOFTMAX,
    ),
    Mutant("softmax_vjp_missing_term", GRADIENT, SOFTMAX, "* (c[j] - mean)", "* c[j]", OF_SOFTMAX),
    Mutant("softmax_vjp_sign", GRADIENT, SOFTMAX, "* (c[j] - mean)", "* (c[j] + mean)", OF_SOFTMAX),
    Mutant(
        "softmax_vjp_by_operations",
        GRADIENT,
        SOFTMAX,
        "_softmax = differentiable(_forward, _backward, _reference)",
        "_softmax = differentiable(_forward, lambda g, x: mx.vjp(_reference, [x], [g])[1], _reference)",
        OF_SOFTMAX,
    ),
    Mutant(
        "softmax_reference_keeps_float32",
        CAST,
        SOFTMAX,
        "keepdims=True)).astype(x.dtype)",
        "keepdims=True))",
        OF_SOFTMAX,
    ),
)

_SUM = (
    Mutant(
        "sum_without_the_last",
        TAIL,
        SUM,
        "min(run + RUN * W * N, length)",
        "min(run + RUN * W * N, length - 1)",
        OF_SUM,
    ),
    Mutant(
        "sum_in_16_bits",
        SMALL,
        SUM,
        "total[j] += part[j]",
        "total[j] = static_cast<T>(total[j] + part[j])",
        OF_SUM,
    ),
    Mutant(
        "sum_of_the_first_run",
        LOOP,
        SUM,
        "run < length; run += RUN * W * N",
        "run < length; run += length",
        OF_SUM,
    ),
    Mutant("sum_written_by_rows_outside", TAIL, SUM, "if (inside && start == 0)", "if (start == 0)", OF_SUM),
)

_GLU = (
    Mutant(
        "glu_begin_in_16_bits",
        NARROW,
        GLU,
        BEGIN,
        BEGIN.replace("= ", "= ushort(").replace(";", ");"),
        OF_GLU,
        1,
    ),
    Mutant(
        "glu_vjp_begin_in_16_bits",
        NARROW,
        GLU,
        BEGIN,
        BEGIN.replace("= ", "= ushort(").replace(";", ");"),
        OF_GLU,
        2,
    ),
    Mutant(
        "glu_rows_beyond_the_grid",
        LOOP,
        GLU,
        OF_ROWS.format("threads_per_grid.y"),
        OF_ROWS.format("rows"),
        OF_GLU,
        1,
    ),
    Mutant(
        "glu_vjp_rows_beyond_the_grid",
        LOOP,
        GLU,
        OF_ROWS.format("threads_per_grid.y"),
        OF_ROWS.format("rows"),
        OF_GLU,
        2,
    ),
    Mutant("glu_offset_in_32_bits", INDEX, GLU, "gate = x + size_t(row) *", "gate = x + row *", OF_GLU, 1),
    Mutant(
        "glu_vjp_offset_in_32_bits", INDEX, GLU, "d_gate = dx + size_t(row) *", "d_gate = dx + row *", OF_GLU
    ),
    Mutant(
        "swiglu_vjp_missing_term", GRADIENT, GLU, "return fma(a, s * (1.0f - s), s);", "return s;", OF_GLU
    ),
    Mutant("geglu_vjp_sign", GRADIENT, GLU, "fma(a * 0.398942280f", "fma(-a * 0.398942280f", OF_GLU),
    Mutant("geglu_negative_half", VALUE, MATHS, "a < 0.0f ? above : 1.0f - above", "1.0f - above", OF_GLU),
    Mutant(
        "geglu_tanh_overflows",
        NAN,
        GLU,
        "{ return a < -12.0f ? -12.0f : a > 12.0f ? 12.0f : a; }",
        "{ return a; }",
        OF_GLU,
    ),
    Mutant(
        "geglu_rounded_square", VALUE, MATHS, "fma(tail, -0.5f * fma(t, t, -square), tail)", "tail", OF_GLU
    ),
)

_SHARED = (
    Mutant(
        "bfloat_halves",
        HALVES,
        BLOCKS,
        "j % 2 ? word & 0xffff0000u : word << 16",
        "j % 2 ? word << 16 : word & 0xffff0000u",
        OF_ALL,
    ),
    Mutant(
        "half_halves",
        HALVES,
        BLOCKS,
        "as_type<half2>(word)[j % 2]",
        "as_type<half2>(word)[1 - j % 2]",
        OF_ALL,
    ),
    Mutant(
        "rows_beyond_the_grid",
        LOOP,
        LOOPS,
        "first += threadgroups_per_grid.x * together",
        "first += rows",
        OF_ALL,
    ),
    Mutant(
        "rows_outside_read_the_first",
        TAIL,
        LOOPS,
        "reach = inside ? length : 0",
        "reach = length",
        OF_ALL,
        equivalent="threads without a row then hold values of the row `first`, which is there, and store nothing",
    ),
    Mutant("chunks_without_the_last", TAIL, BLOCKS, "if (i < length) {  ", "if (false) {  ", OF_ALL),
    Mutant(
        "runs_without_the_last_row",
        ODD,
        LOOPS,
        "min(begin + run, rows)",
        "min(begin + run, rows - 1)",
        OF_RMSNORM,
    ),
    Mutant("runs_of_one_row", LOOP, LOOPS, "min(row + 1, end - 1)", "row", OF_RMSNORM),
    Mutant(
        "sums_of_a_run_in_one_line",
        INDEX,
        LOOPS,
        "size_t({index}) * length + i",
        "size_t(0) * length + i",
        OF_LAYERNORM,
    ),
    Mutant(
        "chunks_with_one_less",
        ODD,
        BLOCKS,
        "const uint count = length - i;",
        "const uint count = length - i - 1;",
        OF_ALL,
    ),
    Mutant(
        "row_offset_in_32_bits",
        INDEX,
        LOOPS,
        "x + size_t(inside ? row : first) *",
        "x + (inside ? row : first) *",
        OF_SUM,
    ),
    Mutant("teams_meet_without_barrier", UNSYNCED, BLOCKS, BARRIER, "", OF_ALL),
    Mutant("teams_meet_in_one_place", UNSYNCED, BLOCKS, "turn ^= ZMLX_SCRATCH / 2;", "", OF_ALL),
    Mutant(
        "maximum_of_a_thread",
        MAXIMUM,
        BLOCKS,
        "value = max(value, simd_shuffle_xor(value, apart))",
        "value = value",
        OF_SOFTMAX,
    ),
    Mutant("stores_past_the_row", TAIL, BLOCKS, "if (uint(j) < count) to[j] =", "to[j] =", OF_ALL),
    Mutant("columns_without_the_second", ODD, COLUMNS, "uint other = 1;", "uint other = 2;", OF_ALL),
    Mutant("columns_without_barrier", UNSYNCED, COLUMNS, BARRIER, "", OF_ALL),
    Mutant("columns_of_the_first_rows", LOOP, COLUMNS, "row += W)", "row += rows)", OF_ALL),
    Mutant(
        "cotangent_keeps_its_dtype",
        CAST,
        RULES,
        "cotangent.astype(output.dtype)",
        "cotangent",
        _tests("test_autodiff"),
        equivalent="MLX 0.32 hands a cotangent over in the dtype of the result; the cast is for those that do not",
    ),
    Mutant(
        "weights_summed_over_vmap",
        GRADIENT,
        RULES,
        "cotangents + row_arguments, weights_split=True,",
        "cotangents + row_arguments,",
        OF_RMSNORM,
    ),
)

_TABLES = sorted(Path(__file__).with_name("mutant_tables").glob("*.py"))

MUTANTS = (*_SOFTMAX, *_SUM, *_GLU, *_SHARED, *(mutant for table in _TABLES for mutant in load_table(table)))
