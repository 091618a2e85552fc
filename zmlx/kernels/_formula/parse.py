"""Reads a formula: Python's expressions, with lines of ``name = expression`` before the last or in all lines."""

from __future__ import annotations

import ast
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from zmlx.kernels._formula import functions
from zmlx.kernels._formula.functions import FUNCTIONS, MACROS, ROW_MACROS
from zmlx.kernels._formula.nodes import Extent, Node, apply, constant, is_constant, variable


class FormulaError(ValueError):
    """A formula that is none; the message has the text, the place and what may stand there."""


@dataclass(frozen=True)
class Program:
    """A formula that was read.

    Attributes
    ----------
    text
        As it was given.
    names
        Every name -> its node: the variables in the order in which they were given (or found), then what lines define.
    results
        The result's name -> its node.
    """

    text: str
    names: Mapping[str, Node]
    results: Mapping[str, Node]


#: As they are written: what gradients leave out, NaN times zero, is somebody's wish here.
_BINARY = {ast.Add: "add", ast.Sub: "subtract", ast.Mult: "multiply", ast.Div: "divide"}
_COMPARED = {
    ast.Lt: "less",
    ast.LtE: "less_equal",
    ast.Gt: "greater",
    ast.GtE: "greater_equal",
    ast.Eq: "equal",
    ast.NotEq: "not_equal",
}
#: Powers by these are products, which are exact as `pow` need not be.
_MOST_FACTORS = 4


def parse(
    text: str,
    extents: Mapping[str, Extent] | None = None,
    *,
    results: Sequence[str] = (),
    rows: bool = False,
    known: Mapping[str, Node] | None = None,
    function: str = "elementwise",
) -> Program:
    """Read ``text``.

    Parameters
    ----------
    text
        Lines (or parts between semicolons) of ``name = expression``. Without ``results`` the last one is an expression,
        which is the result "out".
    extents
        The variables and how they vary. None: every name that no line defines is one, that varies over the elements.
    results
        Names of lines that are the results.
    rows
        Whether sum, mean, max, min and peak of one argument reduce the row.
    known
        More names, with what they stand for: those of another formula.
    function
        Whose formula it is, for messages.

    Raises
    ------
    FormulaError
        The text is no such formula.
    """
    return _Reader(text, extents, tuple(results), rows, known or {}, function).program()


