"""The CUDA launcher: translate, compile with NVRTC, launch through ``mx.fast.precompiled_cuda_kernel``.

Launches are as lazy as any MLX operation, so that they work under ``mx.compile`` and on any stream. What
changes from call to call (grid, shapes, strides) goes in as kernel arguments: a new shape compiles nothing.
The text depends on dtypes, ranks and template arguments, and on how the launch is laid out in blocks
(`Plan`).
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache, lru_cache, partial
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Literal

from zmlx.errors import KernelCompileError
from zmlx.launch.cache import cached, digest
from zmlx.launch.cubin import shared_bytes
from zmlx.launch.diagnosis import MAX_THREADGROUP_MEMORY, compile_error, too_much_memory
from zmlx.launch.lazy import mlx
from zmlx.launch.memory import padded
from zmlx.launch.nvrtc import Nvrtc, NvrtcError, arch_number, find_nvrtc
from zmlx.launch.records import Triple, launched_group
from zmlx.launch.translations import translation
from zmlx.metal.signature import Parameter, Signature
from zmlx.runtime import RUNTIME
from zmlx.translate.function import cpp_function
from zmlx.translate.pragmas import forbids_contraction

if TYPE_CHECKING:
    import mlx.core as mx

    from zmlx.launch.call import Call

PATH = "cuda"

#: Functions without an execution space are the kernel author's, and run on the device.
_OPTIONS = ("-default-device", "-minimal", "-w")

#: For kernels with a pragma that forbids it; NVRTC fuses products and sums otherwise, also across statements.
_NOT_FUSED = "--fmad=false"

#: ``{.x = 1}``, which Metal and the host's compilers take in C++17 as well, and NVRTC only in C++20.
_DESIGNATOR = re.compile(r"[{,]\s*\.\s*[A-Za-z_]\w*\s*=[^=]")

# CUDA's limits on what a launch may ask for (CUDA C++ Programming Guide, "Technical Specifications"), and that of the
# 32-bit integers in which MLX rounds a grid up to whole blocks.
_MAX_BLOCKS_YZ = 65535
_MAX_BLOCK_Z = 64
_MAX_INT = 2**31 - 1

#: Block sizes that compile differently: one warp needs no barriers, and up to 256 threads can have all the registers
#: that a thread can use.
_BOUNDS = (32, 256, 512, 1024)


@dataclass(frozen=True)
class Plan:
    """What the text depends on besides the signature.

    ``layout`` is one of those that ``runtime/cuda/cuda.h`` explains. ``bound`` is the most threads that a block
    may have: the compiler gives each thread as many registers as that leaves. ``device`` is the index of the
    GPU, since MLX loads a kernel of one name once, into the GPU that is the first to run it.
    """

    layout: Literal["FLAT", "BLOCK", "LINEAR"] = "BLOCK"
    bound: int = 1024
    device: int = 0


@dataclass(frozen=True)
class Program:
    """A compiled kernel: the symbol to launch, and the CUBIN (or PTX) that holds it."""

    entry: str
    code: bytes


def launch(signature: Signature, call: Call) -> tuple[list[mx.array], str]:
    """Put one call into MLX's graph; returns its outputs and the way it will run."""
    mx, shapes = mlx(), call.output_shapes
    empty = True in [0 in shape for shape in shapes]
    if 0 in call.grid or (empty and all(0 in shape for shape in shapes)):
        return _unlaunched(call), PATH
    device = mx.default_device() if call.stream is None else getattr(call.stream, "device", call.stream)
    layout = _layout(signature, *_architecture_and_index(device), call.grid, call.threadgroup)
    inputs, scalars, changed = call.inputs, layout.words, []
    if layout.described:
        inputs, described = _described(signature, layout.described, call)
        scalars = [*scalars, *described]
    if call.contents:
        # MLX passes inputs, then outputs: what a launch changes comes last of the one and first of the other.
        changed = [padded(x, 0, 1, call.stream) for x in call.contents]
        mx.eval(changed)
        inputs = [*inputs, *changed]
    # MLX cannot hand a kernel no memory: an empty output gets one element, which is cut off again.
    shapes = [(1,) if 0 in shape else shape for shape in shapes] if empty else shapes
    outputs = _operation(signature, call, layout, scalars, shapes[len(changed) :])(inputs=inputs)
    if changed:
        mx.eval(outputs)
        outputs = [*(x[: len(old)] for x, old in zip(changed, call.contents, strict=True)), *outputs]
    if empty:
        for index, shape in enumerate(call.output_shapes):
            if 0 in shape:
                outputs[index] = outputs[index][:0].reshape(shape)
    return outputs, PATH


