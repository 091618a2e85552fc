"""Which back end this process is on, and why the others are not available.

Importing this module does not import MLX; its functions do, when they are called. Three questions have
three answers:

=====================  =======================================================  ==================
question               function                                                 ``ZMLX_TEST_BACKEND``
=====================  =======================================================  ==================
where does work go     :func:`detect_backend`, from ``mx.default_device()``     overrides
what may be used       :func:`is_metal_available`, :func:`is_cuda_available`,   hides the others
                       :func:`has_gpu_backend`
what is there          :func:`availability`, with a reason for each             ignored
=====================  =======================================================  ==================

So ``ZMLX_TEST_BACKEND=cpu`` makes a Mac or a CUDA machine look like one that has a CPU only;
:func:`select_backend` (which the pytest plugin calls) also sends the work there.
"""

from __future__ import annotations

import ctypes
import importlib
import os
import platform
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from types import ModuleType
from typing import Any, Literal

Backend = Literal["metal", "cuda", "cpu"]

BACKENDS: tuple[Backend, ...] = ("metal", "cuda", "cpu")
TEST_BACKEND_VARIABLE = "ZMLX_TEST_BACKEND"

# The machines for which MLX publishes wheels.
_SUPPORTED_HOSTS = {("Darwin", "arm64"), ("Linux", "x86_64"), ("Linux", "aarch64")}
_MACHINE_ALIASES = {"amd64": "x86_64", "arm64e": "arm64"}
_SYSTEM_NAMES = {"Darwin": "macOS"}


class BackendUnavailableError(RuntimeError):
    """A back end was asked for that this machine does not have; the message says why."""


@dataclass(frozen=True)
class Availability:
    """Whether a back end can be used here, and the reason, which says what to do where it cannot."""

    available: bool
    reason: str


@dataclass(frozen=True)
class CudaDriver:
    """What the NVIDIA driver says: the number of GPUs it shows, or why it shows none."""

    device_count: int
    problem: str = ""


def _load_mx() -> ModuleType:
    return importlib.import_module("mlx.core")


def query_cuda_driver() -> CudaDriver:
    """Ask the NVIDIA driver itself how many GPUs it shows, without MLX and without a CUDA toolkit."""
    try:
        driver = ctypes.CDLL("libcuda.so.1")
    except OSError:
        return CudaDriver(0, "there is no NVIDIA driver (libcuda.so.1 cannot be loaded)")
    status = driver.cuInit(0)
    if status == 0:
        count = ctypes.c_int(0)
        status = driver.cuDeviceGetCount(ctypes.byref(count))
        if status == 0 and count.value > 0:
            return CudaDriver(count.value)
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    hidden = f", CUDA_VISIBLE_DEVICES is {visible!r}" if visible is not None else ""
    return CudaDriver(0, f"the NVIDIA driver shows no GPU (driver status {status}{hidden})")


@dataclass(frozen=True)
class Host:
    """What the answers depend on. Tests put fakes here for machines that they do not run on."""

    system: str
    machine: str
    load_mx: Callable[[], ModuleType] = _load_mx
    cuda_driver: Callable[[], CudaDriver] = query_cuda_driver
    environ: Mapping[str, str] = field(default_factory=lambda: os.environ)

    @property
    def system_name(self) -> str:
        return _SYSTEM_NAMES.get(self.system, self.system or "an unknown system")


def this_host() -> Host:
    """The machine that this process runs on."""
    machine = platform.machine()
    return Host(platform.system(), _MACHINE_ALIASES.get(machine.lower(), machine))


def is_macos() -> bool:
    """Whether this is macOS."""
    return this_host().system == "Darwin"


def is_arm64() -> bool:
    """Whether the processor, as this Python sees it, is a 64-bit ARM (macOS says arm64, Linux aarch64)."""
    return this_host().machine in ("arm64", "aarch64")


def is_supported_host() -> bool:
    """Whether MLX publishes wheels for this machine: macOS on Apple silicon, Linux on x86-64 or arm64."""
    host = this_host()
    return (host.system, host.machine) in _SUPPORTED_HOSTS


_INSTALL_MACOS = """\
Install MLX, which on macOS is zmlx's own dependency (Metal and CPU in one wheel):
  pip install --force-reinstall mlx mlx-metal"""

_INSTALL_MACOS_X86 = """\
MLX needs Apple silicon, and this Python is an x86-64 one. On an Apple silicon Mac it runs under Rosetta: use
an arm64 Python, where `python -c "import platform; print(platform.machine())"` prints arm64."""

_INSTALL_LINUX = """\
Install MLX with one back end:
  pip install '.[cpu]'      the CPU only
  pip install '.[cuda13]'   an NVIDIA GPU with driver 580 or newer
  pip install '.[cuda12]'   an NVIDIA GPU with an older driver
A bare `pip install mlx` does not import on Linux: it is the Python half, and the library that it loads comes
with the extra. Install only one of them in an environment: they overwrite each other's files."""

