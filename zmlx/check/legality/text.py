"""A kernel as C++ for OpenCL: the same lines, with the few forms rewritten that the front end does not have."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache

from zmlx.metal.declarations import declarations
from zmlx.metal.signature import Signature
from zmlx.metal.structure import Fragment, Program
from zmlx.metal.tokens import Token
from zmlx.translate.address_spaces import AddressSpaces

#: The folder that the texts seem to lie in; they are handed over in memory.
FOLDER = "/zmlx-legality"
PRELUDE, HEADER, SOURCE, MAIN = (f"{FOLDER}/{name}" for name in ("legality.h", "header", "source", "main.cl"))


class _Unclear(Exception):
    """A threadgroup declaration that is not understood."""


class _GroupStorage(AddressSpaces):
    """Threadgroup variables as references: the front end has such variables in kernels only, which are no templates."""

    def rewrite(self, fragment: Fragment) -> None:
        for index, token in enumerate(fragment.code):
            if fragment.text(index) != "threadgroup" or self._is_pasted(fragment, index):
                continue
            if fragment.source.part == "header" and not _in_kernel(fragment, index):
                continue  # the front end refuses it, as Metal does
            try:
                if not self._is_alias(fragment) and self._declarator(fragment, index) >= 0:
                    self._threadgroup(fragment, index)
            except _Unclear:
                token.text = "threadgroup"

    def _storage(self, kind: str, name: str, extents: str, parameters: Sequence[str]) -> str:
        return f"auto& {name} = zmlx_legal_group<{kind}{extents}>()"


def _in_kernel(fragment: Fragment, index: int) -> bool:
    """Whether a token of a header is in the body of a kernel, or in a macro, which may be used in one."""
    if fragment.macro is not None:
        return True
    outermost = index
    while fragment.parent(outermost) >= 0:
        outermost = fragment.parent(outermost)
    start = outermost
    while start > 0 and not (fragment.text(start - 1) in (";", "}") and fragment.parent(start - 1) < 0):
        start -= 1
    return any(fragment.text(i) in ("kernel", "vertex", "fragment") for i in range(start, outermost))


def _unclear(_fragment: Fragment, _token: Token, what: str) -> Exception:
    return _Unclear(what)


def _call_constructors(fragment: Fragment) -> None:
    """``vec<T, 4>(a, b)`` calls a function: the front end makes its vectors otherwise."""
    for index in range(len(fragment)):
        end = fragment.angles.get(index, -1)
        named = fragment.text(index - 1) in ("vec", "packed_vec") and fragment.text(index) == "<"
        if named and end > index and fragment.text(end + 1) == "(" and fragment.text(index - 2) != "operator":
            fragment.code[index - 1].before += "zmlx_legal_make<"
            fragment.code[end].after += ">"


def _deduce_vectors(header: Fragment) -> None:
    """``T f(vec<T, 4> v)`` and ``struct s<vec<T, N>>`` as types that the front end deduces ``T`` and ``N`` from."""
    ranges = [d.parameters for d in declarations(header) if d.kind == "function" and not d.scope]
    for i in range(2, len(header)):
        if (
            header.text(i) == "<"
            and header.text(i - 2) in ("struct", "class")
            and header.angles.get(i, -1) > i
        ):
            ranges.append((i, header.angles[i]))
    for first, last in ranges:
        for i in range(first, last):
            if header.text(i) == "vec" and header.text(i + 1) == "<" and header.text(i + 2) != "bool":
                header.code[i].text = "zmlx_legal_deduced"


def _drop_includes(program: Program) -> None:
    for source in program.sources:
        for directive in source.directives:
            if directive.word in ("include", "import"):
                for token in (directive.token, *directive.rest):
                    token.text = "\n" * token.text.count("\n")


@lru_cache(maxsize=64)
def _rewritten(header: str, source: str) -> tuple[str, str]:
    """A kernel's two texts, the same for all signatures with which it is called."""
    program = Program(header, source)
    _drop_includes(program)
    storage = _GroupStorage(program, "host", _unclear)
    for fragment in program.fragments:
        storage.rewrite(fragment)
    for fragment in program.fragments:
        _call_constructors(fragment)
    _deduce_vectors(program.header.main)
    return program.header.render() + "\n", program.body.render() + "\n"


def written(signature: Signature) -> dict[str, str]:
    """The texts by file name; `MAIN` includes the others."""
    kernel = signature.kernel
    header, source = _rewritten(kernel.header, kernel.source)
    parameters = [p.metal for p in signature.parameters]
    parameters += [f"{kind} {name}" for name, kind in kernel.attributes]
    main = (
        f'#include "{HEADER}"\n{signature.template_declaration}\n'
        f'void zmlx_legal_kernel({", ".join(parameters)}) {{\n#include "{SOURCE}"\n}}\n'
    )
    if signature.template:
        instance = f"zmlx_legal_kernel{signature.template_arguments}"
        main += f"template decltype({instance}) {instance};\n"
    return {MAIN: main, HEADER: header, SOURCE: source}
