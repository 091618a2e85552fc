"""How a launch on the host ended that did not end well, as an exception."""

from __future__ import annotations

import ctypes
import math
import os
import threading
from typing import TYPE_CHECKING, NoReturn

from zmlx.errors import KernelRuntimeError
from zmlx.launch.call import dtype_name
from zmlx.launch.host_call import BAD_TIME_LIMIT, INTERRUPTED, NO_MEMORY, OUTSIDE, TOO_LONG, Outside

if TYPE_CHECKING:
    import mlx.core as mx

    from zmlx.metal.signature import KernelSource

#: Seconds after which a launch on the CPU is stopped; none otherwise.
TIME_LIMIT_VARIABLE = "ZMLX_TIME_LIMIT"

CHECK_IT = (
    "To see the line and the thread, run it under the checker: `with zmlx.checked(): ...`, `pytest --zmlx-check` or "
    "`python -m zmlx check SCRIPT`."
)

#: What ended a launch (``zmlx::Error``), as the rest of "Kernel … ".
_FAILURES = {
    1: "declares {bytes} bytes of threadgroup memory; Metal has 32768 bytes a threadgroup.",
    2: "divided an integer by zero, or the smallest one by -1, which Metal leaves undefined. Guard the division.",
    3: "read or wrote memory outside of its arrays. Check its indices against the arrays' sizes, also for the threads "
    "at the edge of the grid.",
    4: "overflowed its stack: it recurses, or its local arrays are too large for any GPU.",
    5: "ran into a trap: __builtin_trap(), or code that the compiler knows to be never reached. " + CHECK_IT,
    INTERRUPTED: "was stopped by Ctrl-C (SIGINT).",
    TOO_LONG: "did not end within {limit} s, the time limit that ${variable} sets. Look for a loop whose condition "
    "never changes, or raise the limit. " + CHECK_IT,
}


def raise_failure(kernel: KernelSource, outputs: list[mx.array], outcome: int, detail: int) -> NoReturn:
    """Raise what a launch with this outcome and detail (``host_call.Plan.run``) ended with.

    Raises
    ------
    KernelRuntimeError
        The kernel was stopped, or wrote outside of an output.
    KeyboardInterrupt
        Ctrl-C was pressed; or whatever the program's own handler of it raises.
    MemoryError
        There is no memory for the launch.
    ValueError
        ``$ZMLX_TIME_LIMIT`` is no time.
    """
    if outcome == NO_MEMORY:
        raise MemoryError(f"[metal_kernel] No memory for the threads of {kernel.name!r} on the CPU.")
    if outcome == BAD_TIME_LIMIT:
        raise ValueError(
            f"{TIME_LIMIT_VARIABLE}={os.environ.get(TIME_LIMIT_VARIABLE)!r}: expected a number of seconds above 0."
        )
    if outcome == INTERRUPTED and threading.current_thread() is threading.main_thread():
        ctypes.pythonapi.PyErr_CheckSignals()  # runs the program's handler, which raises as a rule
        raise KeyboardInterrupt
    if outcome == OUTSIDE:
        what = _outside(kernel, outputs, Outside.of(detail))
    else:
        what = _FAILURES[outcome].format(
            bytes=detail, limit=os.environ.get(TIME_LIMIT_VARIABLE), variable=TIME_LIMIT_VARIABLE
        )
    raise KernelRuntimeError(f"[metal_kernel] Kernel {kernel.name!r} {what}")


def _outside(kernel: KernelSource, outputs: list[mx.array], where: Outside) -> str:
    name, array = kernel.output_names[where.output], outputs[where.output]
    count = math.ceil(where.distance / array.itemsize)
    side, index = ("in front of", -count) if where.before else ("past the end of", array.size + count - 1)
    plural = "" if where.distance == 1 else "s"
    return (
        f"wrote up to {where.distance} byte{plural} {side} its output {name!r}, at index {index}; {name!r} has "
        f"{array.size} elements of {dtype_name(array.dtype)}, shape {tuple(array.shape)}. On a Mac this may pass "
        f"unseen, or change another array. Check its indices against the array's size, also for the threads at the "
        f"edge of the grid. {CHECK_IT}"
    )
