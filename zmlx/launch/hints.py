"""What to do about an error of a compiler: hints where the cause is known, one function for each cause."""

from __future__ import annotations

import difflib
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from zmlx.launch.library_source import ABSENT
from zmlx.metal.signature import ATTRIBUTES, Parameter, Signature
from zmlx.metal.tokens import code_names


@dataclass(frozen=True)
class Line:
    """One error: where it is, what the compiler says, and the author's line. Without a ``part`` it has no line."""

    part: str
    number: int
    what: str
    quoted: str


def hints(signature: Signature, lines: Sequence[Line]) -> Iterator[str]:
    """What to do about these errors, each thing once."""
    said: set[str] = set()
    for index, line in enumerate(lines):
        for find in _HINTS:
            hint = find(signature, line, lines[:index])
            if hint is not None and hint not in said:
                said.add(hint)
                yield hint


#: The quotation marks of compilers: g++ writes typographic ones where the locale has them.
_OPENED, _CLOSED = "['\"`\u2018]", "['\"`\u2019]"
_NAME = rf"{_OPENED}([A-Za-z_]\w*){_CLOSED}"
_UNDECLARED = re.compile(
    rf"{_NAME} (?:was not declared in this scope|does not name a type|has not been declared)|"
    rf"(?:use of undeclared identifier|unknown type name) {_NAME}|identifier {_NAME} is undefined|"
    rf"there are no arguments to {_NAME} that depend on a template parameter"
)
_INFORMATION = ("shape", "strides", "ndim")


def _undeclared(signature: Signature, line: Line, before: Sequence[Line]) -> str | None:
    match = _UNDECLARED.search(line.what)
    if match is None:
        return None
    name = next(group for group in match.groups() if group)
    told = _told(signature, name)
    if told is not None:
        return told
    declares = rf"(?<!return)\s[*&]*{name}\s*[=;,\[(]"
    if any(re.search(declares, earlier.quoted) for earlier in before):
        return None  # an earlier error kept it from being declared
    close = _FOREIGN.get(name) or _close(signature, name)
    if close:
        return f"`{name}` is nothing here; did you mean `{close}`?"
    if re.search(rf"\b{name}\s*\(", line.quoted) and not name[0].isupper():
        return None
    if name in {p.name for p in signature.parameters} or name.startswith("zmlx"):
        return None  # outside of the function, as behind a bracket too many
    if ABSENT in signature.kernel.header:  # a kernel of a library, whose calls give no template arguments
        return f"`{name}` is declared neither in the file nor in what it includes."
    if line.part == "header":
        return (
            f"functions of the header do not see the kernel's template arguments: if `{name}` is one, make the "
            f'function a template of its own, and pass it with the call: template=[("{name}", …)].'
        )
    passed = ", ".join(f"`{a.name}`" for a in signature.template)
    return f'if `{name}` is a template argument, pass it with the call: template=[("{name}", …)].' + (
        f" This call passes {passed}." if passed else ""
    )


#: What other languages, and Metal's own kernels as a habit, call the attributes.
_FOREIGN = {
    "gid": "thread_position_in_grid",
    "tid": "thread_position_in_threadgroup",
    "lid": "thread_position_in_threadgroup",
    "tgid": "threadgroup_position_in_grid",
    "lane": "thread_index_in_simdgroup",
    "simd_lane_id": "thread_index_in_simdgroup",
    "simd_group_id": "simdgroup_index_in_threadgroup",
    "threadIdx": "thread_position_in_threadgroup",
    "blockIdx": "threadgroup_position_in_grid",
    "blockDim": "threads_per_threadgroup",
    "gridDim": "threadgroups_per_grid",
    "__syncthreads": "threadgroup_barrier",
    "get_global_id": "thread_position_in_grid",
    "get_local_id": "thread_position_in_threadgroup",
    "get_group_id": "threadgroup_position_in_grid",
}


def _close(signature: Signature, name: str) -> str | None:
    """What a name that is nothing may have meant, whatever its capitals and underscores."""
    kernel = signature.kernel
    known = [*ATTRIBUTES, *kernel.input_names, *kernel.output_names, *(a.name for a in signature.template)]
    known += [f"{array}_{what}" for array in kernel.input_names for what in _INFORMATION]
    known += [written for text in (kernel.source, kernel.header) for written in code_names(text)]
    plain: dict[str, str] = {}
    for other in known:
        if other != name:
            plain.setdefault(other.replace("_", "").lower(), other)
    close = difflib.get_close_matches(name.replace("_", "").lower(), plain, n=1, cutoff=0.8)
    return plain[close[0]] if close else None


def _told(signature: Signature, name: str) -> str | None:
    """Why a name that MLX declares for some kernels is not declared in this one."""
    kernel = signature.kernel
    if name in ATTRIBUTES:
        return (
            f"`{name}` is a parameter of the kernel, which functions of the header do not see, and it is declared only "
            "if `source` mentions it: use it there, and give it to the function as an argument."
        )
    array, _, what = name.rpartition("_")
    if what not in _INFORMATION:
        return None
    if array in kernel.output_names:
        return f"only inputs have a `_{what}`; pass that of `{array}` as a template argument or an input."
    if array not in kernel.input_names:
        return None
    if signature.inputs[kernel.input_names.index(array)].ndim == 0:
        return f"`{array}` is a Python number or a 0-d array in this call, which has no `{name}`."
    return f"`{name}` is declared only if `source` mentions it, and functions of the header do not see it."


