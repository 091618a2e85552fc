"""Which wheel, back end and workers fit a machine, and what the arguments of a session mean. Free of nox."""

from __future__ import annotations

import ctypes
import os
import platform
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache


@dataclass(frozen=True)
class Driver:
    """What the NVIDIA driver says: the newest CUDA that it runs (13000 is 13.0) and its GPUs, or what is wrong."""

    cuda_version: int = 0
    gpus: int = 0
    problem: str = ""


@dataclass(frozen=True)
class Host:
    """What the choice of a wheel depends on. Tests put other machines here."""

    system: str
    machine: str
    driver: Driver = Driver()


@dataclass(frozen=True)
class Wheel:
    """The extra of zmlx that brings MLX with a back end to a kind of host; "" is zmlx without an extra."""

    backend: str
    system: str
    extra: str
    machines: tuple[str, ...]
    min_cuda: int = 0


# The first row that fits is taken, so a newer CUDA stands above an older one.
WHEELS = (
    Wheel("cpu", "Linux", "cpu", ("x86_64", "aarch64")),
    Wheel("cpu", "Darwin", "", ("arm64",)),
    Wheel("metal", "Darwin", "", ("arm64",)),
    Wheel("cuda", "Linux", "cuda13", ("x86_64", "aarch64"), min_cuda=13000),
    Wheel("cuda", "Linux", "cuda12", ("x86_64", "aarch64"), min_cuda=12000),
)


@dataclass(frozen=True)
class Suite:
    """How the test suite runs on a back end."""

    markers: str
    max_workers: int
    needs: str


# Workers share one GPU, and each holds a context and memory of its own there. On the CPU, kernels use all
# cores themselves, so more workers than this gain nothing.
SUITES = {
    "cpu": Suite("cpu or not (metal or cuda or gpu)", 16, "Linux (x86-64, arm64) or macOS (Apple silicon)"),
    "metal": Suite("", 4, "macOS on Apple silicon"),
    "cuda": Suite("", 4, "Linux with an NVIDIA GPU"),
}


class MissingBackend(Exception):
    """This machine lacks a back end; the message says what it would take."""


class UsageError(Exception):
    """A positional argument is wrong; the message says what was expected."""


def query_driver() -> Driver:
    """Ask libcuda, which is there where a driver is, whether or not nvidia-smi is."""
    try:
        libcuda = ctypes.CDLL("libcuda.so.1")
    except OSError:
        return Driver(problem="there is no NVIDIA driver (libcuda.so.1 cannot be loaded)")
    version, count = ctypes.c_int(0), ctypes.c_int(0)
    libcuda.cuDriverGetVersion(ctypes.byref(version))
    status = libcuda.cuInit(0) or libcuda.cuDeviceGetCount(ctypes.byref(count))
    if status != 0 or count.value == 0:
        return Driver(version.value, problem=f"the NVIDIA driver shows no GPU (driver status {status})")
    return Driver(version.value, count.value)


@cache
def this_host() -> Host:
    """This machine."""
    return Host(platform.system(), platform.machine(), query_driver())


def find_wheel(backend: str, host: Host) -> Wheel:
    """The row of WHEELS for a back end on a host.

    Raises
    ------
    MissingBackend
        The host cannot have that back end.
    """
    mine = [row for row in WHEELS if row.backend == backend]
    rows = [row for row in mine if row.system == host.system and host.machine in row.machines]
    needs = f"{backend} needs {SUITES[backend].needs}"
    if not rows:
        raise MissingBackend(f"{needs}; this is {host.system} {host.machine}")
    if backend == "cuda" and host.driver.problem:
        raise MissingBackend(f"{needs}; {host.driver.problem}")
    for row in rows:
        if host.driver.cuda_version >= row.min_cuda:
            return row
    oldest = min(row.min_cuda for row in rows)
    raise MissingBackend(
        f"{needs} and a driver for CUDA {oldest // 1000} or newer; this driver stops at CUDA "
        f"{host.driver.cuda_version // 1000}.{host.driver.cuda_version % 1000 // 10}"
    )


def best_backend(host: Host) -> str:
    """The back end that MLX would choose on this host: its GPU, if it has one."""
    for backend in ("metal", "cuda"):
        try:
            find_wheel(backend, host)
        except MissingBackend:
            continue
        return backend
    return "cpu"


def is_required(posargs: Sequence[str]) -> bool:
    """Whether a missing back end is an error, by the rules of the pytest plugin."""
    variable = os.environ.get("ZMLX_REQUIRE_BACKEND", "").lower()
    return "--require-backend" in posargs or variable not in ("", "0", "false", "no")


def take_option(posargs: Sequence[str], name: str) -> tuple[str | None, list[str]]:
    """Take ``name VALUE`` or ``name=VALUE`` out of positional arguments: the last value, and the others."""
    value, others = None, []
    arguments = iter(posargs)
    for argument in arguments:
        if argument == name:
            value = next(arguments, None)
            if value is None:
                raise UsageError(f"{name}: expected a value after it")
        elif argument.startswith(f"{name}="):
            value = argument.removeprefix(f"{name}=")
        else:
            others.append(argument)
    return value, others


def choose_backend(posargs: Sequence[str], host: Host) -> tuple[str, list[str]]:
    """The back end that ``--backend`` names, else this host's best, and the other arguments.

    Raises
    ------
    UsageError
        ``--backend`` names none of SUITES.
    """
    backend, others = take_option(posargs, "--backend")
    backend = best_backend(host) if backend is None else backend
    if backend not in SUITES:
        raise UsageError(f"--backend: expected one of {', '.join(SUITES)}; got {backend!r}")
    return backend, others


def xdist_arguments(posargs: Sequence[str], workers: int, gpus: Sequence[str] = ()) -> list[str]:
    """pytest-xdist's arguments; a ``-n`` among the positional arguments comes later and so wins.

    A debugger needs the terminal, and ``-p no:xdist`` takes the options away. Of several GPUs each worker sees
    one, so that all of them have work.
    """
    if {"--pdb", "--trace", "no:xdist", "-pno:xdist"}.intersection(posargs):
        return []
    if len(gpus) < 2:
        return ["-n", str(workers), "--dist", "worksteal"]
    seen = (gpus[worker % len(gpus)] for worker in range(workers))
    return ["--dist", "worksteal", *(f"--tx=popen//env:CUDA_VISIBLE_DEVICES={gpu}" for gpu in seen)]


def visible_gpus(driver: Driver) -> list[str]:
    """The GPUs that CUDA shows, by the names that CUDA_VISIBLE_DEVICES has for them."""
    named = os.environ.get("CUDA_VISIBLE_DEVICES")
    return named.split(",")[: driver.gpus] if named else [str(index) for index in range(driver.gpus)]


def count_workers(suite: Suite, gpus: int) -> int:
    """One worker a core, but no more than the suite or, if that is more, the GPUs have use for."""
    return max(1, min(count_cores(), max(suite.max_workers, gpus)))


def count_cores() -> int:
    """The cores that this process may use, where the system can tell, else those that there are."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1
