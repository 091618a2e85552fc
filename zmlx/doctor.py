"""``python -m zmlx doctor``: what this machine can run, what it cannot, and why.

It works without MLX and with a broken one: everything that loads MLX happens in a child process, so that a
crash there is a finding like any other. One small kernel is computed on every back end that is available.
"""

from __future__ import annotations

import datetime
import json
import os
import platform
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

import zmlx
from zmlx import _compat
from zmlx._text import count
from zmlx._wheels import check_wheels, installed_wheels

Status = Literal["pass", "ok", "info", "warn", "fail"]

_LABELS: dict[Status, str] = {"pass": "PASS", "ok": "ok", "info": "-", "warn": "warn", "fail": "FAIL"}
_ANSWER = "zmlx-doctor-answer "


@dataclass(frozen=True)
class Finding:
    """One line of the diagnosis.

    ``pass`` and ``fail`` are about what should work; ``info`` is something absent that need not be there;
    ``warn`` is something wrong that does not stop anything by itself.
    """

    section: str
    name: str
    status: Status
    detail: str


@dataclass(frozen=True)
class Diagnosis:
    """All findings about this machine."""

    findings: tuple[Finding, ...]

    @property
    def passed(self) -> tuple[str, ...]:
        """The back ends on which the kernel gave the right result."""
        return tuple(f.name for f in self.findings if f.status == "pass")

    @property
    def failed(self) -> tuple[str, ...]:
        """Names of what failed."""
        return tuple(f.name for f in self.findings if f.status == "fail")

    @property
    def exit_code(self) -> int:
        """0 if a kernel ran somewhere and nothing that should work fails, else 1."""
        return 0 if self.passed and not self.failed else 1

    @property
    def verdict(self) -> str:
        """One sentence for the last line."""
        if not self.passed:
            return "No kernel can run here. Begin with the first FAIL above."
        ran = f"Kernels run on {', '.join(self.passed)}"
        return f"{ran}, but this failed: {', '.join(self.failed)}." if self.failed else f"{ran}."

    def text(self) -> str:
        """The diagnosis for people."""
        width = max((len(f.name) for f in self.findings), default=0)
        lines = [f"zmlx {zmlx.__version__}"]
        section = ""
        for finding in self.findings:
            if finding.section != section:
                section = finding.section
                lines += ["", section]
            first, *rest = finding.detail.splitlines() or [""]
            lines.append(f"  {_LABELS[finding.status]:<4}  {finding.name:<{width}}  {first}".rstrip())
            lines += [f"        {'':<{width}}  {line}".rstrip() for line in rest]
        return "\n".join([*lines, "", self.verdict])

    def to_json(self) -> str:
        """The diagnosis for programs."""
        body = {
            "zmlx": zmlx.__version__,
            "ok": self.exit_code == 0,
            "passed": self.passed,
            "failed": self.failed,
            "findings": [asdict(f) for f in self.findings],
        }
        return json.dumps(body, indent=2)


def ask_child(function: str, *arguments: str, timeout: float = 300.0, **environ: str | None) -> Any:
    """Call a function of this module in a new Python process and return its answer.

    Keywords set environment variables of the child; None removes one.

    Raises
    ------
    ChildError
        The process crashed, took too long, or the function raised; the message says which.
    """
    code = f"from zmlx import doctor; doctor.answer({function!r}, *{arguments!r})"
    environment = {**os.environ, **{k: v for k, v in environ.items() if v is not None}}
    for name in (k for k, v in environ.items() if v is None):
        environment.pop(name, None)
    # The child must find this zmlx, also where it is used from a checkout.
    here = str(Path(zmlx.__file__).parent.parent)
    environment["PYTHONPATH"] = os.pathsep.join(filter(None, (here, os.environ.get("PYTHONPATH"))))
    command = [sys.executable, "-c", code]
    try:
        run = subprocess.run(command, capture_output=True, text=True, timeout=timeout, env=environment)
    except subprocess.TimeoutExpired as error:
        raise ChildError(f"did not finish within {timeout:.0f} seconds") from error
    for line in run.stdout.splitlines():
        if line.startswith(_ANSWER):
            reply = json.loads(line.removeprefix(_ANSWER))
            if "error" in reply:
                raise ChildError(reply["error"])
            return reply["value"]
    last = (run.stderr.strip().splitlines() or ["it printed nothing"])[-1]
    raise ChildError(f"the process ended with {_describe_exit(run.returncode)}: {last}")


class ChildError(RuntimeError):
    """A child process did not answer."""


def _describe_exit(code: int) -> str:
    if code < 0:
        try:
            return f"signal {signal.Signals(-code).name}"
        except ValueError:
            return f"signal {-code}"
    return f"exit status {code}"


def answer(function: str, *arguments: str) -> None:
    """The child's half of :func:`ask_child`."""
    reply: dict[str, Any]
    try:
        reply = {"value": _CHILD_FUNCTIONS[function](*arguments)}
    except Exception as error:  # noqa: BLE001 - whatever it is, the parent reports it
        reply = {"error": f"{type(error).__name__}: {error}" if str(error) else type(error).__name__}
    print(f"\n{_ANSWER}{json.dumps(reply)}", flush=True)


