"""Metal's address spaces as portable C++, where all memory is one.

======================================  ===============================================================
Metal                                   portable C++
======================================  ===============================================================
``device`` ``thread``                   dropped
``constant``                            ``const``, unless the declaration already says so
``threadgroup float* p``                ``float* p``
``threadgroup float s[32];``            a reference to storage that the group shares
======================================  ===============================================================

Only a declaration of storage is more than a word to drop, so `threadgroup` is followed to its declarator. A form
that is not understood is refused: dropping the word would give each thread a variable of its own.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cached_property

from zmlx.metal.structure import Fragment, Macro, Program
from zmlx.metal.tokens import Token, one_line

#: Makes the error for a token and what is wrong with it.
Refuse = Callable[[Fragment, Token, str], Exception]

SPACES = frozenset({"device", "thread", "constant", "threadgroup"})
_QUALIFIERS = frozenset({"const", "volatile", "constexpr", "static"})
_CLASSES = frozenset({"struct", "class", "union"})
#: Words that ask for an alignment, in parentheses. Storage is aligned to 16 bytes anyway.
_ALIGNED = frozenset({"alignas", "__attribute__"})
_DECLARATION_ENDS = frozenset({";", "{", "}", "(", ")", ",", "=", "*", "&", "["})


class AddressSpaces:
    """Rewrites the address spaces of a program for a target, ``"host"`` or ``"cuda"``."""

    def __init__(self, program: Program, target: str, refuse: Refuse) -> None:
        self.program = program
        self.target = target
        self.refuse = refuse

    @cached_property
    def aliases(self) -> dict[str, frozenset[str]]:
        """Macros that stand for address spaces: ``#define SHARED threadgroup``."""
        found = {}
        for macro in self.program.macros.values():
            words = frozenset(token.text for token in macro.body.code)
            if macro.parameters is None and words & SPACES and words <= SPACES | _QUALIFIERS:
                found[macro.name] = words
        return found

    def rewrite(self, fragment: Fragment) -> None:
        for index, token in enumerate(fragment.code):
            text = fragment.text(index)
            if token.kind != "name" or fragment.text(index - 1) in (".", "->") or index in fragment.erased:
                continue
            if text in SPACES and self._is_pasted(fragment, index):
                continue
            if text in ("device", "thread") or (text in SPACES and self._is_of_constructor(fragment, index)):
                token.text = ""
            elif text == "constant":
                token.text = "" if self._is_const(fragment, index) else "const"
            elif text == "threadgroup" and self._is_alias(fragment):
                token.text = ""
            elif text == "threadgroup" or "threadgroup" in self.aliases.get(text, ()):
                self._threadgroup(fragment, index)

    def _is_pasted(self, fragment: Fragment, index: int) -> bool:
        """Whether the word is an argument of which a macro makes a name, and so has to stay."""
        opener = fragment.parent(index)
        macro = self.program.macros.get(fragment.text(opener - 1)) if opener > 0 else None
        alone = fragment.text(index - 1) in ("(", ",") and fragment.text(index + 1) in (")", ",")
        if macro is None or not macro.parameters or not alone or fragment.text(opener) != "(":
            return False
        body, parameter = macro.body, self._parameter(fragment, opener, index, macro)
        uses = [i for i in range(len(body)) if body.text(i) == parameter]
        pasted = [i for i in uses if body.text(i - 1) == "##" or body.text(i + 1) == "##"]
        if pasted and len(pasted) < len(uses):
            raise self.refuse(
                fragment,
                fragment.code[index],
                f"`{fragment.text(index)}` is an address space and a part of a name in the macro `{macro.name}`; give "
                "the macro an argument for each",
            )
        return bool(pasted)

    def _parameter(self, fragment: Fragment, opener: int, index: int, macro: Macro) -> str:
        """The parameter that the argument at ``index`` is for; an empty text if there is none."""
        number = sum(fragment.text(i) == "," and fragment.parent(i) == opener for i in range(opener, index))
        return macro.parameters[number] if macro.parameters and number < len(macro.parameters) else ""

    def _is_alias(self, fragment: Fragment) -> bool:
        return fragment.macro is not None and fragment.macro.name in self.aliases

    def _is_const(self, fragment: Fragment, index: int) -> bool:
        """Whether the declaration around ``constant`` says ``const`` or ``constexpr`` anyway."""
        words = []
        for step in (-1, 1):
            i = index + step
            while 0 <= i < len(fragment) and fragment.text(i) not in _DECLARATION_ENDS:
                words.append(fragment.text(i))
                i += step
        return "const" in words or "constexpr" in words

    def _threadgroup(self, fragment: Fragment, index: int) -> None:
        token = fragment.code[index]
        name = self._declarator(fragment, index)
        if name < 0:
            token.text = ""
            return
        end, declarators = self._declarators(fragment, name)
        for i in range(index + 1, name):
            if fragment.text(i) in _ALIGNED and fragment.partner(i + 1) > i:
                fragment.erase(i, fragment.partner(i + 1))
        kind = " ".join(fragment.render(index + 1, name - 1).split())
        if fragment.text(index - 1) == "volatile":
            kind = f"volatile {kind}"  # of the elements, not of what CUDA declares to hold them
            fragment.erase(index - 1, index - 1)
        if fragment.text(index - 1) == ")" and fragment.text(fragment.partner(index - 1) - 1) in _ALIGNED:
            fragment.erase(fragment.partner(index - 1) - 1, index - 1)
        fragment.erase(index + 1, end)
        parameters: Sequence[str] = (fragment.macro.parameters or ()) if fragment.macro else ()
        token.text = "; ".join(
            self._storage(kind, name, extents, parameters) for name, extents in declarators
        )

    def _storage(self, kind: str, name: str, extents: str, parameters: Sequence[str]) -> str:
        """A declaration of ``name`` as a reference into the group's memory; in a macro of these ``parameters``."""
        reference = f"{kind} (&{name}){extents}" if extents else f"{kind}& {name}"
        if self.target == "cuda":
            # A parameter is written out only where it is a word of its own.
            held = f"zmlx_##{name}" if name.split("##")[0] in parameters else f"zmlx_{name}"
            return f"__shared__ zmlx_storage<{kind}{extents}> {held}; {reference} = {held}.value()"
        return f'{reference} = zmlx_group.slot<{kind}{extents}>(__COUNTER__, "{name}")'

    def _declarator(self, fragment: Fragment, index: int) -> int:
        """Index of the name that the declaration at ``index`` gives storage; -1 if it is none but a type."""
        token = fragment.code[index]
        i, names, last = index + 1, 0, -1
        while i < len(fragment):
            text = fragment.text(i)
            if text in ("*", "&", "&&"):
                return -1
            if text == "(" and fragment.text(i + 1) in ("*", "&"):
                return -1
            if text == "(" and fragment.text(i - 1) not in _ALIGNED | {"decltype"}:
                break
            if fragment.is_name(i) and text not in _QUALIFIERS | SPACES | _ALIGNED:
                names += fragment.text(i - 1) not in ("::", "##")
                last = i
            elif text not in ("::", "<", "(", "##") and text not in _QUALIFIERS | SPACES | _ALIGNED:
                break
            i = fragment.skip_group(i)
        end = fragment.text(i)
        if self._is_type(fragment, index) or (names == 0 and self._is_of_member_function(fragment, index)):
            return -1
        if end == "{" or names < 2 or last < 0 or end not in (";", ",", "[", "=", ""):
            raise self.refuse(
                fragment,
                token,
                "`threadgroup` here is neither a pointer nor a variable with its type; "
                "write `threadgroup <type> <name>[<size>];`",
            )
        while fragment.text(last - 1) == "##":
            last -= 2
        return last

    def _is_type(self, fragment: Fragment, index: int) -> bool:
        """Whether ``threadgroup`` stands in a parameter, a cast or a template argument."""
        opener = fragment.parent(index)
        if any(opened < index < closed for opened, closed in fragment.angles.items()):
            return True
        if opener < 0 or fragment.text(opener) != "(":
            return False
        macro = self.program.macros.get(fragment.text(opener - 1))
        if macro is not None and self._makes_storage(fragment, opener, index, macro):
            raise self.refuse(
                fragment,
                fragment.code[index],
                f"`threadgroup` in the arguments of the macro `{macro.name}`: write it into the macro",
            )
        return True

    def _makes_storage(self, fragment: Fragment, opener: int, index: int, macro: Macro) -> bool:
        """Whether a macro declares a variable with the argument at ``index``, which says ``threadgroup``."""
        if fragment.text(index - 1) not in ("(", ",") or fragment.text(index + 1) not in (")", ","):
            return True  # an argument with a declaration of its own
        parameter = self._parameter(fragment, opener, index, macro)
        uses = [i for i in range(len(macro.body)) if macro.body.text(i) == parameter]
        return not uses or any(self._declarator(macro.body, i) >= 0 for i in uses)

    def _is_of_constructor(self, fragment: Fragment, index: int) -> bool:
        """Whether a word stands behind a constructor's parameters: C++ has no qualifiers there."""
        i = index - 1
        while fragment.text(i) in _QUALIFIERS or fragment.text(i) in SPACES or fragment.text(i) == "noexcept":
            i -= 1
        opened = fragment.partner(i) if fragment.text(i) == ")" else -1
        brace = fragment.parent(opened) if opened > 0 else -1
        if fragment.text(brace) != "{" or fragment.text(opened - 2) == "~":
            return False
        head = brace - 1  # `struct Name : Base {`, `template <> struct Name<float> {`
        while head >= 0 and fragment.text(head) not in _CLASSES | {";", "}", "{"}:
            head -= 1
        return fragment.text(head) in _CLASSES and fragment.text(head + 1) == fragment.text(opened - 1)

    def _is_of_member_function(self, fragment: Fragment, index: int) -> bool:
        """Whether ``threadgroup`` stands behind a member function's parameters."""
        i = index - 1
        while fragment.text(i) in _QUALIFIERS or fragment.text(i) in SPACES or fragment.text(i) == "noexcept":
            i -= 1
        return fragment.text(i) == ")"

    def _declarators(self, fragment: Fragment, index: int) -> tuple[int, list[tuple[str, str]]]:
        """The last token in front of the semicolon, and (name, extents) of each variable."""
        declarators = []
        while True:
            token = fragment.code[index]
            if not fragment.is_name(index):
                raise self.refuse(
                    fragment,
                    token,
                    f"`{token.text}` in a threadgroup declaration: declare pointers separately",
                )
            i = index + 1
            while fragment.text(i) == "##":
                i += 2
            name = "".join(fragment.text(k) for k in range(index, i))
            extents = ""
            while fragment.text(i) == "[" and fragment.partner(i) > 0:
                inside = range(i + 1, fragment.partner(i))
                extent = one_line(fragment.tokens(inside.start, inside.stop - 1))
                # Among template arguments a `>` ends them, within brackets too. A macro may have one.
                ends = ">" in extent or any(fragment.text(k) in self.program.macros for k in inside)
                extents += f"[({extent})]" if ends else f"[{extent}]"
                i = fragment.partner(i) + 1
            declarators.append((name, extents))
            while fragment.text(i) == "__attribute__" and fragment.partner(i + 1) > i:
                i = fragment.partner(i + 1) + 1
            if fragment.text(i) in (";", ""):
                return i - 1, declarators
            if fragment.text(i) != ",":
                raise self.refuse(
                    fragment, token, f"`threadgroup` variable `{name}` cannot have an initialiser in Metal"
                )
            index = i + 1