_INSTALL_OTHER = """\
zmlx runs on macOS with Apple silicon and on Linux, x86-64 and arm64. On Windows use WSL 2, which is a Linux:
pip install '.[cpu]' there."""


# What a loader's message means, by what it mentions.
_CAUSES = (
    (
        r"libmlx\.",
        "MLX's library is missing: its wheel was never installed, or another one's removal took it away.",
    ),
    (
        r"libcuda\.so",
        """\
MLX's CUDA wheel needs the NVIDIA driver even to import, and there is none: install the driver, start the
container with its GPUs (docker run --gpus all), or use zmlx[cpu] in an environment of its own.""",
    ),
    (
        r"lib(cublas|cudart|cudnn|cufft|cusolver|nccl|nvrtc)",
        "NVIDIA's libraries are missing; the extra brings them along, unless pip was told --no-deps.",
    ),
    (r"GLIBC", "This system's C library is older than the wheel: use a newer distribution or container."),
)


def _explain(cause: str) -> str:
    return next((f"{meaning}\n" for pattern, meaning in _CAUSES if re.search(pattern, cause)), "")


def _install_advice(host: Host) -> str:
    if host.system == "Darwin":
        return _INSTALL_MACOS if host.machine == "arm64" else _INSTALL_MACOS_X86
    return _INSTALL_LINUX if host.system == "Linux" else _INSTALL_OTHER


def _describe(error: BaseException) -> str:
    return f"{type(error).__name__}: {str(error).strip() or 'no message'}"


def _import_mx(host: Host) -> ModuleType:
    try:
        return host.load_mx()
    # Not only ImportError: a library built for another driver or processor can fail in its own way.
    except Exception as error:
        python = f"Python {platform.python_version()}"
        raise ImportError(
            f"zmlx needs MLX, and `import mlx.core` failed on this machine "
            f"({host.system_name} {host.machine}, {python}).\n"
            f"Cause: {_describe(error)}\n{_explain(str(error))}{_install_advice(host)}",
            name="mlx.core",
        ) from error


def import_mx() -> ModuleType:
    """Import and return ``mlx.core``.

    Raises
    ------
    ImportError
        MLX is absent or does not load; the message gives the cause and what to install on this platform.
    """
    return _import_mx(this_host())


def _flag(mx: ModuleType, namespace: str) -> bool:
    """``mx.<namespace>.is_available()``, False where this MLX version has no such namespace."""
    probe = getattr(getattr(mx, namespace, None), "is_available", None)
    return bool(probe()) if probe is not None else False


def _version(mx: ModuleType) -> str:
    return str(getattr(mx, "__version__", "of unknown version"))


def _metal_availability(host: Host, mx: ModuleType) -> Availability:
    if host.system != "Darwin":
        return Availability(False, f"Metal needs macOS on Apple silicon; this is {host.system_name}")
    if host.machine != "arm64":
        return Availability(False, f"Metal in MLX needs Apple silicon; this Python runs as {host.machine}")
    if not _flag(mx, "metal"):
        return Availability(
            False,
            f"MLX {_version(mx)} finds no Metal device; it needs macOS 14 or newer and a GPU that the system "
            "shows (some virtual machines hide it)",
        )
    return Availability(True, f"MLX {_version(mx)} with Metal")


def _cuda_availability(host: Host, mx: ModuleType) -> Availability:
    if host.system == "Darwin":
        return Availability(False, "CUDA needs an NVIDIA GPU, and there is no CUDA for macOS")
    if not _flag(mx, "cuda"):
        driver = host.cuda_driver()
        if driver.device_count == 0:
            return Availability(False, f"MLX {_version(mx)} is a build without CUDA, and {driver.problem}")
        return Availability(
            False,
            f"MLX {_version(mx)} is a build without CUDA, though the NVIDIA driver shows a GPU; in a fresh "
            "environment, pip install '.[cuda13]' (or '.[cuda12]' for a driver older than 580)",
        )
    # A CUDA build of MLX calls CUDA available even where there is no GPU, so the devices are counted.
    count = getattr(mx, "device_count", None)
    devices = int(count(mx.gpu)) if count is not None else host.cuda_driver().device_count
    if devices == 0:
        problem = host.cuda_driver().problem or "its CUDA runtime cannot use the GPUs that the driver shows"
        return Availability(
            False,
            f"MLX {_version(mx)} is a CUDA build, but {problem}; install or update the driver, or start the "
            "container with its GPUs (docker run --gpus all)",
        )
    return Availability(True, f"MLX {_version(mx)} with CUDA, {devices} GPU{'s' if devices > 1 else ''}")


def _cpu_availability(host: Host, mx: ModuleType) -> Availability:
    return Availability(True, f"MLX {_version(mx)} on {host.machine}")


_PROBES: dict[Backend, Callable[[Host, ModuleType], Availability]] = {
    "metal": _metal_availability,
    "cuda": _cuda_availability,
    "cpu": _cpu_availability,
}


