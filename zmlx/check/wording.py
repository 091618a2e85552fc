"""From what ``runtime/check/check.cpp`` recorded to a `Finding` that says what happened and what to change."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace

from zmlx.check import layout, phrases
from zmlx.check.findings import Access, Finding, ThreadPosition
from zmlx.check.layout import RawFinding, Waiting
from zmlx.check.storage import Storage
from zmlx.check.symbolize import NO_PLACE, Place, Places
from zmlx.launch.records import Triple


@dataclass(frozen=True)
class Words:
    """What is needed to word the findings of one launch."""

    kernel: str
    storage: dict[int, Storage]
    places: Places
    groups: Triple
    group: Triple
    grid: Triple

    def thread(self, index: int, group: int) -> ThreadPosition:
        gx, gy, _ = self.groups
        at = (group % gx, group // gx % gy, group // gx // gy)
        size = tuple(min(g, n - p * g) for g, n, p in zip(self.group, self.grid, at, strict=True))
        local = (index % size[0], index // size[0] % size[1], index // size[0] // size[1])
        x, y, z = (p * g + i for p, g, i in zip(at, self.group, local, strict=True))
        return ThreadPosition(index, index % 32, index // 32, at, local, (x, y, z))

    def word(self, raw: RawFinding) -> Finding:
        kind = layout.KINDS[raw.kind]
        place = self._place(raw.pc, raw.line)
        if raw.file:
            named = self.places.named(raw.file.decode(errors="replace"), raw.line)
            # A line of a header of the runtime's is none of the author's: the code that it became part of is.
            place = place if named.line is None else named
        finding = Finding(kind, self.kernel, "", count=raw.count)
        storage = self.storage.get(raw.slot)
        if storage is not None:
            finding = replace(finding, array=storage.name, index=storage.index(raw.offset))
        word = {
            "out-of-bounds": self._out_of_bounds,
            "data-race": self._race,
            "uninitialized": self._uninitialized,
            "barrier-divergence": self._divergence,
            "memory-order": self._memory_order,
            "stopped": self._division,
            "misaligned": self._misaligned,
            "inactive-lane": self._inactive_lane,
            "metal-lint": self._simd_use,
            "arithmetic": self._arithmetic,
        }[kind]
        return word(raw, finding, storage, place)

    def _mine(self, raw: RawFinding, what: str, place: Place) -> Access:
        return Access(what, place, self.thread(raw.thread, raw.group))

    def _theirs(self, raw: RawFinding, what: str) -> Access:
        place = self._place(raw.other_pc, raw.other_line)
        return Access(what, place, self.thread(raw.other_thread, raw.other_group))

    def _place(self, offset: int, line: int) -> Place:
        """A place in the code; where its line is lost, that of the call, which is hardly ever in the header."""
        place = self.places.at(offset)
        return place if place.line is not None or not line else self.places.line("source", line)

    def _out_of_bounds(
        self, raw: RawFinding, finding: Finding, storage: Storage | None, place: Place
    ) -> Finding:
        verb = "writes" if raw.access & layout.WRITE else "reads"
        advice = phrases.BOUNDS
        if raw.detail == layout.LOCAL_ARRAY:
            return self._local_array(raw, finding, place)
        if raw.detail == layout.LOCAL_OBJECT:
            message = "reads or writes beyond the end of one of the thread's own arrays, through a pointer"
            advice = "compare the index with the size of the array that the pointer points into."
            verb = "accesses it"
        elif raw.detail == layout.STACK_DAMAGED:
            message = "writes beyond the end of one of the thread's own arrays, through a pointer"
            advice = "compare the index with the size of the array that the pointer points into."
            access = self._mine(raw, "had done so when it returned", NO_PLACE)
            return replace(finding, message=message, advice=advice, accesses=(access,))
        elif raw.detail == layout.OTHER_THREAD:
            message = f"{verb} the local variables of another thread, through a pointer"
            advice = "a thread's local variables are its own: exchange values through threadgroup memory."
        elif storage is None:
            message = (
                f"{verb} {raw.size} bytes at address {raw.value:#x}, which is in no array of this launch"
            )
            advice = "look for a pointer that has no value yet, or an index that is wrong by very much."
        else:
            name = f"{storage.name}[{finding.index}]"
            if raw.detail == layout.READ_ONLY:
                message = f"writes {name}, and {storage.name} is an input: inputs are read-only"
                advice = "write to an output; to change an input in place, copy it to one."
            else:
                end = storage.count - 1
                element = raw.offset // storage.itemsize
                if element < 0:
                    how = f"{-element} before the start"
                elif element > end:
                    how = f"{element - end} past the end"
                else:
                    how = f"{raw.size} bytes that begin in the last element and end past it"
                message = f"{verb} {name} of {storage.count}, {how} of {storage.described}"
                if element >> 31 == 1:
                    message += f" ({element} is {element - (1 << 32)} as an unsigned number: it went below 0)"
                finding = replace(finding, index=storage.index(raw.offset))
            verb = f"{verb} {name}"
        if raw.detail != layout.READ_ONLY and storage is None and raw.detail != layout.LOCAL_OBJECT:
            verb = f"{verb} it"
        access = self._mine(raw, verb, place)
        stopped = storage is None or raw.access & layout.WRITE
        notes = (phrases.STOPPED_NOTE if stopped else "The thread went on, and read what lies there: zeros.",)
        return replace(finding, message=message, advice=advice, accesses=(access,), notes=notes)

    def _misaligned(
        self, raw: RawFinding, finding: Finding, storage: Storage | None, place: Place
    ) -> Finding:
        kind = raw.text.decode(errors="replace").strip("'") or "an atomic"
        where = f"{storage.name}[{finding.index}]" if storage is not None else "a variable of its own"
        message = (
            f"accesses {where} as {kind}, {raw.other_thread} bytes past an address that {kind} may have: a multiple "
            f"of {raw.value}"
        )
        advice = (
            "access it element by element, through a packed vector type (packed_float4), or let the index be a "
            "multiple of the vector's length."
        )
        notes = (phrases.STOPPED_NOTE,) if raw.value > 8 else ()
        access = self._mine(raw, f"accesses {where}", place)
        return replace(finding, message=message, advice=advice, accesses=(access,), notes=notes)

    def _inactive_lane(self, raw: RawFinding, finding: Finding, _: Storage | None, place: Place) -> Finding:
        there = raw.value < raw.offset
        if there:
            why = "is not active here: it has returned, or takes another branch"
        elif raw.value < 32:
            why = f"does not exist: the simdgroup has {raw.offset} threads"
        else:
            why = "does not exist"
        which = f"lane {raw.value}" if raw.value < 32 else "a lane outside of its simdgroup or quadgroup"
        message = f"reads the value of {which}, which {why}; Metal leaves the result undefined"
        advice = (
            "call it where all lanes that are read from take part, and read only from lanes that are there."
        )
        access = self._mine(raw, f"reads from {which}", place)
        return replace(finding, message=message, advice=advice, accesses=(access,))

    def _simd_use(self, raw: RawFinding, finding: Finding, _: Storage | None, place: Place) -> Finding:
        if raw.detail == layout.LANES_DIFFER:
            message = (
                f"broadcasts from lane {raw.value}, and another lane of the same operation from lane {raw.offset}: the "
                "lane of a broadcast must be the same in all lanes"
            )
            advice = "use simd_shuffle (or quad_shuffle), whose lanes may differ."
            what = f"names lane {raw.value}"
        else:
            message = "reduces integers of 64 bits over a simdgroup, which Metal does not have"
            advice = "reduce 32-bit halves, or exchange the values through threadgroup memory."
            what = "reduces 64 bits"
        return replace(finding, message=message, advice=advice, accesses=(self._mine(raw, what, place),))

    def _arithmetic(
        self, raw: RawFinding, finding: Finding, storage: Storage | None, place: Place
    ) -> Finding:
        kind = raw.text.decode(errors="replace").strip("'")
        message, advice, what = {
            layout.FLOAT_TO_INTEGER: (
                f"converts a number to {kind} that {kind} cannot hold; back ends differ in what comes of it",
                "clamp the number before it is converted.",
                "converts it",
            ),
            layout.SIGNED_OVERFLOW: (
                f"overflows a signed integer ({kind}), which is undefined",
                "compute with unsigned integers, which wrap around, or with wider ones.",
                "computes it",
            ),
            layout.SHIFT: (
                (
                    f"shifts {kind or 'an integer'} by "
                    f"{raw.value if raw.value < 1 << 31 else 'a negative number'}, as many bits as it has or more: "
                    "Metal takes the amount modulo the width, C++ and CUDA leave it undefined"
                ),
                "let the shift stay below the number of bits.",
                "shifts it",
            ),
            layout.NOT_A_NUMBER: (
                (
                    f"{raw.value} elements of {finding.array} are NaN, and no input has a NaN or an infinity; the "
                    f"first is {finding.array}[{finding.index}]"
                ),
                "look for 0 / 0, inf - inf, and roots and logarithms of negative numbers.",
                "the last write to it",
            ),
        }[raw.detail]
        access = Access(what, place) if raw.detail == layout.NOT_A_NUMBER else self._mine(raw, what, place)
        return replace(finding, message=message, advice=advice, accesses=(access,))

    def _local_array(self, raw: RawFinding, finding: Finding, place: Place) -> Finding:
        kind = raw.text.decode(errors="replace").strip("'").replace(" [", "[")
        index = raw.value - (1 << 64) if raw.value >> 63 else raw.value
        extent = re.search(r"\[(\d+)\]", kind)
        parameters = {s.name for s in self.storage.values() if s.kind != "threadgroup"}
        name = _indexed_name(place.text, parameters)
        shared = {s.name: s for s in self.storage.values() if s.kind == "threadgroup"}
        what = (
            shared[name].described
            if name in shared
            else f"the thread's own array {name}"
            if name
            else "an array"
        )
        shown = f"{name or 'array'}[{index}]"
        message = f"accesses {shown} of {extent[1] if extent else '?'}, outside of {what} ({kind})"
        access = self._mine(raw, f"accesses {shown}", place)
        notes = ("The thread was stopped before the access; the others went on.",)
        return replace(
            finding,
            message=message,
            advice=phrases.BOUNDS,
            accesses=(access,),
            array=name,
            index=str(index),
            notes=notes,
        )

    def _race(self, raw: RawFinding, finding: Finding, storage: Storage | None, place: Place) -> Finding:
        assert storage is not None
        name = f"{storage.name}[{finding.index}]"
        mixed = (raw.access ^ raw.other_access) & layout.ATOMIC
        if raw.access & layout.WRITE and raw.other_access & layout.WRITE:
            message = f"two threads write {name}, and nothing orders them"
        else:
            message = f"one thread writes {name} and another reads it, and nothing orders them"
        if raw.detail == layout.ACROSS_GROUPS:
            message = (
                message.replace("two threads", "threads of two threadgroups")
                .replace("one thread writes", "a thread of one threadgroup writes")
                .replace("another reads", "one of another threadgroup reads")
            )
            advice = phrases.ACROSS
        elif raw.detail in (layout.SAME_SIMDGROUP, layout.AFTER_SIMD_OP):
            message += (
                "; the code relies on the lanes of a simdgroup running in lockstep, which Metal does not promise"
                + (
                    " (the simd operation between the two orders no memory)"
                    if raw.detail == layout.AFTER_SIMD_OP
                    else ""
                )
            )
            flags = f"mem_flags::mem_{storage.memory}"
            advice = f"put simdgroup_barrier({flags}) between the two, or threadgroup_barrier({flags})."
        else:
            advice = f"put {phrases.BARRIER[storage.memory]} between the two, where all threads pass."
        if mixed:
            message += "; one of the two accesses is atomic, the other is not"
            advice = f"make both accesses atomic, or {advice}"
        mine = self._mine(raw, f"{_verb(raw.access)} {name}", place)
        theirs = self._theirs(raw, f"{_past(raw.other_access)} {name}")
        return replace(finding, message=message, advice=advice, accesses=(mine, theirs))

    def _memory_order(
        self, raw: RawFinding, finding: Finding, storage: Storage | None, place: Place
    ) -> Finding:
        assert storage is not None
        name = f"{storage.name}[{finding.index}]"
        flag = f"mem_flags::mem_{storage.memory}"
        simd = raw.detail == layout.SIMDGROUP_BARRIER_ONLY
        barrier = Access(
            f"this {'simdgroup_barrier' if simd else 'threadgroup_barrier'} lies between the two and does not cover "
            f"{storage.memory} memory",
            self._place(raw.barrier_pc, raw.barrier_line),
        )
        message = (
            f"{name} is exchanged through a barrier without {flag}: the other thread need not see what was "
        )
        message += "written"
        advice = f"give the barrier {flag} (flags are combined with |)."
        mine = self._mine(raw, f"{_verb(raw.access)} {name}", place)
        theirs = self._theirs(raw, f"{_past(raw.other_access)} {name}")
        return replace(finding, message=message, advice=advice, accesses=(barrier, mine, theirs))

    def _uninitialized(
        self, raw: RawFinding, finding: Finding, storage: Storage | None, place: Place
    ) -> Finding:
        assert storage is not None
        name = f"{storage.name}[{finding.index}]"
        if raw.detail == layout.NEVER_WRITTEN:
            written = self.places.at(raw.other_pc)
            least = "at least " if storage.sampled else ""
            accesses = (Access(f"the last write to {storage.name}", written),) if raw.other_pc else ()
            message = (
                f"{least}{raw.value} of {storage.count} elements of the output {storage.name} are never written; "
                f"the first is {name}"
            )
            advice = "write every element, or give the call an init_value."
            return replace(finding, message=message, advice=advice, accesses=accesses)
        if storage.kind == "output":
            message = f"reads {name}, an output that holds nothing yet: init_value is not set"
            advice = "give the call an init_value, or write the element first."
        else:
            message = f"reads {name} before any thread of the threadgroup has written it"
            advice = (
                "let some thread write it first, with a barrier after that, or read only what is written."
            )
        return replace(
            finding, message=message, advice=advice, accesses=(self._mine(raw, f"reads {name}", place),)
        )

    def _divergence(self, raw: RawFinding, finding: Finding, _: Storage | None, place: Place) -> Finding:
        thread = self.thread(raw.thread, raw.group)
        mine = Access("waits here", place, thread)
        if raw.detail == layout.DIFFERENT_BARRIERS:
            message = "threads of one threadgroup wait at different barriers"
            other = self._theirs(raw, "waits here")
        elif raw.detail == layout.HAS_RETURNED:
            message = f"{raw.value} threads of the threadgroup have returned and never reach this barrier"
            other = Access("has returned", NO_PLACE, self.thread(raw.other_thread, raw.other_group))
        else:
            message = f"only {raw.value} lanes of the simdgroup reach this simdgroup_barrier"
            other = self._theirs(raw, "waits here" if raw.other_pc else "has returned")
        return replace(finding, message=message, advice=phrases.DIVERGENCE, accesses=(mine, other))

    def _division(self, raw: RawFinding, finding: Finding, _: Storage | None, place: Place) -> Finding:
        message = "divides an integer by zero, which Metal leaves undefined"
        access = self._mine(raw, "divides by zero", place)
        return replace(finding, message=message, advice="guard the division.", accesses=(access,))

    def waiting(self, waits: Sequence[Waiting], group: int) -> tuple[Access, ...]:
        """Where the threads of a stopped threadgroup were."""
        words = {
            1: "waits at this barrier",
            2: "waits in this simd operation",
            3: "waits at this simdgroup_barrier",
            4: "has returned",
            5: "has not come to a barrier",
        }
        return tuple(
            Access(
                words[w.what] + (f", and so do {w.threads - 1} other threads" if w.threads > 1 else ""),
                self.places.at(w.pc),
                self.thread(w.first, group),
            )
            for w in waits
        )


def _verb(access: int) -> str:
    atomic = "atomically " if access & layout.ATOMIC else ""
    return f"{atomic}{'writes' if access & layout.WRITE else 'reads'}"


def _past(access: int) -> str:
    atomic = "atomically " if access & layout.ATOMIC else ""
    return f"{atomic}{'wrote' if access & layout.WRITE else 'read'}"


def _indexed_name(line: str, others: set[str]) -> str:
    """The array that is indexed on a source line, if it is the only one besides ``others``."""
    names = set(re.findall(r"\b([A-Za-z_]\w*)\s*\[", line)) - others
    return names.pop() if len(names) == 1 else ""


def refine(raws: Sequence[RawFinding], words: Words) -> list[Finding]:
    """Word the findings of a launch, without those that only follow from others."""
    races = {(r.slot, r.other_pc) for r in raws if layout.KINDS[r.kind] in ("data-race", "memory-order")}
    races |= {(r.slot, r.pc) for r in raws if layout.KINDS[r.kind] in ("data-race", "memory-order")}
    found: dict[tuple[object, ...], Finding] = {}
    for raw in raws:
        # The compiler may have made two calls of one barrier.
        if raw.detail == layout.DIFFERENT_BARRIERS and raw.pc != raw.other_pc:
            chain = words.places.chain(raw.pc)
            if chain and chain == words.places.chain(raw.other_pc):
                continue
        # Read before it is written, because nothing makes the reader wait: the race says more.
        kind = layout.KINDS[raw.kind]
        if kind == "uninitialized" and raw.detail == 0 and (raw.slot, raw.pc) in races:
            continue
        finding = words.word(raw)
        key = (finding.identity, raw.detail)
        known = found.get(key)
        found[key] = finding if known is None else replace(known, count=known.count + finding.count)
    return list(found.values())
