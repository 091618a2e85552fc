"""What the passes work on: one kernel on its way from Metal to C++."""

from __future__ import annotations

import re
from dataclasses import dataclass

from zmlx.metal.declarations import used_names
from zmlx.metal.signature import KernelSource, Signature
from zmlx.metal.structure import Program
from zmlx.translate.address_spaces import AddressSpaces
from zmlx.translate.convergence import uses_lanes
from zmlx.translate.overloads import overloaded_functions
from zmlx.translate.regions import GROUP_BARRIER

_SMALL_FLOATS = re.compile(
    r"\b(?:packed_)?(?:half|bfloat)[234]?\b|\bb?float16_t\b|\bsimdgroup_b?(?:half|float)8x8\b"
)


_INTEGER = re.compile(r"u?int\d+_t")

#: Names of types and outputs, and whether each is of integers.
KnownTypes = tuple[tuple[str, bool], ...]


@dataclass(frozen=True)
class Translation:
    """A kernel as portable C++: ``header`` and ``body`` are the author's, rewritten line for line.

    ``overloads`` are the library functions that the header overloads, ``flags`` what the host's compiler needs to be
    told.
    """

    header: str
    body: str
    uses_barrier: bool
    uses_simd: bool
    overloads: tuple[str, ...] = ()
    flags: tuple[str, ...] = ()

    @property
    def uses_sync(self) -> bool:
        """Whether threads of a group meet: then the host needs more than one loop over them."""
        return self.uses_barrier or self.uses_simd


class Unit:
    """A kernel on its way from Metal to C++; each pass rewrites ``program`` a little further.

    Attributes
    ----------
    kernel
        What the author wrote; it does not change.
    target
        ``"host"`` or ``"cuda"``.
    small_floats
        Whether half or bfloat may occur.
    known
        Of template arguments and outputs that are known: whether they are integers.
    program
        The kernel's two texts as tokens, rewritten so far.
    names
        The names that the program used before anything was rewritten.
    spaces
        The program's address spaces; the pass that erases them leaves them here.
    group_body
        The body as one function of the whole threadgroup, where a pass has written it anew (regions.py).
    flags
        What the host's compiler needs to be told.
    """

    def __init__(self, kernel: KernelSource, target: str, small_floats: bool, known: KnownTypes = ()) -> None:
        self.kernel = kernel
        self.target = target
        self.small_floats = small_floats
        self.known = dict(known)
        self.group_body: str | None = None
        self.spaces: AddressSpaces | None = None
        self.flags: tuple[str, ...] = ()
        self._read: tuple[str, str] | None = None
        self.read(kernel.header, kernel.source)

    def read(self, header: str, body: str) -> None:
        """Begin with other texts: for what is rewritten before anything else is."""
        if (header, body) == self._read:
            return
        self._read = (header, body)
        self.program = Program(header, body)
        self.names = used_names(self.program)

    @property
    def uses_lanes(self) -> bool:
        """Whether threads run in simdgroups."""
        return any(uses_lanes(name) for name in self.names)

    @property
    def uses_barrier(self) -> bool:
        """Whether threads of a threadgroup meet at its barriers."""
        return GROUP_BARRIER in self.names

    def texts(self) -> dict[str, str]:
        """The header and the body as they are now, by part."""
        body = self.program.body.render() if self.group_body is None else self.group_body
        return {"header": self.program.header.render(), "source": body}

    def finish(self) -> Translation:
        """The result."""
        texts = self.texts()
        return Translation(
            texts["header"],
            texts["source"],
            self.uses_barrier,
            self.uses_lanes,
            tuple(overloaded_functions(self.program.header.main)),
            self.flags,
        )


def may_use_small_floats(signature: Signature) -> bool:
    """Whether half or bfloat can occur in a kernel: by its arrays, its template arguments or its text."""
    kinds = {array.metal for array in (*signature.inputs, *signature.outputs)}
    kinds |= {argument.value for argument in signature.template}
    if kinds & {"float16_t", "bfloat16_t"}:
        return True
    return any(_SMALL_FLOATS.search(text) for text in (signature.kernel.header, signature.kernel.source))


def known_types(signature: Signature) -> KnownTypes:
    """Which of a kernel's template arguments that are types, and which of its outputs, are of integers."""
    kinds = [(a.name, a.value) for a in signature.template if a.kind == "typename"]
    kinds += [
        (name, array.metal)
        for name, array in zip(signature.kernel.output_names, signature.outputs, strict=True)
    ]
    return tuple((name, _INTEGER.fullmatch(kind) is not None) for name, kind in kinds)


def line_marker(kernel: KernelSource, part: str) -> str:
    """A ``#line`` that makes the compiler speak of the author's own lines, as ``<kernel> <part>``."""
    return f'#line 1 "{kernel.name} {part}"\n'
