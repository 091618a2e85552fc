"""One launch under the checker: its arrays placed, its threadgroups run one after the other, its findings worded."""

from __future__ import annotations

import ctypes
import time
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from zmlx.check import layout, unset, wording
from zmlx.check.build import CheckedProgram, can_fill, load_checked
from zmlx.check.difference import find_difference, vary
from zmlx.check.findings import Finding
from zmlx.check.layout import Array, Check, Extent
from zmlx.check.locals import FILLINGS
from zmlx.check.locals import suspects as find_suspects
from zmlx.check.stopped import NO_MEMORY, SIGNALLED, word_stopped
from zmlx.check.storage import Storage
from zmlx.check.symbolize import Places
from zmlx.check.wording import Words
from zmlx.check.worker import run_guarded
from zmlx.launch import gradient, host, host_call
from zmlx.launch.memory import Buffer, allocate, argument, release, view
from zmlx.launch.records import Triple, launched_group, threads_of
from zmlx.metal.signature import Parameter, Signature, shown_name

if TYPE_CHECKING:
    import mlx.core as mx

    from zmlx.launch.call import Call

#: Bytes of shadow memory that a launch may take: two marks of 8 bytes for each element (each 4 bytes of larger ones).
MARKS = 16
#: ``Array.floating`` by the name of a dtype.
_FLOATING = {"float16": 1, "bfloat16": 2, "float32": 4}

#: Schedules in which threadgroups come in another order. One that waits for an earlier one never ends in them.
_OTHER_GROUP_ORDER = ("reversed", "random")
#: Seconds that a run in another order has at least. One that waits for an earlier threadgroup takes them all.
SHORTEST_LIMIT = 5.0
MAX_GROUP_MEMORY = 32768

#: What notes say of an array whose accesses are not compared with each other.
BOUNDS_ONLY = "are checked against its bounds only"
#: What they say of one of which some are.
SAMPLED = "are checked against its bounds, and compared with each other in one of"


@dataclass(frozen=True)
class Limits:
    """Bounds of a checked launch: seconds, and bytes of shadow memory for its outputs."""

    time: float = 60.0
    memory: int = 4 << 30
    arithmetic: bool = False


@dataclass
class Result:
    """What a checked launch gave."""

    outputs: list[mx.array]
    findings: list[Finding]
    accesses: int = 0
    dropped: int = 0
    notes: list[str] = field(default_factory=list)


def launch(signature: Signature, call: Call, limits: Limits, schedules: Sequence[str]) -> Result:
    """Run a call under the checker, and again in each of ``schedules`` if it looks clean.

    Raises
    ------
    KernelCompileError, TranslationError, CompilerNotFoundError
        As an ordinary launch.
    MemoryError
        There is no address space for the arrays.
    """
    program = load_checked(signature, limits.arithmetic)
    outputs = allocate(call)
    run = Run(program, signature, call, limits, outputs)
    try:
        result = run.first()
        if not result.findings and run.threads:
            result.findings += run.fill_locals() or run.vary_inputs() or run.compare(schedules)
    finally:
        run.release()
    result.outputs = gradient.guarded(signature.kernel.name, call.read, outputs)
    return result


