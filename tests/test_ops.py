"""What op_db says of zmlx's own operations, tested: every operation x dtype x sample, on the session's back end.

A new entry in `zmlx.testing.op_db` is tested by everything here without a line of its own. A failure names
operation, dtype, sample and worst element; the plugin adds the command that runs it again.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from fnmatch import fnmatchcase
from typing import Any

import numpy as np
import pytest

from zmlx.launch.records import LaunchRecord
from zmlx.testing import opinfo_tests
from zmlx.testing.bench.arguments import drawn_sample
from zmlx.testing.generated.case import Case, all_cases, first_case, kernels_of, of_each_shape, results
from zmlx.testing.generated.claims import OTHER_DTYPES
from zmlx.testing.generated.forward import check_forward
from zmlx.testing.launches import recorded_launches
from zmlx.testing.op_db import op_db
from zmlx.testing.opinfo import OpInfo, case_rng

opinfo_tests(op_db)

KERNELS = kernels_of(op_db)

#: Those that are timed against others, on rows of whole chunks.
IN_CHUNKS = tuple(op for op in KERNELS if op.rivals is not None)

#: Families whose kernels are all made of `zmlx.elementwise` or `zmlx.row_kernel`. Where threads and values lie is then
#: the block's, whatever the formula, so that not every formula is tried in all ways.
OF_BLOCKS = ("activations", "dropouts", "fused", "losses")


def _is_of_a_block(op: OpInfo) -> bool:
    return op.name.partition(".")[0] in OF_BLOCKS


#: (threads to a row, dtype): several rows a simdgroup, and a row over four of them.
GPU_SHAPES = ((8, "float32"), (128, "bfloat16"))


def _on_gpu_shapes() -> list[Any]:
    """(op, threads to a row, dtype): formulas of blocks take turns in one of the shapes."""
    return [
        pytest.param(op, *shape, id=f"{op}-{'-'.join(map(str, shape))}")
        for number, op in enumerate(KERNELS)
        for place, shape in enumerate(GPU_SHAPES)
        if not _is_of_a_block(op) or number % len(GPU_SHAPES) == place
    ]


@pytest.mark.parametrize(("op", "width", "dtype"), _on_gpu_shapes())
def test_gpu_shapes(
    op: OpInfo, width: int, dtype: str, backend: str, mx_device: Any, record_error: Callable[..., None]
) -> None:
    """The GPU's code paths, with threads that share a row: on the CPU they meet as they do there."""
    from zmlx.kernels import _rows
    from zmlx.launch import hook, poisoned_outputs, primitive, watch
    from zmlx.launch.translations import translation

    cases = all_cases(op, dtype)
    # Special values go through simdgroups in the narrower shape; the wider one adds how they meet.
    for case in cases if width <= 32 else of_each_shape(cases):
        with _rows.override(width), poisoned_outputs(), watch() as launches:
            made = results(case)
        case.check_all(made, record_error)
        for record in launches:
            alone = record.threadgroup == (1, 1, 1)
            meets = not alone and translation(record.signature, "host-fibers").uses_sync
            ways = ("regions", "fibers") if meets else ("loop",)
            # What mx.vjp follows is part of MLX's graph.
            on_cpu = ("checked",) if hook.current() else (*ways, primitive.PATH)
            assert record.path in (on_cpu if backend == "cpu" else (backend,))


def _has_more_rows(case: Case, than: int) -> bool:
    return max(math.prod(np.shape(argument)[:-1]) for argument in case.sample.args) > than


