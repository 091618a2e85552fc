"""Compiling a kernel for a checked run: instrumented by the compiler, linked with the checker.

The kernel's translation unit is compiled with ``-fsanitize=thread``, which turns every memory access into a call
with its address, and with the array bounds checks of ``-fsanitize=undefined``. Neither sanitizer's own library is
linked: the calls go to ``runtime/check/check.cpp``, compiled once a machine without instrumentation.
"""

from __future__ import annotations

import ctypes
import os
import subprocess
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from zmlx.check.locals import FILLINGS
from zmlx.errors import KernelCompileError
from zmlx.launch import compiler as compilers
from zmlx.launch.cache import cached, digest
from zmlx.launch.compiler import Compiler
from zmlx.launch.diagnosis import compile_error
from zmlx.launch.host import host_flags, host_text
from zmlx.launch.loading import loadable
from zmlx.metal.signature import Signature
from zmlx.runtime import RUNTIME

#: Little optimisation: calls of the library must be inlined, so that a place in the code is the author's line, and
#: two barriers must not be merged into one.
_CHECKED = ("-O1", "-g", "-fno-finite-loops", "-fstack-protector-strong", "-DZMLX_CHECKED")

#: By compiler: the instrumentation, and what else keeps the code close to its source.
_INSTRUMENTED = {
    "gcc": (
        "-fsanitize=thread",
        "-fsanitize=bounds,object-size,integer-divide-by-zero,alignment",
        "-finline-small-functions",
    ),
    "clang": ("-fsanitize=thread", "-fsanitize=array-bounds,integer-divide-by-zero,alignment"),
}

#: What is looked for besides, where arithmetic is checked.
_ARITHMETIC = (
    "-fno-wrapv",
    "-fsanitize=float-cast-overflow,signed-integer-overflow,shift",
    "-DZMLX_CHECK_ARITHMETIC",
)

#: What a checked kernel is linked with.
_LINK = ("-pthread", "-ldl")

#: Clang leaves out a read that a write to the same place follows: a race shows in the write. Not so a missing value.
_READS_BEFORE_WRITES = ("-mllvm", "-tsan-instrument-read-before-write=1")


@dataclass(frozen=True)
class CheckedProgram:
    """A kernel compiled for checked runs; ``warnings`` is what the compiler said about uninitialised variables."""

    library: ctypes.CDLL
    path: Path
    warnings: str
    rebuild: Callable[[], Path]

    def file(self) -> Path:
        """Where the library is, for its lines: built again if the cache was cleared since."""
        return self.path if self.path.exists() else self.rebuild()


@cache
def load_checked(signature: Signature, arithmetic: bool = False, filling: str = "") -> CheckedProgram:
    """Build, or take from the cache, the checked program of a signature.

    ``arithmetic``: conversions, overflows and shifts are checked too. ``filling``: one of `locals.FILLINGS`.

    Raises
    ------
    KernelCompileError
        The compiler refused the kernel.
    CompilerNotFoundError
        There is no compiler.
    """
    text = host_text(signature, single=False, checked=True)
    flags = (*host_flags(signature), *(_ARITHMETIC if arithmetic else ()), *((filling,) if filling else ()))

    def build() -> Path:
        return _build(signature, text, flags).resolve()

    path = build()
    library = ctypes.CDLL(str(loadable(path)))
    library.zmlx_check_prepare.argtypes = (ctypes.c_void_p,)
    library.zmlx_check_prepare.restype = ctypes.c_int
    library.zmlx_check_finish.argtypes = (ctypes.c_void_p,)
    library.zmlx_check_finish.restype = None
    library.zmlx_check_stop.argtypes = ()
    library.zmlx_check_stop.restype = None
    library.zmlx_check_size.restype = ctypes.c_uint64
    return CheckedProgram(library, path, _warnings(signature), build)


@cache
def _flags(compiler: Compiler) -> tuple[str, ...]:
    flags = (*_CHECKED, *_INSTRUMENTED[compiler.kind])
    known = compiler.kind == "clang" and _accepts(compiler, _READS_BEFORE_WRITES)
    return (*flags, *_READS_BEFORE_WRITES) if known else flags


