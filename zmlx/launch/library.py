"""`metal_library`: the kernels of a whole Metal file, called by their names."""

from __future__ import annotations

import difflib
import math
import sys
from collections.abc import Iterator, Mapping, Sequence
from os import PathLike
from typing import TYPE_CHECKING, Any

from zmlx.errors import ArgumentTypeError
from zmlx.launch import arguments as checks
from zmlx.launch import gpu_by_name, gradient, hook, pretence
from zmlx.launch.binding import Bound, bind
from zmlx.launch.call import MAX_THREADS_PER_THREADGROUP, Call, evaluate, extents
from zmlx.launch.kernel import MetalKernel, current_backend
from zmlx.launch.lazy import mlx, numpy
from zmlx.launch.library_source import DONE, Library, LibrarySource, Target, described, names_of
from zmlx.launch.library_text import library_kernels, library_text
from zmlx.launch.memory import padded
from zmlx.launch.origin import Origin, caller_origin
from zmlx.launch.records import Triple
from zmlx.metal.constants import plain_number
from zmlx.metal.entry_points import EntryPoint
from zmlx.metal.signature import MAX_CONSTANT_ARRAY_SIZE

if TYPE_CHECKING:
    import mlx.core as mx

#: Bytes of one buffer that a kernel's text may hold.
MAX_EMBEDDED = 4096
#: Bytes of threadgroup memory that a threadgroup can have.
MAX_THREADGROUP_MEMORY = 32768

MSG_TRACED = (
    "[metal_library] {name!r} changes its arrays as soon as it is called, so it cannot be traced by mx.compile, "
    "mx.vmap or mx.export_function. Call it outside of the transformation, or make it a zmlx.metal_kernel."
)


def metal_library(
    source: str | PathLike[str],
    include_dirs: Sequence[str | PathLike[str]] = (),
    defines: Mapping[str, str | bool | int | float] | None = None,
    function_constants: Mapping[str, bool | int | float] | None = None,
) -> MetalLibrary:
    """The kernels of a Metal file, as ``torch.mps.compile_shader`` gives them: ``library.name(*buffers)``.

    Parameters
    ----------
    source
        Metal source with ``[[kernel]]`` functions, or the path of such a file.
    include_dirs
        Folders in which ``#include "…"`` and ``#include <…>`` are looked for; for the first, the file's own folder
        comes before them.
    defines
        Macros that are defined in front of the source, by name.
    function_constants
        Values of ``constant bool causal [[function_constant(0)]];``, by name. A constant that a kernel needs and that
        has none is refused when that kernel is launched.

    Returns
    -------
    MetalLibrary
        Its attributes, and what it has by ``library["name"]``, are the kernels: functions, and explicit instantiations
        of templates by their ``host_name``.

    Raises
    ------
    FileNotFoundError
        There is no such file, or ``include_dirs`` has what is no folder.
    ValueError
        The source has no kernel, or two of one name; its brackets or preprocessor lines do not match; a function
        constant that it does not declare, or whose type does not hold the value. `ArgumentTypeError`, a ValueError and
        a TypeError, where the type of an argument is wrong.

    Examples
    --------
    >>> library = zmlx.metal_library('''
    ... kernel void fill(device float* out, constant float& value, uint i [[thread_position_in_grid]]) {
    ...   out[i] = value;
    ... }
    ... ''')
    >>> (filled,) = library.fill(mx.zeros(4), 3.5)
    """
    text, what = library_text(source, include_dirs, defines, function_constants)
    entries = library_kernels(text, what, source, function_constants)
    return MetalLibrary(Library.of(text), entries, caller_origin(1))


