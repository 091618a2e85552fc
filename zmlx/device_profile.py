"""What is known of each chip: GPU cores, memory bandwidth, SIMD width, threadgroup limits, and from where.

Apple silicon is a table, since Metal reports neither cores nor bandwidth. The figures are those that Apple
prints; a chip sold with several core counts has a row for each. NVIDIA devices and CPUs describe themselves.

>>> get_device_profile("M3", "Max").gpu_cores
40
>>> get_device_profile("M3", "Max", gpu_cores=30).memory_bandwidth_gbs
300.0
"""

from __future__ import annotations

import ctypes
import difflib
import os
import platform
import re
import subprocess
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import ModuleType
from typing import Any

from zmlx._compat import detect_backend, device_for, import_mx

SIMD_WIDTH = 32
MAX_THREADS_PER_THREADGROUP = 1024

_FEATURE_SET_TABLES = (
    "Apple, Metal Feature Set Tables, https://developer.apple.com/metal/Metal-Feature-Set-Tables.pdf"
)
_METAL_EXECUTION_WIDTH = (
    "MLX, whose Metal kernels are written for simdgroups of 32; a pipeline says its own in "
    "https://developer.apple.com/documentation/metal/mtlcomputepipelinestate/threadexecutionwidth"
)
_CUDA_GUIDE = (
    "NVIDIA, CUDA C++ Programming Guide, technical specifications per compute capability, "
    "https://docs.nvidia.com/cuda/cuda-c-programming-guide/"
)
_HOST_LAUNCHER = "zmlx, the CPU launcher runs kernels with Metal's simdgroups and threadgroups"


class UnknownDeviceError(ValueError):
    """There is no profile of this chip; the message lists the ones that there are."""


@dataclass(frozen=True)
class DeviceProfile:
    """One device.

    Attributes
    ----------
    vendor : str
        "Apple", "NVIDIA" or "CPU".
    chip, variant : str
        "M3" and "Max"; for other vendors the device's whole name and "".
    architecture : str
        Metal GPU family ("Apple9"), CUDA architecture ("sm_90") or processor ("x86_64"); "" if not published.
    gpu_cores : int or None
        Apple GPU cores, NVIDIA streaming multiprocessors, 0 for a CPU; None where the driver does not say.
    memory_bandwidth_gbs : float or None
        Peak memory bandwidth in GB/s (10**9 bytes a second); None where nothing says.
    memory_gb : tuple of int
        The memory sizes, in GB, to which a row of the table applies; empty if to all.
    memory_bytes : int or None
        Memory of the device at hand; None in the table.
    simd_width, max_threads_per_threadgroup, max_threadgroup_memory : int
        Threads in a simdgroup (warp), threads in a threadgroup (block), bytes of threadgroup (static shared)
        memory.
    sources : Mapping[str, str]
        For each figure, where it comes from.
    """

    vendor: str
    chip: str
    variant: str
    architecture: str
    gpu_cores: int | None
    memory_bandwidth_gbs: float | None
    memory_gb: tuple[int, ...] = ()
    memory_bytes: int | None = None
    simd_width: int = SIMD_WIDTH
    max_threads_per_threadgroup: int = MAX_THREADS_PER_THREADGROUP
    max_threadgroup_memory: int = 32768
    sources: Mapping[str, str] = field(default_factory=dict, hash=False)

    @property
    def name(self) -> str:
        """The chip as its maker names it: "Apple M3 Max", "NVIDIA H200"."""
        name = " ".join(filter(None, (self.chip, self.variant)))
        return f"Apple {name}" if self.vendor == "Apple" else name


