"""`elementwise`: a formula as a function that runs as a kernel, with its gradient."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import cached_property, lru_cache
from typing import Any

import mlx.core as mx

from zmlx.kernels import _autodiff, _check
from zmlx.kernels._broadcast import broadcast, result_shape, summed_to
from zmlx.kernels._elementwise_source import ElementKernel
from zmlx.kernels._formula import FormulaError, Node, adjoints, parse, variable
from zmlx.kernels._formula.functions import ZERO
from zmlx.kernels._formula.nodes import Extent, ordered


def elementwise(
    formula: str,
    *,
    name: str | None = None,
    inputs: Sequence[str] | None = None,
    scalars: Sequence[str] | Mapping[str, float | None] = (),
    results: Sequence[str] = (),
    grad: Mapping[str, str] | None = None,
    differentiable: Sequence[str] | None = None,
) -> Elementwise:
    """A function of arrays from a formula: one kernel for its values, and one for all its gradients.

    >>> silu = zmlx.elementwise("x / (1 + exp(-x))")
    >>> y = silu(x)
    >>> gated = zmlx.elementwise("h = min(gate, limit); h * sigmoid(h) * up", scalars={"limit": 7.0})
    >>> y = gated(gate, up, limit=5.0)
    >>> polar = zmlx.elementwise("r = sqrt(x * x + y * y); c = x / r", results=("r", "c"))
    >>> radius, cosine = polar(x, y)

    Parameters
    ----------
    formula
        Lines, or parts between semicolons, of ``name = expression``; the last one is an expression, unless there are
        ``results``. Expressions are Python's: numbers, names, ``+ - * / **``, comparisons, ``and or not``,
        ``a if c else b``, and the functions that docs/kernels.md lists.
    name
        For messages, and the kernels' names. None: "elementwise".
    inputs
        The names of the arrays, in the order of a call. None: what no line defines and is no scalar, in the order in
        which the formula first mentions it.
    scalars
        Names of Python numbers, or names -> defaults. They are arguments of the kernel: another value compiles
        nothing.
    results
        Names of the lines that are results; of several, a call returns a tuple.
    grad
        Input -> formula of its gradient, instead of the derived one. It may use the names of inputs, scalars and
        lines, and ``dy``, the gradient of the result (of several results ``dy_NAME``).
    differentiable
        Names of the inputs that have gradients; None: all. Others have zeros, as `mx.stop_gradient` gives.

    Returns
    -------
    Elementwise
        ``f(*arrays, **scalars)``. The arrays are all float32, float16 or bfloat16, in any memory layout; their shapes
        broadcast as NumPy's do, and results have the common shape and the arrays' dtype. Arithmetic is in float32.

    Raises
    ------
    FormulaError
        The formula, or one of ``grad``, is none; the message says where. It is a ValueError.
    ValueError
        A name that is given twice, or is unknown.

    Notes
    -----
    Arrays of one shape are read as one row. So are a trailing vector (a bias), a leading column and a single number,
    in place; arrays that broadcast in another way are repeated in memory first. The gradient of an array that is
    broadcast is summed in float32. Where a condition leaves out a value that overflows, its derived gradient is zero
    times infinity, NaN: bound the argument, as in ``expm1(min(x, 0))``.
    """
    return Elementwise(formula, name, inputs, scalars, results, grad, differentiable)


class Elementwise:
    """A function that `elementwise` made."""

    def __init__(
        self,
        formula: str,
        name: str | None,
        inputs: Sequence[str] | None,
        scalars: Sequence[str] | Mapping[str, float | None],
        results: Sequence[str],
        grad: Mapping[str, str] | None,
        differentiable: Sequence[str] | None,
    ) -> None:
        self.__name__ = name or "elementwise"
        self.formula = formula
        self._scalars = dict(scalars) if isinstance(scalars, Mapping) else dict.fromkeys(scalars)
        function = self.__name__
        extents: dict[str, Extent] | None = None
        if inputs is not None:
            extents = dict.fromkeys(inputs, Extent.ELEMENT)
            self._refuse_twice("inputs and scalars", [*inputs, *self._scalars])
        found = parse(formula, extents and {**extents, **self._uniform}, results=results, function=function)
        if extents is None:
            variables = [name for name, node in found.names.items() if node.function == "variable"]
            extents = {name: Extent.ELEMENT for name in variables if name not in self._scalars}
        self._program = parse(formula, {**extents, **self._uniform}, results=results, function=function)
        self.inputs = tuple(extents)
        if not self.inputs:
            raise FormulaError(
                f"[{function}] Expected a formula with an array in it, got {formula!r}. Name an input in it."
            )
        self._unused()
        self._grad = dict(grad or {})
        self.differentiable = self.inputs if differentiable is None else tuple(differentiable)
        for wanted in (*self.differentiable, *self._grad):
            if wanted not in self.inputs:
                raise ValueError(
                    f"[{function}] Expected `grad` and `differentiable` to name inputs, which are "
                    f"{', '.join(self.inputs)}; got {wanted!r}."
                )
        self._refuse_twice("differentiable", self.differentiable)
        self._gradients = self._gradient_formulas()
        self._with = lru_cache(maxsize=64)(self._function)

    def __repr__(self) -> str:
        return f"<zmlx.elementwise {self.__name__}({', '.join((*self.inputs, *self._scalars))}): {self.formula!r}>"

    def __call__(self, *arrays: mx.array, **scalars: float) -> Any:
        """The result, or a tuple of several."""
        numbers = self._numbers(scalars)
        return self._with(numbers)(*self._checked(arrays))

    # What was declared -------------------------------------------------------------------------------------------

    @property
    def _uniform(self) -> dict[str, Extent]:
        return dict.fromkeys(self._scalars, Extent.UNIFORM)

    def _refuse_twice(self, what: str, names: Sequence[str]) -> None:
        for position, name in enumerate(names):
            if name in names[:position]:
                raise ValueError(
                    f"[{self.__name__}] Expected each name of {what} once, got {name!r} again. Leave it out."
                )

    def _unused(self) -> None:
        """A scalar that nothing mentions is a slip of the pen."""
        mentioned = {
            str(n.value) for n in ordered(self._program.results.values()) if n.function == "variable"
        }
        for name in self._scalars:
            if name not in mentioned:
                raise ValueError(
                    f"[{self.__name__}] Expected the formula to use the scalar {name!r}, got {self.formula!r}. "
                    "Leave it out of `scalars`."
                )

    def _gradient_formulas(self) -> dict[str, Node]:
        """Input -> its gradient, of those that have one."""
        results = self._program.results
        alone = len(results) == 1
        cotangents = {result: "dy" if alone else f"dy_{result}" for result in results}
        for name in cotangents.values():
            if name in self._program.names:
                raise ValueError(
                    f"[{self.__name__}] Expected no input, scalar or line called {name!r}: in `grad` it is the "
                    "gradient of the result. Rename it."
                )
        pairs = {results[result]: variable(name) for result, name in cotangents.items()}
        self._cotangents = tuple(cotangents.values())
        derived = [name for name in self.differentiable if name not in self._grad]
        found = adjoints(pairs, [self._program.names[name] for name in derived])
        gradients = dict(zip(derived, found, strict=True))
        for name, text in self._grad.items():
            read = parse(
                text,
                dict.fromkeys(self._cotangents, Extent.ELEMENT),
                known=self._program.names,
                function=f"{self.__name__}, grad of {name}",
            )
            (gradients[name],) = read.results.values()
        return {
            name: gradients[name]
            for name in self.differentiable
            if name in gradients and gradients[name] is not ZERO
        }

    # What a call is given ----------------------------------------------------------------------------------------

    def _numbers(self, given: Mapping[str, float]) -> tuple[float, ...]:
        for name in given:
            if name not in self._scalars:
                raise TypeError(
                    f"[{self.__name__}] Expected keyword arguments among {', '.join(self._scalars) or 'none'}, got "
                    f"{name!r}. Arrays are given by position: {', '.join(self.inputs)}."
                )
        values = []
        for name, default in self._scalars.items():
            value = given.get(name, default)
            if value is None:
                raise TypeError(f"[{self.__name__}] Expected a number `{name}`, got none. Pass {name}=1.0.")
            if isinstance(value, bool) or not isinstance(value, (int, float)):
                raise TypeError(
                    f"[{self.__name__}] Expected `{name}` to be a number, got {type(value).__name__}. Pass a float."
                )
            values.append(float(value))
        return tuple(values)

    def _checked(self, arrays: Sequence[mx.array]) -> list[mx.array]:
        """The arrays, with one number of dimensions."""
        function, names = self.__name__, ", ".join(self.inputs)
        if len(arrays) != len(self.inputs):
            raise TypeError(
                f"[{function}] Expected {len(self.inputs)} array{'s' * (len(self.inputs) > 1)} ({names}), got "
                f"{len(arrays)}. Pass them by position."
            )
        for name, array in zip(self.inputs, arrays, strict=True):
            _check.check_array(function, array, name)
        _check.check_one_dtype(function, dict(zip(self.inputs, arrays, strict=True)))
        dimensions = max(array.ndim for array in arrays)
        padded = [
            array
            if array.ndim == dimensions
            else array.reshape((1,) * (dimensions - array.ndim) + array.shape)
            for array in arrays
        ]
        if result_shape([array.shape for array in padded]) is None:
            shapes = ", ".join(
                f"`{name}` {tuple(array.shape)}" for name, array in zip(self.inputs, arrays, strict=True)
            )
            raise ValueError(
                f"[{function}] Expected shapes that broadcast, got {shapes}. Aligned at their last axes, extents "
                "must be equal or 1: reshape the arrays."
            )
        return padded

    # What MLX transforms -----------------------------------------------------------------------------------------

    def _function(self, numbers: tuple[float, ...]) -> Callable[..., Any]:
        count = len(self._program.results)

        def forward(*arrays: mx.array, traced: bool = False) -> Any:
            outputs = self._forward(arrays, numbers, traced)
            return outputs[0] if count == 1 else tuple(outputs)

        def backward(*arrays: mx.array, traced: bool = False) -> tuple[mx.array, ...]:
            return self._backward(arrays[:count], arrays[count:], numbers, traced)

        return _autodiff.differentiable(
            forward,
            backward,
            lambda *arrays: forward(*arrays, traced=True),
            reference_gradient=lambda *arrays: backward(*arrays, traced=True),
            row_arguments=len(self.inputs),
            cotangents=count,
        )

    @cached_property
    def _values(self) -> ElementKernel:
        return ElementKernel(
            f"zmlx_{self.__name__}", self.inputs, tuple(self._scalars), self._program.results
        )

    @cached_property
    def _slopes(self) -> ElementKernel:
        return ElementKernel(
            f"zmlx_{self.__name__}_vjp",
            (*self._cotangents, *self.inputs),
            tuple(self._scalars),
            {f"d_{name}": node for name, node in self._gradients.items()},
        )

    def _forward(
        self, arrays: Sequence[mx.array], numbers: tuple[float, ...], traced: bool
    ) -> list[mx.array]:
        dtypes = [arrays[0].dtype] * len(self._program.results)
        shape = result_shape([array.shape for array in arrays])
        if traced or shape is None or 0 in shape:
            return self._values.values(arrays, numbers, dtypes)
        seen = broadcast(tuple(array.shape for array in arrays))
        outputs = self._values.run(seen.seen(arrays), numbers, seen, dtypes)
        return [output.reshape(seen.shape) for output in outputs]

    def _backward(
        self,
        cotangents: Sequence[mx.array],
        arrays: Sequence[mx.array],
        numbers: tuple[float, ...],
        traced: bool,
    ) -> tuple[mx.array, ...]:
        made: dict[str, mx.array] = {}
        if self._gradients:
            given = [*cotangents, *arrays]
            seen = None
            if not (traced or cotangents[0].size == 0):
                seen = broadcast(tuple(array.shape for array in given))
            # What is to be summed is not rounded before.
            size = cotangents[0].size
            dtypes = [
                array.dtype if array.size == size else mx.float32
                for name, array in zip(self.inputs, arrays, strict=True)
                if name in self._gradients
            ]
            if seen is None:
                found = self._slopes.values(given, numbers, dtypes)
                made = dict(zip(self._gradients, found, strict=True))
                made = {
                    name: summed_to(made[name], array.shape)
                    for name, array in zip(self.inputs, arrays, strict=True)
                    if name in made
                }
            else:
                found = self._slopes.run(seen.seen(given), numbers, seen, dtypes)
                views = dict(zip(self.inputs, seen.views[len(cotangents) :], strict=True))
                made = {
                    name: seen.summed(gradient, views[name])
                    for name, gradient in zip(self._gradients, found, strict=True)
                }
        return tuple(
            made[name].astype(array.dtype) if name in made else mx.zeros_like(array)
            for name, array in zip(self.inputs, arrays, strict=True)
        )
