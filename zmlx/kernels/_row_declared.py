"""What `row_kernel` is given, read and checked."""

from __future__ import annotations

import ast
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import mlx.core as mx

from zmlx.kernels import _declare
from zmlx.kernels._formula import FormulaError, Node, Program, parse, variable
from zmlx.kernels._formula.nodes import Extent, ordered, variables

_RESERVED = ("column", "length", "row")


@dataclass(frozen=True)
class Declared:
    """A row kernel's declaration.

    Attributes
    ----------
    name
        For messages, and of the kernels.
    inputs, weights, per_row
        Names of the arrays.
    scalars
        Names of the numbers -> their defaults; without seeds.
    seeds
        Names of the scalars that `uniform` takes.
    program
        The formula.
    differentiable
        Names of the arrays that have gradients.
    given
        Those gradients, if they were given as formulas.
    dtypes
        Of results, where they are not of the first input's dtype.
    """

    name: str
    inputs: tuple[str, ...]
    weights: tuple[str, ...]
    per_row: tuple[str, ...]
    scalars: _declare.Scalars
    seeds: tuple[str, ...]
    program: Program
    differentiable: tuple[str, ...]
    given: Mapping[str, Node] | None
    dtypes: Mapping[str, mx.Dtype]

    @property
    def arrays(self) -> tuple[str, ...]:
        """In the order of the functions that MLX transforms: what has rows first."""
        return (*self.inputs, *self.per_row, *self.weights)

    @property
    def arguments(self) -> tuple[str, ...]:
        """The arrays in the order of a call."""
        return (*self.inputs, *self.weights, *self.per_row)

    def node(self, name: str) -> Node:
        """What a name of the formula stands for."""
        return self.program.names[name]

    @cached_property
    def wide(self) -> tuple[str, ...]:
        """The results that have a value for each element."""
        return tuple(n for n, node in self.program.results.items() if node.extent == Extent.ELEMENT)

    @cached_property
    def cotangents(self) -> dict[str, Node]:
        """Result -> the variable that is its gradient."""
        return _cotangents(self.program)

    @cached_property
    def mentions_columns(self) -> bool:
        """Whether results depend on an element's place."""
        return "column" in variables(*self.program.results.values())


def read_declaration(
    formula: str,
    name: str,
    inputs: Sequence[str],
    weights: Sequence[str],
    per_row: Sequence[str],
    scalars: Sequence[str] | _declare.Scalars,
    results: Sequence[str] | None,
    grad: str | None,
    differentiable: Sequence[str] | None,
    dtypes: Mapping[str, mx.Dtype],
) -> Declared:
    """The arguments of `row_kernel`, which has the errors' documentation."""
    _declare.check_name("row_kernel", name)
    inputs = _declare.names(name, "inputs", inputs)
    weights = _declare.names(name, "weights", weights)
    per_row = _declare.names(name, "per_row", per_row)
    numbers = _declare.scalars(name, scalars)
    if not inputs:
        raise ValueError(
            f"[{name}] Expected `inputs` to name one array at least, which gives the shape; got none."
        )
    arrays = (*inputs, *weights, *per_row)
    _declare.check_names(name, "arguments", (*arrays, *numbers), _RESERVED)
    extents = {
        **dict.fromkeys((*inputs, *weights), Extent.ELEMENT),
        **dict.fromkeys(per_row, Extent.ROW),
        **dict.fromkeys(numbers, Extent.UNIFORM),
    }
    wanted = _last_line(formula) if results is None else _declare.names(name, "results", results)
    _declare.check_names(name, "results", wanted)
    program = parse(formula, extents, results=wanted, rows=True, function=name)
    _check_cotangents(name, program, given=grad is not None)
    smooth = arrays if differentiable is None else _declare.names(name, "differentiable", differentiable)
    _declare.check_known(name, "`differentiable`", smooth, arrays, "arrays")
    _declare.check_names(name, "differentiable", smooth)
    _declare.check_known(name, "`dtypes`", dtypes, tuple(program.results), "results")
    gradients = None if grad is None else _given(name, program, smooth, grad)
    nodes = [*program.results.values(), *(gradients or {}).values()]
    _declare.check_used(name, formula, numbers, set(variables(*nodes)))
    seeds = _seeds(name, formula, numbers, nodes)
    return Declared(
        name,
        inputs,
        weights,
        per_row,
        {key: value for key, value in numbers.items() if key not in seeds},
        seeds,
        program,
        smooth,
        gradients,
        dtypes,
    )


def _cotangents(program: Program) -> dict[str, Node]:
    return {
        result: variable(f"g_{result}", Extent.ELEMENT if node.extent == Extent.ELEMENT else Extent.ROW)
        for result, node in program.results.items()
    }


def _check_cotangents(name: str, program: Program, *, given: bool) -> None:
    """The names of the gradients of results are free."""
    taken = [f"g_{result}" for result in program.results]
    if given and len(taken) == 1:
        taken.append("g")
    for cotangent in taken:
        if cotangent in program.names:
            raise ValueError(
                f"[{name}] Expected no argument or line called {cotangent!r}: in `grad` it is the gradient of the "
                "result. Rename it."
            )


def _given(name: str, program: Program, smooth: Sequence[str], grad: str) -> dict[str, Node]:
    """The gradients that were given as formulas."""
    cotangents = _cotangents(program)
    known = {**program.names, **{str(node.value): node for node in cotangents.values()}}
    if len(cotangents) == 1:
        (known["g"],) = cotangents.values()
    lines = {f"d_{array}": array for array in smooth}
    read = parse(grad, {}, results=tuple(lines), rows=True, known=known, function=f"{name}, grad")
    return {lines[line]: node for line, node in read.results.items()}


def _seeds(
    name: str, formula: str, scalars: Mapping[str, float | None], nodes: Sequence[Node]
) -> tuple[str, ...]:
    """The scalars that `uniform` takes, which are no numbers elsewhere."""
    found = ordered(nodes)
    seeds: dict[str, None] = {}
    for seed in (node.arguments[0] for node in found if node.function == "uniform"):
        if seed.function != "variable" or seed.value not in scalars:
            raise FormulaError(
                f"[{name}] Expected uniform() to have a scalar's name for its seed, got {seed!r}. "
                f"The formula: {formula!r}."
            )
        seeds[str(seed.value)] = None
    numbers = {id(node) for node in nodes}.union(
        id(argument) for node in found if node.function != "uniform" for argument in node.arguments
    )
    for node in found:
        if node.function == "variable" and node.value in seeds and id(node) in numbers:
            raise FormulaError(
                f"[{name}] Expected {node.value!r} in uniform() only, whose seed it is, got it as a number too. "
                f"Declare another scalar. The formula: {formula!r}."
            )
    for seed_name in seeds:
        if scalars[seed_name] is not None:
            raise ValueError(
                f"[{name}] Expected no default of the seed {seed_name!r}, got {scalars[seed_name]!r}: calls with one "
                "seed have the same numbers. Pass None."
            )
    return tuple(seeds)


def _last_line(formula: str) -> tuple[str, ...]:
    """The name of the last line, if it has one."""
    try:
        body = ast.parse(
            "\n".join(filter(None, map(str.strip, formula.replace(";", "\n").splitlines())))
        ).body
    except (SyntaxError, AttributeError):
        return ()  # `parse` says what is wrong with it
    match body and body[-1]:
        case ast.Assign(targets=[ast.Name(id=name)]):
            return (name,)
    return ()
