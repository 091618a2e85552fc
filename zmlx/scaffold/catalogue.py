"""The catalogue in docs/kernels.md: every kernel by its family, what is known of it, and what it is built from."""

from __future__ import annotations

import ast
import io
import re
import tokenize
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from zmlx.scaffold.markdown import first_sentence, functions, table

if TYPE_CHECKING:
    from zmlx.testing.opinfo import OpInfo
    from zmlx.testing.report.model import Report

ELEMENTWISE, ROW_KERNEL, OWN = "`elementwise`", "`row_kernel`", "own source"
#: With these the blocks add up gradients of what was broadcast.
_SUMS = ("zmlx_column_sum", "zmlx_sum")


def kernels(root: Path) -> str:
    """A summary, and for each family a heading and a table.

    Parameters
    ----------
    root
        A checkout: docstrings, lines of code and recorded golden values are those of its files.
    """
    from zmlx.testing.op_db import op_db

    families: dict[str, list[OpInfo]] = {}
    for op in (op for op in op_db if op.kernel):
        families.setdefault(op.name.partition(".")[0], []).append(op)
    built = {op.name: built_of(op) for ops in families.values() for op in ops}
    report = _report(root)
    parts = [_summary(root, built)]
    for family, ops in families.items():
        text = (root / "zmlx" / "kernels" / f"{family}.py").read_text(encoding="utf-8")
        sentence = first_sentence(ast.get_docstring(ast.parse(text)) or "")
        parts += [f"### {family}", f"{sentence}.", _family(text, ops, built, report)]
    return "\n" + "\n\n".join(parts) + "\n"


def built_of(op: OpInfo) -> str:
    """`ELEMENTWISE` or `ROW_KERNEL` if all that it launches, gradient included, is made of that block; else `OWN`."""
    from zmlx.kernels import _elementwise_source, _row_launch
    from zmlx.testing.launches import recorded_launches

    headers = {ELEMENTWISE: _elementwise_source.HEADER, ROW_KERNEL: _row_launch.HEADER}
    launches = recorded_launches(op, op.dtypes_on("cuda")[0], "cuda")
    found = {
        next((block for block, header in headers.items() if kernel.header.startswith(header)), kernel.name)
        for kernel in (record.kernel for record in launches)
    }
    blocks = found.difference(_SUMS)
    return blocks.pop() if len(blocks) == 1 and blocks <= headers.keys() else OWN


def code_lines(text: str) -> int:
    """The lines of Python source that are neither blank, nor a comment, nor of a docstring."""
    counted = {number for number, line in enumerate(text.splitlines(), 1) if line.strip()}
    for token in tokenize.generate_tokens(io.StringIO(text).readline):
        if token.type == tokenize.COMMENT and token.line.lstrip().startswith("#"):
            counted.discard(token.start[0])
    for node in ast.walk(ast.parse(text)):
        if (
            isinstance(node, (ast.Module, ast.ClassDef, ast.FunctionDef))
            and ast.get_docstring(node) is not None
        ):
            docstring = node.body[0]
            counted.difference_update(range(docstring.lineno, (docstring.end_lineno or 0) + 1))
    return len(counted)


def _summary(root: Path, built: dict[str, str]) -> str:
    texts = {
        path.stem: path.read_text(encoding="utf-8")
        for path in (root / "zmlx" / "kernels").rglob("*.py")
        if path.stem != "__init__"
    }
    lines = {name: code_lines(text) for name, text in texts.items()}
    of_blocks = [name for name, block in built.items() if block != OWN]
    mixed = {name.partition(".")[0] for name, block in built.items() if block == OWN}
    whole = sorted({name.partition(".")[0] for name in built} - mixed)
    text = (
        f"{len(built)} kernels, of which {len(of_blocks)} ({len(of_blocks) / len(built):.0%}) are built of "
        "`zmlx.elementwise` or `zmlx.row_kernel` alone, gradients included. The catalogue has "
        f"{sum(lines.values()) / len(built):.0f} lines of code a kernel, these blocks among them"
    )
    if whole:
        own = sum(lines[module] for module in modules_of(whole, texts))
        count = sum(name.partition(".")[0] in whole for name in built)
        text += f"; families that are built of blocks throughout ({', '.join(whole)}) have {own / count:.0f}, without"
    return f"{text}."


