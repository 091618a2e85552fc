# /// script
# requires-python = ">=3.10"
# dependencies = ["nox>=2025.5.1"]
# ///
"""The matrix: one test suite on every back end of MLX, each in an environment with the right MLX wheel.

nox -s cpu                             one session; "nox -s cpu golden-cmp" runs two
nox -s cpu -- -k swiglu -n 0           what follows "--" goes to pytest
nox -s cuda -- --require-backend       a missing back end is an error instead of a skip
nox -s cuda --no-venv --no-install     in this Python as it is, for a machine without a network
uv run noxfile.py -s cpu               for those who have uv and no nox
"""

from __future__ import annotations

import ctypes
import importlib.util
import os
import platform
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import nox

nox.needs_version = ">=2025.5.1"
nox.options.default_venv_backend = "uv|virtualenv"
nox.options.reuse_venv = "yes"
nox.options.sessions = ["lint", "typecheck", "cpu", "golden-cmp"]

ROOT = Path(__file__).parent
PYPROJECT = nox.project.load_toml(ROOT / "pyproject.toml")
REPORT_DIR = "build/report"
BENCH_DIR = "build/bench"

# The lower bounds of pyproject.toml, exactly. NumPy has no 2.0 wheels for Python 3.13 and newer.
OLDEST = ("mlx==0.30.4", "numpy==2.0.*; python_version < '3.13'")


# What is skipped without NVRTC, and runs without a GPU.
NVRTC_TESTS = tuple(f"tests/launch/test_{name}.py" for name in ("cuda_compile", "cuda_launch", "nvrtc"))


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


# What `check` runs: the checker's own tests, and those that launch the kernels of the catalogue.
CHECKED_TESTS = ("tests/check", "tests/kernels", "tests/test_ops.py")


# import-linter brings a command and no module to run with -m. The contracts are in pyproject.toml.
LINT_IMPORTS = "import importlinter.cli as c; raise SystemExit(c.lint_imports(no_logo=True, no_cache=True))"


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


def environment_kind(backend: str) -> str | None:
    """No environment is made for a session that is about to be skipped."""
    try:
        find_wheel(backend, this_host())
    except MissingBackend:
        return "none"
    return None


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


def group(name: str) -> list[str]:
    """The requirements of a dependency group of pyproject.toml."""
    return list(nox.project.dependency_groups(PYPROJECT, name))


# ---- what sessions share ----


def missing(session: nox.Session, reason: str) -> None:
    """End a session for lack of a back end: skip it, or fail where the back end is required."""
    print(reason)
    if is_required(session.posargs):
        session.error(reason)
    session.skip(reason)


@contextmanager
def usage_errors(session: nox.Session) -> Iterator[None]:
    """End a session for a wrong positional argument, without a traceback."""
    try:
        yield
    except UsageError as error:
        session.error(str(error))


def in_host_python(session: nox.Session) -> bool:
    return session.venv_backend == "none"


def python(session: nox.Session, *arguments: str) -> None:
    """Run the session's Python. With --no-venv that is this one, which need not be called `python`.

    Tests start hundreds of processes that import zmlx: it is compiled once, also where PYTHONDONTWRITEBYTECODE is set.
    """
    executable = sys.executable if in_host_python(session) else "python"
    session.run(executable, *arguments, env={"PYTHONDONTWRITEBYTECODE": ""})


def install(session: nox.Session, *requirements: str) -> None:
    """Install into the session's environment. With --no-venv --no-install nothing happens.

    A reused environment that has these requirements already is left alone: pip takes seconds to find that
    there is nothing to do. The zmlx in it is the checkout itself.
    """
    record = None
    if not in_host_python(session):
        record = Path(session.virtualenv.location) / "zmlx-requirements.txt"
    wanted = "\n".join([*requirements, (ROOT / "pyproject.toml").read_text(encoding="utf-8")])
    if record is not None and record.is_file() and record.read_text(encoding="utf-8") == wanted:
        session.log("The environment has what it needs. (To make it anew: nox --reuse-venv=never)")
        return
    try:
        session.install(*requirements)
    except ValueError:
        if record is not None:
            raise
        session.error("--no-venv uses this Python as it is and installs nothing: add --no-install")
    if record is not None:
        # A command, so that nox leaves it out when --no-install leaves out the line above.
        note = "import sys, pathlib; pathlib.Path(sys.argv[1]).write_text(sys.argv[2], encoding='utf-8')"
        session.run_install("python", "-c", note, str(record), wanted, log=False)