class MetalLibrary:
    """The kernels of a Metal file; `metal_library` makes it. It is iterated over by their names."""

    def __init__(self, library: Library, entries: Sequence[EntryPoint], origin: Origin | None = None) -> None:
        self._kernels = {entry.name: LibraryKernel(library, entry, origin) for entry in entries}

    def __getitem__(self, name: str) -> LibraryKernel:
        if name not in self._kernels:
            raise KeyError(self._unknown(name))
        return self._kernels[name]

    def __getattr__(self, name: str) -> LibraryKernel:
        kernels: dict[str, LibraryKernel] = self.__dict__.get("_kernels", {})
        if name not in kernels:
            raise AttributeError(self._unknown(name) if kernels else name)
        return kernels[name]

    def __dir__(self) -> list[str]:
        return sorted([*super().__dir__(), *self._kernels])

    def __iter__(self) -> Iterator[str]:
        return iter(self._kernels)

    def __len__(self) -> int:
        return len(self._kernels)

    def __contains__(self, name: object) -> bool:
        return name in self._kernels

    def __repr__(self) -> str:
        return f"<zmlx.metal_library {', '.join(self._kernels)}>"

    def _unknown(self, name: str) -> str:
        close = difflib.get_close_matches(str(name), self._kernels, n=1, cutoff=0.5)
        meant = f" Did you mean {close[0]!r}?" if close else ""
        return f"the library has no kernel {name!r}.{meant} It has {', '.join(self._kernels)}."


