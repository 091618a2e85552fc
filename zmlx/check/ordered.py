"""Launches whose threads come in a chosen order: what depends on it shows in their outputs.

The checker says whether an output depends on the order at all; here the outputs themselves are had, as many as there
are orders, so that someone else can say by how much.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from zmlx.check.checker import SCHEDULES
from zmlx.check.findings import KernelCheckError, render, summarize

if TYPE_CHECKING:
    import mlx.core as mx

    from zmlx.launch.call import Call
    from zmlx.launch.origin import Origin
    from zmlx.metal.signature import Signature

#: All orders; results in the first are what the others are held against.
ORDERS = ("lockstep", *SCHEDULES)


class Ordered:
    """An interceptor (`zmlx.launch.hook`) that runs launches on the CPU in one order.

    Parameters
    ----------
    order : str
        One of `ORDERS`.
    time_limit : float
        Seconds that one launch may take.

    Raises
    ------
    ValueError
        There is no such order.
    """

    #: What launch records call this way of running.
    path = "checked"

    def __init__(self, order: str, time_limit: float = 60.0) -> None:
        if order not in ORDERS:
            raise ValueError(f"order: expected one of {', '.join(map(repr, ORDERS))}; got {order!r}.")
        self.order = order
        self.time_limit = time_limit

    def launch(self, signature: Signature, call: Call, origin: Origin | None = None) -> list[mx.array]:
        """Run a call; `metal_kernel` calls this.

        Raises
        ------
        KernelCheckError
            The checker has findings: what the outputs are then says nothing.
        KernelCompileError, TranslationError, CompilerNotFoundError
            As an ordinary launch.
        """
        from zmlx.check.build import load_checked
        from zmlx.check.run import Limits, Run
        from zmlx.launch import gradient
        from zmlx.launch.memory import allocate

        outputs = allocate(call)
        run = Run(load_checked(signature, False), signature, call, Limits(self.time_limit), outputs)
        try:
            findings = run.once(self.order)
        finally:
            run.release()
        if findings:
            raise KernelCheckError(
                f"[metal_kernel] With its threads in another order ({self.order}) the checker has "
                f"{summarize(findings)} in {signature.kernel.name!r}.\n\n{render(findings)}",
                findings,
            )
        return gradient.guarded(signature.kernel.name, call.inputs, outputs)
