"""The passes, each a name and what it does to a `Unit`; pipeline.py says which run for what.

A pass rewrites tokens in place. The author's lines stay where they are, except in the one pass that says otherwise
(``moves_lines``), whose text carries ``#line`` instead.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from zmlx.translate.address_spaces import AddressSpaces
from zmlx.translate.attributes import erase_attributes
from zmlx.translate.branches import live_texts
from zmlx.translate.convergence import Convergence
from zmlx.translate.conversions import rewrite_conversions
from zmlx.translate.entries import drop_entries
from zmlx.translate.function_constants import define_constants
from zmlx.translate.inlining import inline_functions
from zmlx.translate.library import add_to_library
from zmlx.translate.literals import rewrite_literals
from zmlx.translate.operators import rewrite_conditionals, rewrite_shifts, rewrite_swizzles
from zmlx.translate.overloads import merge_overloads
from zmlx.translate.pragmas import drop_floating_pragmas
from zmlx.translate.refusals import drop_includes, refusal, refuse_declared, refuse_names
from zmlx.translate.regions import meeting_names, region_body, written_out
from zmlx.translate.unit import Unit


@dataclass(frozen=True)
class Pass:
    """One step of a translation. ``moves_lines``: the body is written anew, with ``#line`` in front of what is where.
    ``moves_brackets``: a text may have others open than it had, since some of it was dropped, or a macro of the header
    was written out in the body.

    ``run`` raises `zmlx.errors.TranslationError` for what cannot be carried over, and `Unclear` for a kernel that the
    pipeline cannot take but another may.
    """

    name: str
    run: Callable[[Unit], None]
    moves_lines: bool = False
    moves_brackets: bool = False


def _drop_dead_branches(unit: Unit) -> None:
    unit.read(*live_texts(unit.program))


def _drop_entries(unit: Unit) -> None:
    drop_entries(unit.program)
    unit.read(unit.program.header.render(), unit.program.body.render())


def _write_macros_out(unit: Unit) -> None:
    unit.read(unit.program.header.render(), written_out(unit.program))


def _inline_functions(unit: Unit) -> None:
    inline_functions(unit.kernel, unit.program, meeting_names(unit.program))
    unit.read(unit.program.header.render(), unit.program.body.render())


def _refuse(unit: Unit) -> None:
    refuse_names(unit.kernel, unit.program)
    refuse_declared(unit.kernel, unit.program)


def _erase_address_spaces(unit: Unit) -> None:
    unit.spaces = AddressSpaces(
        unit.program,
        unit.target,
        lambda fragment, *what: refusal(unit.kernel, fragment.source, *what),
    )
    for fragment in unit.program.fragments:
        unit.spaces.rewrite(fragment)


def _rewrite_shifts(unit: Unit) -> None:
    for fragment in unit.program.fragments:
        rewrite_shifts(fragment)


def _rewrite_conditionals(unit: Unit) -> None:
    if unit.small_floats:  # kernels without them keep their conditionals as they are
        for fragment in unit.program.fragments:
            rewrite_conditionals(fragment)


def _merge_overloads(unit: Unit) -> None:
    assert unit.spaces is not None, "address spaces are erased first: overloads differ in what was erased"
    merge_overloads(unit.program.header.main, unit.spaces)


def _mark_convergence(unit: Unit) -> None:
    if not unit.uses_lanes:
        return
    Convergence(unit.program).mark()
    macros = unit.program.macros.values()
    if unit.small_floats and any(m.body.text(i) == "?" for m in macros for i in range(len(m.body))):
        # The marks are lambdas, and the types of a conditional's results are told by their texts: where a macro
        # brings the two together, C++17 would not have it.
        unit.flags = ("-std=c++20",)


def _take_apart(unit: Unit) -> None:
    body = unit.program.body.main
    for index in range(len(body)):
        if body.text(index) == "__LINE__":  # statements move, and copies of them have no line of their own
            body.code[index].text = str(body.code[index].line)
    unit.group_body = region_body(unit.kernel, unit.program)


#: ``#if __METAL_VERSION__ >= 400``: what Metal's compiler does not see.
BRANCHES = Pass("branches", _drop_dead_branches, moves_brackets=True)
#: Kernels of the header, which nobody launches.
ENTRIES = Pass("entries", _drop_entries, moves_brackets=True)
#: Macros in which threads meet, in the body's own text: regions see no statements within a macro.
EXPAND_MACROS = Pass("expand-macros", _write_macros_out, moves_brackets=True)
#: Functions of the header in which threads meet, in the place of their calls.
INLINE_FUNCTIONS = Pass("inline-functions", _inline_functions, moves_brackets=True)
#: What exists only on Metal, and what Metal refuses: an error that names it.
REFUSE = Pass("refuse", _refuse)
#: ``namespace metal { … }``
LIBRARY = Pass("library", lambda unit: add_to_library(unit.program), moves_brackets=True)
#: ``[[function_constant(0)]]``
CONSTANTS = Pass("constants", lambda unit: define_constants(unit.program), moves_brackets=True)
#: ``[[threadgroup(0)]]``, ``coherent(device)``: what only Metal's compiler reads.
ATTRIBUTES = Pass("attributes", lambda unit: erase_attributes(unit.program))
#: What fuses products and sums: the launchers see to it.
PRAGMAS = Pass("pragmas", lambda unit: drop_floating_pragmas(unit.program))
#: ``device``, ``constant``, ``thread``; ``threadgroup`` variables become the group's storage.
ADDRESS_SPACES = Pass("address-spaces", _erase_address_spaces)
#: Shifts by 32 and more, which Metal defines.
SHIFTS = Pass("shifts", _rewrite_shifts)
#: ``1.0`` is a float, ``1.0h`` a half.
LITERALS = Pass("literals", lambda unit: rewrite_literals(unit.program))
#: ``v.xy``
SWIZZLES = Pass("swizzles", lambda unit: rewrite_swizzles(unit.program))
#: ``?:`` between half and float.
CONDITIONALS = Pass("conditionals", _rewrite_conditionals)
#: Floats to integers that do not hold them.
CONVERSIONS = Pass("conversions", lambda unit: rewrite_conversions(unit.program, unit.known))
#: Functions that differed in address spaces only.
OVERLOADS = Pass("overloads", _merge_overloads)
#: ``#include <metal_stdlib>``
INCLUDES = Pass("includes", lambda unit: drop_includes(unit.kernel, unit.program))
#: Which lanes meet in a simd operation: marks for the fibers.
CONVERGENCE = Pass("convergence", _mark_convergence)
#: Loops over the threads between one meeting point and the next.
REGIONS = Pass("regions", _take_apart, moves_lines=True)