class _Reader:
    def __init__(
        self,
        text: str,
        extents: Mapping[str, Extent] | None,
        results: tuple[str, ...],
        rows: bool,
        known: Mapping[str, Node],
        function: str,
    ) -> None:
        self.text, self.rows, self.function, self.wanted = text, rows, function, results
        self.known = None if extents is None else set(extents)
        self.variables = {name: variable(name, extent) for name, extent in (extents or {}).items()}
        self.variables.update(known)
        if rows:
            self.variables.setdefault("length", functions.variable_length())
            self.variables.setdefault("column", functions.column_index())
        self.lines: dict[str, Node] = {}

    def fault(self, message: str, at: ast.AST | None = None) -> FormulaError:
        segment = at is not None and ast.get_source_segment(self.source, at)
        where = f" in {segment!r}" if segment else ""
        return FormulaError(f"[{self.function}] {message}{where}. The formula: {self.text!r}.")

    def program(self) -> Program:
        if not isinstance(self.text, str):
            raise TypeError(f"[{self.function}] Expected a formula as text, got {type(self.text).__name__}.")
        lines = [line.strip() for line in self.text.replace(";", "\n").splitlines()]
        self.source = _joined(lines)
        try:
            body = ast.parse(self.source).body
        except (SyntaxError, ValueError) as error:
            raise self.fault(f"Expected Python's syntax: {getattr(error, 'msg', error)}") from None
        if not body:
            raise self.fault("Expected an expression, got nothing")
        results: dict[str, Node] = {}
        for position, line in enumerate(body):
            if (
                isinstance(line, ast.Assign)
                and len(line.targets) == 1
                and isinstance(line.targets[0], ast.Name)
            ):
                self.define(line.targets[0].id, self.real(line.value), line)
            elif isinstance(line, ast.Expr) and position == len(body) - 1 and not self.wanted:
                results["out"] = self.real(line.value)
            else:
                last = "" if self.wanted else ", and an expression as the last line"
                raise self.fault(f"Expected lines of `name = expression`{last}", line)
        for name in self.wanted:
            if name not in self.lines:
                raise self.fault(f"Expected a line that defines the result {name!r}")
            results[name] = self.lines[name]
        if not results:
            raise self.fault("Expected an expression, the result, as the last line")
        return Program(self.text, {**self.variables, **self.lines}, results)

    def define(self, name: str, node: Node, line: ast.AST) -> None:
        if name in self.lines or name in self.variables:
            raise self.fault(f"Expected each name to be given once, got {name!r} again", line)
        if name in FUNCTIONS or name in MACROS or name in ROW_MACROS:
            raise self.fault(f"Expected a name that is no function's, got {name!r}", line)
        self.lines[name] = node

    def real(self, expression: ast.expr) -> Node:
        node = self.node(expression)
        if _is_truth(node):
            raise self.fault("Expected a number, got a condition; write where(condition, a, b)", expression)
        return node

    def truth(self, expression: ast.expr) -> Node:
        node = self.node(expression)
        if not _is_truth(node):
            raise self.fault("Expected a condition such as `x > 0`, got a number", expression)
        return node

    def node(self, expression: ast.expr) -> Node:
        match expression:
            case ast.Constant(value=bool()):
                raise self.fault("Expected a number", expression)
            case ast.Constant(value=int() | float() as value):
                return constant(value)
            case ast.Name(id=name):
                return self.name(name, expression)
            case ast.UnaryOp(op=ast.USub(), operand=operand):
                return functions.negative(self.real(operand))
            case ast.UnaryOp(op=ast.UAdd(), operand=operand):
                return self.real(operand)
            case ast.UnaryOp(op=ast.Not(), operand=operand):
                return apply("opposite", self.truth(operand))
            case ast.BinOp(left=left, op=ast.Pow(), right=right):
                return self.power(self.real(left), self.real(right))
            case ast.BinOp(left=left, op=op, right=right) if type(op) in _BINARY:
                return apply(_BINARY[type(op)], self.real(left), self.real(right))
            case ast.Compare(left=left, ops=ops, comparators=others) if all(
                type(op) in _COMPARED for op in ops
            ):
                sides = [self.real(side) for side in (left, *others)]
                compared = [
                    apply(_COMPARED[type(op)], a, b)
                    for op, a, b in zip(ops, sides[:-1], sides[1:], strict=True)
                ]
                return _folded("both", compared)
            case ast.BoolOp(op=op, values=values):
                return _folded(
                    "both" if isinstance(op, ast.And) else "either", [self.truth(value) for value in values]
                )
            case ast.IfExp(test=test, body=body, orelse=other):
                return functions.where(self.truth(test), self.real(body), self.real(other))
            case ast.Call(func=ast.Name(id=name), args=arguments, keywords=[]):
                return self.call(name, arguments, expression)
        raise self.fault(
            "Expected numbers, names, + - * / **, comparisons, `a if c else b` and functions", expression
        )

    def name(self, name: str, expression: ast.AST) -> Node:
        if name in self.lines:
            return self.lines[name]
        if name in self.variables:
            return self.variables[name]
        if name in FUNCTIONS or name in MACROS:
            raise self.fault(f"{name!r} is a function: call it", expression)
        if name in functions.NUMBERS:
            return constant(functions.NUMBERS[name])
        if self.known is None:
            self.variables[name] = variable(name)
            return self.variables[name]
        raise self.fault(
            f"Expected one of the names {', '.join(sorted({*self.variables, *self.lines}))}, got {name!r}",
            expression,
        )

    def power(self, base: Node, exponent: Node) -> Node:
        if is_constant(exponent):
            value = float(exponent.value)
            if value in (0.5, -0.5):
                return apply("sqrt" if value > 0 else "rsqrt", base)
            if value.is_integer() and 1 <= abs(value) <= _MOST_FACTORS:
                product = base
                for _ in range(int(abs(value)) - 1):
                    product = functions.multiply(product, base)
                return product if value > 0 else functions.divide(functions.ONE, product)
        return apply("power", base, exponent)

    def call(self, name: str, arguments: list[ast.expr], expression: ast.AST) -> Node:
        count = len(arguments)
        if name in ROW_MACROS and (name not in FUNCTIONS or count == _parameters(ROW_MACROS[name])):
            return self.of_row(name, list(map(self.real, arguments)), expression)
        if name in MACROS:
            return self.macro(name, arguments, expression)
        known = FUNCTIONS.get(name)
        if known is None or not known.doc:
            raise self.fault(
                f"Expected one of the functions {', '.join(known_functions(self.rows))}", expression
            )
        self.expect(name, known.parameters, count, expression)
        if name == "where":
            condition, *others = arguments
            return functions.where(self.truth(condition), *map(self.real, others))
        return apply(name, *map(self.real, arguments))

    def of_row(self, name: str, arguments: list[Node], expression: ast.AST) -> Node:
        made = ROW_MACROS[name]
        if not self.rows:
            one = "one argument" if _parameters(made) == 1 else "two arguments"
            raise self.fault(
                f"{name}() of {one} is of a row, which zmlx.row_kernel has and zmlx.elementwise not",
                expression,
            )
        self.expect(name, _parameters(made), len(arguments), expression)
        first = arguments[0]
        if first.extent < Extent.ELEMENT and name in ("max", "min"):
            return first
        if name == "at":
            if first.function != "variable" or first.extent < Extent.ELEMENT or first.value == "column":
                raise self.fault("Expected at() to have the name of an input or a weight first", expression)
            if arguments[1].extent == Extent.ELEMENT:
                raise self.fault("Expected at() to have one place for the whole row", expression)
        return made(*arguments)

    def macro(self, name: str, arguments: list[ast.expr], expression: ast.AST) -> Node:
        self.expect(name, _parameters(MACROS[name]), len(arguments), expression)
        return MACROS[name](*map(self.real, arguments))

    def expect(self, name: str, parameters: int, count: int, expression: ast.AST) -> None:
        if parameters != count:
            raise self.fault(f"Expected {name}() to have {parameters} argument(s), got {count}", expression)


def _parameters(macro: Callable[..., Node]) -> int:
    return macro.__code__.co_argcount


def known_functions(rows: bool) -> list[str]:
    """The names that a formula may call."""
    named = [name for name, function in FUNCTIONS.items() if function.doc]
    return sorted({*named, *MACROS, *(ROW_MACROS if rows else ())})


def _joined(lines: list[str]) -> str:
    """Lines that end within brackets go on in the next one, as in Python: only blank ones are left out."""
    return "\n".join(line for line in lines if line)


def _is_truth(node: Node) -> bool:
    return node.function in FUNCTIONS and FUNCTIONS[node.function].truth


def _folded(function: str, nodes: list[Node]) -> Node:
    first, *rest = nodes
    for node in rest:
        first = apply(function, first, node)
    return first