def modules_of(families: Iterable[str], texts: Mapping[str, str]) -> set[str]:
    """The modules of families and what nothing else imports; blocks are everyone's.

    Parameters
    ----------
    families
        Names of modules.
    texts
        The source of each module of the catalogue.
    """
    import zmlx

    blocks = {block.__module__.rpartition(".")[2] for block in (zmlx.elementwise, zmlx.row_kernel)}
    importers: dict[str, set[str]] = {}
    for name, text in texts.items():
        for node in ast.walk(ast.parse(text)):
            if isinstance(node, ast.ImportFrom) and node.module and node.module.startswith("zmlx.kernels"):
                for imported in (node.module.rpartition(".")[2], *(alias.name for alias in node.names)):
                    importers.setdefault(imported, set()).add(name)
    found = set(families)
    while more := {
        name
        for name in texts
        if name not in found | blocks and importers.get(name) and importers[name] <= found
    }:
        found |= more
    return found


def _report(root: Path) -> Report | None:
    """What `python -m zmlx report` says of the recorded values; None if there are none."""
    from zmlx.testing.golden.run import compare_recorded
    from zmlx.testing.op_db import op_db
    from zmlx.testing.report.model import build_report

    folder = root / "golden_values"
    return build_report(compare_recorded(folder, ops=op_db)) if folder.is_dir() else None


def _family(text: str, ops: Iterable[OpInfo], built: dict[str, str], report: Report | None) -> str:
    backends = [column.name for column in report.recorded] if report else []
    head = ("kernel", "shapes", "computes", "dtypes", "gradient", "built of", *backends, "from")
    by_name = {function.name: function for function in functions(text)}
    rows: list[Sequence[str]] = []
    for op in ops:
        family, _, name = op.name.partition(".")
        function = by_name[name]
        arguments = [argument.arg for argument in function.args.args]
        rows.append(
            (
                f"`{family}.{_call(function, text)}`",
                _shapes(function),
                first_sentence(ast.get_docstring(function) or ""),
                _dtypes(op),
                ", ".join(f"`{arguments[place]}`" for place in op.differentiable) or "-",
                built[op.name],
                *(_share(report, op.name, backend) for backend in backends),
                re.sub(r"arXiv:(\d{4}\.\d{4,5})", r"[arXiv:\1](https://arxiv.org/abs/\1)", op.source),
            )
        )
    return table(head, rows)


def _share(report: Report | None, op: str, backend: str) -> str:
    """Of the tolerance, by the worst element of any dtype."""
    from zmlx.testing.golden.explain import share_text

    row = report.rows.get(op) if report else None
    cell = row.errors.get(backend) if row else None
    return "-" if cell is None or cell.share is None else share_text(cell.share)


def _dtypes(op: OpInfo) -> str:
    from zmlx.testing.opinfo import DEFAULT_DTYPES

    dtypes = op.dtypes_on("cuda")
    return "floats" if dtypes == DEFAULT_DTYPES else ", ".join(dtypes)


def _call(function: ast.FunctionDef, text: str) -> str:
    def declared(argument: ast.arg, default: ast.expr | None) -> str:
        return argument.arg if default is None else f"{argument.arg}={ast.get_source_segment(text, default)}"

    given = function.args
    missing = [None] * (len(given.args) - len(given.defaults))
    places = [declared(a, d) for a, d in zip(given.args, [*missing, *given.defaults], strict=True)]
    keywords = [declared(a, d) for a, d in zip(given.kwonlyargs, given.kw_defaults, strict=True)]
    return f"{function.name}({', '.join([*places, *(['*'] if keywords else []), *keywords])})"


def _shapes(function: ast.FunctionDef) -> str:
    """From the docstring: "(…, 2D) → (…, D)"; a result without a shape of its own has the first argument's."""
    before, _, after = (ast.get_docstring(function) or "").partition("\nReturns\n")
    inputs, outputs = (
        re.findall(r"Shape (\([^()]*\))", text) for text in (before, after.partition("\nRaises")[0])
    )
    if not inputs:
        return "any"
    shapes = [*inputs, *(outputs or inputs)[:1]]
    plain = [
        re.sub(r"(?<=\d) \* ", "", shape).replace("...", "…").replace(" * ", "·").replace(",)", ")")
        for shape in shapes
    ]
    return f"{', '.join(plain[:-1])} → {plain[-1]}"
