"""Calls the C++ runtime from Python: small functions, compiled as kernels are into one library for each test module."""

from __future__ import annotations

import ctypes
import re
import subprocess
from dataclasses import dataclass
from functools import cache, cached_property
from pathlib import Path

import numpy as np

from zmlx.launch.cache import cached, digest
from zmlx.launch.compiler import find_compiler
from zmlx.runtime import RUNTIME

#: C++ name of a type and the NumPy type that holds its values. bfloat16 travels as its bits.
DTYPES = {
    "float": np.float32,
    "half": np.float16,
    "bfloat": np.uint16,
    "bool": np.bool_,
    "char": np.int8,
    "uchar": np.uint8,
    "short": np.int16,
    "ushort": np.uint16,
    "int": np.int32,
    "uint": np.uint32,
    "long": np.int64,
    "ulong": np.uint64,
    "complex64_t": np.complex64,
}

PRELUDE = '#include "msl/msl.h"\nnamespace metal { namespace zmlx_kernel {\n'
EPILOGUE = "\n}}\n"
EXPORT = 'extern "C" __attribute__((visibility("default")))'


@dataclass(frozen=True)
class Loop:
    """A function applied to arrays: ``out[i] = expression`` with the parameters' values in scope.

    ``parameters`` are declarations such as ``"float x"``; ``out`` is the type of the result.
    """

    name: str
    out: str
    parameters: tuple[str, ...]
    expression: str

    @cached_property
    def inputs(self) -> tuple[str, ...]:
        return tuple(parameter.split()[0] for parameter in self.parameters)

    @cached_property
    def text(self) -> str:
        arrays = "".join(f", const {kind}* __restrict in{i}" for i, kind in enumerate(self.inputs))
        values = "".join(f"const {p} = in{i}[k]; " for i, p in enumerate(self.parameters))
        # A result of another type than declared is an error, not a conversion.
        result = f"auto value = {self.expression}; static_assert(is_same_v<decltype(value), {self.out}>);"
        return (
            f"{EXPORT} void loop_{self.name}(long n, {self.out}* __restrict out{arrays}) {{\n"
            f"  for (long k = 0; k < n; ++k) {{ {values}{result} out[k] = value; }}\n}}\n"
        )


class Library:
    """Loops and other exported functions, compiled with the flags that kernels are compiled with."""

    def __init__(self, loops: list[Loop], extra: str = "") -> None:
        self.loops = {loop.name: loop for loop in loops}
        assert len(self.loops) == len(loops), "two loops have the same name"
        self.text = PRELUDE + extra + "".join(loop.text for loop in loops) + EPILOGUE
        self.dll = ctypes.CDLL(str(compile_library(self.text)))

    def __call__(self, name: str, *arrays: np.ndarray) -> np.ndarray:
        """The loop's results for these inputs, which are converted to its parameters' types."""
        loop = self.loops[name]
        inputs = [np.ascontiguousarray(a, DTYPES[kind]) for a, kind in zip(arrays, loop.inputs, strict=True)]
        out = np.empty(inputs[0].shape, DTYPES[loop.out])
        self.call(f"loop_{name}", out.size, out, *inputs)
        return out

    def call(self, name: str, *arguments: np.ndarray | int) -> None:
        """Call an exported function: arrays as pointers, integers as ``long``."""
        function = getattr(self.dll, name)
        function.restype = None
        function(
            *(ctypes.c_long(a) if isinstance(a, int) else ctypes.c_void_p(a.ctypes.data) for a in arguments)
        )


def compile_library(text: str) -> Path:
    """The path of the shared library made of ``text``, from the kernel cache if it is there."""
    compiler = find_compiler()

    def build(path: Path) -> None:
        run = _compile(text, "-shared", "-o", str(path))
        assert run.returncode == 0, run.stderr

    return cached("test", digest(text, compiler.identity), ".so", build)


def refusal(body: str) -> str:
    """What the compiler says of a function body, or an empty string if it compiles."""
    run = _compile(f'{PRELUDE}void probe() {{\n#line 1 "probe"\n{body}\n}}{EPILOGUE}', "-fsyntax-only")
    return run.stderr if run.returncode else ""


@cache
def macros() -> frozenset[str]:
    """What the compiler defines by itself, which says what the machine has."""
    run = _compile("", "-dM", "-E")
    assert run.returncode == 0, run.stderr
    return frozenset(line.split()[1] for line in run.stdout.splitlines())


def vectorised(loops: list[Loop]) -> set[str]:
    """The names of the loops that the compiler turned into vector instructions, by its own report."""
    # Functions that turn out equal are not to be folded into one, which alone would be reported.
    gcc = ("-fopt-info-vec-optimized", "-fno-ipa-icf")
    report = gcc if find_compiler().kind == "gcc" else ("-Rpass=loop-vectorize",)
    text = PRELUDE + "".join(f'#line 1 "loop {loop.name}"\n{loop.text}' for loop in loops) + EPILOGUE
    run = _compile(text, "-c", "-o", "/dev/null", *report)
    assert run.returncode == 0, run.stderr
    return set(re.findall(r"(?m)^loop (\w+):.*(?:loop vectorized|vectorized loop)", run.stderr))


def _compile(text: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    compiler = find_compiler()
    flags = (*compiler.flags, *compiler.optimisation)
    command = [compiler.path, *flags, f"-I{RUNTIME}", *arguments, "-x", "c++", "-"]
    return subprocess.run(command, input=text, capture_output=True, text=True)
