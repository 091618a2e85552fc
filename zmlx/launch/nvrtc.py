"""NVIDIA's run-time compiler: finding the library and calling it. It needs neither a GPU nor a driver.

MLX's CUDA wheels bring it along (as the Python packages ``nvidia-cuda-nvrtc`` for CUDA 13 and
``nvidia-cuda-nvrtc-cu12``), so that ctypes is all it takes to call it.
"""

from __future__ import annotations

import contextlib
import ctypes
import importlib.util
import os
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path

from zmlx.errors import NvrtcNotFoundError

#: The library to use, instead of the first that is found.
NVRTC_VARIABLE = "ZMLX_NVRTC"

NVRTC_NOT_FOUND = (
    "[metal_kernel] No NVRTC: running a Metal kernel on CUDA compiles it first. {looked}. Install it with "
    "`pip install nvidia-cuda-nvrtc` (CUDA 13) or `pip install nvidia-cuda-nvrtc-cu12` (CUDA 12)."
)
_LOOKED = (
    "Looked for libnvrtc.so in the nvidia-cuda-nvrtc Python packages, on the loader's path, in $CUDA_HOME, "
    "$CUDA_PATH and /usr/local/cuda"
)

#: The oldest whose C++ front end takes the runtime headers; what MLX's CUDA 12 wheels bring is newer.
MIN_VERSION = (12, 8)

#: Sonames by preference. NVRTC is compatible within a CUDA major version.
_SONAMES = ("libnvrtc.so.13", "libnvrtc.so.12")

_SUCCESS = 0

_pointer = ctypes.c_void_p
_size = ctypes.POINTER(ctypes.c_size_t)
_int = ctypes.POINTER(ctypes.c_int)
_strings = ctypes.POINTER(ctypes.c_char_p)

#: Argument types of the functions that are called; all but nvrtcGetErrorString return a result code.
_PROTOTYPES = {
    "nvrtcVersion": (_int, _int),
    "nvrtcGetNumSupportedArchs": (_int,),
    "nvrtcGetSupportedArchs": (_int,),
    "nvrtcCreateProgram": (
        ctypes.POINTER(_pointer), ctypes.c_char_p, ctypes.c_char_p, ctypes.c_int, _strings, _strings
    ),
    "nvrtcCompileProgram": (_pointer, ctypes.c_int, _strings),
    "nvrtcGetProgramLogSize": (_pointer, _size),
    "nvrtcGetProgramLog": (_pointer, ctypes.c_char_p),
    "nvrtcGetCUBINSize": (_pointer, _size),
    "nvrtcGetCUBIN": (_pointer, ctypes.c_char_p),
    "nvrtcGetPTXSize": (_pointer, _size),
    "nvrtcGetPTX": (_pointer, ctypes.c_char_p),
    "nvrtcDestroyProgram": (ctypes.POINTER(_pointer),),
}  # fmt: skip


class NvrtcError(RuntimeError):
    """NVRTC refused a program. ``log`` is all that it said."""

    def __init__(self, message: str, log: str) -> None:
        super().__init__(message)
        self.log = log


@dataclass(frozen=True)
class Nvrtc:
    """A loaded NVRTC: where it came from, its (major, minor) version, the architectures that it knows."""

    path: str
    version: tuple[int, int]
    archs: tuple[int, ...]
    library: ctypes.CDLL = field(repr=False, compare=False)

    @property
    def name(self) -> str:
        """``NVRTC 13.0``."""
        return f"NVRTC {self.version[0]}.{self.version[1]}"

    def supports(self, arch: str) -> bool:
        """Whether ``arch``, such as ``"sm_90"`` or ``"compute_90"``, can be compiled for."""
        return arch_number(arch) in self.archs

    def compile(
        self, text: str, name: str, arch: str, options: Sequence[str], headers: Mapping[str, str]
    ) -> bytes:
        """Compile a program.

        Parameters
        ----------
        text, name
            The program and the file name that messages give it.
        arch
            ``"sm_90"`` for a CUBIN, ``"compute_90"`` for PTX.
        options
            Further options.
        headers
            Files that the program can include, by name.

        Raises
        ------
        ValueError
            This NVRTC does not know the architecture.
        NvrtcError
            The program has errors.
        """
        if not self.supports(arch):
            known = ", ".join(f"sm_{number}" for number in self.archs)
            raise ValueError(f"{self.name} cannot compile for {arch!r}. Expected one of {known}.")
        program = _pointer()
        self._call(
            "nvrtcCreateProgram",
            ctypes.byref(program),
            text.encode(),
            name.encode(),
            len(headers),
            _array(headers.values()),
            _array(headers.keys()),
        )
        try:
            arguments = [f"--gpu-architecture={arch}", *options]
            status = self.library.nvrtcCompileProgram(program, len(arguments), _array(arguments))
            if status != _SUCCESS:
                log = self._read(program, "ProgramLog").rstrip(b"\0").decode(errors="replace")
                raise NvrtcError(f"{self.name}: {self._describe(status)}", log or self._describe(status))
            return self._read(program, "PTX" if arch.startswith("compute_") else "CUBIN")
        finally:
            self._call("nvrtcDestroyProgram", ctypes.byref(program))

    def _read(self, program: ctypes.c_void_p, what: str) -> bytes:
        size = ctypes.c_size_t()
        self._call(f"nvrtcGet{what}Size", program, ctypes.byref(size))
        data = ctypes.create_string_buffer(size.value)
        self._call(f"nvrtcGet{what}", program, data)
        return data.raw

    def _call(self, function: str, *arguments: object) -> None:
        status = getattr(self.library, function)(*arguments)
        if status != _SUCCESS:
            raise NvrtcError(f"{self.name}: {function}: {self._describe(status)}", self._describe(status))

    def _describe(self, status: int) -> str:
        text: bytes = self.library.nvrtcGetErrorString(status)
        return text.decode()


