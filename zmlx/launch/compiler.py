"""The host's C++ compiler: finding it, calling it, and making its messages speak of the kernel's own lines."""

from __future__ import annotations

import contextlib
import ctypes
import os
import platform
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextvars import ContextVar
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from zmlx.errors import CompilerNotFoundError, KernelCompileError
from zmlx.launch.cache import cached, digest, digest_of_files
from zmlx.launch.diagnosis import compile_error
from zmlx.metal.signature import Signature
from zmlx.runtime import RUNTIME

COMPILER_NOT_FOUND = (
    "[metal_kernel] No C++ compiler: running a Metal kernel on the CPU compiles it first. Looked for $CXX, "
    "{candidates} on PATH. Install one ({hint}) or set CXX to a C++17 compiler."
)

_HINTS = {
    "darwin": "`xcode-select --install`",
    "linux": "`apt install g++`, `dnf install gcc-c++` or `conda install cxx-compiler`",
}

#: What every host build is compiled with. Contraction is off so that results do not depend on whether the machine
#: has fused multiply-add; -fno-trapping-math and -fno-math-errno change no result and let selects vectorise.
_FLAGS = (
    "-std=c++17",
    "-fPIC",
    "-fvisibility=hidden",
    "-fwrapv",
    "-fsigned-char",  # as in Metal; arm64 Linux would have it unsigned
    "-ffp-contract=off",
    "-fno-math-errno",
    "-fno-trapping-math",
    "-fno-strict-aliasing",
    "-fno-exceptions",
    "-fno-rtti",
    "-fno-asynchronous-unwind-tables",
    "-fno-stack-protector",
    "-U_FORTIFY_SOURCE",  # its longjmp check does not know fibers
    "-Werror=vla",  # Metal has no arrays whose size is known only when they are made
    *("-Wno-attributes", "-Wno-psabi"),
)


#: How registers are allotted, at every level: all loops of a function as one region. GCC 12 takes two thirds of the
#: time over a kernel that it takes with a region for each loop, and the code is as fast.
_REGISTERS = {"clang": (), "gcc": ("-fira-region=one",)}

#: How kernels are optimised, by the compiler. For GCC all that its manual says -O3 does beyond -O2: as fast code, which
#: GCC 12 takes two thirds of the time to make that it takes for -O3.
_OPTIMISATION = {
    "clang": ("-O3",),
    "gcc": (
        "-O2",
        *("-fgcse-after-reload", "-fipa-cp-clone", "-floop-interchange", "-floop-unroll-and-jam"),
        *("-fpeel-loops", "-fpredictive-commoning", "-fsplit-loops", "-fsplit-paths"),
        *("-ftree-loop-distribution", "-ftree-partial-pre", "-funswitch-loops"),
        *("-fvect-cost-model=dynamic", "-fversion-loops-for-strides"),
        # -O3's own bounds of what is inlined.
        *("--param=max-inline-insns-auto=30", "--param=max-inline-insns-single=200"),
        "--param=inline-min-speedup=15",
        # What -O2 of GCC 11 does not do yet.
        *("-ftree-vectorize", "-ftree-slp-vectorize"),
    ),
}

_hastily: ContextVar[bool] = ContextVar("zmlx_hastily", default=False)


def hasty() -> bool:
    """Whether kernels are compiled `hastily` here."""
    return _hastily.get()


@contextlib.contextmanager
def hastily() -> Iterator[None]:
    """Compile kernels at -O1, in half of the time: those that run once or twice, on little."""
    token = _hastily.set(True)
    try:
        yield
    finally:
        _hastily.reset(token)


#: gcc, clang, cc and x86_64-linux-gnu-gcc-12, but not g++ and clang++.
_C_DRIVER = re.compile(r"(^|-)(gcc|clang|cc)(-[\d.]+)?$")
#: Programs that run the compiler named behind them.
_LAUNCHERS = ("ccache", "sccache", "distcc", "icecc", "env", "nice", "time")


@dataclass(frozen=True)
class Compiler:
    """A C++ compiler: its path, ``gcc`` or ``clang``, and the first line of what ``--version`` says.

    ``launcher`` is what stands in front of it in ``$CXX``, such as ccache, and ``options`` what stands behind.
    """

    path: str
    kind: str
    version: str
    launcher: tuple[str, ...] = ()
    options: tuple[str, ...] = ()

    @property
    def command(self) -> tuple[str, ...]:
        """How a command that compiles begins."""
        return (*self.launcher, self.path, *self.options)

    @property
    def link_flags(self) -> tuple[str, ...]:
        """What linking C++ needs: drivers for C (gcc, clang) leave its library out."""
        if _C_DRIVER.search(Path(self.path).name) is None:
            return ()
        return ("-lc++",) if sys.platform == "darwin" else ("-lstdc++", "-lm")

    @property
    def flags(self) -> tuple[str, ...]:
        """The flags for kernels on this machine, without how they are optimised."""
        return (f"-I{RUNTIME}", *_code_flags(self.kind))

    @property
    def optimisation(self) -> tuple[str, ...]:
        """How kernels are optimised."""
        return _OPTIMISATION[self.kind]

    @property
    def identity(self) -> str:
        """All that a compiled kernel depends on besides its text: compiler, flags, processor, headers."""
        return _identity(self)


