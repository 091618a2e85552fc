"""`elementwise`: a formula as a function that runs as a kernel, with its gradient."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import cached_property, lru_cache
from typing import Any

import mlx.core as mx

from zmlx.kernels import _autodiff, _check, _declare
from zmlx.kernels._broadcast import View, broadcast, result_shape, summed_to
from zmlx.kernels._elementwise_source import ElementKernel
from zmlx.kernels._formula import FormulaError, Node, adjoints, parse, variable
from zmlx.kernels._formula.functions import ZERO
from zmlx.kernels._formula.nodes import Extent, variables


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
    """A function of arrays from a formula: one kernel for its values, and one for all its gradients but those that are
    the result's own, which are passed on.

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
        A name that is given twice, is unknown or no name; a scalar that nothing mentions.
    TypeError
        A text where a sequence of names belongs; a default that is no number.

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
        function = self.__name__ = name or "elementwise"
        _declare.check_name("elementwise", function)
        self.formula = formula
        self._scalars = _declare.scalars(function, scalars)
        results = _declare.names(function, "results", results)
        _declare.check_names(function, "results", results)
        extents: dict[str, Extent] | None = None
        if inputs is not None:
            extents = dict.fromkeys(_declare.names(function, "inputs", inputs), Extent.ELEMENT)
        _declare.check_names(function, "inputs and scalars", [*(inputs or ()), *self._scalars])
        found = parse(formula, extents and {**extents, **self._uniform}, results=results, function=function)
        if extents is None:
            mentioned = [name for name, node in found.names.items() if node.function == "variable"]
            extents = {name: Extent.ELEMENT for name in mentioned if name not in self._scalars}
        self._program = parse(formula, {**extents, **self._uniform}, results=results, function=function)
        self.inputs = tuple(extents)
        if not self.inputs:
            raise FormulaError(
                f"[{function}] Expected a formula with an array in it, got {formula!r}. Name an input in it."
            )
        self._grad = dict(grad or {})
        self.differentiable = (
            self.inputs
            if differentiable is None
            else _declare.names(function, "differentiable", differentiable)
        )
        wanted = (*self.differentiable, *self._grad)
        _declare.check_known(function, "`grad` and `differentiable`", wanted, self.inputs, "inputs")
        _declare.check_names(function, "differentiable", self.differentiable)
        self._gradients = self._gradient_formulas()
        _declare.check_used(
            function,
            formula,
            self._scalars,
            set(variables(*self._program.results.values(), *self._gradients.values())),
        )
        self._with = lru_cache(maxsize=64)(self._function)

    def __repr__(self) -> str:
        return f"<zmlx.elementwise {self.__name__}({', '.join((*self.inputs, *self._scalars))}): {self.formula!r}>"

    def __call__(self, *arrays: mx.array, **scalars: float) -> Any:
        """The result, or a tuple of several."""
        _declare.check_keywords(self.__name__, scalars, self._scalars, self.inputs)
        numbers = _declare.numbers(self.__name__, self._scalars, scalars)
        return self._with(numbers)(*self._checked(arrays))

    # What was declared -------------------------------------------------------------------------------------------

    @property
    def _uniform(self) -> dict[str, Extent]:
        return dict.fromkeys(self._scalars, Extent.UNIFORM)

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
        wanted = [name for name in self.inputs if name in self.differentiable]
        places = {variable(name): place for place, name in enumerate(self._cotangents)}
        self._passed_on = {name: places[gradients[name]] for name in wanted if gradients[name] in places}
        return {name: gradients[name] for name in wanted if gradients[name] is not ZERO}

    # What a call is given ----------------------------------------------------------------------------------------

    def _checked(self, arrays: Sequence[mx.array]) -> list[mx.array]:
        """The arrays, with one number of dimensions."""
        function = self.__name__
        _declare.check_count(function, arrays, self.inputs)
        _check.check_arrays(function, self.inputs, arrays)
        dimensions = max([array.ndim for array in arrays])
        padded = [
            array
            if array.ndim == dimensions
            else array.reshape((1,) * (dimensions - array.ndim) + array.shape)
            for array in arrays
        ]
        if len(padded) > 1 and result_shape(tuple([array.shape for array in padded])) is None:
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
            {f"d_{name}": node for name, node in self._gradients.items() if name not in self._passed_on},
            sums=True,
        )

    def _forward(
        self, arrays: Sequence[mx.array], numbers: tuple[float, ...], traced: bool
    ) -> list[mx.array]:
        dtypes = [arrays[0].dtype] * len(self._program.results)
        shapes = tuple([array.shape for array in arrays])
        shape = result_shape(shapes)
        if shape is not None and 0 in shape:
            return [mx.zeros(shape, dtype) for dtype in dtypes]
        if traced:
            return self._values.values(arrays, numbers, dtypes)
        seen = broadcast(shapes)
        outputs = self._values.run(seen.seen(arrays), numbers, seen, dtypes)
        return [output.reshape(seen.shape) for output in outputs]

    def _backward(
        self,
        cotangents: Sequence[mx.array],
        arrays: Sequence[mx.array],
        numbers: tuple[float, ...],
        traced: bool,
    ) -> tuple[mx.array, ...]:
        if not self._gradients or cotangents[0].size == 0:
            return tuple(map(mx.zeros_like, arrays))
        given = [*cotangents, *arrays]
        # What is to be summed is not rounded before.
        dtypes = {
            name: array.dtype if array.shape == cotangents[0].shape else mx.float32
            for name, array in zip(self.inputs, arrays, strict=True)
            if name in self._gradients
        }
        computed = {name: dtype for name, dtype in dtypes.items() if name not in self._passed_on}
        seen = broadcast(tuple(array.shape for array in given))
        if not traced:
            given = seen.seen(given)
        if not computed:
            found: list[mx.array] = []
        elif traced:
            found = self._slopes.values(given, numbers, list(computed.values()))
        else:
            views = zip(self.inputs, seen.views[len(cotangents) :], strict=True)
            summed = [f"d_{name}" for name, view in views if name in computed and seen.is_vector(view)]
            found = self._slopes.run(given, numbers, seen, list(computed.values()), summed)
        rest = iter(found)
        made = {
            name: given[self._passed_on[name]].astype(dtype) if name in self._passed_on else next(rest)
            for name, dtype in dtypes.items()
        }

        def gradient(name: str, array: mx.array, view: View) -> mx.array:
            if name not in made:
                return mx.zeros_like(array)
            summed = summed_to(made[name], array.shape) if traced else seen.summed(made[name], view)
            return summed.astype(array.dtype)

        return tuple(map(gradient, self.inputs, arrays, seen.views[len(cotangents) :]))
