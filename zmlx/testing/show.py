"""``python -m zmlx show``: the Metal, C++ and CUDA text of the kernels that an operation launches."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING, Any

from zmlx import _compat
from zmlx.testing.launches import recorded_launches
from zmlx.testing.opinfo import OpInfo
from zmlx.testing.project import ProjectError
from zmlx.testing.verify import select

if TYPE_CHECKING:
    from zmlx.launch.records import LaunchRecord


def _metal(record: LaunchRecord) -> str:
    return record.signature.metal_text()


def _cpp(record: LaunchRecord) -> str:
    from zmlx.launch.host import program_text
    from zmlx.launch.records import launched_group

    return program_text(record.signature, launched_group(record.grid, record.threadgroup) == (1, 1, 1))


def _cuda(record: LaunchRecord) -> str:
    from zmlx.launch.cuda import cuda_text, make_plan

    return cuda_text(record.signature, make_plan(record.grid, record.threadgroup))


#: Back end to the language of its text and what writes it.
TEXTS: Mapping[str, tuple[str, Callable[[LaunchRecord], str]]] = {
    "metal": ("Metal", _metal),
    "cpu": ("C++", _cpp),
    "cuda": ("CUDA", _cuda),
}


def show_operations(
    ops: Iterable[OpInfo], kernel: str, dtype: str | None = None, backend: str | None = None
) -> str:
    """The texts of what operations and their gradients launch for their first sample.

    Parameters
    ----------
    ops : iterable of OpInfo
        The table.
    kernel : str
        A name or shell pattern; MLX's own operations have no text and are left out.
    dtype : str, optional
        The first that the operation supports unless given.
    backend : str, optional
        "metal", "cuda" or "cpu"; all three unless given. None of them need be here.

    Raises
    ------
    zmlx.testing.verify.VerifyError
        Nothing matches.
    ProjectError
        The operation launches no kernel.
    """
    _compat.import_mx()
    parts: list[str] = []
    kernels = [op for op in ops if op.kernel]
    for name in TEXTS if backend is None else (backend,):
        language, text_of = TEXTS[name]
        chosen: dict[str, str] = {}
        for op, of in select(kernels, name, kernel, dtype):
            if chosen.setdefault(op.name, of) != of:
                continue
            # A sample with values: for an empty one nothing is launched.
            samples = [s for s in op.sample_inputs() if all(getattr(a, "size", 1) for a in s.args)][:1]
            texts: dict[str, str] = {}
            for record in recorded_launches(op, of, name, samples):
                texts.setdefault(text_of(record), record.kernel.name)
            if not texts:
                raise ProjectError(f"{op.name} launches no kernel for its sample {samples[0].name!r}.")
            parts += [
                _section(f"{language} ({name}): {kernel_name}, of {op.name} in {of}", text)
                for text, kernel_name in texts.items()
            ]
    return "\n".join(parts)


def show_kernel(kernel: Any, name: str) -> str:
    """The texts of a kernel as it was given to `zmlx.metal_kernel`; translating it takes a call, whose dtypes it needs.

    Raises
    ------
    ProjectError
        It is no such kernel.
    """
    source = getattr(kernel, "source", None)
    if source is None or not hasattr(source, "header"):
        raise ProjectError(
            f"{name}: expected a zmlx.metal_kernel, or an OpInfo or a table of them; got {type(kernel).__name__}."
        )
    parts = [_section(f"Metal: header of {source.name}", source.header)] if source.header else []
    return "\n".join([*parts, _section(f"Metal: body of {source.name}", source.source)])


def _section(title: str, text: str) -> str:
    return f"// ==== {title} ====\n{text.strip()}\n"