@lru_cache
def find_compiler() -> Compiler:
    """The C++ compiler to use: ``$CXX``, else the first of ``c++``, ``g++``, ``clang++`` on PATH.

    ``$CXX`` is a compiler's name or path, or a command: ``ccache g++``, ``g++ --sysroot=/opt/sdk``.

    Raises
    ------
    CompilerNotFoundError
        There is none, ``$CXX`` names none, or one for another machine; the message says what to do.
    """
    candidates = ("c++", "g++", "clang++")
    named = os.environ.get("CXX", "").strip()
    if named:
        return _named(named)
    for candidate in candidates:
        path = shutil.which(candidate)
        if path is not None:
            return _describe(path)
    raise CompilerNotFoundError(_not_found(", ".join(candidates)))


def _not_found(looked_for: str) -> str:
    return COMPILER_NOT_FOUND.format(candidates=looked_for, hint=_HINTS.get(sys.platform, "g++ or clang++"))


def _named(text: str) -> Compiler:
    """The compiler in ``$CXX``."""
    path = shutil.which(text)  # also one whose path has spaces in it
    words: list[str] = [text]
    if path is None:
        try:
            words = shlex.split(text)
        except ValueError as error:
            raise CompilerNotFoundError(f"[metal_kernel] CXX={text!r} is no command ({error}).") from error
    at = 0
    while at + 1 < len(words) and Path(words[at]).name in _LAUNCHERS:
        at += 1
    if Path(words[at]).name in _LAUNCHERS:
        raise CompilerNotFoundError(
            f"[metal_kernel] CXX={text!r} is a launcher without a compiler: {Path(words[at]).name} runs the command "
            f"behind it. Put one there: CXX='{' '.join(words)} c++'."
        )
    found = [shutil.which(word) for word in words[: at + 1]]
    missing = next((word for word, where in zip(words, found, strict=False) if where is None), None)
    if missing is not None:
        raise CompilerNotFoundError(_not_found(f"which is {missing!r} and is not"))
    command = [where for where in found if where is not None]
    compiler = _describe(command[-1], tuple(command[:-1]), tuple(words[at + 1 :]))
    _check_target(text, compiler)
    return compiler


def _describe(path: str, launcher: tuple[str, ...] = (), options: tuple[str, ...] = ()) -> Compiler:
    command = [*launcher, path, *options, "--version"]
    try:
        run = subprocess.run(command, capture_output=True, text=True, check=True, timeout=60)
    except (OSError, subprocess.SubprocessError) as error:
        raise CompilerNotFoundError(
            f"[metal_kernel] The C++ compiler {path!r} does not run ({error}). Install one or set CXX to one."
        ) from error
    version = run.stdout.splitlines()[0] if run.stdout else "unknown version"
    return Compiler(path, "clang" if "clang" in run.stdout.lower() else "gcc", version, launcher, options)


#: What `platform.machine` says and the macro by which compilers say the same.
_MACHINES = {"x86_64": "__x86_64__", "amd64": "__x86_64__", "arm64": "__aarch64__", "aarch64": "__aarch64__"}


def _check_target(text: str, compiler: Compiler) -> None:
    """Refuse a compiler whose code this Python cannot load, or that knows no C++."""
    command = [*compiler.command, "-dM", "-E", "-x", "c++", os.devnull]
    run = subprocess.run(command, capture_output=True, text=True, timeout=60)
    if run.returncode != 0:
        raise CompilerNotFoundError(
            f"[metal_kernel] CXX={text!r} does not compile C++: {run.stderr.strip() or 'it said nothing'}. Set CXX "
            f"to a C++17 compiler, or install its C++ part ({_HINTS.get(sys.platform, 'g++ or clang++')})."
        )
    macros = dict(re.findall(r"^#define (\w+) (.*)$", run.stdout, re.MULTILINE))
    bits, ours = 8 * int(macros.get("__SIZEOF_POINTER__", 8)), 8 * ctypes.sizeof(ctypes.c_void_p)
    machine = platform.machine().lower()
    if bits != ours:
        reason = f"makes {bits}-bit code, and this Python is a {ours}-bit program"
    elif _MACHINES.get(machine, "__SIZEOF_POINTER__") not in macros:
        reason = f"makes code for another machine than this one ({machine})"
    else:
        return
    raise CompilerNotFoundError(
        f"[metal_kernel] CXX={text!r} {reason}: what it compiles cannot be loaded. Set CXX to a "
        "compiler for this machine."
    )


