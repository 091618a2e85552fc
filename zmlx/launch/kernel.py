"""`metal_kernel`: a drop-in for ``mx.fast.metal_kernel`` whose kernels also run on CUDA and on the CPU.

The call decides where: ``stream=mx.cpu`` runs on the CPU on a Mac or a CUDA machine too, and no stream means
``mx.default_device()``. Arguments, results and errors are those of MLX on every back end; only "Only supports the
GPU" is gone.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from functools import cache
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING, Any

from zmlx.errors import ArgumentTypeError, KernelCompileError, TranslationError
from zmlx.launch import arguments as checks
from zmlx.launch import export, gpu_by_name, hook, pretence, records
from zmlx.launch.call import (
    Call,
    checked_shapes,
    dtype_name,
    evaluate,
    extents,
    template_value,
    wrong_sizes,
)
from zmlx.launch.forks import refuse_after_fork
from zmlx.launch.lazy import mlx
from zmlx.launch.names import check_argument_names, check_kernel_name, checked_names
from zmlx.launch.origin import Origin, caller_origin, with_places
from zmlx.launch.records import Triple
from zmlx.launch.reference import PATH as REFERENCE
from zmlx.launch.reference import Reference, outputs_of
from zmlx.launch.repeated import Repeated
from zmlx.metal.constants import with_values
from zmlx.metal.includes import follow_includes
from zmlx.metal.signature import (
    MAX_BUFFERS,
    MAX_CONSTANT_ARRAY_SIZE,
    ArrayType,
    KernelSource,
    Signature,
    make_signature,
)

if TYPE_CHECKING:
    import mlx.core as mx

MATH_MODES = ("safe", "relaxed", "fast")

MSG_NO_GPU = (
    "[metal_kernel] The call asks for the GPU, and MLX has no GPU back end here. Pass stream=mx.cpu, or leave "
    "`stream` out and set mx.set_default_device(mx.cpu). For code that is not yours, use zmlx.pretend_metal(): "
    "there the CPU answers to the name."
)
MSG_TRACED = (
    "[metal_kernel] {name!r} runs on the CPU as soon as it is called, so it cannot be traced by mx.compile or "
    "mx.vmap there: {reason}. Give metal_kernel a `reference=` (MLX operations that compute the same), wrap the call "
    "in mx.custom_function with a vmap rule, or call it outside of the transformation."
)
MSG_CHECKED = (
    "a checker that looks at launches, one by one, is on (mx.disable_compile() runs functions as they are)"
)
MSG_NO_LIBRARY = "the library that makes launches part of MLX's graph cannot be had, since {reason}"


def metal_kernel(
    name: str,
    input_names: Sequence[str],
    output_names: Sequence[str],
    source: str,
    header: str = "",
    ensure_row_contiguous: bool = True,
    atomic_outputs: bool = False,
    compile_options: Mapping[str, str] | None = None,
    *,
    reference: Reference | None = None,
    include_dirs: Sequence[str | PathLike[str]] = (),
    function_constants: Mapping[str, bool | int | float] | None = None,
) -> MetalKernel:
    """A kernel from the body of a Metal function; see ``mx.fast.metal_kernel`` for what the arguments mean.

    Parameters
    ----------
    name
        The kernel's name: letters, digits and underscores, and no keyword of C++.
    input_names, output_names
        Names of the arrays as the source uses them: identifiers, each there once.
    source
        The body of the Metal function. The function around it is generated: ``<input>_shape``, ``_strides`` and
        ``_ndim`` and attributes such as ``thread_position_in_grid`` are there if the source mentions them.
    header
        Source in front of the function: helper functions, macros, tables.
    ensure_row_contiguous
        Copy inputs that are not row-contiguous before the launch.
    atomic_outputs
        Declare outputs as ``device atomic<T>*``.
    compile_options
        ``{"math_mode": "safe" | "relaxed" | "fast"}``. CUDA and CPU always compute as "safe" asks.
    reference
        Only here: ``reference(inputs, template) -> outputs`` in MLX operations. On the CPU, where mx.compile or mx.vmap
        traces the call, gradients and tangents are those of the reference, and it stands in for the kernel where
        launches cannot be part of MLX's graph (`python -m zmlx doctor` says so). It returns a list with one array for
        each output, of the shapes and dtypes that the call declares; anything else is a ValueError there.
    include_dirs
        Only here: folders in which the header's ``#include "…"`` and ``<…>`` are looked for. The files' text takes the
        place of those lines, also for Metal; what MLX puts in front of every kernel is left out.
    function_constants
        Only here: values of ``constant bool causal [[function_constant(0)]];`` in the header, by name. A constant that
        the kernel needs and that has none is refused.

    Raises
    ------
    FileNotFoundError
        ``include_dirs`` has what is no folder.
    ValueError
        No output, an unknown compile option, a name that is not an identifier, or one that the generated function has
        already; a function constant that the header does not declare; files that include each other.
        `ArgumentTypeError`, a ValueError and a TypeError, where the type of an argument is wrong.
    """
    check_kernel_name(name)
    inputs, outputs = checked_names("input_names", input_names), checked_names("output_names", output_names)
    checks.check_text("source", source)
    checks.check_text("header", header)
    checks.check_bool("ensure_row_contiguous", ensure_row_contiguous)
    checks.check_bool("atomic_outputs", atomic_outputs)
    if compile_options is not None and not isinstance(compile_options, Mapping):
        raise ArgumentTypeError(checks.expected("compile_options", "a dict or None", compile_options))
    if reference is not None and not callable(reference):
        raise ArgumentTypeError(checks.expected("reference", "a function or None", reference))
    math_mode = "safe"
    for option, value in (compile_options or {}).items():
        if option != "math_mode":
            raise ValueError(f"[metal_kernel] Unknown compile option `{option}`.")
        if value not in MATH_MODES:
            raise ValueError("[metal_kernel] Expected math_mode to be 'safe', 'relaxed', or 'fast'.")
        math_mode = value
    if not outputs:
        raise ValueError("[metal_kernel] Must specify at least one output.")
    check_argument_names(inputs, outputs, source)
    if include_dirs:
        header = follow_includes(header, [Path(folder) for folder in include_dirs], f"the header of {name!r}")
    if function_constants:
        header = with_values(header, function_constants)
    return MetalKernel(
        KernelSource(
            name,
            inputs,
            outputs,
            source,
            header,
            ensure_row_contiguous,
            atomic_outputs,
            math_mode,
        ),
        reference,
        caller_origin(1),
    )


class MetalKernel:
    """A kernel made by `metal_kernel`; call it to launch it.

    ``constant`` says which inputs are in Metal's constant memory, where that is not by their size, as MLX has it.
    """

    def __init__(
        self,
        source: KernelSource,
        reference: Reference | None = None,
        origin: Origin | None = None,
        constant: Sequence[bool] | None = None,
    ) -> None:
        self.source = source
        self.constant = constant
        self.reference = reference
        self.origin = origin
        self._native: Any = None  # MLX's own kernel object, once Metal or an export asked for it
        self._signatures: dict[Any, Signature] = {}
        self._repeated = Repeated()
        self._input_count, self._output_count = len(source.input_names), len(source.output_names)

    def __repr__(self) -> str:
        inputs, outputs = ", ".join(self.source.input_names), ", ".join(self.source.output_names)
        return f"<zmlx.metal_kernel {self.source.name}({inputs}) -> {outputs}>"

    def __call__(
        self,
        *,
        inputs: Sequence[Any],
        output_shapes: Sequence[Sequence[int]],
        output_dtypes: Sequence[mx.Dtype],
        grid: Triple,
        threadgroup: Triple,
        template: Sequence[tuple[str, Any]] | None = None,
        init_value: float | None = None,
        verbose: bool = False,
        stream: Any = None,
    ) -> list[mx.array]:
        """Launch the kernel.

        Parameters
        ----------
        inputs
            Arrays or Python scalars, one for each input name.
        output_shapes, output_dtypes
            One for each output name.
        grid, threadgroup
            Threads, not threadgroups, along x, y and z; a threadgroup has at most 1024.
        template
            (name, value) pairs; values are ``mx.Dtype``, ``int`` or ``bool``.
        init_value
            What outputs are filled with first; without it their contents are undefined until written.
        verbose
            Print the generated Metal source.
        stream
            Where to run: a stream or a device; the default device otherwise.

        Raises
        ------
        ValueError
            The arguments do not fit the kernel, the threadgroup is too large, a transformation traces the call on the
            CPU where that needs a reference and there is none, or the reference returns something else than declared;
            `ArgumentTypeError`, a ValueError and a TypeError, where the type of one is wrong.
        zmlx.launch.KernelRuntimeError
            On the CPU: the kernel was stopped, by a fault of its own or ``$ZMLX_TIME_LIMIT``, or it wrote outside of an
            output. Of a call that a transformation traces or follows: a RuntimeError with this text, where MLX
            evaluates it.
        zmlx.KernelCompileError, zmlx.launch.TranslationError
            The source cannot be compiled for, or carried to, the back end.
        """
        if self._repeated and stream is None and init_value is None and verbose is False:
            outputs = self._repeated.outputs(
                inputs, output_shapes, output_dtypes, grid, threadgroup, () if template is None else template
            )
            if outputs is not None:
                return outputs
        refuse_after_fork()
        mx = mlx()
        if stream is not None and pretence.is_told(sys._getframe(1)):
            stream = gpu_by_name.on_the_cpu(stream)
        source = self.source
        if not (type(inputs) is list and type(output_shapes) is list and type(output_dtypes) is list):
            checks.check_lists(source, inputs, output_shapes, output_dtypes)
        if (
            len(inputs) != self._input_count
            or len(output_shapes) != self._output_count
            or len(output_dtypes) != self._output_count
        ):
            raise ValueError(wrong_sizes(source, inputs, output_shapes, output_dtypes))
        if init_value is None and records.poisoning():
            init_value = float("nan")
        elif init_value is not None:
            init_value = checks.checked_init_value(init_value)
        array = mx.array
        call = Call(
            [x if isinstance(x, array) else checks.as_array(source, i, x) for i, x in enumerate(inputs)],
            checked_shapes(output_shapes),
            list(output_dtypes),
            *extents(grid, threadgroup),
            [] if template is None else checks.checked_template(template),
            init_value,
            stream,
        )
        return self.run(call, verbose)

    def launch(
        self,
        inputs: list[mx.array],
        output_shapes: list[tuple[int, ...]],
        output_dtypes: list[mx.Dtype],
        grid: Triple,
        threadgroup: Triple,
        template: list[tuple[str, Any]],
    ) -> list[mx.array]:
        """A call for those who make all arguments but the arrays themselves, again and again, and give outputs their
        gradients: types, and that there is one for each name, are not checked. On the CPU a launch inside of mx.grad
        and the like is part of MLX's graph, where it can be, and does not wait for its inputs. Everything else is as in
        a call, on the default device."""
        if self._repeated:
            outputs = self._repeated.outputs(
                inputs, output_shapes, output_dtypes, grid, threadgroup, template
            )
            if outputs is not None:
                return outputs
        refuse_after_fork()
        value = float("nan") if records.poisoning() else None
        size = extents(grid, threadgroup)
        return self.run(Call(inputs, output_shapes, output_dtypes, *size, template, value, None), lazy=True)

    def run(self, call: Call, verbose: bool = False, *, lazy: bool = False) -> list[mx.array]:
        """Launch the kernel with arguments that are checked already; errors are those of a call. ``lazy``: see
        `launch`."""
        source, stream = self.source, call.stream
        signature = self._signature(call)
        if verbose is not False:
            checks.check_bool("verbose", verbose)
            print(f"Generated source code for `{source.name}`:\n```\n{signature.metal_text()}\n```")
        backend = current_backend(stream)
        if records.recorded_backend() is not None:
            records.note_launch(signature, backend, "", call.grid, call.threadgroup)
            return _zeros(call)
        taken = hook.current()
        try:
            if taken is not None and evaluate(call.inputs):
                outputs, backend, path = taken.launch(signature, call, self.origin), "cpu", taken.path
            else:
                if len(signature.parameters) > MAX_BUFFERS:
                    raise ValueError(checks.too_many_buffers(signature))
                outputs, path = self._launch(backend, signature, call, lazy)
        except (KernelCompileError, TranslationError) as error:
            raise with_places(error, source, self.origin) from error
        records.note_launch(signature, backend, path, call.grid, call.threadgroup)
        return outputs

    def _launch(
        self, backend: str, signature: Signature, call: Call, lazy: bool
    ) -> tuple[list[mx.array], str]:
        if backend == "metal":
            from zmlx.launch import metal

            stream = call.stream if call.stream is not None else mlx().gpu
            return metal.launch(self._native_kernel(), call, stream), metal.PATH
        if backend == "cuda":
            outputs, path = _cuda().launch(signature, call)
            self._repeated.note(signature, call, backend, path, _cuda().repeatable)
            return outputs, path
        if lazy and hook.current() is None and _primitive().joins(call.inputs):
            return _host().launch_lazily(signature, call, None), _primitive().PATH
        if not evaluate(call.inputs):
            if export.exporting():
                from zmlx.launch import metal

                return metal.launch(self._native_kernel(), call, call.stream), export.PATH
            reason = why_not_lazy()
            if not reason:
                return _host().launch_lazily(signature, call, self.reference), _primitive().PATH
            if self.reference is None:
                raise ValueError(MSG_TRACED.format(name=self.source.name, reason=reason))
            return outputs_of(self.reference, self.source, call), REFERENCE
        outputs, path = _host().launch(signature, call)
        return outputs, path

    def _native_kernel(self) -> Any:
        if self._native is None:
            from zmlx.launch import metal

            self._native = metal.native_kernel(self.source)
        return self._native

    def _signature(self, call: Call) -> Signature:
        if self.constant is None:
            arrays = tuple([(x.dtype, x.ndim, x.size < MAX_CONSTANT_ARRAY_SIZE) for x in call.inputs])
        else:
            arrays = tuple([(x.dtype, x.ndim, s) for x, s in zip(call.inputs, self.constant, strict=True)])
        # `type` tells True from 1, which are equal and hash alike.
        template = (
            tuple([(name, type(value), value) for name, value in call.template]) if call.template else ()
        )
        key = (arrays, tuple(call.output_dtypes), template)
        try:
            signature = self._signatures.get(key)
        except TypeError:  # something that cannot be hashed, and is no dtype: said below
            signature = None
        if signature is None:
            self._check_types(call)
            signature = self._signatures[key] = make_signature(
                self.source,
                [ArrayType(dtype_name(dtype), ndim, small) for dtype, ndim, small in arrays],
                [dtype_name(dtype) for dtype in call.output_dtypes],
                [(name, template_value(value)) for name, value in call.template],
            )
        return signature

    def _check_types(self, call: Call) -> None:
        for index, (name, x) in enumerate(zip(self.source.input_names, call.inputs, strict=True)):
            checks.check_dtype(f"inputs[{index}].dtype", name, x.dtype)
        for index, (name, dtype) in enumerate(zip(self.source.output_names, call.output_dtypes, strict=True)):
            checks.check_dtype(f"output_dtypes[{index}]", name, dtype)
        checks.check_template_names(call.template)


def why_not_lazy() -> str:
    """Why a traced launch on the CPU would not be part of MLX's graph but its reference; empty if it would be."""
    if hook.current() is not None:
        return MSG_CHECKED
    reason = _primitive().unavailable()
    return MSG_NO_LIBRARY.format(reason=reason) if reason else ""


def current_backend(stream: Any = None) -> str:
    """The back end, ``"metal"``, ``"cuda"`` or ``"cpu"``, on which a launch with this ``stream`` would run.

    Raises
    ------
    RuntimeError
        The stream is a GPU's and MLX has no GPU back end here.
    """
    recorded = records.recorded_backend()
    if recorded is not None:
        return recorded
    mx = mlx()
    if stream is not None:
        checks.check_stream(stream)
    device = mx.default_device() if stream is None else getattr(stream, "device", stream)
    if device == mx.cpu:
        return "cpu"
    backend = gpu_by_name.gpu_backend()
    if not backend:
        raise RuntimeError(MSG_NO_GPU)
    return backend


@cache
def _cuda() -> Any:
    from zmlx.launch import cuda

    return cuda


@cache
def _host() -> Any:
    from zmlx.launch import host

    return host


@cache
def _primitive() -> Any:
    from zmlx.launch import primitive

    return primitive


def _zeros(call: Call) -> list[mx.array]:
    import mlx.core as mx

    return [
        mx.zeros(shape, dtype) for shape, dtype in zip(call.output_shapes, call.output_dtypes, strict=True)
    ]
