"""The judge's own process, in which kernels of a candidate run: ``python -m zmlx.testing.judge.replayer READ WRITE``.

None of the candidate's Python comes here: only launches as data. Each is run on the CPU under the checker, with
legality, into poisoned outputs; if nothing is found, it is run once more without the checker, and that result goes
back. Its CUDA text is compiled once where NVRTC is there.
"""

from __future__ import annotations

import math
import resource
import sys
from typing import Any

from zmlx.testing.judge.arrays import raw_of_mlx
from zmlx.testing.judge.launches import run
from zmlx.testing.judge.transport import EndOfMessages, Message, receive, send

#: The architecture that CUDA text is compiled for: of these the first that NVRTC knows.
ARCHS = ("sm_90", "sm_80", "sm_75")


class _Cuda:
    """NVRTC, if it is there, and what it has compiled."""

    def __init__(self) -> None:
        from zmlx.launch import NvrtcNotFoundError
        from zmlx.launch.nvrtc import find_nvrtc

        self._seen: set[Any] = set()
        try:
            nvrtc = find_nvrtc()
        except NvrtcNotFoundError:
            self.name, self.arch = "", None
            return
        self.name = nvrtc.name
        self.arch = next((arch for arch in ARCHS if nvrtc.supports(arch)), None)

    def refusals(self, message: Message, kernels: dict[Any, Any]) -> list[str]:
        """What NVRTC refuses of a launch's text, the first time that it comes."""
        if self.arch is None:
            return []
        from zmlx.errors import KernelCompileError, TranslationError
        from zmlx.launch import recording
        from zmlx.launch.cuda import compile_cubin, make_plan

        with recording("cuda") as records:
            run(message.fields, message.arrays, kernels)
        found = []
        for record in records:
            if not math.prod(record.grid):
                continue  # nothing is launched
            plan = make_plan(record.grid, record.threadgroup)
            key = (record.signature, plan)
            if key in self._seen:
                continue
            self._seen.add(key)
            try:
                compile_cubin(record.signature, self.arch, plan)
            except (KernelCompileError, TranslationError) as error:
                found.append(f"{record.kernel.name} for {self.arch}: {error}")
        return found


def main(arguments: list[str]) -> None:
    """Serve until the judge closes its end."""
    source, sink = int(arguments[0]), int(arguments[1])
    import mlx.core as mx

    from zmlx.check.checker import Checking
    from zmlx.check.legality import front_end
    from zmlx.launch import poisoned_outputs
    from zmlx.launch.hook import intercepting

    mx.set_default_device(mx.cpu)
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    setup = receive(source)
    check = Checking(raise_on_finding=False, time_limit=setup.fields["time"])
    cuda = _Cuda()
    kernels: dict[Any, Any] = {}
    send(sink, "ready", {"legality": front_end.available(), "nvrtc": cuda.name})
    while True:
        try:
            message = receive(source)
        except EndOfMessages:
            return
        known = len(check.findings)
        try:
            with poisoned_outputs():
                with intercepting(check):
                    outputs = run(message.fields, message.arrays, kernels)
                if len(check.findings) == known:
                    # What counts is what users get: text can tell a checked build, and do otherwise in others.
                    outputs = run(message.fields, message.arrays, kernels)
            refusals = cuda.refusals(message, kernels)
        except Exception as error:  # noqa: BLE001 - whatever it is, it refuses the candidate
            send(sink, "failed", {"error": f"{type(error).__name__}: {error}"[:4000]})
            continue
        new = check.findings[known:]
        findings, stopped = [str(finding) for finding in new], any(f.kind == "stopped" for f in new)
        send(
            sink,
            "outputs",
            {"findings": findings, "refusals": refusals, "stopped": stopped},
            [raw_of_mlx(x) for x in outputs],
        )


if __name__ == "__main__":
    main(sys.argv[1:])