def _probe_mlx() -> dict[str, Any]:
    mx = _compat.import_mx()
    try:
        default = _compat.detect_backend()
    except (ValueError, _compat.BackendUnavailableError) as error:
        default, problem = None, str(error)
    else:
        problem = ""
    return {
        "version": str(mx.__version__),
        "file": str(mx.__file__),
        "default": default,
        "problem": problem,
        "backends": {name: asdict(state) for name, state in _compat.availability().items()},
    }


_THREADS = 64
_SOURCE = f"""
    threadgroup float row[{_THREADS}];
    uint i = thread_position_in_threadgroup.x;
    row[i] = 2.0f * x[i];
    threadgroup_barrier(mem_flags::mem_threadgroup);
    y[i] = row[{_THREADS - 1} - i];
"""


def _probe_tracing() -> str:
    """Why traced launches on the CPU are not part of MLX's graph; empty if they are."""
    from zmlx.launch import primitive

    _compat.import_mx()
    return primitive.unavailable()


def _probe_kernel(backend: str) -> str:
    """Reverse and double a row through threadgroup memory; every step is exact, so the result must be too."""
    mx = _compat.import_mx()
    _compat.select_backend(backend)
    kernel = zmlx.metal_kernel("zmlx_doctor", ["x"], ["y"], _SOURCE)
    x = mx.arange(_THREADS).astype(mx.float32)
    begin = time.perf_counter()
    (y,) = kernel(
        inputs=[x],
        output_shapes=[(_THREADS,)],
        output_dtypes=[mx.float32],
        grid=(_THREADS, 1, 1),
        threadgroup=(_THREADS, 1, 1),
    )
    result: Any = y.tolist()
    seconds = time.perf_counter() - begin
    expected = [2.0 * (_THREADS - 1 - i) for i in range(_THREADS)]
    wrong = [i for i in range(_THREADS) if result[i] != expected[i]]
    if wrong:
        i = wrong[0]
        raise ArithmeticError(
            f"{len(wrong)} of {_THREADS} elements are wrong: element {i} is {result[i]}, not {expected[i]}"
        )
    from zmlx.launch import launch_counts

    paths = sorted(key.path for key in launch_counts() if key.backend == backend)
    if not paths:
        raise RuntimeError(f"the result is right, but no launch on {backend} was counted")
    by = ", ".join(paths)
    return f"{_THREADS} threads through threadgroup memory by {by}, {seconds:.2f} s with compilation"


_CHILD_FUNCTIONS: dict[str, Callable[..., Any]] = {
    "mlx": _probe_mlx,
    "kernel": _probe_kernel,
    "tracing": _probe_tracing,
}


def _machine() -> Iterator[Finding]:
    host = _compat.this_host()
    system = f"{host.system_name} {platform.release()}, {host.machine}, {os.cpu_count()} processors"
    if _compat.is_supported_host():
        yield Finding("Machine", "system", "ok", system)
    else:
        advice = "MLX publishes wheels for macOS on Apple silicon and Linux on x86-64 and arm64 only"
        yield Finding("Machine", "system", "warn", f"{system}\n{advice}")
    python = f"{platform.python_implementation()} {platform.python_version()}, {sys.executable}"
    yield Finding("Machine", "Python", "ok", python)


def _wheels() -> Iterator[Finding]:
    for verdict in check_wheels(installed_wheels()):
        yield Finding("MLX", verdict.name, "ok" if verdict.ok else "fail", verdict.detail)


def _mlx(state: dict[str, Any] | str) -> Iterator[Finding]:
    yield from _wheels()
    if isinstance(state, str):
        yield Finding("MLX", "import", "fail", state.removeprefix("ImportError: "))
        return
    yield Finding("MLX", "import", "ok", f"mlx.core {state['version']}, {state['file']}")
    if state["default"] is None:
        yield Finding("MLX", "default", "warn", state["problem"])
    else:
        override = os.environ.get(_compat.TEST_BACKEND_VARIABLE)
        why = f"{_compat.TEST_BACKEND_VARIABLE} is set" if override else "MLX's default device"
        yield Finding("MLX", "default", "ok", f"{state['default']} ({why})")


def _backends(state: dict[str, Any] | str) -> Iterator[Finding]:
    if isinstance(state, str):
        for name in _compat.BACKENDS:
            yield Finding("Back ends", name, "info", "MLX does not import")
        return
    for name, found in state["backends"].items():
        yield Finding("Back ends", name, "ok" if found["available"] else "info", found["reason"])


