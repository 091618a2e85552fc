"""The CPU launcher: translate, compile with the host's C++ compiler, run on all cores.

Ways to run, chosen for each launch:

=====================================  =====================================================
the kernel                             how its threads run
=====================================  =====================================================
neither barrier nor simd operation     a plain loop over threads, which the compiler vectorises
threadgroups of one thread             the same; barriers and simd operations do nothing
barriers or simd operations            loops over threads from one to the next (regions.py)
the same, in a form not taken apart    one fiber a thread (``runtime/host/group.h``)
=====================================  =====================================================
"""

from __future__ import annotations

import contextlib
import ctypes
import os
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache, lru_cache
from pathlib import Path
from typing import TYPE_CHECKING

from zmlx.errors import KernelCompileError
from zmlx.launch import compiler, failures, gradient, memory, primitive
from zmlx.launch.host_call import NOT_CONTIGUOUS, Plan
from zmlx.launch.loading import loadable
from zmlx.launch.records import Triple, launched_group
from zmlx.launch.translations import globals_of, meeting, translation
from zmlx.metal.signature import Signature
from zmlx.metal.statements import Unclear
from zmlx.translate import pipeline
from zmlx.translate.function import cpp_function

if TYPE_CHECKING:
    import mlx.core as mx

    from zmlx.launch.call import Call
    from zmlx.launch.reference import Reference

#: How many threads to use; all processors that this process may run on otherwise.
THREADS_VARIABLE = "ZMLX_NUM_THREADS"

#: Set to anything: kernels whose threads meet run as fibers, also where loops over the threads would do.
FIBERS_VARIABLE = "ZMLX_FIBERS"

#: Threads along x up to which kernels are compiled to vectorise: ``zmlx::MAX_POSITION`` of ``runtime/host/host.h``.
_ORDINARY_GRID = 1 << 30

#: Attributes that tell threads of one row of the grid apart only by their position in the grid.
_FLAT_ATTRIBUTES = frozenset(
    {"thread_position_in_grid", "threads_per_grid", "grid_size", "grid_origin", "threads_per_simdgroup"}
    | {"dispatch_threads_per_threadgroup", "thread_execution_width", "threadgroups_per_grid"}
)


@dataclass(frozen=True)
class Program:
    """A compiled kernel. ``path`` is ``"loop"``, ``"regions"`` or ``"fibers"``."""

    library: ctypes.CDLL
    plan: Plan
    path: str
    is_traced: Callable[[list[mx.array]], bool]


def launch(signature: Signature, call: Call) -> tuple[list[mx.array], str]:
    """Run one call whose inputs are evaluated, or put it into MLX's graph where a transformation such as mx.grad
    follows one of them; returns its outputs and the way it ran."""
    group = launched_group(call.grid, call.threadgroup)
    program = load(signature, group == (1, 1, 1), call.grid[0] > _ORDINARY_GRID)
    traced = program.is_traced(call.read)
    # Who asks for a gradient alone may need nothing of the forward pass: then MLX does not ask for it.
    if traced and not (call.contents or primitive.unavailable()) and primitive.joins(call.inputs):
        return launch_lazily(signature, call, None), primitive.PATH
    outputs, rooms = memory.allocate_guarded(call)
    if 0 not in call.grid:
        _run(program, signature, call, group, [*outputs, *rooms])
    if traced:
        outputs = gradient.guarded(signature.kernel.name, call.read, outputs)
    return outputs, program.path


def launch_lazily(signature: Signature, call: Call, reference: Reference | None) -> list[mx.array]:
    """One call as a part of MLX's graph, whose inputs may be traced; see primitive.py."""
    group = launched_group(call.grid, call.threadgroup)
    program = load(signature, group == (1, 1, 1), call.grid[0] > _ORDINARY_GRID)
    return primitive.launch(program.plan, signature.kernel, call, group, num_threads(), reference)


def load(signature: Signature, single: bool, large: bool = False) -> Program:
    """The compiled program for a signature.

    ``single``: every threadgroup has one thread. ``large``: positions along x may go beyond `_ORDINARY_GRID`.
    """
    return _load(signature, single and _meets(signature), large, compiler.hasty())