class Run:
    """The arrays of a launch and how it is run."""

    def __init__(
        self,
        program: CheckedProgram,
        signature: Signature,
        call: Call,
        limits: Limits,
        outputs: list[mx.array],
    ) -> None:
        self.program = program
        self.signature = signature
        self.call = call
        self.limits = limits
        self.outputs = outputs
        self.notes: list[str] = []
        self._initial: dict[int, Any] = {}
        self.same_value = False
        self.took = 0.0
        self._held: list[Buffer] = []
        self._kept: list[Any] = []
        contiguous = signature.kernel.ensure_row_contiguous
        self.inputs = [view(x, contiguous, self._held) for x in call.inputs]
        self.targets = [view(x, False, self._held) for x in outputs]
        self.group = launched_group(call.grid, call.threadgroup)
        self.threads = threads_of(call.grid)
        self.groups: Triple = tuple(
            -(-n // g) if g else 0 for n, g in zip(call.grid, self.group, strict=True)
        )  # type: ignore[assignment]
        self.storage: dict[int, Storage] = {}

    def release(self) -> None:
        for buffer in self._held:
            release(buffer)

    def _add_note(self, note: str) -> None:
        if note not in self.notes:
            self.notes.append(note)

    def first(self) -> Result:
        if not self.threads:
            return Result(self.outputs, [])
        began = time.monotonic()
        check = self._run("lockstep", [view.address for view in self.targets])
        self.took = time.monotonic() - began
        self.same_value = bool(check.same_value)
        findings = self._findings(check)
        return Result(self.outputs, findings, check.accesses, check.dropped, self.notes)

    def once(self, schedule: str) -> list[Finding]:
        """Run in one order only; the outputs are then what it left."""
        targets = [view.address for view in self.targets]
        return self._findings(self._run(schedule, targets)) if self.threads else []

    def _again(self) -> list[Any]:
        return [(ctypes.c_char * max(1, x.nbytes))() for x in self.outputs]

    def fill_locals(self) -> list[Finding]:
        """Run with variables that have no value filled in two ways; see `zmlx.check.locals`."""
        suspects = find_suspects(self.signature.kernel, self.program.warnings)
        if not suspects or not can_fill():
            return []
        own, self.program = self.program, self.program
        memories, found = [], []
        try:
            for filling in FILLINGS:
                self.program = load_checked(self.signature, self.limits.arithmetic, filling)
                memories.append(self._again())
                check = self._run("lockstep", [ctypes.addressof(memory) for memory in memories[-1]])
                found.append(self._findings(check))
        finally:
            self.program = own
        places = Places(self.signature.kernel, self.program.file(), ())
        if [f.identity for f in found[0]] != [f.identity for f in found[1]]:
            messages = [f.message for part in found for f in part]
            how = f"when it begins with another one, the kernel {messages[0]}"
            return [unset.unset_local(self.signature.kernel, suspects, places, how)]
        for name, array, zeros, pattern in zip(
            map(shown_name, self.signature.kernel.output_names), self.outputs, *memories, strict=True
        ):
            size = array.itemsize
            if zeros.raw == pattern.raw:
                continue
            index = next(
                i for i in range(array.size) if zeros.raw[i * size :][:size] != pattern.raw[i * size :][:size]
            )
            how = f"{name}[{index}] changes with what it happens to hold"
            return [unset.unset_local(self.signature.kernel, suspects, places, how)]
        return []

    def vary_inputs(self) -> list[Finding]:
        """Where threads wrote the same value to one element, run with inputs that are not constant.

        Only races between writes count: of other inputs a kernel may go wrong in many ways.
        """
        if not self.same_value:
            return []
        inputs, held = self.inputs, len(self._held)
        contiguous = self.signature.kernel.ensure_row_contiguous
        varied = [vary(x) for x in self.call.inputs]
        if all(x is None for x in varied):
            return []
        try:
            self.inputs = [
                own if x is None else view(x, contiguous, self._held)
                for own, x in zip(inputs, varied, strict=True)
            ]
            memories = self._again()
            check = self._run("lockstep", [ctypes.addressof(memory) for memory in memories])
            found = [f for f in self._findings(check) if f.kind == "data-race" and "write" in f.message]
        finally:
            self.inputs = inputs
            for buffer in self._held[held:]:
                release(buffer)
            del self._held[held:]
        note = "Seen with other numbers in inputs that hold one number only, which made all threads write the same."
        return [replace(f, notes=(*f.notes, note)) for f in found]

    def compare(self, schedules: Sequence[str]) -> list[Finding]:
        """Run in other orders; an output that changes is a finding."""
        for schedule in schedules:
            again = self._again()
            limit = min(self.limits.time, max(SHORTEST_LIMIT, 50 * self.took))
            check = self._run(schedule, [ctypes.addressof(memory) for memory in again], limit)
            if check.stopped == SIGNALLED and schedule in _OTHER_GROUP_ORDER:
                self._add_note(
                    f"{self.signature.kernel.name}: did not end with its threadgroups in another order ({schedule}), "
                    "and was not compared in it: it seems to wait for an earlier threadgroup, which Metal does not "
                    "promise to have started."
                )
                continue
            findings = self._findings(check)
            if findings:
                note = f"Seen with the threads in another order: {schedule}."
                return [replace(f, notes=(*f.notes, note)) for f in findings]
            for name, array, memory in zip(
                map(shown_name, self.signature.kernel.output_names), self.outputs, again, strict=True
            ):
                found = find_difference(self.signature.kernel, name, array, memory, schedule, self._add_note)
                if found is not None:
                    return [found]
        return []

    # ---- running ----

    def _run(self, schedule: str, targets: Sequence[int | None], limit: float | None = None) -> Check:
        check = Check()
        kernel = self.signature.kernel
        parameters = self.signature.parameters
        keep = [
            argument(p.role, (self.targets if p.role == "output" else self.inputs)[p.array])
            for p in parameters
        ]
        addresses = [a if isinstance(a, int) or a is None else ctypes.addressof(a) for a in keep]
        buffers = (ctypes.c_void_p * len(addresses))(*addresses)
        arrays = self._arrays(targets)
        for launch, groups in ((check.outer, (1, 1, 1)), (check.launch, self.groups)):
            launch.buffers = ctypes.addressof(buffers)
            launch.grid, launch.group, launch.groups = (
                Extent(*self.call.grid),
                Extent(*self.group),
                Extent(*groups),
            )
        check.arrays, check.array_count = arrays, len(arrays)
        check.arithmetic = self.limits.arithmetic
        check.schedule, check.seed = layout.SCHEDULES[schedule], 0x5EED
        library = self.program.library
        entry = ctypes.cast(library.zmlx_check_entry, ctypes.c_void_p)
        runtime = host_call.runtime()

        def work() -> int:
            try:
                if library.zmlx_check_prepare(ctypes.byref(check)):
                    return 1
                return int(runtime.zmlx_run(entry, ctypes.byref(check), 1, host.num_threads()))
            finally:
                library.zmlx_check_finish(ctypes.byref(check))

        count = self.groups[0] * self.groups[1] * self.groups[2]
        failed = run_guarded(
            work,
            library.zmlx_check_stop,
            self.limits.time if limit is None else limit,
            lambda: f"checking {kernel.name}: {check.groups_done} of {count} threadgroups",
        )
        if failed or check.stopped == NO_MEMORY:
            raise MemoryError(
                f"[metal_kernel] No memory for the arrays of {kernel.name!r} under the checker."
            )
        return check

    def _arrays(self, targets: Sequence[int | None]) -> Any:
        kernel = self.signature.kernel
        found: list[Array] = []
        self._kept.clear()
        self.storage.clear()
        budget = self.limits.memory
        for number, parameter in enumerate(self.signature.parameters):
            if parameter.role in ("shape", "strides"):
                found.append(self._extents(number, parameter))
                self.storage[len(found) - 1] = Storage(
                    shown_name(parameter.name), parameter.role, found[-1].bytes, found[-1].itemsize
                )
                continue
            if parameter.role not in ("input", "output"):
                continue
            written = parameter.role == "output"
            view = (self.targets if written else self.inputs)[parameter.array]
            array = (self.outputs if written else self.call.inputs)[parameter.array]
            itemsize = array.itemsize
            low, size = view.span(itemsize)
            shadow = size // min(itemsize, 4) * MARKS if written else 0
            shadowed, took = layout.blocks_shadowed(shadow, budget)
            budget -= took
            if shadowed != 1:
                how = BOUNDS_ONLY if not shadowed else f"{SAMPLED} {shadowed} blocks of {layout.BLOCK} bytes"
                self._add_note(
                    f"{kernel.name}: accesses to {shown_name(parameter.name)} ({size / 2**30:.1f} GB) {how}: "
                    "comparing all of them with each other would take more than the memory limit."
                )
            initial = self.call.init_value is not None or parameter.array < len(self.call.contents)
            source = view.address - low if view.address is not None and (not written or initial) else None
            found.append(
                Array(
                    source,
                    targets[parameter.array] if written else None,
                    size,
                    low,
                    itemsize,
                    number,
                    written,
                    not written or initial,
                    _FLOATING.get(str(array.dtype).rpartition(".")[2], 0),
                    shadowed,
                )
            )
            self.storage[len(found) - 1] = Storage(
                shown_name(parameter.name), parameter.role, size, itemsize, start=low, sampled=shadowed > 1
            )
        # A second run starts from what the first one wrote, unless the initial contents are kept.
        if self.call.init_value is not None or self.call.contents:
            self._keep_initial(found)
        return (Array * len(found))(*found)

    def _extents(self, number: int, parameter: Parameter) -> Array:
        """The shape or strides of an input as an array: their own copy, which the launch keeps."""
        memory = argument(parameter.role, self.inputs[parameter.array])
        self._kept.append(memory)
        size = 4 if parameter.role == "shape" else 8
        address = memory if isinstance(memory, int) or memory is None else ctypes.addressof(memory)
        return Array(address, None, parameter.type.ndim * size, 0, size, number, False, True, 0, False)

    def _keep_initial(self, arrays: list[Array]) -> None:
        if not self._initial:
            self._initial = {
                i: ctypes.create_string_buffer(ctypes.string_at(a.source, a.bytes), max(1, a.bytes))
                for i, a in enumerate(arrays)
                if a.writable and a.bytes and a.source is not None
            }
        for i, memory in self._initial.items():
            arrays[i].source = ctypes.addressof(memory)

    # ---- wording ----

    def _findings(self, check: Check) -> list[Finding]:
        kernel = self.signature.kernel
        raws = list(check.findings[: check.finding_count])
        for i in range(check.variable_count):
            v = check.variables[i]
            self.storage[layout.FIRST_VARIABLE + i] = Storage(
                v.name.decode(), "threadgroup", v.bytes, v.element, v.columns, v.planes
            )
        waits = list(check.waiting[: check.waiting_count])
        offsets = [offset for raw in raws for offset in (raw.pc, raw.other_pc, raw.barrier_pc)]
        offsets += [wait.pc for wait in waits] + [check.same_value_pc]
        if check.stopped or check.outer.error:
            offsets += [check.last_pc, check.stopped_pc]
        places = Places(kernel, self.program.file() if any(offsets) else self.program.path, offsets)
        words = Words(kernel.name, dict(self.storage), places, self.groups, self.group, self.call.grid)
        found = wording.refine(raws, words)
        count = self.groups[0] * self.groups[1] * self.groups[2]
        found += word_stopped(check, words, count, self.limits.time)
        found += unset.unset_variables(kernel, self.program.warnings, places)
        if check.same_value:
            place = places.at(check.same_value_pc)
            self._add_note(
                f"{kernel.name}: threads write the same value to the same element without any order ({place}); this "
                "is not reported as a race."
            )
        used = sum(s.bytes for i, s in self.storage.items() if i >= layout.FIRST_VARIABLE)
        if used > MAX_GROUP_MEMORY:
            message = f"declares {used} bytes of threadgroup memory; Metal has {MAX_GROUP_MEMORY} bytes a threadgroup"
            found.append(
                Finding("metal-lint", kernel.name, message, "use smaller tiles, or a narrower type.")
            )
        return found