# Runs in the session's environment. What it prints last is the finding; a traceback is an error of its own.
PROBE = """
import sys
from zmlx import _compat
from zmlx.errors import CompilerNotFoundError
backend = sys.argv[1]
state = _compat.availability()[backend]
if state.available:
    _compat.select_backend(backend)
    mx = _compat.import_mx()
    mx.eval(mx.ones(8) + 1)
    if backend == "cpu":
        from zmlx.launch.compiler import find_compiler
        try:
            find_compiler()
        except CompilerNotFoundError as error:
            print("broken:", " ".join(str(error).split()))
            sys.exit()
    print("ready:", state.reason, "on", mx.default_device())
else:
    print("missing:", state.reason)
"""


def prove(session: nox.Session, backend: str) -> None:
    """Compute something with MLX on the back end; skip, or fail, where it is missing."""
    executable = sys.executable if in_host_python(session) else "python"
    environment = {"ZMLX_TEST_BACKEND": backend}
    output = session.run(executable, "-c", PROBE, backend, env=environment, silent=True, log=False)
    if output is None:  # --install-only
        return
    verdict, _, finding = str(output).strip().splitlines()[-1].partition(": ")
    if verdict == "broken":
        session.error(finding)
    if verdict != "ready":
        missing(session, f"{backend} cannot be used: {finding}")
    session.log(f"Back end {backend}: {finding}.")


def set_up(session: nox.Session, backend: str, *requirements: str) -> None:
    """Install zmlx with the back end's MLX and prove that MLX computes on it; skip where it is missing."""
    try:
        wheel = find_wheel(backend, this_host())
    except MissingBackend as reason:
        missing(session, str(reason))
    else:
        install(session, "-e", f".[{wheel.extra}]" if wheel.extra else ".", *group("test"), *requirements)
        prove(session, backend)


def pytest(
    session: nox.Session, backend: str, posargs: Sequence[str], *arguments: str, parallel: bool = True
) -> None:
    """Run pytest on a back end. ``--backend`` also makes it fail if no test executed."""
    gpus = visible_gpus(this_host().driver) if backend == "cuda" else []
    workers = xdist_arguments(posargs, count_workers(SUITES[backend], len(gpus)), gpus) if parallel else []
    if workers and in_host_python(session) and importlib.util.find_spec("xdist") is None:
        session.log("pytest-xdist is not installed in this Python: the tests run one after the other")
        workers = []
    # A Python that is not ours may hold plugins that are not either; pytest-benchmark, for one, warns about xdist
    # in every session, and warnings are errors here. Where it is missing, this says nothing.
    foreign = ["-p", "no:benchmark"] if in_host_python(session) else []
    python(session, "-m", "pytest", f"--backend={backend}", *foreign, *workers, *arguments, *posargs)


def run_suite(session: nox.Session, backend: str) -> None:
    set_up(session, backend)
    markers = SUITES[backend].markers
    pytest(session, backend, session.posargs, *(["-m", markers] if markers else []))


def add_step_summary(report_dir: Path) -> None:
    """Show the report's Markdown on the page of a GitHub Actions run."""
    summary = os.environ.get("GITHUB_STEP_SUMMARY")
    if summary:
        with open(summary, "a", encoding="utf-8") as page:
            page.writelines(report.read_text(encoding="utf-8") for report in sorted(report_dir.glob("*.md")))


# ---- the sessions ----


@nox.session
def cpu(session: nox.Session) -> None:
    """The test suite on the CPU: every kernel translated, compiled by the C++ compiler and run."""
    run_suite(session, "cpu")


@nox.session
def oldest(session: nox.Session) -> None:
    """The same as cpu, with the oldest MLX and NumPy that zmlx supports."""
    set_up(session, "cpu", *OLDEST)
    # MLX's own operations (stock.*) have become more exact since; values and tolerances are the newest MLX's.
    markers = f"({SUITES['cpu'].markers}) and not golden"
    pytest(session, "cpu", session.posargs, "-m", markers, "-k", "not stock")


@nox.session(venv_backend=environment_kind("metal"))
def metal(session: nox.Session) -> None:
    """The test suite on Metal; skipped where there is no Apple silicon GPU."""
    run_suite(session, "metal")


@nox.session(venv_backend=environment_kind("cuda"))
def cuda(session: nox.Session) -> None:
    """The test suite on CUDA, with the MLX wheel for this driver; skipped where there is no NVIDIA GPU."""
    run_suite(session, "cuda")