class LibraryKernel:
    """A kernel of a `MetalLibrary`; call it to launch it."""

    def __init__(self, library: Library, entry: EntryPoint, origin: Origin | None) -> None:
        self._library = library
        self._entry = entry
        self._origin = origin
        self._made: dict[Any, tuple[LibrarySource, MetalKernel]] = {}
        # What the elements of its buffers are does not depend on a call.
        typed = LibrarySource(library, entry, ("",) * len(entry.buffers), (), "cpu")
        self._numbers = [typed.number(argument) for _, argument in entry.buffers]

    def __repr__(self) -> str:
        return f"<zmlx.metal_library kernel {self._entry.name}({described(self._entry)})>"

    def __call__(
        self,
        *buffers: Any,
        threads: int | Sequence[int] | None = None,
        group_size: int | Sequence[int] | None = None,
        threadgroup_memory: Mapping[str, int] | None = None,
        stream: Any = None,
    ) -> list[Any]:
        """Launch the kernel, and wait for it.

        Parameters
        ----------
        *buffers
            Argument n is bound to ``[[buffer(n)]]``; buffers without an index have the next that is free. Pointers take
            ``mx.array`` or NumPy arrays, or anything else with a buffer; references and pointers that are not written
            also take numbers and lists of them. A struct is a NumPy array of its layout, or bytes. None is for a buffer
            that a function constant takes away, and for an index that no buffer has.
        threads
            Threads of the grid, one to three counts; as many as the first array has elements if it is not given.
        group_size
            Threads of a threadgroup, likewise; if it is not given, ``max_total_threads_per_threadgroup`` of the kernel
            or 1024 along x. Threadgroups at the grid's edges are smaller.
        threadgroup_memory
            Bytes of each argument in threadgroup memory, by name.
        stream
            Where to run: a stream or a device; the default device otherwise.

        Returns
        -------
        list
            What the kernel may have written, its ``device`` buffers that are not const, in the order of their indices.
            A NumPy array is written in place, and is itself in the list. An ``mx.array`` never changes: the list has a
            new one, of its shape, that holds what it held where the kernel did not write.

        Raises
        ------
        ValueError
            The arguments do not fit the kernel, arrays that are written share memory, the threadgroup is too large, or
            a transformation of MLX's traces the call. `ArgumentTypeError`, a ValueError and a TypeError, where the kind
            or dtype of one is wrong.
        zmlx.launch.KernelRuntimeError
            On the CPU: the kernel was stopped, or it wrote outside of an array.
        zmlx.KernelCompileError, zmlx.launch.TranslationError
            The kernel cannot be compiled for, or carried to, the back end.
        """
        entry = self._entry
        if entry.problem:
            raise ValueError(f"[metal_library] {entry.name!r} cannot be launched: {entry.problem}.")
        if stream is not None and pretence.is_told(sys._getframe(1)):
            stream = gpu_by_name.on_the_cpu(stream)
        bound = bind(entry, self._numbers, buffers)
        if not any(b.argument.written for b in bound):
            raise ValueError(
                f"[metal_library] Expected {entry.name!r} to have a `device` buffer that is not const, to hold what it "
                f"computes, but it takes {described(entry)}."
            )
        grid, group = self._extents(bound, threads, group_size)
        memory = self._memory(threadgroup_memory or {})
        if not evaluate([b.array for b in bound if b.array is not None]):
            raise ValueError(MSG_TRACED.format(name=entry.name))
        target: Target = "cpu" if hook.current() is not None else current_backend(stream)  # type: ignore[assignment]
        constants = tuple(map(_embedded, bound)) if target == "metal" else ()
        made, kernel = self._kernel(tuple(b.dtype for b in bound), memory, target, constants)
        launch = _on_metal if target == "metal" else _changed
        changed = launch(made, kernel, bound, grid, group, stream)
        if target != "cpu":  # they come of copies, to which MLX has the way; the CPU's launcher sees to it
            changed = gradient.guarded(entry.name, [b.array for b in bound if b.array is not None], changed)
        arrays = iter(changed)
        return [_given_back(b, next(arrays)) for b in bound if b.array is not None and b.argument.written]

    def _kernel(
        self, dtypes: tuple[str, ...], memory: tuple[int, ...], target: Target, constants: tuple[bytes, ...]
    ) -> tuple[LibrarySource, MetalKernel]:
        key = (dtypes, memory, target, constants)
        if key not in self._made:
            made = LibrarySource(self._library, self._entry, dtypes, memory, target, constants)
            self._made[key] = made, MetalKernel(made.kernel, None, self._origin, made.constant)
        return self._made[key]

    def _extents(self, bound: Sequence[Bound], threads: Any, group_size: Any) -> tuple[Triple, Triple]:
        entry = self._entry
        if threads is None:
            arrays = [
                b.array for b in bound if b.array is not None and not isinstance(b.given, int | float | list)
            ]
            threads = arrays[0].size if arrays else 1
        most = entry.max_threads or MAX_THREADS_PER_THREADGROUP
        group = _triple("group_size", most if group_size is None else group_size)
        if not math.prod(group):
            raise ValueError(
                f"[metal_library] Expected `group_size` to have at least one thread but got {group}."
            )
        if math.prod(group) > MAX_THREADS_PER_THREADGROUP:
            raise ValueError(
                f"[metal_library] Expected `group_size` to be at most {MAX_THREADS_PER_THREADGROUP} threads, as Metal "
                f"has them, but got {group}."
            )
        grid, group = extents(_triple("threads", threads), group)
        if math.prod(group) > most:
            raise ValueError(
                f"[metal_library] Expected `group_size` to be at most {most} threads, the "
                f"max_total_threads_per_threadgroup of {entry.name!r}, but got {group}."
            )
        return grid, group

    def _memory(self, given: Any) -> tuple[int, ...]:
        """Bytes of each argument in threadgroup memory."""
        wanted = self._entry.threadgroup_memory
        names = {argument.name for _, argument in wanted}
        if given and not names:
            raise ValueError(
                f"[metal_library] Expected no `threadgroup_memory`, since {self._entry.name!r} takes none, but got "
                f"{given!r}."
            )
        if not isinstance(given, Mapping) or set(given) != names:
            raise ValueError(
                f"[metal_library] Expected `threadgroup_memory` to have the bytes of {names_of(wanted)}, by name, for "
                f"{self._entry.name!r} but got {given!r}."
            )
        counts = {name: plain_number(count) for name, count in given.items()}
        for name, count in counts.items():
            if type(count) is not int or count <= 0:
                raise ValueError(
                    f"[metal_library] Expected threadgroup_memory[{name!r}] to be a number of bytes but got "
                    f"{given[name]!r}."
                )
        found = tuple(int(counts[argument.name] or 0) for _, argument in wanted)
        if sum(found) > MAX_THREADGROUP_MEMORY:
            raise ValueError(
                f"[metal_library] Expected `threadgroup_memory` to be at most {MAX_THREADGROUP_MEMORY} bytes, as Metal "
                f"has it, but got {given!r}."
            )
        return found