@cache
def _load(signature: Signature, single: bool, large: bool, haste: bool) -> Program:
    defines = (*(["-DZMLX_SINGLE_THREAD"] if single else []), *(["-DZMLX_LARGE_GRID"] if large else []))
    meets = not single and _meets(signature)
    if meets and not os.environ.get(FIBERS_VARIABLE):
        # What is wrong with the author's text, the compiler says of the text below, line by line.
        with contextlib.suppress(Unclear, KernelCompileError):
            return _compiled(signature, region_text(signature), "regions", defines, haste)
    path = "fibers" if meets else "loop"
    return _compiled(signature, host_text(signature, single), path, (*defines, *host_flags(signature)), haste)


def _meets(signature: Signature) -> bool:
    return any(meeting(signature.kernel))


def host_flags(signature: Signature) -> tuple[str, ...]:
    """What the compiler must be told for `host_text`."""
    return translation(signature, _pipeline(signature, False)).flags


def _pipeline(signature: Signature, checked: bool) -> pipeline.Pipeline:
    if checked:
        return "checked"
    return "host-fibers" if _meets(signature) else "host-loop"


def forget_programs() -> None:
    """Look again at how to run each kernel, as after a change of ``$ZMLX_FIBERS``."""
    _load.cache_clear()


def _compiled(signature: Signature, text: str, path: str, defines: tuple[str, ...], haste: bool) -> Program:
    return load_library(signature, compiler.compile_host(signature, text, defines, haste), path)


def load_library(signature: Signature, file: Path, path: str) -> Program:
    """The program in a compiled library, to be run the way that ``path`` names."""
    library = ctypes.CDLL(str(loadable(file)))
    entry = ctypes.cast(library.zmlx_entry, ctypes.c_void_p).value
    assert entry is not None
    plan = Plan(entry, signature, meets=path != "loop")
    return Program(library, plan, path, gradient.tracing_test())


#: As for Metal's vectors in ``runtime/msl/vector.h``: MLX's CPU arrays begin 8 bytes past a multiple of 16.
_CAP_ALIGNMENT = "#define alignas(bytes) alignas((bytes) < 8 ? (bytes) : 8)\n"


def host_text(signature: Signature, single: bool, checked: bool = False) -> str:
    """The translation unit for a signature: the kernel as a C++ function and the entry that runs it.

    ``checked``: all threads are fibers, and whole threadgroups meet, whatever the kernel uses.
    """
    kernel = signature.kernel
    barrier, simd = meeting(kernel)
    if checked:
        run = "run_fibers<true>"
    elif (barrier or simd) and not single:
        run = f"run_fibers<{_flag(barrier)}>"
    else:
        run = f"run_loop<{_flag(all(name in _FLAT_ATTRIBUTES for name, _ in kernel.attributes))}>"
    translated = translation(signature, _pipeline(signature, checked))
    function = cpp_function(signature, translated, "zmlx_kernel_function", "zmlx::Group& zmlx_group")
    attributes = [f"zmlx_thread.{name}()" for name, _ in kernel.attributes]
    return _entry(
        signature,
        function,
        run,
        "zmlx::Group& zmlx_group, const zmlx::Thread& zmlx_thread",
        attributes,
        checked,
    )


def region_text(signature: Signature) -> str:
    """The translation unit for a signature whose threads meet, as loops over the threads between meetings.

    Raises
    ------
    Unclear
        The kernel cannot be taken apart.
    """
    hidden = globals_of(signature.kernel.header) & {argument.name for argument in signature.template}
    if hidden:
        raise Unclear(f"`{min(hidden)}` is a template argument, and something else in the header")
    translated = translation(signature, "host-regions")
    function = cpp_function(
        signature, translated, "zmlx_kernel_function", "zmlx::Region& zmlx_group", group=True
    )
    run = f"run_regions<{_flag(meeting(signature.kernel)[0])}>"
    return _entry(signature, function, run, "zmlx::Region& zmlx_group", [])


def program_text(signature: Signature, single: bool) -> str:
    """The translation unit that a launch compiles: `region_text` where threads meet and it can be had, else
    `host_text`."""
    if single or not _meets(signature) or os.environ.get(FIBERS_VARIABLE):
        return host_text(signature, single)
    try:
        return region_text(signature)
    except Unclear:
        return host_text(signature, single)