_SUPPORT = "https://support.apple.com/en-us/"
_NEWSROOM = "https://www.apple.com/newsroom/"
_APPLE_PAGES = {
    "air-m1": f"MacBook Air (M1, 2020) - Tech Specs, {_SUPPORT}111883",
    "air-m2": f"MacBook Air (M2, 2022) - Tech Specs, {_SUPPORT}111867",
    "air-m3": f"MacBook Air (13-inch, M3, 2024) - Tech Specs, {_SUPPORT}118551",
    "air-m4": f"MacBook Air (13-inch, M4, 2025) - Tech Specs, {_SUPPORT}122209",
    "air-m5": "MacBook Air (M5) - Tech Specs, https://www.apple.com/macbook-air/specs/",
    "pro-m1": f"MacBook Pro (14-inch, 2021) - Tech Specs, {_SUPPORT}111902",
    "pro-m2": f"MacBook Pro (14-inch, 2023) - Tech Specs, {_SUPPORT}111340",
    "pro-m3": f"MacBook Pro (14-inch, M3 Pro or M3 Max, Nov 2023) - Tech Specs, {_SUPPORT}117736",
    "pro-m4": f"MacBook Pro (14-inch, M4 Pro or M4 Max, 2024) - Tech Specs, {_SUPPORT}121553",
    "pro-m5": f"MacBook Pro (14-inch, M5) - Tech Specs, {_SUPPORT}125405",
    "pro-m5x": f"MacBook Pro (14-inch, M5 Pro or M5 Max, 2026) - Tech Specs, {_SUPPORT}126318",
    "studio-m1": f"Mac Studio (2022) - Tech Specs, {_SUPPORT}111900",
    "studio-m2": f"Mac Studio (2023) - Tech Specs, {_SUPPORT}111835",
    "studio-m3": f"Mac Studio (2025) - Tech Specs, {_SUPPORT}122211",
    "studio-m5": "Mac Studio (2026) - Tech Specs, https://www.apple.com/mac-studio/specs/",
    "mini-m6": "Mac mini (2026) - Tech Specs, https://www.apple.com/mac-mini/specs/",
    "m1-bus": (
        "computed, 4266.67 MT/s over a 128-bit LPDDR4X bus; Apple calls M1 Pro's 200GB/s nearly 3x of it, "
        f"{_NEWSROOM}2021/10/introducing-m1-pro-and-m1-max-the-most-powerful-chips-apple-has-ever-built/"
    ),
}

# Feature Set Tables, "GPUs in family"; M6 is not in the edition that was read.
_METAL_FAMILY = {"M1": "Apple7", "M2": "Apple8", "M3": "Apple9", "M4": "Apple9", "M5": "Apple10"}


def _row(
    chip: str, cores: int, bandwidth: float, page: str, bus: str = "", memory_gb: tuple[int, ...] = ()
) -> DeviceProfile:
    generation, _, variant = chip.partition(" ")
    printed = f"Apple, {_APPLE_PAGES[page]}"
    sources = {
        "gpu_cores": printed,
        "memory_bandwidth_gbs": _APPLE_PAGES[bus] if bus else printed,
        "simd_width": _METAL_EXECUTION_WIDTH,
        "max_threads_per_threadgroup": _FEATURE_SET_TABLES,
        "max_threadgroup_memory": _FEATURE_SET_TABLES,
    }
    family = _METAL_FAMILY.get(generation, "")
    return DeviceProfile("Apple", generation, variant, family, cores, bandwidth, memory_gb, sources=sources)


# The full chip first: it is what a lookup without gpu_cores gives.
APPLE_PROFILES: tuple[DeviceProfile, ...] = (
    _row("M1", 8, 68.25, "air-m1", bus="m1-bus"),
    _row("M1", 7, 68.25, "air-m1", bus="m1-bus"),
    _row("M1 Pro", 16, 200.0, "pro-m1"),
    _row("M1 Pro", 14, 200.0, "pro-m1"),
    _row("M1 Max", 32, 400.0, "pro-m1"),
    _row("M1 Max", 24, 400.0, "pro-m1"),
    _row("M1 Ultra", 64, 800.0, "studio-m1"),
    _row("M1 Ultra", 48, 800.0, "studio-m1"),
    _row("M2", 10, 100.0, "air-m2"),
    _row("M2", 8, 100.0, "air-m2"),
    _row("M2 Pro", 19, 200.0, "pro-m2"),
    _row("M2 Pro", 16, 200.0, "pro-m2"),
    _row("M2 Max", 38, 400.0, "pro-m2"),
    _row("M2 Max", 30, 400.0, "pro-m2"),
    _row("M2 Ultra", 76, 800.0, "studio-m2"),
    _row("M2 Ultra", 60, 800.0, "studio-m2"),
    _row("M3", 10, 100.0, "air-m3"),
    _row("M3", 8, 100.0, "air-m3"),
    _row("M3 Pro", 18, 150.0, "pro-m3"),
    _row("M3 Pro", 14, 150.0, "pro-m3"),
    _row("M3 Max", 40, 400.0, "pro-m3"),
    _row("M3 Max", 30, 300.0, "pro-m3"),
    _row("M3 Ultra", 80, 819.0, "studio-m3"),
    _row("M3 Ultra", 60, 819.0, "studio-m3"),
    _row("M4", 10, 120.0, "air-m4"),
    _row("M4", 8, 120.0, "air-m4"),
    _row("M4 Pro", 20, 273.0, "pro-m4"),
    _row("M4 Pro", 16, 273.0, "pro-m4"),
    _row("M4 Max", 40, 546.0, "pro-m4"),
    _row("M4 Max", 32, 410.0, "pro-m4"),
    _row("M5", 10, 153.0, "pro-m5"),
    _row("M5", 8, 153.0, "air-m5"),
    _row("M5 Pro", 20, 307.0, "pro-m5x"),
    _row("M5 Pro", 16, 307.0, "pro-m5x"),
    _row("M5 Max", 40, 614.0, "pro-m5x"),
    _row("M5 Max", 32, 460.0, "pro-m5x"),
    _row("M5 Ultra", 80, 1200.0, "studio-m5"),
    _row("M5 Ultra", 64, 1200.0, "studio-m5"),
    _row("M6", 12, 170.0, "mini-m6", memory_gb=(24, 32)),
    _row("M6", 12, 153.0, "mini-m6", memory_gb=(16,)),
)