def _triple(what: str, value: Any) -> Triple:
    """One to three counts of threads as three."""
    given = (value,) if type(value) is int or isinstance(value, numpy().integer) else value
    if not checks.is_list(given) or not 1 <= len(given) <= 3:
        raise ArgumentTypeError(
            f"[metal_library] Expected `{what}` to be a number of threads, or one to three of them, but got {value!r}."
        )
    try:
        return checks.checked_extent(what, (*given, 1, 1)[:3])
    except ValueError as error:  # three counts, of which the caller need not have given all
        raise type(error)(
            f"[metal_library] Expected `{what}` to be one to three counts of threads but got {value!r}."
        ) from error


# ---- launches ----


def _changed(
    made: LibrarySource, kernel: MetalKernel, bound: Sequence[Bound], grid: Triple, group: Triple, stream: Any
) -> list[mx.array]:
    """Launch where outputs can begin with contents: on the CPU and on CUDA."""
    mx = mlx()
    arrays = [(b, b.array) for b in bound if b.array is not None]
    contents = tuple(x for b, x in arrays if b.argument.written)
    inputs = [x.reshape(()) if made.is_scalar(b.argument) else x for b, x in arrays if not b.argument.written]
    mx.eval(inputs)
    done = DONE in kernel.source.output_names
    return kernel.run(
        Call(
            inputs,
            [*((x.size,) for x in contents), *([(1,)] if done else [])],
            [*(x.dtype for x in contents), *([mx.uint8] if done else [])],
            grid,
            group,
            _template(made),
            None,
            stream,
            contents,
        )
    )


def _on_metal(
    made: LibrarySource, kernel: MetalKernel, bound: Sequence[Bound], grid: Triple, group: Triple, stream: Any
) -> list[mx.array]:
    """Launch through MLX's own kernels, whose inputs are what is written: copies that nobody else has.

    MLX orders launches by what they read and make, so that it must be done with the copies before, and with the launch
    after.
    """
    mx = mlx()
    present = [(b, b.array) for b in bound if b.array is not None and not _embedded(b)]
    # MLX passes small arrays in constant memory: those in device memory are made as large as it takes.
    inputs = [
        padded(x, 0, max(MAX_CONSTANT_ARRAY_SIZE - x.size, 1), stream) if b.argument.space == "device" else x
        for b, x in present
    ]
    mx.eval(inputs)
    mx.eval(kernel.run(Call(inputs, [(1,)], [mx.uint8], grid, group, _template(made), None, stream)))
    return [copy[: x.size] for (b, x), copy in zip(present, inputs, strict=True) if b.argument.written]


def _embedded(bound: Bound) -> bytes:
    """What a buffer in constant memory holds, where MLX would pass it in device memory, on Metal; else nothing."""
    if (
        bound.array is None
        or bound.argument.space != "constant"
        or bound.array.size < MAX_CONSTANT_ARRAY_SIZE
    ):
        return b""
    if bound.array.nbytes > MAX_EMBEDDED:
        raise ValueError(
            f"[metal_library] Expected `{bound.argument.declaration}` to have at most {MAX_EMBEDDED} bytes on Metal "
            f"but got {bound.array.nbytes}: MLX passes arrays in constant memory only if they have fewer than "
            f"{MAX_CONSTANT_ARRAY_SIZE} elements, and larger ones become part of the kernel's text. Declare it as "
            "`const device`, or run it with stream=mx.cpu."
        )
    return bytes(memoryview(bound.array.view(mlx().uint8)))  # type: ignore[arg-type]


def _template(made: LibrarySource) -> list[tuple[str, Any]]:
    """A kernel's template arguments as a launch takes them."""
    return [
        (name, getattr(mlx(), "bool_" if value == "bool" else value) if isinstance(value, str) else value)
        for name, value in made.template
    ]


def _given_back(bound: Bound, array: mx.array) -> Any:
    """What the caller gets for a buffer that was written: its own memory, or a new array."""
    np = numpy()
    if bound.memory is None:
        return array.reshape(bound.given.shape)
    mlx().eval(array)
    written = np.array(array)
    memory = bound.memory
    if memory.dtype.hasobject or written.dtype != memory.dtype:
        written = np.frombuffer(written.tobytes(), memory.dtype)
    np.copyto(memory, written.reshape(memory.shape))
    return bound.given