def _code_flags(kind: str) -> tuple[str, ...]:
    return (*_FLAGS, *_REGISTERS[kind], *_machine_flags())


def _machine_flags() -> tuple[str, ...]:
    machine = platform.machine().lower()
    if machine in ("x86_64", "amd64"):
        # Without the instructions that mark where a jump may go: nothing asks for them in a kernel.
        return ("-march=native", "-fcf-protection=none")
    if machine in ("arm64", "aarch64"):
        return ("-mcpu=native",)
    return ()


@lru_cache
def _identity(compiler: Compiler) -> str:
    # Where the runtime lies makes no difference, only what is in it: another checkout finds the same kernels.
    flags = (*_code_flags(compiler.kind), *compiler.optimisation)
    parts = (*compiler.options, *compiler.link_flags, *flags)
    headers = runtime_digest("msl/*.h", "host/*.h", "check/*.h")
    return digest(compiler.path, compiler.version, *parts, processor(), headers)


@lru_cache
def runtime_digest(*patterns: str) -> str:
    """Digest of the files of the C++ runtime that match one of these patterns."""
    return digest_of_files(RUNTIME, sorted({path for pattern in patterns for path in RUNTIME.glob(pattern)}))


@lru_cache
def processor() -> str:
    """What -march=native depends on: model and feature flags of the processor, as the system tells them."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return f"{platform.machine()} {platform.processor()} {platform.release()}"
    wanted = re.compile(r"(model name|flags|Features|CPU (implementer|architecture|part))\s*:")
    return platform.machine() + "\n".join(sorted({line for line in lines if wanted.match(line)}))


@lru_cache
def runtime_library() -> Path:
    """The compiled worker pool, built when first needed."""
    compiler = find_compiler()

    def build(path: Path) -> None:
        source = RUNTIME / "host/runtime.cpp"
        _run(
            [
                *compiler.command,
                *compiler.flags,
                *compiler.optimisation,
                "-shared",
                str(source),
                "-o",
                str(path),
                "-pthread",
                *compiler.link_flags,
            ],
            "the host runtime",
        )

    return cached("host", digest("runtime", compiler.identity, runtime_digest("host/*.cpp")), ".so", build)


def precompiled_header(compiler: Compiler, flags: tuple[str, ...]) -> tuple[str, ...]:
    """Arguments that include the runtime header, precompiled with the same flags as what includes it."""
    suffix = ".h.gch" if compiler.kind == "gcc" else ".h.pch"

    def build(path: Path) -> None:
        source = str(RUNTIME / "host/host.h")
        _run(
            [*compiler.command, *compiler.flags, *flags, "-x", "c++-header", source, "-o", str(path)],
            "the host header",
        )

    path = cached("header", digest("header", *flags, compiler.identity), suffix, build)
    if compiler.kind == "clang":
        return ("-include-pch", str(path))
    # GCC takes NAME.h.gch in place of NAME.h, which must exist for its diagnostics only.
    return ("-include", str(path)[: -len(".gch")])


def compile_host(signature: Signature, text: str, defines: tuple[str, ...], haste: bool = False) -> Path:
    """Compile a translated kernel to a shared library and return its path in the cache.

    ``haste``: see `hastily`.

    Raises
    ------
    KernelCompileError
        The compiler refused it. The message shows the first errors against the kernel's own source.
    CompilerNotFoundError
        There is no compiler.
    """
    compiler = find_compiler()
    flags = (*(("-O1",) if haste else compiler.optimisation), *defines)

    def build(path: Path) -> None:
        header = precompiled_header(compiler, flags)
        command = [
            *compiler.command,
            *compiler.flags,
            *flags,
            *header,
            "-shared",
            "-x",
            "c++",
            "-",
            "-o",
            str(path),
            *compiler.link_flags,
        ]
        run = subprocess.run(command, input=text, capture_output=True, text=True, env=in_english())
        if run.returncode != 0:
            raise compile_error(signature, run.stderr, f"{compiler.version} refused it")

    return cached("host", digest(text, *flags, compiler.identity), ".so", build)


def in_english() -> dict[str, str]:
    """The environment in which a compiler speaks the language that diagnosis.py reads."""
    return {**os.environ, "LC_ALL": "C"}


def _run(command: list[str], what: str) -> None:
    run = subprocess.run(command, capture_output=True, text=True)
    if run.returncode != 0:
        raise KernelCompileError(
            f"[metal_kernel] Compiling {what} failed:\n{run.stderr.strip()}\nThe command was: {' '.join(command)}",
            run.stderr,
        )
