"""`row_kernel`: a formula over the last axis as a function that runs as a kernel, with its gradient."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from functools import cached_property, lru_cache
from typing import Any

import mlx.core as mx

from zmlx.kernels import _check, _declare
from zmlx.kernels._autodiff import differentiable as differentiable_function
from zmlx.kernels._formula import adjoints
from zmlx.kernels._formula.functions import ZERO
from zmlx.kernels._row_arguments import Arguments
from zmlx.kernels._row_declared import Declared, read_declaration
from zmlx.kernels._row_launch import Rows

#: Float32 tells columns apart up to here.
_MOST_COLUMNS = 2**24


def row_kernel(
    formula: str,
    *,
    inputs: Sequence[str] = ("x",),
    weights: Sequence[str] = (),
    per_row: Sequence[str] = (),
    scalars: Sequence[str] | Mapping[str, float | None] | None = None,
    results: Sequence[str] | None = None,
    name: str | None = None,
    grad: str | None = None,
    differentiable: Sequence[str] | None = None,
    dtypes: Mapping[str, mx.Dtype] | None = None,
) -> RowKernel:
    """A function over the last axis from a formula: one kernel for it, and one for its gradient.

    Parameters
    ----------
    formula
        Lines, or parts between semicolons, of ``name = expression``: numbers, names, ``+ - * / **``, comparisons,
        ``a if c else b``, and functions. ``sum``, ``mean``, ``max`` and ``min`` of one argument reduce the row, and so
        does ``peak``: the maximum without NaN and a constant to gradients, to which exponentials are taken relative.
        ``column`` is the element's place in the row, ``length`` the number of elements, ``inf`` and ``nan`` are
        numbers. ``at(x, place)`` is the element of an input's row (or of a weight) that has this place, one for the
        row; NaN where none has. ``detach(a)`` is a constant to gradients. ``uniform(seed)`` is a random number from 0
        to 1, the same on every back end, that depends on the seed, the row and the column alone.
    inputs
        Names of arrays of shape (..., D). The first gives the shape; others may be smaller where they broadcast to
        it, and may be of bool (1 where true).
    weights
        Names of arrays of shape (D,).
    per_row
        Names of arrays of shape (...), one value a row, of any real dtype.
    scalars
        Names of Python numbers, or names -> defaults. They are arguments of the kernel: another value compiles nothing.
        One that `uniform` takes is an integer from 0 to 2**64 - 1, has no default, and is nothing else.
    results
        Names of lines that are the results. None: the last line. A result that varies over the elements has the first
        input's shape; one that does not has its shape without the last axis.
    name
        For messages, and of the kernels. None: "row_kernel".
    grad
        Instead of the derived gradient: lines of ``d_NAME = expression`` for each differentiable argument, from the
        names of the formula and the cotangent ``g`` (``g_RESULT`` of several results). That of a weight is one row's
        share, and is added up over the rows.
    differentiable
        Names of the arguments that have gradients; None: all that the results depend on smoothly.
    dtypes
        Of results; otherwise they are of the first input's dtype.

    Returns
    -------
    RowKernel
        Called with the inputs, the weights and the values per row in this order, and scalars by keyword.

    Raises
    ------
    FormulaError
        The formula cannot be read; the message has the place. It is a ValueError.
    ValueError
        A name that is given twice, is reserved, is unknown or no name; a scalar that nothing mentions.
    TypeError
        A text where a sequence of names belongs; a default that is no number.

    Notes
    -----
    Arithmetic is in float32. The row is read once where the threads' registers hold it, else once for each level of
    reductions (a sum of what a sum went into is of the second level) and once for results. A quotient by what a row
    shares is a product with the reciprocal. Columns are numbers of float32: a formula with ``column`` takes rows of at
    most 2**24 elements.
    """
    return RowKernel(
        read_declaration(
            formula,
            name or "row_kernel",
            inputs,
            weights,
            per_row,
            scalars or {},
            results,
            grad,
            differentiable,
            dict(dtypes or {}),
        )
    )


class RowKernel:
    """A function that `row_kernel` made."""

    def __init__(self, declared: Declared) -> None:
        self._declared = declared
        self._results = declared.program.results
        self._with = lru_cache(maxsize=64)(self._function)
        self.__name__ = declared.name
        self._forward_rows = Rows(
            f"zmlx_{declared.name}",
            Arguments(
                declared.inputs, declared.per_row, declared.weights, tuple(declared.scalars), declared.seeds
            ),
            self._results,
            declared.wide,
            {},
        )

    def __repr__(self) -> str:
        return f"<row_kernel {self._declared.name}: {self._declared.program.text!r}>"

    def __call__(self, *arrays: mx.array, **scalars: float) -> Any:
        """The results: an array, or a tuple of them where there are several."""
        declared = self._declared
        values, seeds = self._scalars(scalars)
        by_name = self._checked(arrays)
        ordered_arrays = [by_name[name] for name in declared.arrays]
        return self._with(values)(*ordered_arrays, *seeds)

    def launched(self, *arrays: mx.array, **scalars: float) -> list[mx.array]:
        """The results as the kernel leaves them, in a list: MLX cannot differentiate, or map, what this call does."""
        declared = self._declared
        values, seeds = self._scalars(scalars)
        by_name = self._checked(arrays)
        numbers = dict(zip(declared.scalars, values, strict=True))
        return self._forward([*(by_name[name] for name in declared.arrays), *seeds], numbers, False)

    def _scalars(self, given: Mapping[str, float]) -> tuple[tuple[float, ...], list[mx.array]]:
        declared = self._declared
        _declare.check_keywords(
            declared.name, given, (*declared.scalars, *declared.seeds), declared.arguments
        )
        values = _declare.numbers(declared.name, declared.scalars, given)
        return values, [self._seed(name, given.get(name)) for name in declared.seeds]

    def _seed(self, name: str, value: Any) -> mx.array:
        if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value < 2**64:
            raise TypeError(
                f"[{self._declared.name}] Expected `{name}` to be an integer from 0 to 2**64 - 1, got {value!r}. "
                "Pass another one for each call that is to have other numbers."
            )
        return mx.array([value & 0xFFFFFFFF, value >> 32], mx.uint32)

    def _checked(self, arrays: tuple[mx.array, ...]) -> dict[str, mx.array]:
        declared = self._declared
        _declare.check_count(declared.name, arrays, declared.arguments)
        by_name = dict(zip(declared.arguments, arrays, strict=True))
        first = declared.inputs[0]
        x = by_name[first]
        _check.check_rows(declared.name, x, first)
        for name in declared.inputs[1:]:
            by_name[name] = _check.check_beside(declared.name, by_name[name], x, name, first)
        for name in declared.weights:
            _check.check_weight(declared.name, by_name[name], x, name, first)
        for name in declared.per_row:
            by_name[name] = _check.check_per_row(declared.name, by_name[name], x, name, first)
        if declared.mentions_columns and x.shape[-1] > _MOST_COLUMNS:
            raise ValueError(
                f"[{declared.name}] Expected rows of at most 2**24 elements, which float32 can number; "
                f"`{first}` has shape {tuple(x.shape)}."
            )
        return by_name

    # What MLX transforms ----------------------------------------------------------------------------------------

    def _function(self, scalars: tuple[float, ...]) -> Callable[..., Any]:
        declared = self._declared
        numbers = dict(zip(declared.scalars, scalars, strict=True))
        count = len(self._results)

        def forward(*arrays: mx.array, traced: bool = False) -> Any:
            outputs = self._forward(arrays, numbers, traced)
            return outputs[0] if count == 1 else tuple(outputs)

        def backward(*arrays: mx.array, traced: bool = False) -> tuple[mx.array, ...]:
            return self._backward(arrays[:count], arrays[count:], numbers, traced)

        return differentiable_function(
            forward,
            backward,
            lambda *arrays: forward(*arrays, traced=True),
            reference_gradient=lambda *arrays: backward(*arrays, traced=True),
            row_arguments=len(declared.inputs) + len(declared.per_row),
            cotangents=count,
            # Rows are counted in each entry by itself.
            entries=bool(declared.seeds),
        )

    def _flat(self, arrays: Sequence[mx.array], numbers: Mapping[str, float]) -> dict[str, Any]:
        """The arguments by name, as `Rows` takes them."""
        declared = self._declared
        shape = arrays[0].shape
        rows = math.prod(shape[:-1])
        values: dict[str, Any] = dict(numbers)
        for name, array in zip((*declared.arrays, *declared.seeds), arrays, strict=True):
            if name in declared.inputs:
                values[name] = _repeating(array, shape)
            elif name in declared.per_row:
                values[name] = mx.broadcast_to(array, shape[:-1]).reshape(rows)
            else:
                values[name] = array
        return values

    def _dtypes_of(self, x: mx.array) -> dict[str, mx.Dtype]:
        return {name: self._declared.dtypes.get(name, x.dtype) for name in self._results}

    def _forward(
        self, arrays: Sequence[mx.array], numbers: Mapping[str, float], traced: bool
    ) -> list[mx.array]:
        declared = self._declared
        x = arrays[0]
        values = self._flat(arrays, numbers)
        made = self._forward_rows.run(values, self._dtypes_of(x), traced=traced)
        return [
            made[name].reshape(x.shape if name in declared.wide else x.shape[:-1]) for name in self._results
        ]

    @cached_property
    def _backward_rows(self) -> Rows:
        declared = self._declared
        names = list(declared.arrays)
        cotangents = declared.cotangents
        gradients = declared.given
        if gradients is None:
            wanted = [n for n in names if n in declared.differentiable]
            pairs = {self._results[result]: node for result, node in cotangents.items()}
            derived = adjoints(pairs, [declared.node(n) for n in wanted])
            gradients = {n: g for n, g in zip(wanted, derived, strict=True) if g is not ZERO}
        wide = [f"g_{result}" for result in self._results if result in declared.wide]
        narrow = [f"g_{result}" for result in self._results if result not in declared.wide]
        return Rows(
            f"zmlx_{declared.name}_vjp",
            Arguments(
                (*declared.inputs, *wide),
                (*declared.per_row, *narrow),
                declared.weights,
                tuple(declared.scalars),
                declared.seeds,
            ),
            {f"d_{n}": g for n, g in gradients.items() if n not in declared.weights},
            tuple(f"d_{n}" for n in gradients if n in declared.inputs),
            {f"d_{n}": g for n, g in gradients.items() if n in declared.weights},
        )

    def _backward(
        self,
        cotangents: Sequence[mx.array],
        arrays: Sequence[mx.array],
        numbers: Mapping[str, float],
        traced: bool,
    ) -> tuple[mx.array, ...]:
        declared = self._declared
        x = arrays[0]
        rows = self._backward_rows
        values = self._flat(arrays, numbers)
        count = math.prod(x.shape[:-1])
        for name, cotangent in zip(self._results, cotangents, strict=True):
            shape = (count, x.shape[-1]) if name in declared.wide else (count,)
            values[f"g_{name}"] = cotangent.reshape(shape)
        originals = dict(zip((*declared.arrays, *declared.seeds), arrays, strict=True))
        full = {
            f"d_{name}": x.shape if name in declared.inputs else x.shape[:-1]
            for name in (*declared.inputs, *declared.per_row)
        }
        # Where an array was repeated its gradient is a sum, which is not one of rounded terms.
        dtypes = {
            line: originals[line[2:]].dtype if full[line] == originals[line[2:]].shape else mx.float32
            for line in rows.results
        }
        made = {}
        if rows.results or rows.sums:
            made = rows.run(values, dtypes, traced=traced)

        def gradient(name: str, original: mx.array) -> mx.array:
            found = made.get(f"d_{name}")
            if found is None:
                return mx.zeros_like(original)
            if name in declared.weights:
                return found.astype(original.dtype)
            return _summed_to(found.reshape(full[f"d_{name}"]), original.shape).astype(original.dtype)

        return tuple(gradient(name, original) for name, original in originals.items())


def _repeating(array: mx.array, shape: Sequence[int]) -> mx.array:
    """An array as rows that repeat to those of ``shape``: as few of them as there are, where leading axes are alike."""
    own = tuple(array.shape)
    leading = 0
    while leading < len(own) - 1 and own[leading] == 1:
        leading += 1
    if own[leading:] != tuple(shape[leading:]):
        leading, array = 0, mx.broadcast_to(array, shape)
    return array.reshape(math.prod(shape[leading:-1]), shape[-1])


def _summed_to(array: mx.array, shape: Sequence[int]) -> mx.array:
    """The sum over the axes along which ``shape`` was repeated."""
    axes = [axis for axis, (had, has) in enumerate(zip(shape, array.shape, strict=True)) if had != has]
    return mx.sum(array, axis=axes, keepdims=True) if axes else array