def repeatable(signature: Signature, call: Call) -> Callable[..., list[mx.array]] | None:
    """Launches like this one, with other inputs of the same shapes and dtypes, as a function of the inputs; None where
    that is not what makes a launch: with outputs that are filled or there before, on a stream of its own, of inputs
    whose strides are told as they are, or without anything to do."""
    if call.stream is not None or call.init_value is not None or call.contents:
        return None
    if (signature.described and not signature.kernel.ensure_row_contiguous) or 0 in call.grid:
        return None
    if any(0 in shape for shape in call.output_shapes):
        return None
    place = _architecture_and_index(mlx().default_device())
    layout = _layout(signature, *place, call.grid, call.threadgroup)
    scalars = [*layout.words, *_described(signature, layout.described, call)[1]]
    operation = _operation(signature, call, layout, scalars, call.output_shapes)
    return lambda *inputs: operation(inputs=inputs)


def _operation(
    signature: Signature, call: Call, layout: _Layout, scalars: list[int], shapes: list[tuple[int, ...]]
) -> Callable[..., list[mx.array]]:
    """A function of ``inputs=`` that puts the launch, with new outputs of these shapes, into MLX's graph."""
    return partial(
        mlx().fast.precompiled_cuda_kernel,
        name=layout.program.entry,
        compiled_source=layout.program.code,
        output_shapes=shapes,
        output_dtypes=call.output_dtypes[len(call.contents) :],
        scalars=scalars,
        grid=layout.grid,
        threadgroup=layout.group,
        init_value=call.init_value,
        ensure_row_contiguous=signature.kernel.ensure_row_contiguous,
        stream=call.stream,
    )


# --- what launches of one signature, grid and threadgroup have in common ---------------


@dataclass(frozen=True)
class _Layout:
    """All of a launch that does not depend on its arrays.

    ``words`` are the first scalars. ``described`` are the parameters that tell an input's shape or strides.
    """

    program: Program
    grid: Triple
    group: Triple
    words: list[int]
    described: tuple[Parameter, ...]


@lru_cache(maxsize=4096)  # there may be as many grids as there are shapes
def _layout(
    signature: Signature, architecture: str, device: int, grid: Triple, threadgroup: Triple
) -> _Layout:
    plan = make_plan(grid, threadgroup, device)
    program = _program(signature, _target(architecture, find_nvrtc()), plan)
    blocks = _blocks(plan, grid, threadgroup)
    words = [*grid, *(launched_group(grid, threadgroup) if plan.layout == "LINEAR" else ())]
    return _Layout(program, *blocks, list(map(_signed, words)), signature.described)


# --- how a launch is laid out --------------------------------------------------


def make_plan(grid: Triple, threadgroup: Triple, device: int = 0) -> Plan:
    """The plan for a launch of ``grid`` threads, none of its extents 0, in groups of ``threadgroup``."""
    group = launched_group(grid, threadgroup)
    groups = _groups(grid, group)
    threads = math.prod(group)
    bound = next(bound for bound in _BOUNDS if threads <= bound)
    if (
        max(groups[1:]) > _MAX_BLOCKS_YZ
        or group[2] > _MAX_BLOCK_Z
        or any((count + 1) * size > _MAX_INT for count, size in zip(groups, group, strict=True))
    ):
        return Plan("LINEAR", bound, device)
    return Plan("FLAT" if group[1] == group[2] == 1 else "BLOCK", bound, device)