@cache
def find_nvrtc() -> Nvrtc:
    """The NVRTC to use.

    In this order: ``$ZMLX_NVRTC``, one that this process has loaded already (MLX's own on a CUDA machine,
    which fits the driver), those in Python packages, the loader's, a CUDA toolkit's.

    Raises
    ------
    NvrtcNotFoundError
        There is none, or none that is new enough; the message says what to install.
    """
    named = os.environ.get(NVRTC_VARIABLE)
    failures = []
    for path, mode in [(named, ctypes.DEFAULT_MODE)] if named else _candidates():
        try:
            nvrtc = load(path, mode)
        except (OSError, AttributeError) as error:
            # Not being on the loader's path is no news.
            if named or "/" in path:
                failures.append(f"{path} does not load ({error})")
            continue
        if nvrtc.version >= MIN_VERSION:
            return nvrtc
        failures.append(f"{nvrtc.name} in {path} is older than {MIN_VERSION[0]}.{MIN_VERSION[1]}")
    looked = f"{NVRTC_VARIABLE} is {named!r}" if named else _LOOKED
    raise NvrtcNotFoundError(NVRTC_NOT_FOUND.format(looked="; ".join([looked, *failures])))


def load(path: str, mode: int = ctypes.DEFAULT_MODE) -> Nvrtc:
    """Load a library; OSError if there is none, AttributeError if it is not NVRTC."""
    library = ctypes.CDLL(path, mode)
    for function, arguments in _PROTOTYPES.items():
        getattr(library, function).argtypes = arguments
    library.nvrtcGetErrorString.argtypes = (ctypes.c_int,)
    library.nvrtcGetErrorString.restype = ctypes.c_char_p
    major, minor, count = ctypes.c_int(), ctypes.c_int(), ctypes.c_int()
    library.nvrtcVersion(ctypes.byref(major), ctypes.byref(minor))
    _load_builtins(_folder(path), (major.value, minor.value))
    library.nvrtcGetNumSupportedArchs(ctypes.byref(count))
    archs = (ctypes.c_int * count.value)()
    library.nvrtcGetSupportedArchs(archs)
    return Nvrtc(path, (major.value, minor.value), tuple(archs), library)


def _folder(path: str) -> Path | None:
    """Where a library that is loaded lies, whether by its path or by its name alone."""
    if "/" in path:
        return Path(path).resolve().parent
    try:
        lines = Path("/proc/self/maps").read_text().splitlines()
    except OSError:
        return None  # not Linux, where NVRTC is not either
    mapped = (line.partition("/")[2] for line in lines if "/" in line)
    return next(
        (Path("/", file).parent for file in mapped if Path(file).name.startswith("libnvrtc.so")), None
    )


def _load_builtins(folder: Path | None, version: tuple[int, int]) -> None:
    """Load what NVRTC itself loads by name when it compiles, and finds only if it is loaded or on the loader's path:
    some wheels (nvidia-cuda-nvrtc 13.0) do not tell the loader to look beside the library."""
    found = folder.glob(f"libnvrtc-builtins.so.{version[0]}.{version[1]}*") if folder is not None else ()
    for path in sorted(found):
        # One that does not load is no worse than one that is missing: NVRTC looks for itself, and says so.
        with contextlib.suppress(OSError):
            ctypes.CDLL(str(path), ctypes.RTLD_GLOBAL)


def _candidates() -> Iterator[tuple[str, int]]:
    """Libraries to try, with how to load them."""
    for soname in _SONAMES:
        yield soname, os.RTLD_NOLOAD | os.RTLD_NOW
    packages = [Path(folder) for folder in _namespace_folders("nvidia")]
    found = [path for folder in packages for path in folder.glob("*/lib/libnvrtc.so.*")]
    for path in sorted(found, key=_major, reverse=True):
        yield str(path), ctypes.DEFAULT_MODE
    for soname in (*_SONAMES, "libnvrtc.so"):
        yield soname, ctypes.DEFAULT_MODE
    toolkits = (os.environ.get("CUDA_HOME"), os.environ.get("CUDA_PATH"), "/usr/local/cuda")
    for toolkit in toolkits:
        for path in sorted(Path(toolkit).glob("lib*/libnvrtc.so")) if toolkit else ():
            yield str(path), ctypes.DEFAULT_MODE


def _namespace_folders(package: str) -> list[str]:
    spec = importlib.util.find_spec(package)
    return list(spec.submodule_search_locations or ()) if spec is not None else []


def _major(path: Path) -> int:
    number = re.search(r"\.so\.(\d+)", path.name)
    return int(number[1]) if number else 0


def arch_number(arch: str) -> int:
    """90 for ``"sm_90"``."""
    match = re.fullmatch(r"(?:sm|compute)_(\d+)[af]?", arch)
    if match is None:
        raise ValueError(f"Expected an architecture such as 'sm_90' but got {arch!r}.")
    return int(match[1])


def _array(values: Iterable[str]) -> ctypes.Array[ctypes.c_char_p]:
    encoded = [value.encode() for value in values]
    return (ctypes.c_char_p * len(encoded))(*encoded)
