"""The structures of ``runtime/check/check.h`` for ctypes: what a checked launch is given, and what it found."""

from __future__ import annotations

import ctypes

MAX_FINDINGS = 128
FIRST_VARIABLE = 128
MAX_VARIABLES = 64
MAX_WAITS = 16
NO_SLOT = 0xFFFFFFFF

#: ``Kind``
KINDS = {
    1: "out-of-bounds",
    2: "data-race",
    3: "uninitialized",
    4: "barrier-divergence",
    5: "memory-order",
    6: "stopped",
    7: "misaligned",
    8: "inactive-lane",
    9: "metal-lint",
    10: "arithmetic",
}

#: ``Detail``
UNKNOWN_MEMORY, OTHER_THREAD, LOCAL_ARRAY, READ_ONLY, LOCAL_OBJECT = 1, 2, 3, 4, 5
SAME_SIMDGROUP, AFTER_SIMD_OP, ACROSS_GROUPS = 6, 7, 8
NEVER_WRITTEN = 9
DIFFERENT_BARRIERS, HAS_RETURNED, PART_OF_SIMDGROUP = 10, 11, 12
SIMDGROUP_BARRIER_ONLY = 13
DIVISION = 15
STACK_DAMAGED = 16
LANES_DIFFER, WIDE_REDUCTION = 17, 18
FLOAT_TO_INTEGER, SIGNED_OVERFLOW, SHIFT, NOT_A_NUMBER = 19, 20, 21, 22

#: ``Access``
WRITE, ATOMIC = 1, 2

#: ``Schedule``
SCHEDULES = {"lockstep": 0, "one simdgroup at a time": 1, "reversed": 2, "random": 3}


#: Bytes of an array that have a shadow or none together: ``zmlx::check::BLOCK``.
BLOCK = 4096


def blocks_shadowed(shadow: int, budget: int) -> tuple[int, int]:
    """``Array.shadowed`` of an array whose shadow takes so many bytes, and how many of the budget it gets.

    Where not all fits, one of 2, 4, 8, … blocks has a shadow, within half of the budget, for others need some too.
    """
    if shadow <= budget:
        return 1, shadow
    stride = 2
    while shadow // stride > max(budget // 2, 4 * BLOCK - 1):
        stride *= 2
    # Less than one block's shadow: 16 bytes or more for each 4.
    return (0, 0) if shadow // stride < 4 * BLOCK else (stride, shadow // stride)


class Extent(ctypes.Structure):
    _fields_ = (("x", ctypes.c_uint32), ("y", ctypes.c_uint32), ("z", ctypes.c_uint32))


class Launch(ctypes.Structure):
    _fields_ = (
        ("buffers", ctypes.c_void_p),
        ("grid", Extent),
        ("group", Extent),
        ("groups", Extent),
        ("error", ctypes.c_uint32),
        ("group_memory", ctypes.c_uint32),
    )


class RawFinding(ctypes.Structure):
    _fields_ = (
        ("kind", ctypes.c_uint32),
        ("detail", ctypes.c_uint32),
        ("pc", ctypes.c_uint32),
        ("other_pc", ctypes.c_uint32),
        ("barrier_pc", ctypes.c_uint32),
        ("thread", ctypes.c_uint32),
        ("other_thread", ctypes.c_uint32),
        ("slot", ctypes.c_uint32),
        ("access", ctypes.c_uint32),
        ("other_access", ctypes.c_uint32),
        ("size", ctypes.c_uint32),
        ("line", ctypes.c_uint32),
        ("other_line", ctypes.c_uint32),
        ("barrier_line", ctypes.c_uint32),
        ("group", ctypes.c_uint64),
        ("other_group", ctypes.c_uint64),
        ("offset", ctypes.c_int64),
        ("value", ctypes.c_uint64),
        ("count", ctypes.c_uint64),
        ("text", ctypes.c_char * 96),
        ("file", ctypes.c_char * 160),
    )


class Array(ctypes.Structure):
    _fields_ = (
        ("source", ctypes.c_void_p),
        ("target", ctypes.c_void_p),
        ("bytes", ctypes.c_uint64),
        ("start", ctypes.c_uint64),
        ("itemsize", ctypes.c_uint32),
        ("parameter", ctypes.c_uint32),
        ("writable", ctypes.c_uint32),
        ("defined", ctypes.c_uint32),
        ("floating", ctypes.c_uint32),
        ("shadowed", ctypes.c_uint32),
    )


class Variable(ctypes.Structure):
    _fields_ = (
        ("name", ctypes.c_char * 64),
        ("bytes", ctypes.c_uint32),
        ("element", ctypes.c_uint32),
        ("columns", ctypes.c_uint32),
        ("planes", ctypes.c_uint32),
    )


class Waiting(ctypes.Structure):
    _fields_ = (
        ("what", ctypes.c_uint32),
        ("pc", ctypes.c_uint32),
        ("threads", ctypes.c_uint32),
        ("first", ctypes.c_uint32),
    )


class Check(ctypes.Structure):
    _fields_ = (
        ("outer", Launch),
        ("launch", Launch),
        ("arrays", ctypes.POINTER(Array)),
        ("array_count", ctypes.c_uint32),
        ("schedule", ctypes.c_uint32),
        ("arithmetic", ctypes.c_uint32),
        ("unused", ctypes.c_uint32),
        ("seed", ctypes.c_uint64),
        ("findings", RawFinding * MAX_FINDINGS),
        ("finding_count", ctypes.c_uint32),
        ("variable_count", ctypes.c_uint32),
        ("dropped", ctypes.c_uint64),
        ("variables", Variable * MAX_VARIABLES),
        ("accesses", ctypes.c_uint64),
        ("groups_done", ctypes.c_uint64),
        ("same_value", ctypes.c_uint64),
        ("same_value_pc", ctypes.c_uint32),
        ("stopped", ctypes.c_uint32),
        ("stopped_thread", ctypes.c_uint32),
        ("stopped_pc", ctypes.c_uint32),
        ("stopped_group", ctypes.c_uint64),
        ("waiting_count", ctypes.c_uint32),
        ("last_pc", ctypes.c_uint32),
        ("waiting", Waiting * MAX_WAITS),
    )
