"""A translated kernel as a C++ function, with the parameters that its signature has in Metal."""

from __future__ import annotations

from zmlx.metal.conditions import ABSENT
from zmlx.metal.signature import Parameter, Signature
from zmlx.translate.library import CLOSED, OPENED
from zmlx.translate.unit import Translation, line_marker


def cpp_parameter(parameter: Parameter) -> str:
    """A buffer parameter of the generated function as C++."""
    kind = parameter.type.metal
    match parameter.role:
        case "input":
            return f"const {kind}{'&' if parameter.type.ndim == 0 else '*'} {parameter.name}"
        case "shape":
            return f"const int* {parameter.name}"
        case "strides":
            return f"const int64_t* {parameter.name}"
        case "ndim":
            return f"const int& {parameter.name}"
        case "output":
            return f"{f'atomic<{kind}>' if parameter.atomic else kind}* {parameter.name}"


def cpp_function(
    signature: Signature, translation: Translation, function: str, hidden: str = "", *, group: bool = False
) -> str:
    """A signature's kernel, translated, as a C++ function (template) called ``function``, in ``metal::zmlx_kernel``.

    ``hidden`` is a parameter declaration that a launcher puts before those of the signature. ``group``: the function is
    that of a whole threadgroup, as of ``host-regions``, and its threads have the attributes.
    """
    kernel = signature.kernel
    parameters = [hidden] if hidden else []
    parameters += [cpp_parameter(p) for p in signature.parameters]
    if not group:
        parameters += [f"{kind} {name}" for name, kind in kernel.attributes]
    # As Metal's compiler does: kernels ask. It changes nothing else here. A precompiled header cannot undefine.
    macros = [f"#undef {name}\n" for name in ABSENT]
    if kernel.math_mode == "fast":
        macros.append("#define __FAST_MATH__ 1\n")
    return (
        f"{''.join(macros)}"
        f"{OPENED}\n"
        f"{''.join(f'using {name};' for name in translation.overloads)}\n"
        f"{line_marker(kernel, 'header')}{translation.header}\n"
        f"{signature.template_declaration}\nZMLX_KERNEL void {function}({', '.join(parameters)}) {{\n"
        f"{line_marker(kernel, 'source')}{translation.body}\n}}\n"
        f"{CLOSED}  // namespace metal::zmlx_kernel\n"
    )
