"""``python -m zmlx cuda-compile``: the CUDA text of every kernel, compiled by NVRTC, without a GPU or a driver."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from zmlx import _compat
from zmlx.launch.nvrtc import arch_number
from zmlx.testing.golden.comparison import Progress
from zmlx.testing.launches import recorded_launches
from zmlx.testing.opinfo import OpInfo
from zmlx.testing.verify import select

ARCHS = ("sm_75", "sm_80", "sm_89", "sm_90", "sm_100", "sm_120")


#: The first architecture that headers take for newer than the others: ``__CUDA_ARCH__ >= 800``.
BRANCHES_AT = 80


def spread(texts: Sequence[str], archs: Sequence[str]) -> dict[str, tuple[str, ...]]:
    """Architectures for each of one kernel's texts, a third of all pairs, so that every text is compiled for both
    branches of the headers and every architecture meets the kernel.

    What the front end sees is the same from sm_80 on, and PTX for an architecture is valid for all newer ones; what is
    left to differ is what ptxas makes of it. So each text is compiled for all architectures below, and for one of the
    others in turn; of a kernel with fewer texts than these, each for more.

    Parameters
    ----------
    texts : sequence of str
        Distinct ones, of all dtypes and launch shapes.
    archs : sequence of str
        "sm_75", …; in order.
    """
    older = [arch for arch in archs if arch_number(arch) < BRANCHES_AT]
    newer = [arch for arch in archs if arch not in older]
    rounds = max(1, -(-len(newer) // len(texts))) if texts else 0
    return {
        text: (
            *older,
            *dict.fromkeys(newer[(i + len(texts) * n) % len(newer)] for n in range(rounds) if newer),
        )
        for i, text in enumerate(texts)
    }


@dataclass(frozen=True)
class Compilation:
    """What `cuda_compile` did.

    Attributes
    ----------
    compiler : str
        "NVRTC 13.0", as it calls itself.
    archs : tuple of str
        Those that it compiled for: of `ARCHS` what it knows.
    programs : mapping of str to int
        How many texts were compiled for each, by operation.
    failures : tuple of str
        What it refused.
    """

    compiler: str
    archs: tuple[str, ...]
    programs: dict[str, int]
    failures: tuple[str, ...]

    @property
    def exit_code(self) -> int:
        """0 if something was compiled and nothing refused, else 1."""
        return 0 if sum(self.programs.values()) and not self.failures else 1

    def text(self) -> str:
        """A line for each operation, then what was refused, then the verdict."""
        width = max(map(len, self.programs), default=0)
        lines = [f"{self.compiler} for {', '.join(self.archs)}"]
        lines += [f"{name.ljust(width)}  {count}" for name, count in self.programs.items()]
        lines += [f"FAIL {failure}" for failure in self.failures]
        total = sum(self.programs.values())
        verdict = f"{len(self.failures)} refused" if self.failures else "all compiled"
        if not total:
            verdict = "which is a failure: no operation launches a kernel"
        return "\n".join([*lines, f"{total} texts, each for {len(self.archs)} architectures: {verdict}"])


def cuda_compile(
    ops: Iterable[OpInfo],
    kernel: str = "*",
    dtype: str | None = None,
    archs: Sequence[str] = (),
    progress: Progress | None = None,
) -> Compilation:
    """Compile every text that operations and their gradients launch on CUDA.

    Parameters
    ----------
    ops : iterable of OpInfo
        The table; MLX's own operations in it are left out.
    kernel, dtype : str
        See `zmlx.testing.verify.select`.
    archs : sequence of str
        "sm_90", …; of `ARCHS` all that this NVRTC knows unless given.
    progress : callable, optional
        Called as ``progress(done, total, name)`` before each operation and dtype.

    Raises
    ------
    zmlx.launch.NvrtcNotFoundError
        There is no NVRTC; the message says what to install.
    zmlx.testing.verify.VerifyError
        Nothing matches.
    ValueError
        NVRTC knows none of the architectures, or one that was asked for is not known.
    """
    _compat.import_mx()
    from zmlx.launch import KernelCompileError
    from zmlx.launch.cuda import compile_cubin, cuda_text, make_plan
    from zmlx.launch.nvrtc import find_nvrtc

    pairs = select([op for op in ops if op.kernel], "cuda", kernel, dtype)
    nvrtc = find_nvrtc()
    wanted = tuple(archs) or tuple(arch for arch in ARCHS if nvrtc.supports(arch))
    if not wanted:
        raise ValueError(f"{nvrtc.name} knows none of {', '.join(ARCHS)}. Install a newer nvidia-cuda-nvrtc.")
    programs: dict[str, int] = {}
    failures: list[str] = []
    for done, (op, of) in enumerate(pairs):
        if progress is not None:
            progress(done, len(pairs), f"{op.name}/{of}")
        launches = [
            (r.signature, make_plan(r.grid, r.threadgroup)) for r in recorded_launches(op, of, "cuda")
        ]
        texts = {cuda_text(*launch): launch for launch in launches}
        programs[op.name] = programs.get(op.name, 0) + len(texts)
        for signature, plan in texts.values():
            for arch in wanted:
                try:
                    compile_cubin(signature, arch, plan)
                except KernelCompileError as error:
                    failures.append(f"{op.name}/{of} for {arch}: {error}")
                    break  # the other architectures refuse the same line
    return Compilation(nvrtc.name, wanted, programs, tuple(failures))
