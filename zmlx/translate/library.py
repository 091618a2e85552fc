"""What a header adds to ``namespace metal``: it goes there, out of the kernel's own namespace.

The kernel's text stands in ``metal::zmlx_kernel`` (see function.py), where ``namespace metal { … }`` would begin
another namespace of that name.
"""

from __future__ import annotations

from zmlx.metal.structure import Program

#: The namespaces around a kernel's text, as function.py opens them.
OPENED = "namespace metal { namespace zmlx_kernel { namespace {"
CLOSED = "}}}"


def add_to_library(program: Program) -> None:
    """Close the kernel's namespaces around each ``namespace metal { … }`` of the header, and open them again."""
    header = program.header.main
    for index in range(len(header) - 2):
        if (
            header.text(index) != "namespace"
            or header.text(index + 1) != "metal"
            or header.text(index + 2) != "{"
        ):
            continue
        end = header.partner(index + 2)
        if header.parent(index) >= 0 or end < 0:
            continue
        header.code[index].before = f"{CLOSED} "
        header.code[end].after = f" {OPENED}"
