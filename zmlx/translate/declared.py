"""What a kernel declares that Metal does not let it declare, where that is certain from the text alone.

======================================  ==================================================================
refused                                 since it would run here, or say something else
======================================  ==================================================================
a local named like a parameter          the function around the body is written anew for the host: there it hid one
``int half``, ``int device``            words of Metal, which are a class and nothing here
``constant`` and ``device`` locals      these words are dropped
``threadgroup`` ones of a function      there is no group to take them from
``memory_order_acq_rel`` on an atomic   C++ has it
======================================  ==================================================================

What takes types to tell, the checker's type check finds (``zmlx[lint]``).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

from zmlx.metal.declarations import declarations
from zmlx.metal.signature import KernelSource
from zmlx.metal.statements import Statement, declaration_at
from zmlx.metal.structure import Fragment, Program
from zmlx.metal.tokens import Token
from zmlx.metal.words import reserved_names

#: Takes the fragment and the token of what is refused, and what to say of it; raises, if the token is certainly there.
Refuse = Callable[[Fragment, Token, str], None]

_ORDERS = frozenset(
    f"memory_order_{order}" for order in ("acquire", "release", "acq_rel", "seq_cst", "consume")
)
_STATEMENT_ENDS = frozenset({";", "{", "}", ""})


def refuse_declarations(kernel: KernelSource, program: Program, refuse: Refuse) -> None:
    """Call ``refuse`` for what the module refuses."""
    _refuse_redeclared(kernel, program.body.main, refuse)
    for fragment in program.fragments:
        for token in reserved_names(fragment.code):
            refuse(
                fragment,
                token,
                f"`{token.text}` is a word of Metal, and names no variable; give it another name",
            )
        _refuse_orders(fragment, refuse)
    for fragment, first, last in _function_bodies(program):
        _refuse_spaces(fragment, first, last, refuse)


def _refuse_redeclared(kernel: KernelSource, body: Fragment, refuse: Refuse) -> None:
    """A variable of the body's outermost scope with the name of a parameter. Of shapes, only the compiler knows
    whether they are parameters."""
    parameters = {
        **dict.fromkeys(kernel.input_names, "an input"),
        **dict.fromkeys(kernel.output_names, "an output"),
        **{name: "an attribute" for name, _ in kernel.attributes},
    }
    for statement in _outermost(body):
        # A macro may be anything: what stands behind it need not be a declaration.
        if any(
            body.text(i) in body.source.program.macros
            for i in range(statement.type[0], statement.type[1] + 1)
        ):
            continue
        for declarator in statement.declarators:
            token = body.code[declarator.name]
            if token.text in parameters:
                refuse(
                    body,
                    token,
                    f"`{token.text}` is declared again: it is {parameters[token.text]} of the kernel, and so a "
                    "parameter of its function. Give the variable another name",
                )


def _outermost(body: Fragment) -> Iterator[Statement]:
    """The declarations of variables that stand in no block."""
    index = 0
    while index < len(body):
        last = max(body.statement_end(index), index)
        declared = declaration_at(body, index, last)
        if declared is not None:
            yield declared
        index = last + 1


def _refuse_orders(fragment: Fragment, refuse: Refuse) -> None:
    for index, token in enumerate(fragment.code):
        called = fragment.text(fragment.parent(index) - 1) if fragment.parent(index) > 0 else ""
        if token.text in _ORDERS and called.startswith("atomic_") and called.endswith("_explicit"):
            refuse(
                fragment,
                token,
                f"`{called}` with `{token.text}`: Metal's atomic operations take memory_order_relaxed only; order "
                "them by a barrier, or by atomic_thread_fence",
            )


def _function_bodies(program: Program) -> Iterator[tuple[Fragment, int, int]]:
    body, header = program.body.main, program.header.main
    yield body, 0, len(body) - 1
    for declaration in declarations(header):
        if declaration.kind == "function":
            yield header, declaration.body[0] + 1, declaration.body[1] - 1


def _refuse_spaces(fragment: Fragment, first: int, last: int, refuse: Refuse) -> None:
    for index in range(first, last + 1):
        if index > first and fragment.text(index - 1) not in _STATEMENT_ENDS:
            continue
        declared = declaration_at(fragment, index, fragment.statement_end(index))
        if declared is None:
            continue
        words = {fragment.text(i): i for i in range(declared.type[0], declared.type[1] + 1)}
        space = next((word for word in ("constant", "device", "threadgroup") if word in words), None)
        plain = next((d for d in declared.declarators if not d.pointer and not d.reference), None)
        if space is None or plain is None or "static" in words:
            continue
        name = fragment.text(plain.name)
        if space == "threadgroup":
            if fragment.source.part == "header":
                refuse(
                    fragment,
                    fragment.code[words[space]],
                    f"the threadgroup variable `{name}` in a function that is no kernel: declare it in the kernel's "
                    f"source, and give the function a `threadgroup` pointer to it",
                )
            continue
        refuse(
            fragment,
            fragment.code[words[space]],
            f"`{space}` in front of the local variable `{name}`: locals have no address space but threadgroup. Leave "
            f"`{space}` out" + (", or declare it in the header" if space == "constant" else ""),
        )