def _availability(host: Host) -> dict[Backend, Availability]:
    try:
        mx = _import_mx(host)
    except ImportError as error:
        cause = _describe(error.__cause__ or error).splitlines()[0]
        none = Availability(False, f"MLX does not import here ({cause})")
        return dict.fromkeys(BACKENDS, none)
    return {backend: probe(host, mx) for backend, probe in _PROBES.items()}


def availability() -> dict[Backend, Availability]:
    """For each back end in :data:`BACKENDS`, whether MLX can run on it here and why, or why not.

    Neither the default device nor ``ZMLX_TEST_BACKEND`` has a say in it. Never raises: where MLX does not
    import, each reason says so.
    """
    return _availability(this_host())


def check_backend_name(name: str, origin: str = "back end") -> Backend:
    """Return ``name`` if it is one of :data:`BACKENDS`.

    Raises
    ------
    ValueError
        It is not; the message begins with ``origin``, where the name came from, and lists the known names.
    """
    for backend in BACKENDS:
        if name == backend:
            return backend
    raise ValueError(f"{origin}: expected one of {', '.join(BACKENDS)}; got {name!r}.")


def _requested(host: Host) -> Backend | None:
    name = host.environ.get(TEST_BACKEND_VARIABLE, "")
    return check_backend_name(name, f"environment variable {TEST_BACKEND_VARIABLE}") if name else None


def _usable(host: Host, backend: Backend) -> bool:
    return _requested(host) in (None, backend) and _availability(host)[backend].available


def is_metal_available() -> bool:
    """Whether this process can use Metal: MLX finds a Metal device, and ``ZMLX_TEST_BACKEND`` names no other
    back end."""
    return _usable(this_host(), "metal")


def is_cuda_available() -> bool:
    """Whether this process can use CUDA: MLX's CUDA build with an NVIDIA GPU, and ``ZMLX_TEST_BACKEND`` names
    no other back end."""
    return _usable(this_host(), "cuda")


def has_gpu_backend() -> bool:
    """Whether this process can use a GPU, through Metal or CUDA."""
    return is_metal_available() or is_cuda_available()


def _require(host: Host, backend: Backend, origin: str) -> None:
    state = _availability(host)[backend]
    if not state.available:
        raise BackendUnavailableError(f"{origin}: {backend} is not available here: {state.reason}.")


def _detect(host: Host) -> Backend | Literal["unknown"]:
    requested = _requested(host)
    if requested is not None:
        _require(host, requested, f"{TEST_BACKEND_VARIABLE}={requested}")
        return requested
    try:
        mx = _import_mx(host)
    except ImportError:
        return "unknown"
    if mx.default_device().type == mx.DeviceType.cpu:
        return "cpu"
    states = _availability(host)
    for backend in ("metal", "cuda"):
        if states[backend].available:
            return backend
    raise BackendUnavailableError(
        "MLX's default device is a GPU that cannot be used: "
        f"{states['metal' if host.system == 'Darwin' else 'cuda'].reason}.\n"
        f"To work on the CPU, set {TEST_BACKEND_VARIABLE}=cpu for the tests, or call "
        "mx.set_default_device(mx.cpu)."
    )


def detect_backend() -> Literal["metal", "cuda", "cpu", "unknown"]:
    """The back end on which work without a ``stream`` runs: that of ``mx.default_device()``.

    ``ZMLX_TEST_BACKEND`` overrides it. ``"unknown"`` means that MLX does not import; :func:`import_mx` says
    why.

    Raises
    ------
    ValueError
        ``ZMLX_TEST_BACKEND`` holds a name that is not one of :data:`BACKENDS`.
    BackendUnavailableError
        ``ZMLX_TEST_BACKEND`` names a back end that is not available, or MLX's default device is a GPU that
        is not there (the CUDA build of MLX on a machine without a GPU).
    """
    return _detect(this_host())


def device_for(backend: str) -> Any:
    """The ``mx.Device`` of a back end.

    Raises
    ------
    ValueError
        The name is not one of :data:`BACKENDS`.
    BackendUnavailableError
        The back end is not available here; the message says why.
    """
    known = check_backend_name(backend)
    _require(this_host(), known, f"device_for({backend!r})")
    mx = import_mx()
    return mx.Device(mx.cpu if known == "cpu" else mx.gpu)


def select_backend(backend: str | None = None) -> Backend:
    """Make a back end the default device of MLX, and return its name.

    Without an argument it is the one that ``ZMLX_TEST_BACKEND`` names, or else the present default.

    Raises
    ------
    ImportError, ValueError, BackendUnavailableError
        As :func:`import_mx`, :func:`detect_backend` and :func:`device_for` do.
    """
    mx = import_mx()
    name = backend if backend is not None else detect_backend()
    device = device_for(name)
    mx.set_default_device(device)
    return check_backend_name(name)