@nox.session(name="golden-gen")
def golden_gen(session: nox.Session) -> None:
    """Record golden_values/BACKEND.json on this machine's back end, or on that of `-- --backend NAME`."""
    with usage_errors(session):
        backend, posargs = choose_backend(session.posargs, this_host())
    set_up(session, backend)
    arguments = [argument for argument in posargs if argument != "--require-backend"]
    python(session, "-m", "zmlx", "golden", "record", "--backend", backend, *arguments)


@nox.session(name="golden-cmp")
def golden_cmp(session: nox.Session) -> None:
    """Compare what this machine computes with the golden values of all back ends; write build/report."""
    with usage_errors(session):
        backend, posargs = choose_backend(session.posargs, this_host())
        golden_dir, posargs = take_option(posargs, "--golden-dir")
    set_up(session, backend)
    place = ["--golden-dir", golden_dir] if golden_dir else []
    try:
        python(
            session,
            *("-m", "zmlx", "golden", "compare", "--backend", backend, "--report-dir", REPORT_DIR, *place),
        )
    finally:
        add_step_summary(ROOT / REPORT_DIR)
    pytest(session, backend, posargs, "-m", "golden", *place, parallel=False)


@nox.session(name="cuda-compile")
def cuda_compile(session: nox.Session) -> None:
    """Compile every kernel's CUDA text with NVRTC for all supported GPU architectures; needs no GPU."""
    if this_host().system == "Darwin":
        missing(session, "NVIDIA publishes no NVRTC for macOS")
    set_up(session, "cpu", *group("cuda-compile"))
    session.env["ZMLX_REQUIRE_NVRTC"] = "1"
    pytest(session, "cpu", session.posargs, *NVRTC_TESTS)


@nox.session
def clients(session: nox.Session) -> None:
    """Run the kernels of released packages, unmodified, on this machine's back end (or `-- --backend NAME`)."""
    with usage_errors(session):
        backend, posargs = choose_backend(session.posargs, this_host())
    session.env["ZMLX_REQUIRE_CLIENTS"] = "mlx_lm"
    set_up(session, backend, *group("clients"))
    pytest(session, backend, posargs, "tests/clients")


@nox.session
def check(session: nox.Session) -> None:
    """Test the checker, and run the tests of all kernels and of released packages under it."""
    session.env["ZMLX_REQUIRE_CLIENTS"] = "mlx_lm"
    set_up(session, "cpu", *group("clients"))
    pytest(session, "cpu", session.posargs, "--zmlx-check", *CHECKED_TESTS)
    if session.posargs:
        session.warn(
            "The clients are left out, because arguments were given: they are checked by nox -s check alone."
        )
    else:
        known = "--zmlx-check-suppressions=tests/clients/known_findings.ini"
        pytest(session, "cpu", [], "--zmlx-check", known, "tests/clients")


@nox.session
def bench(session: nox.Session) -> None:
    """Time the kernels against MLX's own operations and the memory's bandwidth; write build/bench."""
    with usage_errors(session):
        backend, posargs = choose_backend(session.posargs, this_host())
    set_up(session, backend)
    arguments = [argument for argument in posargs if argument != "--require-backend"]
    place = ["--output-dir", BENCH_DIR]
    try:
        python(session, "-m", "zmlx", "bench", "--backend", backend, *place, *arguments)
    finally:
        add_step_summary(ROOT / BENCH_DIR)


@nox.session
def lint(session: nox.Session) -> None:
    """Check style and format with ruff, and with import-linter which package may import which; `-- --fix` repairs."""
    fix = "--fix" in session.posargs
    install(session, *group("lint"))
    python(session, "-m", "ruff", "check", *(["--fix"] if fix else []), ".")
    python(session, "-m", "ruff", "format", *([] if fix else ["--check"]), ".")
    python(session, "-c", LINT_IMPORTS)


@nox.session
def typecheck(session: nox.Session) -> None:
    """Check the types of zmlx and of this file with mypy --strict."""
    install(session, "-e", ".[cpu]", *group("typecheck"))
    python(session, "-m", "mypy", *session.posargs)


@nox.session
def docs(session: nox.Session) -> None:
    """Build the documentation into build/site; a broken link or anchor fails."""
    install(session, *group("docs"))
    python(session, "-m", "zensical", "build", "--clean", "--strict", *session.posargs)


if __name__ == "__main__":
    nox.main()