def _known_names() -> list[str]:
    return list(dict.fromkeys(" ".join(filter(None, (p.chip, p.variant))) for p in APPLE_PROFILES))


def _options(values: Iterable[object]) -> str:
    return ", ".join(dict.fromkeys(map(str, values)))


def _find_chip(asked: str) -> list[DeviceProfile]:
    """The rows of a chip, however it is capitalised or spaced."""
    key = re.sub(r"[\s_-]+", "", asked).lower().removeprefix("apple")
    rows = [p for p in APPLE_PROFILES if (p.chip + p.variant).lower() == key]
    if rows:
        return rows
    names = {name.replace(" ", "").lower(): name for name in _known_names()}
    # "M4 Ultra" is a question about the M4, not a misspelt M5 Ultra.
    family = [name for squeezed, name in names.items() if key.startswith(squeezed[:2])]
    near = difflib.get_close_matches(key, names, n=1)
    hint = f" Did you mean {names[near[0]]!r}?" if near else ""
    if family:
        hint = f" {family[0]} comes as {', '.join(family)}."
    raise UnknownDeviceError(f"No profile of {asked!r}.{hint} Known chips: {', '.join(names.values())}.")


def get_device_profile(
    chip: str, variant: str = "", *, gpu_cores: int | None = None, memory_gb: int | None = None
) -> DeviceProfile:
    """Look up an Apple chip.

    Parameters
    ----------
    chip : str
        "M3"; a whole name such as "M3 Max" or "Apple M3 Max" works too.
    variant : str
        "Pro", "Max", "Ultra" or "" for the plain chip.
    gpu_cores : int, optional
        Which of the core counts the chip is sold with; by default the largest.
    memory_gb : int, optional
        The memory, for a chip whose bandwidth depends on it (M6); by default the faster one.

    Raises
    ------
    UnknownDeviceError
        There is no such chip, or none with that core count or memory; the message lists what there is.
    """
    rows = _find_chip(" ".join(filter(None, (chip.strip(), variant.strip()))))
    name = rows[0].name
    if gpu_cores is not None:
        counts = _options(p.gpu_cores for p in rows)
        rows = [p for p in rows if p.gpu_cores == gpu_cores]
        if not rows:
            raise UnknownDeviceError(f"No {name} with {gpu_cores} GPU cores is known. Known: {counts}.")
    if memory_gb is not None and rows[0].memory_gb:
        sizes = _options(size for p in rows for size in p.memory_gb)
        rows = [p for p in rows if memory_gb in p.memory_gb]
        if not rows:
            raise UnknownDeviceError(f"No {name} with {memory_gb} GB of memory is known. Known: {sizes} GB.")
    return rows[0]


def _device_info(mx: ModuleType, device: Any) -> dict[str, Any]:
    """MLX's description of a device. Before 0.30 there was one for Metal only."""
    describe = getattr(mx, "device_info", None)
    if describe is not None:
        return dict(describe(device))
    on_metal = device.type == mx.DeviceType.gpu and mx.metal.is_available()
    return dict(mx.metal.device_info()) if on_metal else {}


def _read_ioreg() -> str:
    command = ["/usr/sbin/ioreg", "-r", "-d", "1", "-w", "0", "-c", "IOAccelerator"]
    return subprocess.run(command, capture_output=True, text=True, timeout=20, check=True).stdout


def _apple_gpu_cores(read_ioreg: Callable[[], str]) -> int | None:
    """GPU cores from the I/O registry, which is where System Information has them from."""
    try:
        found = re.search(r'"gpu-core-count"\s*=\s*(\d+)', read_ioreg())
    except (OSError, subprocess.SubprocessError):
        return None
    return int(found.group(1)) if found else None


def describe_apple(info: Mapping[str, Any], read_ioreg: Callable[[], str] = _read_ioreg) -> DeviceProfile:
    """The profile of the Apple GPU that `info`, of ``mx.device_info()``, names.

    Raises
    ------
    UnknownDeviceError
        The chip is not in the table, is a virtual one, or it is not clear which of its core counts this is.
    """
    name = str(info.get("device_name", ""))
    rows = _find_chip(name)
    memory = int(info["memory_size"]) if "memory_size" in info else None
    cores = _apple_gpu_cores(read_ioreg)
    if cores is None and len({p.gpu_cores for p in rows}) > 1:
        raise UnknownDeviceError(
            f"{name} comes with {_options(p.gpu_cores for p in rows)} GPU cores, and the I/O registry does "
            "not say how many this one has. Name it: get_device_profile(chip, variant, gpu_cores=...)."
        )
    row = get_device_profile(name, gpu_cores=cores, memory_gb=round(memory / 2**30) if memory else None)
    return DeviceProfile(**{**_fields(row), "memory_bytes": memory})


