"""How a launch on the host ended that did not end well, as an exception."""

from __future__ import annotations

import ctypes
import math
import os
import threading
from collections.abc import Sequence
from typing import TYPE_CHECKING, NoReturn

from zmlx.errors import KernelRuntimeError
from zmlx.launch.call import dtype_name
from zmlx.launch.host_call import BAD_TIME_LIMIT, INTERRUPTED, NO_MEMORY, OUTSIDE, TOO_LONG, Outside
from zmlx.metal.signature import shown_name

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
    TOO_LONG: f"did not end within {{limit}} s, the time limit that ${TIME_LIMIT_VARIABLE} sets. Look for a loop whose "
    "condition never changes, or raise the limit. " + CHECK_IT,
}

BAD_TIME_LIMIT_TEXT = f"{TIME_LIMIT_VARIABLE}={{limit}}: expected a number of seconds above 0."


def no_memory_text(kernel: KernelSource) -> str:
    """What `NO_MEMORY` ends a launch with."""
    return f"[metal_kernel] No memory for the threads of {kernel.name!r} on the CPU."


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
        raise MemoryError(no_memory_text(kernel))
    if outcome == BAD_TIME_LIMIT:
        raise ValueError(BAD_TIME_LIMIT_TEXT.format(limit=repr(os.environ.get(TIME_LIMIT_VARIABLE))))
    if outcome == INTERRUPTED and threading.current_thread() is threading.main_thread():
        ctypes.pythonapi.PyErr_CheckSignals()  # runs the program's handler, which raises as a rule
        raise KeyboardInterrupt
    if outcome == OUTSIDE:
        where = Outside.of(detail)
        output = outputs[where.output]
        count = math.ceil(where.distance / output.itemsize)
        text = outside_text(kernel, where.output, output.dtype, output.shape, where.before).format(
            distance=where.distance,
            plural="" if where.distance == 1 else "s",
            index=-count if where.before else output.size + count - 1,
        )
    else:
        text = failure_texts(kernel)[outcome].format(bytes=detail, limit=os.environ.get(TIME_LIMIT_VARIABLE))
    raise KernelRuntimeError(text)


def failure_texts(kernel: KernelSource) -> dict[int, str]:
    """By outcome, what a launch ended with; ``{bytes}``, the detail, and ``{limit}`` are left to fill in."""
    return {outcome: f"{_start(kernel)} {text}" for outcome, text in _FAILURES.items()}


def outside_text(
    kernel: KernelSource, output: int, dtype: mx.Dtype, shape: Sequence[int], before: bool
) -> str:
    """What `OUTSIDE` ends a launch with; ``{distance}``, ``{plural}`` and ``{index}`` are left to fill in."""
    name = shown_name(kernel.output_names[output])
    side = "in front of" if before else "past the end of"
    return (
        f"{_start(kernel)} wrote up to {{distance}} byte{{plural}} {side} its output {name!r}, at index {{index}}; "
        f"{name!r} has {math.prod(shape)} elements of {dtype_name(dtype)}, shape {tuple(shape)}. On a Mac this may "
        f"pass unseen, or change another array. Check its indices against the array's size, also for the threads at "
        f"the edge of the grid. {CHECK_IT}"
    )


def _start(kernel: KernelSource) -> str:
    return f"[metal_kernel] Kernel {kernel.name!r}"