@cache
def can_fill() -> bool:
    """Whether the compiler can give variables without a value one of `locals.FILLINGS`."""
    compiler = compilers.find_compiler()
    return all(_accepts(compiler, (filling,)) for filling in FILLINGS)


def _accepts(compiler: Compiler, flags: tuple[str, ...]) -> bool:
    """Whether a compiler knows these flags, which its versions may not all do."""
    command = [*compiler.command, "-fsanitize=thread", *flags, "-c", "-x", "c++", "-", "-o", os.devnull]
    return subprocess.run(command, input="int i;", capture_output=True, text=True).returncode == 0


def _build(signature: Signature, text: str, needed: tuple[str, ...]) -> Path:
    compiler = compilers.find_compiler()
    flags = (*_flags(compiler), *needed)

    def build(path: Path) -> None:
        header = compilers.precompiled_header(compiler, flags)
        checker = _checker(compiler)
        unit = path.with_suffix(".o")
        command = [
            *compiler.command,
            *compiler.flags,
            *flags,
            *header,
            "-c",
            "-x",
            "c++",
            "-",
            "-o",
            str(unit),
        ]
        try:
            run = subprocess.run(
                command, input=text, capture_output=True, text=True, env=compilers.in_english()
            )
            if run.returncode != 0:
                raise compile_error(signature, run.stderr, f"{compiler.version} refused it")
            # The checker first: of functions that both hold, the linker takes the optimised one.
            link = [
                *compiler.command,
                "-shared",
                str(checker),
                str(unit),
                "-o",
                str(path),
                *_LINK,
                *compiler.link_flags,
            ]
            run = subprocess.run(link, capture_output=True, text=True)
            if run.returncode != 0:
                raise KernelCompileError(
                    f"[metal_kernel] Linking the checked kernel {signature.kernel.name!r} failed:\n"
                    f"{run.stderr.strip()}\nThe command was: {' '.join(link)}",
                    run.stderr,
                )
        finally:
            unit.unlink(missing_ok=True)

    parts = (*flags, *_LINK, compiler.identity, compilers.runtime_digest("check/*.cpp"))
    return cached("checked", digest(text, *parts), ".so", build)


def _checker(compiler: Compiler) -> Path:
    """The checker itself, compiled without instrumentation."""

    def build(path: Path) -> None:
        source = str(RUNTIME / "check/check.cpp")
        command = [*compiler.command, *compiler.flags, "-O2", "-DZMLX_CHECKED", "-c", source, "-o", str(path)]
        run = subprocess.run(command, capture_output=True, text=True)
        if run.returncode != 0:
            raise KernelCompileError(
                f"[metal_kernel] Compiling the checker failed:\n{run.stderr.strip()}\n"
                f"The command was: {' '.join(command)}",
                run.stderr,
            )

    sources = compilers.runtime_digest("check/*.cpp")
    return cached("checked", digest("checker", compiler.identity, sources), ".o", build)


def _warnings(signature: Signature) -> str:
    """What the compiler says about variables that are used before they have a value.

    A compilation of its own, optimised and without instrumentation, which would both hide such uses and invent some.
    """
    compiler = compilers.find_compiler()
    text = host_text(signature, single=False)
    asked = {
        "gcc": ("-Wuninitialized", "-Wmaybe-uninitialized"),
        "clang": ("-Wuninitialized", "-Wsometimes-uninitialized"),
    }[compiler.kind]
    flags = (*compiler.flags, *host_flags(signature))

    def build(path: Path) -> None:
        header = ("-include", str(RUNTIME / "host/host.h"))
        command = [*compiler.command, *flags, "-O2", *asked, *header, "-S", "-x", "c++", "-", "-o", "-"]
        run = subprocess.run(command, input=text, capture_output=True, text=True, env=compilers.in_english())
        path.write_text("\n".join(line for line in run.stderr.splitlines() if "uninitialized" in line))

    return cached("checked", digest("warnings", text, *asked, compiler.identity), ".txt", build).read_text()