def _fields(profile: DeviceProfile) -> dict[str, Any]:
    return {name: getattr(profile, name) for name in DeviceProfile.__dataclass_fields__}


# Of the CUDA driver API's CUdevice_attribute.
_CUDA_ATTRIBUTES = {
    "max_threads": 1,
    "shared_memory": 8,
    "warp_size": 10,
    "multiprocessors": 16,
    "memory_clock_khz": 36,
    "memory_bus_bits": 37,
}


def query_cuda_attributes(index: int = 0) -> dict[str, int]:
    """Attributes of a CUDA device, read from the driver; empty where there is none."""
    try:
        driver = ctypes.CDLL("libcuda.so.1")
    except OSError:
        return {}
    device, value, found = ctypes.c_int(), ctypes.c_int(), {}
    if driver.cuInit(0) != 0 or driver.cuDeviceGet(ctypes.byref(device), index) != 0:
        return {}
    for name, number in _CUDA_ATTRIBUTES.items():
        if driver.cuDeviceGetAttribute(ctypes.byref(value), number, device) == 0:
            found[name] = value.value
    return found


def describe_nvidia(info: Mapping[str, Any], attributes: Mapping[str, int]) -> DeviceProfile:
    """The profile of an NVIDIA GPU from ``mx.device_info()`` and the driver's attributes."""
    clock, bus = attributes.get("memory_clock_khz", 0), attributes.get("memory_bus_bits", 0)
    bandwidth = 2 * clock * 1e3 * bus / 8 / 1e9 if clock and bus else None
    driver = "CUDA driver, cuDeviceGetAttribute"
    limits = driver if attributes else _CUDA_GUIDE
    return DeviceProfile(
        vendor="NVIDIA",
        chip=str(info.get("device_name", "NVIDIA GPU")),
        variant="",
        architecture=str(info.get("architecture", "")),
        gpu_cores=attributes.get("multiprocessors"),
        memory_bandwidth_gbs=round(bandwidth, 1) if bandwidth else None,
        memory_bytes=int(info["total_memory"]) if "total_memory" in info else None,
        simd_width=attributes.get("warp_size", SIMD_WIDTH),
        max_threads_per_threadgroup=attributes.get("max_threads", MAX_THREADS_PER_THREADGROUP),
        max_threadgroup_memory=attributes.get("shared_memory", 49152),
        sources={
            "architecture": "mlx.core.device_info",
            "memory_bytes": "mlx.core.device_info",
            "gpu_cores": driver,
            "memory_bandwidth_gbs": f"{driver}: twice the memory clock times the bus width",
            "simd_width": limits,
            "max_threads_per_threadgroup": limits,
            "max_threadgroup_memory": limits,
        },
    )


def _cpu_name(info: Mapping[str, Any]) -> str:
    cpuinfo = Path("/proc/cpuinfo")
    text = cpuinfo.read_text(errors="replace") if cpuinfo.exists() else ""
    model = re.search(r"^model name\s*:\s*(.+)$", text, re.MULTILINE)
    return str(info.get("device_name") or (model and model.group(1)) or platform.processor() or "CPU").strip()


def describe_cpu(info: Mapping[str, Any]) -> DeviceProfile:
    """The profile of a CPU from ``mx.device_info(mx.cpu)``, where this MLX has one, and the system."""
    try:
        memory: int | None = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (ValueError, OSError):
        memory = None
    return DeviceProfile(
        vendor="CPU",
        chip=_cpu_name(info),
        variant="",
        architecture=str(info.get("architecture") or platform.machine()),
        gpu_cores=0,
        memory_bandwidth_gbs=None,
        memory_bytes=memory,
        sources=dict.fromkeys(
            ("simd_width", "max_threads_per_threadgroup", "max_threadgroup_memory"), _HOST_LAUNCHER
        ),
    )


def get_current_device_profile() -> DeviceProfile:
    """The device on which work without a ``stream`` runs now (see :func:`zmlx._compat.detect_backend`).

    Raises
    ------
    ImportError
        MLX does not import.
    UnknownDeviceError
        An Apple chip that is not in the table; nothing is guessed.
    """
    mx = import_mx()
    backend = detect_backend()
    info = _device_info(mx, device_for(backend))
    if backend == "metal":
        return describe_apple(info)
    return describe_nvidia(info, query_cuda_attributes()) if backend == "cuda" else describe_cpu(info)