def _groups(grid: Triple, group: Triple) -> Triple:
    x, y, z = (-(-threads // size) for threads, size in zip(grid, group, strict=True))
    return x, y, z


def _blocks(plan: Plan, grid: Triple, threadgroup: Triple) -> tuple[Triple, Triple]:
    """Grid and block in CUDA's threads, as MLX takes them."""
    group = launched_group(grid, threadgroup)
    if plan.layout != "LINEAR":
        return grid, group
    threads, blocks = math.prod(group), math.prod(_groups(grid, group))
    rows = -(-blocks // (_MAX_INT // threads - 1))
    return (-(-blocks // rows) * threads, rows, 1), (threads, 1, 1)


# --- what a launch passes ------------------------------------------------------


def _described(
    signature: Signature, parameters: Sequence[Parameter], call: Call
) -> tuple[list[mx.array], list[int]]:
    """Inputs, and the scalars for these parameters, in the order in which `cuda_text` declares them."""
    inputs = list(call.inputs)
    words: list[int] = []
    for parameter in parameters:
        index = parameter.array
        if parameter.role == "shape":
            words += inputs[index].shape
        else:
            copied = signature.kernel.ensure_row_contiguous
            inputs[index], strides = _strides(inputs[index], copied, call.stream)
            words += [word for stride in strides for word in (stride & 0xFFFFFFFF, stride >> 32)]
    return inputs, [_signed(word) for word in words]


def _strides(x: mx.array, row_contiguous: bool, stream: Any) -> tuple[mx.array, Sequence[int]]:
    """The array to pass, and the strides, counted in elements, that the kernel will find it with.

    Strides of an input that stays as it is are known once it is evaluated, which waits for the GPU. Where
    that cannot be, while mx.compile or mx.vmap traces the call, the input is made row-contiguous first.
    """
    import mlx.core as mx

    from zmlx.launch.call import evaluate

    if not row_contiguous:
        if evaluate([x]):
            view = memoryview(x)  # type: ignore[arg-type]
            return x, [stride // view.itemsize for stride in view.strides or ()]
        x = mx.contiguous(x, stream=stream)
    return x, [math.prod(x.shape[axis + 1 :]) for axis in range(x.ndim)]


def _signed(word: int) -> int:
    """The signed 32-bit integer with the same bits: MLX passes integers as those."""
    return word - 2**32 if word > _MAX_INT else word


def _unlaunched(call: Call) -> list[mx.array]:
    """Outputs of a launch without threads, or without anything to write: CUDA takes no empty grid."""
    import mlx.core as mx

    value, old = call.init_value or 0.0, len(call.contents)
    return [
        *call.contents,
        *(
            mx.full(shape, value, stream=call.stream).astype(dtype, stream=call.stream)
            for shape, dtype in zip(call.output_shapes[old:], call.output_dtypes[old:], strict=True)
        ),
    ]


#: (device, its architecture, its index). Few, and looked through: MLX's devices are equal, but hash by identity.
_devices: list[tuple[Any, str, int]] = []


def _architecture_and_index(device: Any) -> tuple[str, int]:
    """``"sm_90"``, and the 1 of ``Device(gpu, 1)``, which MLX shows nowhere else. Asked once a device: MLX looks up the
    free memory as well each time."""
    for known, architecture, index in _devices:
        if known == device and type(known) is type(device):  # mx.gpu is equal to every GPU
            return architecture, index
    match = re.search(r", (\d+)\)", str(device))
    found = str(mlx().device_info(device)["architecture"]), int(match[1]) if match else 0
    _devices.append((device, *found))
    return found


def _target(arch: str, nvrtc: Nvrtc) -> str:
    """What to compile for: the device itself, or PTX where the device is newer than NVRTC."""
    if nvrtc.supports(arch):
        return arch
    older = [known for known in nvrtc.archs if known < arch_number(arch)]
    return f"compute_{max(older)}" if older else arch


# --- compiling ----------------------------------------------------------------


def compile_cubin(signature: Signature, arch: str, plan: Plan | None = None) -> bytes:
    """The kernel compiled for an architecture such as ``"sm_90"``. Needs NVRTC, but no GPU and no driver.

    Raises
    ------
    NvrtcNotFoundError
        NVRTC is not installed.
    KernelCompileError
        NVRTC refused the kernel. The message shows the first errors against the kernel's own source.
    ValueError
        NVRTC does not know the architecture.
    """
    return _program(signature, arch, plan or Plan()).code


def cuda_text(signature: Signature, plan: Plan | None = None) -> str:
    """The CUDA source for a signature: the kernel as a device function and the entry that calls it.

    The entry is called ``ZMLX_ENTRY``, a macro that is given when it is compiled.
    """
    plan = plan or Plan()
    words = [f"uint zmlx_grid_{axis}" for axis in "xyz"]
    group = "blockDim.x, blockDim.y, blockDim.z"
    if plan.layout == "LINEAR":
        words += [f"uint zmlx_group_{axis}" for axis in "xyz"]
        group = "zmlx_group_x, zmlx_group_y, zmlx_group_z"
    locals_, arguments = [], []
    for parameter in signature.parameters:
        names, local, argument = _argument(parameter)
        words += [f"int {name}" for name in names]
        locals_ += [f"  {local}\n"] if local else []
        arguments.append(argument)
    arguments += [f"zmlx_thread.{name}()" for name, _ in signature.kernel.attributes]
    # MLX passes all inputs, then all outputs, then the scalars.
    pointers = [_pointer(p) for role in ("input", "output") for p in signature.parameters if p.role == role]
    parameters = ",\n    ".join([*pointers, *words])
    return (
        '#include "cuda/cuda.h"\n'
        f"{cpp_function(signature, translation(signature, 'cuda'), 'zmlx_kernel_function')}"
        '#line 1 "zmlx entry"\n'
        "namespace metal {\n"
        f'extern "C" __global__ void __launch_bounds__({plan.bound}) ZMLX_ENTRY(\n'
        f"    {parameters}) {{\n"
        f"  const ::zmlx::Thread<::zmlx::{plan.layout}> zmlx_thread(\n"
        f"      ::zmlx::Extent{{zmlx_grid_x, zmlx_grid_y, zmlx_grid_z}}, ::zmlx::Extent{{{group}}});\n"
        "  if (!zmlx_thread.inside) return;\n"
        f"{''.join(locals_)}"
        f"  zmlx_kernel::zmlx_kernel_function{signature.template_arguments}({', '.join(arguments)});\n"
        "}\n"
        "}  // namespace metal\n"
    )


def _pointer(parameter: Parameter) -> str:
    """A pointer parameter of the entry. Nothing writes to inputs while a kernel runs: `__restrict__` says so,
    and lets them be read through the read-only cache."""
    kind, name = parameter.type.metal, f"zmlx_{parameter.name}"
    if parameter.role == "input":
        return f"const {kind}* __restrict__ {name}"
    return f"{f'atomic<{kind}>' if parameter.atomic else kind}* {name}"


def _argument(parameter: Parameter) -> tuple[list[str], str, str]:
    """How the entry gets a parameter's value: words that it takes, a local made of them, the argument.

    Ranks are constants, so that loops over dimensions unroll and the locals stay in registers.
    """
    name, rank = f"zmlx_{parameter.name}", parameter.type.ndim
    match parameter.role:
        case "input" | "output":
            return [], "", f"*{name}" if rank == 0 else name
        case "ndim":
            return [], "", str(rank)
        case "shape":
            words = [f"{name}_{axis}" for axis in range(rank)]
            return words, f"const int {name}[{rank}] = {{{', '.join(words)}}};", name
        case "strides":
            words = [f"{name}_{axis}_{half}" for axis in range(rank) for half in ("low", "high")]
            values = [f"::zmlx::join_words({name}_{axis}_low, {name}_{axis}_high)" for axis in range(rank)]
            return words, f"const int64_t {name}[{rank}] = {{{', '.join(values)}}};", name


@cache
def _program(signature: Signature, target: str, plan: Plan) -> Program:
    kernel, nvrtc, headers = signature.kernel, find_nvrtc(), runtime_headers()
    text = cuda_text(signature, plan)
    files = [part for file in headers.items() for part in file]
    designators = any(_DESIGNATOR.search(part) for part in (kernel.header, kernel.source))
    options = [f"--std=c++{20 if designators else 17}", *_OPTIONS]
    if forbids_contraction(kernel):
        options.append(_NOT_FUSED)
    key = digest(text, target, *options, nvrtc.name, str(plan.device), *files)
    entry = f"zmlx_{re.sub(r'[^A-Za-z0-9_]', '_', kernel.name)}_{key[:16]}"

    def build(path: Path) -> None:
        arguments = (*options, f"-DZMLX_ENTRY={entry}")
        try:
            path.write_bytes(nvrtc.compile(text, f"{kernel.name}.cu", target, arguments, headers))
        except NvrtcError as error:
            raise compile_error(signature, error.log, f"{nvrtc.name} refused it for {target}") from error

    program = Program(entry, cached("cuda", key, ".cubin", build).read_bytes())
    # CUDA has more of it than Metal. Variables begin at multiples of 16 bytes: each may take 15 more than it has.
    memory = shared_bytes(program.code, entry, arch_number(target))
    if memory > MAX_THREADGROUP_MEMORY + 15 * text.count("__shared__ "):
        raise KernelCompileError(f"[metal_kernel] Kernel {kernel.name!r} {too_much_memory(memory)}.")
    return program


@cache
def runtime_headers() -> Mapping[str, str]:
    """The runtime headers that CUDA kernels include, by name."""
    paths = [path for folder in ("cuda", "msl") for path in sorted((RUNTIME / folder).glob("*.h"))]
    return MappingProxyType(
        {path.relative_to(RUNTIME).as_posix(): path.read_text(encoding="utf-8") for path in paths}
    )