def _entry(
    signature: Signature,
    function: str,
    run: str,
    parameters: str,
    attributes: list[str],
    checked: bool = False,
) -> str:
    """A kernel's function and the entry that runs it for some threadgroups of a launch."""
    unpack, arguments = _unpack(signature, checked)
    arguments = ["zmlx_group", *arguments, *attributes]
    return (
        f"{'' if checked else _CAP_ALIGNMENT}{function}"
        '#line 1 "zmlx entry"\n'
        "using namespace metal;\n"
        'extern "C" __attribute__((visibility("default"))) void zmlx_entry(\n'
        "    zmlx::Launch* zmlx_launch, zmlx::Worker* zmlx_worker, uint64_t zmlx_begin, uint64_t zmlx_end) {\n"
        f"{unpack}"
        f"  zmlx::{run}(zmlx_launch, zmlx_worker, zmlx_begin, zmlx_end, [=]({parameters}) {{\n"
        f"    metal::zmlx_kernel::zmlx_kernel_function{signature.template_arguments}({', '.join(arguments)});\n"
        "  });\n"
        "}\n"
    )


def _flag(value: bool) -> str:
    return "true" if value else "false"


def _unpack(signature: Signature, checked: bool) -> tuple[str, list[str]]:
    """Statements that read the launch's buffers into locals, and the kernel's arguments made of them.

    Scalars and shapes are copied to locals: through a pointer, every store to an output would make the compiler
    read them again. A checked run places shapes and strides like arrays, and reads them where they are.
    """
    lines, arguments = [], []
    for index, parameter in enumerate(signature.parameters):
        source = f"zmlx_launch->buffers[{index}]"
        local = f"zmlx_{index}"
        kind = parameter.type.metal
        if parameter.role == "output":
            kind = f"atomic<{kind}>" if parameter.atomic else kind
            lines.append(f"  auto* {local} = static_cast<{kind}*>({source});")
        elif parameter.role == "input" and parameter.type.ndim:
            lines.append(f"  auto* {local} = static_cast<const {kind}*>({source});")
        elif parameter.role in ("shape", "strides"):
            kind = "int" if parameter.role == "shape" else "int64_t"
            if checked:
                lines.append(f"  auto* {local} = static_cast<const {kind}*>({source});\n")
                arguments.append(local)
                continue
            count = parameter.type.ndim
            lines.append(
                f"  struct {{ {kind} zmlx_at[{count}]; }} {local}; for (int zmlx_i = 0; zmlx_i < {count}; ++zmlx_i) "
                f"{local}.zmlx_at[zmlx_i] = static_cast<const {kind}*>({source})[zmlx_i];"
            )
            local += ".zmlx_at"
        else:
            kind = "int" if parameter.role == "ndim" else kind
            lines.append(f"  const {kind} {local} = *static_cast<const {kind}*>({source});")
        arguments.append(local)
    return "".join(line + "\n" for line in lines), arguments


def _run(program: Program, signature: Signature, call: Call, group: Triple, outputs: list[mx.array]) -> None:
    kernel = signature.kernel
    inputs, threads = call.inputs, num_threads()
    checked = 0 if kernel.ensure_row_contiguous else len(inputs)
    outcome, detail = program.plan.run(inputs, outputs, checked, threads, call.grid, group)
    while outcome == NOT_CONTIGUOUS:
        inputs = list(inputs)
        inputs[detail] = memory.row_contiguous(inputs[detail])
        outcome, detail = program.plan.run(inputs, outputs, detail + 1, threads, call.grid, group)
    if outcome:
        failures.raise_failure(kernel, outputs, outcome, detail)


@lru_cache
def num_threads() -> int:
    """Worker threads of a launch: ``$ZMLX_NUM_THREADS``, else the processors this process may use."""
    named = os.environ.get(THREADS_VARIABLE, "")
    if named:
        if not named.isdecimal() or int(named) == 0:
            raise ValueError(f"{THREADS_VARIABLE}={named!r}: expected a number of threads, 1 or more.")
        return int(named)
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1