@pytest.mark.parametrize(("op", "width", "dtype"), _on_gpu_shapes())
def test_rows_beyond_the_grid(
    op: OpInfo, width: int, dtype: str, mx_device: Any, record_error: Callable[..., None]
) -> None:
    """Grids have a limit, and the threads loop over the rows beyond it. Here it is one threadgroup, of the shapes for
    which `test_gpu_shapes` has compiled."""
    from zmlx.kernels import _rows
    from zmlx.launch import poisoned_outputs

    at_once = max(_rows.GROUP_THREADS // width, 1)
    cases = of_each_shape(case for case in all_cases(op, dtype) if _has_more_rows(case, at_once))
    if not cases:
        pytest.skip(f"no sample of {op} has more than {at_once} rows")
    for case in cases:
        with _rows.override(width, groups=1), poisoned_outputs():
            made = results(case)
        case.check_all(made, record_error)


def _whole_chunks(op: OpInfo, dtype: str, columns: int) -> Case:
    """A case whose rows are whole chunks of 16 bytes, as the benchmark's are."""
    assert op.rivals is not None
    rng = case_rng(op.name)(f"packed_{columns}")
    return Case(op, dtype, drawn_sample(op.rivals, 5, columns, rng, f"packed_{columns}").cast(dtype))


def _packed() -> list[Any]:
    """(op, columns, dtype): rows that threads hold whole, and in part. Two of bfloat16 share a word. So do two of
    float16, and one of float32 has it to itself: of each family of kernels one is tried."""
    families = tuple({op.name.partition(".")[0]: op for op in reversed(IN_CHUNKS)}.values())
    triples = [(op, 328, "bfloat16") for op in IN_CHUNKS if not _is_of_a_block(op) or op in families]
    triples += [(op, *shape) for op in families for shape in ((64, "float32"), (328, "float16"))]
    return [pytest.param(*triple, id="-".join(map(str, triple))) for triple in triples]


@pytest.mark.cpu
@pytest.mark.parametrize(("op", "columns", "dtype"), _packed())
def test_packed_chunks(
    op: OpInfo, columns: int, dtype: str, mx_device: Any, record_error: Callable[..., None]
) -> None:
    """Values that move 16 bytes at a time, as on CUDA, are unpacked in the right order: held whole and in part."""
    from zmlx.kernels import _rows
    from zmlx.launch import poisoned_outputs, watch

    case = _whole_chunks(op, dtype, columns)
    with _rows.override(8, 2, packed=True), poisoned_outputs(), watch() as launches:
        made = results(case)
    case.check_all(made, record_error)
    # A kernel without the switch moves its values in one way.
    switches = {a.value for record in launches for a in record.signature.template if a.name == "PACKED"}
    assert launches
    assert switches <= {"1"}


@pytest.mark.tools
@pytest.mark.cpu
@pytest.mark.parametrize("op", [op for op in KERNELS if _is_of_a_block(op)], ids=str)
def test_a_formula_is_made_of_one_block(op: OpInfo) -> None:
    from zmlx.scaffold.catalogue import OWN, built_of

    assert built_of(op) != OWN, "it has a source of its own: take its family out of OF_BLOCKS"


@pytest.mark.tools
@pytest.mark.cpu
def test_the_catalogue_has_packed_chunks() -> None:
    from zmlx.kernels import _rows

    with _rows.override(8, 2, packed=True):
        having = {
            op.name for op in KERNELS for r in recorded_launches(op, "float16", "cuda") if _is_packed(r)
        }
    assert having >= {"transformer.swiglu", "norms.rmsnorm", "norms.layernorm", "softmax.softmax_lastdim"}


def _is_packed(record: LaunchRecord) -> bool:
    return any((a.name, a.value) == ("PACKED", "1") for a in record.signature.template)


@pytest.mark.parametrize("op", KERNELS, ids=str)
def test_refusals_of_a_dtype_say_what_to_do(op: OpInfo, backend: str, mx_device: Any) -> None:
    import mlx.core as mx

    case = first_case(op)
    arguments, place = case.arguments(), case.first
    for dtype in (dtype for dtype in OTHER_DTYPES if dtype.rstrip("_") not in op.dtypes_on(backend)):
        other = arguments[place].astype(getattr(mx, dtype))
        with pytest.raises(TypeError, match=r"Expected `\w+` to be .*, got \w+\. Convert it first"):
            case.call(*arguments[:place], other, *arguments[place + 1 :])


@pytest.mark.tools
def test_every_entry_names_its_kernels() -> None:
    """All of the catalogue's kernels, and no others: one that nothing names could be left out unseen."""
    named = {pattern for op in KERNELS for pattern in (*op.kernels, *op.grad_kernels)}
    assert all(op.kernels for op in KERNELS)
    launched = {r.kernel.name for op in KERNELS for r in recorded_launches(op, "float32", "cuda")}
    assert [
        name for name in sorted(launched) if not any(fnmatchcase(name, pattern) for pattern in named)
    ] == []
    assert [p for p in sorted(named) if not any(fnmatchcase(name, p) for name in launched)] == []
    # The gradient of a sum is the cotangent, as it is or repeated, and that of a mean a part; they need no kernel.
    assert [op.name for op in KERNELS if op.differentiable and not op.grad_kernels] == [
        "fused.add",
        "fused.add_bias",
        "reductions.sum_lastdim",
        "reductions.mean_lastdim",
    ]


def test_every_kernel_has_a_test() -> None:
    """The table and the catalogue name the same functions."""
    from zmlx import kernels

    public = {f"{family}.{name}" for family in kernels.__all__ for name in getattr(kernels, family).__all__}
    assert {op.name for op in KERNELS} == public


def _wrong_oracle(op: OpInfo) -> OpInfo:
    return replace(op, oracle=lambda *args, **kwargs: 1.01 * op.oracle(*args, **kwargs))


def _fallback(op: OpInfo) -> OpInfo:
    """The same numbers without a kernel."""
    import mlx.core as mx

    return replace(op, op=lambda x: mx.softmax(x, axis=-1, precise=True))


def _careless(op: OpInfo) -> OpInfo:
    """A kernel that writes only every second element of its output."""
    import mlx.core as mx

    import zmlx

    def call(x: Any) -> Any:
        kernel = zmlx.metal_kernel(
            "careless", ["x"], ["y"], "uint i = 2 * thread_position_in_grid.x; y[i] = x[i];"
        )
        return kernel(
            inputs=[mx.softmax(x, axis=-1, precise=True)],
            output_shapes=[x.shape],
            output_dtypes=[x.dtype],
            grid=(x.size // 2, 1, 1),
            threadgroup=(32, 1, 1),
        )[0]

    return replace(op, op=call)


@pytest.mark.parametrize(
    ("spoil", "complaint"),
    [
        (_wrong_oracle, r"softmax_lastdim/float32/small: 12\d of 128 elements .* are outside the tolerance"),
        (_fallback, "no kernel was launched"),
        (_careless, r"worst element .*: got nan"),
    ],
)
def test_the_tests_notice(
    spoil: Callable[[OpInfo], OpInfo], complaint: str, backend: str, mx_device: Any
) -> None:
    """What check_forward is there to catch, it catches."""
    op = spoil(next(op for op in KERNELS if op.name == "softmax.softmax_lastdim"))
    with pytest.raises((AssertionError, pytest.fail.Exception), match=complaint):
        check_forward(first_case(op, "float32"), backend, lambda *_: None)