def _outputs(signature: Signature, line: Line) -> list[str]:
    return [name for name in signature.kernel.output_names if _mentions(line, name)]


def _mentions(line: Line, name: str) -> bool:
    return re.search(rf"(?<![\w.]){re.escape(name)}\b", line.quoted) is not None


def _atomic(signature: Signature, line: Line, before: Sequence[Line]) -> str | None:
    kernel = signature.kernel
    if kernel.atomic_outputs:
        named = _outputs(signature, line)
        if named and "atomic" not in line.quoted and re.search(r"atomic<|operator|operand", line.what):
            return (
                f"`{named[0]}` holds atomics, since atomic_outputs=True: use atomic_store_explicit(&{named[0]}[i], "
                "value, memory_order_relaxed), or make the kernel without it."
            )
        return None
    if not re.search(r"\batomic", line.what) or not re.search(r"match|instance|conver|compatible", line.what):
        return None
    named = _outputs(signature, line)
    if named:
        return f"`{named[0]}` holds plain numbers; atomics need metal_kernel(…, atomic_outputs=True)."
    # A pointer made of an output, perhaps: that is not followed.
    if "threadgroup" in kernel.source:
        return None
    return "outputs hold plain numbers; atomics on them need metal_kernel(…, atomic_outputs=True)."


#: A value where there should be a pointer.
_VALUE_AS_POINTER = re.compile(
    r"for array subscript|subscripted value is not|pointer-to-object|unary .\*|indirection requires|must be a pointer|"
    r"to .[\w: ]+\*|of type .[\w: ]+ ?\*. with an? lvalue|"
    r"incompatible with parameter of type .[\w: ]+\*|initialize an entity of type .[\w: ]+\*"
)


def _scalar(signature: Signature, line: Line, before: Sequence[Line]) -> str | None:
    for parameter in _inputs(signature):
        subscript = re.search(rf"(?<![\w.]){parameter.name}\s*\[", line.quoted)
        pointer = _VALUE_AS_POINTER.search(line.what) and _mentions(line, parameter.name)
        if parameter.type.ndim == 0 and (subscript or pointer):
            return (
                f"`{parameter.name}` is a Python number or a 0-d array in this call, which is a value in Metal and no "
                f"array: write `{parameter.name}` without a subscript, or pass an array of one element."
            )
    return None


_POINTER_AS_NUMBER = re.compile(
    r"invalid operands of types .*\*|invalid operands to binary expression .*\*|"
    r"cannot convert .*\*.* to .[^*]*. in|cannot initialize a variable of type .[^*]*. with an? .value of type .*\*|"
    r"must have arithmetic|cannot be used to initialize an entity of type .[^*]*.$"
)


def _array_as_number(signature: Signature, line: Line, before: Sequence[Line]) -> str | None:
    if not _POINTER_AS_NUMBER.search(line.what):
        return None
    for parameter in _inputs(signature):
        bare = re.search(rf"(?<![\w.&*]){parameter.name}\b(?!\s*[\[\w])", line.quoted)
        if parameter.type.ndim and bare:
            return (
                f"`{parameter.name}` is an array of {parameter.type.ndim} dimension"
                f"{'s' if parameter.type.ndim > 1 else ''} in this call, and so a pointer: write "
                f"`{parameter.name}[0]`, or pass a Python number or a 0-d array."
            )
    return None


def _inputs(signature: Signature) -> list[Parameter]:
    return [parameter for parameter in signature.parameters if parameter.role == "input"]


def _written_input(signature: Signature, line: Line, before: Sequence[Line]) -> str | None:
    written = re.search(r"read-only|not assignable|modifiable lvalue|const-qualified", line.what)
    loses = re.search(r"from .const [\w: ]+\*. to .(?!const)[\w: ]+\*|discards qualifiers", line.what)
    named = next((p.name for p in _inputs(signature) if _mentions(line, p.name)), None)
    if named is None or not (written or loses):
        return None
    return (
        f"`{named}` is an input, whose elements are const: write to an output"
        f"{'; pointers into it are `const device` or `const constant`' if loses else ''}."
    )


def _function(signature: Signature, line: Line, before: Sequence[Line]) -> str | None:
    if not re.search(r"function.definition is not allowed here", line.what):
        return None
    return "`source` is the body of one function: put other functions into `header`."


def _variable_length(signature: Signature, line: Line, before: Sequence[Line]) -> str | None:
    if not re.search(r"variable.length array|expression must have a constant value", line.what):
        return None
    return (
        "arrays have a size that is known when the kernel is compiled, in Metal too: use a template argument."
    )


def _declared_again(signature: Signature, line: Line, before: Sequence[Line]) -> str | None:
    again = r"shadows a parameter|redefinition of|redeclaration of|already been declared in the current scope"
    if not re.search(again, line.what):
        return None
    names = {p.name for p in signature.parameters} | {name for name, _ in signature.kernel.attributes}
    found = next((name for name in re.findall(r"\w+", line.what) if name in names), None)
    if found is None:
        return None
    return f"`{found}` is a parameter of the kernel's function, in Metal too: give the variable another name."


_HINTS: tuple[Callable[[Signature, Line, Sequence[Line]], str | None], ...] = (
    _undeclared,
    _atomic,
    _scalar,
    _array_as_number,
    _written_input,
    _function,
    _variable_length,
    _declared_again,
)
