"""OpInfo: one entry says everything the suite needs to know of an operation.

`zmlx.testing.op_db` holds the entries. Tests, golden values, benchmarks and the kernel table of the docs are
generated from them. An entry looks like this::

    def samples(rng):
        yield SampleInput("small", (rng("small").normal((4, 16)),))
        yield SampleInput("odd_rows", (rng("odd_rows").normal((3, 5, 14)),))

    OpInfo(
        name="transformer.swiglu",
        op=kernels.transformer.swiglu,
        oracle=lambda x: ...,                      # float64 NumPy, from the cited formula
        oracle_vjp=lambda x, cotangent: (...,),    # one gradient per differentiable argument
        samples=samples,
        golden_samples=("small",),
        source="Shazeer 2020, GLU Variants Improve Transformer, equation 6",
        error_inputs=(ErrorInput("odd", lambda: (mx.zeros((2, 3)),), ValueError, "[swiglu] ..."),),
    )
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from zmlx.testing import mlx_oracle
from zmlx.testing._formats import INTEGER_DTYPES, Float64Array
from zmlx.testing.case_names import CaseName
from zmlx.testing.layouts import LAYOUTS, Layout
from zmlx.testing.sample_input import SampleInput, to_mx
from zmlx.testing.sample_rng import SampleRng, case_rng
from zmlx.testing.tolerance import Tolerance, default_tolerance

if TYPE_CHECKING:
    import mlx.core as mx

    from zmlx.testing.rivals import Rivals

__all__ = [
    "DEFAULT_DTYPES",
    "DEFAULT_EXTENTS",
    "LAYOUTS",
    "ErrorInput",
    "Layout",
    "OpInfo",
    "SampleInput",
    "SampleRng",
    "case_rng",
    "to_mx",
]

DEFAULT_DTYPES = ("float32", "float16", "bfloat16")

#: The least and the largest extent that samples get where they are varied, unless an entry says otherwise.
DEFAULT_EXTENTS = (1, 4200)

#: What `oracle_vjp` gets: an array for one result of floats, a tuple of them for several.
Cotangent = Float64Array | tuple[Float64Array, ...]


@dataclass(frozen=True)
class ErrorInput:
    """A call that must fail.

    Parameters
    ----------
    name : str
        One word, for the test's id.
    make : callable
        Returns the positional arguments, built when the test runs.
    exception : type
        What must be raised.
    match : str
        The exact message, or a regular expression if `regex`.
    kwargs : mapping
        Keyword arguments of the call.
    """

    name: str
    make: Callable[[], tuple[Any, ...]]
    exception: type[Exception]
    match: str
    kwargs: Mapping[str, Any] = field(default_factory=dict)
    regex: bool = False


def _same_dtype(dtype: str) -> str:
    return dtype


@dataclass(frozen=True)
class OpInfo:
    """Everything the suite needs to know of one operation.

    Parameters
    ----------
    name : str
        "<family>.<function>", such as "transformer.swiglu".
    op : callable
        Takes MLX arrays (and a sample's kwargs), returns an array or a tuple of arrays. It may import what
        it needs when it is called.
    oracle : callable
        The same in float64 NumPy, written from `source`.
    samples : callable
        ``samples(rng)`` yields SampleInputs; ``rng("small")`` is the `SampleRng` of the sample "small".
    source : str
        Where the formula comes from.
    dtypes : tuple of str, or mapping of back end to tuple
        What is supported. Claims are tested both ways: these work, other float dtypes raise.
    kernel : bool
        True for a zmlx kernel, whose launches are counted and must move; False for a stock MLX operation.
    kernels, grad_kernels : tuple of str
        Names, or shell patterns, of what a call and its gradient launch: each must be launched for every sample with
        values, so that nothing else computes the result. Empty: any kernel will do, and for a gradient none.
    oracle_vjp : callable, optional
        ``oracle_vjp(*args, cotangent, **kwargs)`` returns a tuple with a float64 gradient for each of
        `differentiable`. `cotangent` is an array, or a tuple of one for each result of floats where there are several
        of these; integers have none.
    differentiable : tuple of int
        Positions of the arguments that have gradients.
    tolerances, grad_tolerances : mapping of dtype to Tolerance
        Where the default does not do. Anything looser than the default needs a `reason`.
    golden_samples : tuple of str
        Names of the samples of which golden values are recorded. Keep those small: every value goes to git.
    error_inputs : tuple of ErrorInput
        Calls that must fail, with their messages.
    layouts : tuple of str
        Memory layouts to test.
    extents : tuple of int
        The least and the largest extent that dimensions get where tests and the judge vary the samples. A largest one
        below the default, 4200, is also the operation's own limit: `test_large` then has no longer ones.
    axis_extents : mapping of (int, int) to tuple of int
        The same more narrowly, for an axis of an argument: ``{(0, -1): (2, 4096)}``.
    indices : mapping of int to (int, int)
        Integer arguments that count along an axis of another argument: ``{1: (0, -1)}`` where the second argument has
        labels, or places, in the last axis of the first. Where that axis gets another extent, they stay below it;
        negative ones stay what they are.
    strategy : callable, optional
        ``strategy(dtype)`` returns a Hypothesis strategy of SampleInput, from which property-based tests draw instead
        of varying the samples: for arguments whose shapes, or values, belong together in a way that equal extents do
        not show.
    large : callable, optional
        As `samples`: what `test_large` takes, arrays of more than 65,536 elements, instead of longer variations of the
        samples. An operation with a `strategy` has no others.
    deterministic : bool
        Whether two runs on one machine agree bit for bit.
    supports_vmap : bool
        Whether ``mx.vmap`` works over the first argument.
    supports_compile : bool
        Whether ``mx.compile`` works on the CPU also where launches cannot be part of MLX's graph, and it needs a
        ``reference=`` of the kernel; if not, it must raise there.
    refuses_other_dtypes : bool
        Whether a first argument of a dtype that `dtypes` does not have raises TypeError or ValueError.
    oracle_precision : str
        "float64": `oracle` takes and returns NumPy arrays. "float32": it takes and returns MLX arrays of float32, and
        runs on the CPU; it is as exact as MLX's own operations, which `verify` and reports say. `oracle_vjp` may then
        be left out: it is `mx.vjp` of the oracle.
    out_dtype : callable
        Name of the output's dtype given the input's; with several results that differ, a tuple of one for each.
    bytes_moved, flops : callable, optional
        ``f(sample, dtype)``: what must be read and written, and computed, for the roofline.
    multiplies_matrices : bool
        Whether MLX's TF32 has a say in float32; `verify` then runs it with and without.
    gpu_shape : callable, optional
        A context in which calls take the shape that they have on a GPU, for a kernel that the CPU launches otherwise:
        threads that share their work show on the CPU, under the checker, what depends on their order.
    rivals : Rivals, optional
        The benchmark: shapes, and what of MLX's the kernel is timed against. Needs `bytes_moved`.

    Raises
    ------
    ValueError
        For an entry that contradicts itself; the message names the field.
    """

    name: str
    op: Callable[..., Any]
    oracle: Callable[..., Any]
    samples: Callable[[Callable[[str], SampleRng]], Iterable[SampleInput]]
    source: str
    dtypes: tuple[str, ...] | Mapping[str, tuple[str, ...]] = DEFAULT_DTYPES
    kernel: bool = True
    kernels: tuple[str, ...] = ()
    grad_kernels: tuple[str, ...] = ()
    oracle_vjp: Callable[..., tuple[Any, ...]] | None = None
    differentiable: tuple[int, ...] = ()
    tolerances: Mapping[str, Tolerance] = field(default_factory=dict)
    grad_tolerances: Mapping[str, Tolerance] = field(default_factory=dict)
    golden_samples: tuple[str, ...] = ()
    error_inputs: tuple[ErrorInput, ...] = ()
    layouts: tuple[Layout, ...] = LAYOUTS
    extents: tuple[int, int] = DEFAULT_EXTENTS
    axis_extents: Mapping[tuple[int, int], tuple[int, int]] = field(default_factory=dict)
    indices: Mapping[int, tuple[int, int]] = field(default_factory=dict)
    strategy: Callable[[str], Any] | None = None
    large: Callable[[Callable[[str], SampleRng]], Iterable[SampleInput]] | None = None
    deterministic: bool = True
    supports_vmap: bool = True
    supports_compile: bool = True
    refuses_other_dtypes: bool = True
    oracle_precision: Literal["float64", "float32"] = "float64"
    out_dtype: Callable[[str], str | tuple[str, ...]] = _same_dtype
    bytes_moved: Callable[[SampleInput, str], int] | None = None
    flops: Callable[[SampleInput, str], int] | None = None
    multiplies_matrices: bool = False
    gpu_shape: Callable[[], AbstractContextManager[None]] | None = None
    rivals: Rivals | None = None

    def __post_init__(self) -> None:
        if not self.source:
            raise ValueError(f"{self.name}: `source` must say where the formula comes from.")
        if self.oracle_precision not in ("float64", "float32"):
            raise ValueError(
                f"{self.name}: `oracle_precision` must be 'float64' (NumPy) or 'float32' (MLX operations), "
                f"got {self.oracle_precision!r}."
            )
        for low, high in (self.extents, *self.axis_extents.values()):
            if not 1 <= low <= high:
                raise ValueError(
                    f"{self.name}: `extents` and `axis_extents` are the least and the largest extent, from 1 up; "
                    f"got {(low, high)}."
                )
        derived = self.oracle_precision == "float32" and self.oracle_vjp is None
        if not derived and bool(self.differentiable) != (self.oracle_vjp is not None):
            raise ValueError(f"{self.name}: give `oracle_vjp` and `differentiable` together, or neither.")
        if self.rivals is not None and self.bytes_moved is None:
            raise ValueError(f"{self.name}: `rivals` needs `bytes_moved`, by which a benchmark counts.")
        for field_name, table in (("tolerances", self.tolerances), ("grad_tolerances", self.grad_tolerances)):
            for dtype, tolerance in table.items():
                if tolerance.looser_than(default_tolerance(dtype)) and not tolerance.reason:
                    raise ValueError(
                        f"{self.name}: {field_name}[{dtype!r}] ({tolerance}) is looser than the default "
                        f"({default_tolerance(dtype)}); give it a `reason`."
                    )

    def __str__(self) -> str:
        return self.name

    def sample_inputs(self) -> tuple[SampleInput, ...]:
        """All samples, not yet cast; ValueError if two have one name or there are none."""
        made = tuple(self.samples(case_rng(self.name)))
        names = [s.name for s in made]
        if not made or len(set(names)) != len(names):
            raise ValueError(f"{self.name}: samples need distinct names, and one at least; got {names}.")
        return made

    def in_range(self, sample: SampleInput) -> SampleInput:
        """The sample with the arguments of `indices` below the extents that they count along."""
        args = list(sample.args)
        for position, (counted, axis) in self.indices.items():
            values, extent = args[position], np.shape(args[counted])[axis]
            if extent and isinstance(values, np.ndarray):
                args[position] = np.where(values < extent, values, values % extent).astype(values.dtype)
        return replace(sample, args=tuple(args))

    def golden_inputs(self) -> tuple[SampleInput, ...]:
        """The samples of which golden values are recorded; ValueError if one is not among the samples."""
        by_name = {s.name: s for s in self.sample_inputs()}
        unknown = [name for name in self.golden_samples if name not in by_name]
        if unknown:
            raise ValueError(
                f"{self.name}: golden_samples {unknown} are not samples. Known: {list(by_name)}."
            )
        return tuple(by_name[name] for name in self.golden_samples)

    def dtypes_on(self, backend: str) -> tuple[str, ...]:
        """Supported dtypes on a back end ("metal", "cuda" or "cpu")."""
        if isinstance(self.dtypes, Mapping):
            return tuple(self.dtypes.get(backend, ()))
        return self.dtypes

    def out_dtypes(self, dtype: str, results: int) -> tuple[str, ...]:
        """The dtype of each of so many results; ValueError if `out_dtype` has another number of them."""
        names = self.out_dtype(dtype)
        if isinstance(names, str):
            return (names,) * results
        if len(names) != results:
            raise ValueError(
                f"{self.name}: expected `out_dtype` to give one name, or one for each of {results} results; "
                f"got {names}."
            )
        return tuple(names)

    def tolerance(self, dtype: str, *, grad: bool = False, result: int = 0) -> Tolerance:
        """The tolerance for a result (or for gradients) of input dtype `dtype`. What `tolerances` says is for floats,
        where other results are integers, which must be the same."""
        table = self.grad_tolerances if grad else self.tolerances
        names = (dtype,) if grad else self.out_dtype(dtype)
        own = names if isinstance(names, str) else names[0 if grad else result]
        if dtype in table and (isinstance(names, str) or own not in INTEGER_DTYPES):
            return table[dtype]
        return default_tolerance(own)

    def expected(self, sample: SampleInput) -> tuple[Any, ...]:
        """What the oracle says of a `cast` sample: a tuple of float64 (or integer) arrays."""
        if self.oracle_precision == "float32":
            return mlx_oracle.values(self.oracle, sample.args, sample.kwargs)
        return as_tuple(self.oracle(*sample.args, **sample.kwargs))

    def expected_vjp(self, sample: SampleInput, cotangent: Cotangent) -> tuple[Any, ...]:
        """The oracle's gradients of a `cast` sample, one for each of `differentiable`; `cotangent` as `oracle_vjp` has
        it."""
        if self.oracle_precision == "float32":
            vjp, positions = self.oracle_vjp, self.differentiable
            return mlx_oracle.gradients(self.oracle, vjp, positions, sample.args, sample.kwargs, cotangent)
        if self.oracle_vjp is None:
            raise ValueError(f"{self.name} has no oracle_vjp.")
        return as_tuple(self.oracle_vjp(*sample.args, cotangent, **sample.kwargs))

    def run(self, sample: SampleInput, dtype: str, layout: Layout | None = None) -> tuple[mx.array, ...]:
        """Call the operation on a sample: a tuple of MLX arrays, evaluated."""
        import mlx.core as mx

        results = as_tuple(self.op(*to_mx(sample, dtype, layout), **sample.kwargs))
        mx.eval(*results)
        return results


def as_tuple(result: Any) -> tuple[Any, ...]:
    """The results of a call: several as they are, one by itself."""
    return tuple(result) if isinstance(result, (tuple, list)) else (result,)


def cases(
    ops: Iterable[OpInfo], backend: str, *, golden: bool = False
) -> Iterator[tuple[OpInfo, str, SampleInput]]:
    """Every (op, dtype, sample) that applies on a back end, in the order of the table; with `golden` only
    those that are recorded."""
    for op in ops:
        for dtype in op.dtypes_on(backend):
            for sample in op.golden_inputs() if golden else op.sample_inputs():
                yield op, dtype, sample


def case_name(op: OpInfo, dtype: str, sample: SampleInput) -> str:
    """The key of golden files, and what messages call a case: ``transformer.swiglu/float16/small``."""
    return str(CaseName(op.name, dtype, sample.name))


def part_name(result: int, results: int) -> str:
    """What follows the name of a case for one of its results, from 0 on; nothing for the only one."""
    return f":{result}" if results > 1 else ""