def _compilers() -> Iterator[Finding]:
    from zmlx.launch import CompilerNotFoundError, NvrtcNotFoundError
    from zmlx.launch.compiler import find_compiler
    from zmlx.launch.nvrtc import find_nvrtc

    try:
        compiler = find_compiler()
        yield Finding("Compilers", "C++", "ok", f"{compiler.version}, {compiler.path}")
    except CompilerNotFoundError as error:
        yield Finding("Compilers", "C++", "warn", str(error))
    try:
        nvrtc = find_nvrtc()
        yield Finding("Compilers", "NVRTC", "ok", f"{nvrtc.name}, {nvrtc.path}")
    except NvrtcNotFoundError as error:
        yield Finding("Compilers", "NVRTC", "info", str(error))


def _size(bytes_held: int) -> str:
    return f"{bytes_held / 1e6:.1f} MB" if bytes_held >= 1e5 else f"{bytes_held} bytes"


def _cache() -> Iterator[Finding]:
    from zmlx.launch.cache import CACHE_VARIABLE, cache_dir

    folder = cache_dir()
    files = [path.stat().st_size for path in folder.rglob("*") if path.is_file()] if folder.is_dir() else []
    nearest = next(path for path in (folder, *folder.parents) if path.exists())
    held = f"{folder}, {count(len(files), 'file')}, {_size(sum(files))}"
    if nearest.is_dir() and os.access(nearest, os.W_OK | os.X_OK):
        yield Finding("Kernel cache", "folder", "ok", held if folder.exists() else f"{folder}, not made yet")
    else:
        advice = (
            f"not writable, so kernels are compiled anew in every process; set {CACHE_VARIABLE} to a folder"
        )
        yield Finding("Kernel cache", "folder", "warn", f"{held}\n{advice} that is")


def find_golden_dir() -> Path:
    """That of the project of the working directory; without one, ``golden_values`` here or in zmlx's checkout."""
    from zmlx.testing.project import find_project

    return find_project().golden_dir


def _age(date: str) -> str:
    try:
        days = (datetime.datetime.now(datetime.timezone.utc).date() - datetime.date.fromisoformat(date)).days
    except ValueError:
        return f"recorded on {date!r}"
    return f"recorded on {date}, {count(days, 'day')} ago"


def _goldens(directory: Path) -> Iterator[Finding]:
    from zmlx.testing.golden.file import GoldenError, load

    for backend in _compat.BACKENDS:
        path = directory / f"{backend}.json"
        if not path.exists():
            yield Finding("Golden values", backend, "info", f"none recorded ({path})")
            continue
        try:
            golden = load(path)
        except GoldenError as error:
            yield Finding("Golden values", backend, "warn", f"damaged: {error}")
            continue
        about = golden.environment
        where = f"MLX {about.get('mlx', '?')} on {about.get('device', '?')}"
        age = _age(about.get("date", "an unknown date"))
        yield Finding("Golden values", backend, "ok", f"{count(len(golden.cases), 'case')}, {age}, {where}")


def _kernels(state: dict[str, Any] | str) -> Iterator[Finding]:
    available = [] if isinstance(state, str) else [n for n, s in state["backends"].items() if s["available"]]
    for backend in available:
        try:
            detail = ask_child("kernel", backend, ZMLX_TEST_BACKEND=None)
            yield Finding("One kernel", backend, "pass", str(detail))
        except ChildError as error:
            yield Finding("One kernel", backend, "fail", str(error))
    if "cpu" in available:
        try:
            reason = ask_child("tracing")
        except ChildError as error:
            reason = str(error)
        detail = (
            f"on the CPU by a kernel's `reference` only: {reason}" if reason else "on the CPU, in MLX's graph"
        )
        yield Finding("One kernel", "mx.compile", "info" if reason else "ok", detail)


def _guarded(section: str, findings: Callable[[], Iterator[Finding]]) -> Iterator[Finding]:
    """The findings of a section; a failure to find them is one of them."""
    try:
        yield from findings()
    except ModuleNotFoundError as error:
        missing = (error.name or "").partition(".")[0]
        if missing == "zmlx":
            yield Finding(section, "zmlx", "fail", f"incomplete installation: {error}; install zmlx again")
        else:
            yield Finding(
                section, missing, "fail", f"not installed, though zmlx needs it; pip install {missing}"
            )
    except Exception as error:  # noqa: BLE001 - no list foresees how an installation is damaged
        yield Finding(section, "doctor", "fail", f"{type(error).__name__}: {error}")


def diagnose(golden_dir: Path | None = None) -> Diagnosis:
    """Examine this machine; never raises on account of what it finds."""
    state: dict[str, Any] | str
    try:
        state = ask_child("mlx", timeout=120.0)
    except ChildError as error:
        state = str(error)
    sections: dict[str, Callable[[], Iterator[Finding]]] = {
        "Machine": _machine,
        "MLX": lambda: _mlx(state),
        "Back ends": lambda: _backends(state),
        "Compilers": _compilers,
        "Kernel cache": _cache,
        "Golden values": lambda: _goldens(golden_dir or find_golden_dir()),
        "One kernel": lambda: _kernels(state),
    }
    return Diagnosis(tuple(f for name, findings in sections.items() for f in _guarded(name, findings)))
