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

What sessions have in common is in zmlx/sessions, for the noxfiles of other projects too.
"""

from __future__ import annotations

import shutil
import sys
from collections.abc import Sequence
from pathlib import Path

import nox

ROOT = Path(__file__).parent
# zmlx is not installed where nox is. `import zmlx` needs nothing but Python.
sys.path.insert(0, str(ROOT))

from zmlx.sessions import host  # noqa: E402
from zmlx.sessions.environment import environment_kind, install, missing, python  # noqa: E402
from zmlx.sessions.matrix import BENCH_CMP_DIR, BENCH_DIR, Matrix  # noqa: E402

nox.needs_version = ">=2025.5.1"
nox.options.default_venv_backend = "uv|virtualenv"
nox.options.reuse_venv = "yes"
nox.options.sessions = ["lint", "typecheck", "cpu", "tools", "golden-cmp"]

PYPROJECT = nox.project.load_toml(ROOT / "pyproject.toml")

# The lower bounds of pyproject.toml, exactly. NumPy has no 2.0 wheels for Python 3.13 and newer.
OLDEST = ("mlx==0.30.4", "numpy==2.0.*; python_version < '3.13'")

# The packages of the groups `clients` and `clients-alone` whose tests must not be skipped.
CLIENTS = "mlx_lm mlx_audio mlx_vlm"

# What is skipped without NVRTC, and runs without a GPU.
NVRTC_TESTS = tuple(f"tests/launch/test_{name}.py" for name in ("cuda_compile", "cuda_launch", "nvrtc"))

# A session of a back end runs what depends on it. tests/conftest.py says which tests are of tools: those that read,
# translate and compare text, and those of the checker, which runs kernels on the CPU everywhere.
OF_KERNELS = "not tools"

# What is marked golden. All others would be collected to be left out, which takes longer.
GOLDEN_TESTS = ("tests/testing/golden/test_recorded.py",)

# What `check` runs: the checker's own tests, and those that launch the kernels of the catalogue.
CHECKED_TESTS = ("tests/check", "tests/kernels", "tests/test_ops.py")

# import-linter brings a command and no module to run with -m. The contracts are in pyproject.toml.
LINT_IMPORTS = "import importlinter.cli as c; raise SystemExit(c.lint_imports(no_logo=True, no_cache=True))"


# What opens the report's page, the first that there is.
BROWSERS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome")


def find_browser() -> str | None:
    """The path of a browser of `BROWSERS`, or None."""
    return next(filter(None, map(shutil.which, BROWSERS)), None)


def group(name: str) -> list[str]:
    """The requirements of a dependency group of pyproject.toml."""
    return list(nox.project.dependency_groups(PYPROJECT, name))


def requirements(extras: Sequence[str]) -> list[str]:
    """This checkout with some of its extras, and what the tests need."""
    return ["-e", f".[{','.join(extras)}]" if extras else ".", *group("test")]


MATRIX = Matrix(ROOT, requirements)


@nox.session
def cpu(session: nox.Session) -> None:
    """The kernels' tests on the CPU: each translated, compiled by the C++ compiler and run."""
    MATRIX.suite(session, "cpu", OF_KERNELS)


@nox.session
def tools(session: nox.Session) -> None:
    """Test what is the same on all back ends: texts, checker, commands, plugin, golden files, judge, reports, files."""
    MATRIX.suite(session, "cpu", "tools")


@nox.session
def oldest(session: nox.Session) -> None:
    """The same as cpu and tools, with the oldest MLX and NumPy that zmlx supports."""
    MATRIX.set_up(session, "cpu", *OLDEST)
    # MLX's own operations (stock.*) have become more exact since; values and tolerances are the newest MLX's.
    markers = f"({host.SUITES['cpu'].markers}) and not golden"
    MATRIX.pytest(session, "cpu", session.posargs, "-m", markers, "-k", "not stock")


@nox.session(venv_backend=environment_kind("metal"))
def metal(session: nox.Session) -> None:
    """The kernels' tests on Metal; skipped where there is no Apple silicon GPU."""
    MATRIX.suite(session, "metal", OF_KERNELS)


@nox.session(venv_backend=environment_kind("cuda"))
def cuda(session: nox.Session) -> None:
    """The kernels' tests on CUDA, with the MLX wheel for this driver; skipped where there is no NVIDIA GPU."""
    MATRIX.suite(session, "cuda", OF_KERNELS)


@nox.session(name="golden-gen")
def golden_gen(session: nox.Session) -> None:
    """Record golden_values/BACKEND.json on this machine's back end, or on that of `-- --backend NAME`."""
    MATRIX.golden_gen(session)


@nox.session(name="golden-cmp")
def golden_cmp(session: nox.Session) -> None:
    """Compare what this machine computes with the golden values of all back ends; write build/report."""
    MATRIX.golden_cmp(session, tests=GOLDEN_TESTS)


@nox.session(name="cuda-compile")
def cuda_compile(session: nox.Session) -> None:
    """Compile every kernel's CUDA text with NVRTC for all supported GPU architectures; needs no GPU."""
    if host.this_host().system == "Darwin":
        missing(session, "NVIDIA publishes no NVRTC for macOS")
    MATRIX.set_up(session, "cpu", *group("cuda-compile"))
    session.env["ZMLX_REQUIRE_NVRTC"] = "1"
    MATRIX.pytest(session, "cpu", session.posargs, *NVRTC_TESTS)


@nox.session
def clients(session: nox.Session) -> None:
    """Run the kernels of released packages, unmodified, on this machine's back end (or `-- --backend NAME`)."""
    backend, posargs = MATRIX.choose(session)
    session.env["ZMLX_REQUIRE_CLIENTS"] = CLIENTS
    MATRIX.set_up(session, backend, *group("clients"), alone=group("clients-alone"))
    MATRIX.pytest(session, backend, posargs, "tests/clients")


@nox.session
def check(session: nox.Session) -> None:
    """Test the checker, and run the tests of all kernels and of released packages under it."""
    session.env["ZMLX_REQUIRE_CLIENTS"] = CLIENTS
    MATRIX.set_up(session, "cpu", *group("clients"), alone=group("clients-alone"))
    MATRIX.pytest(session, "cpu", session.posargs, "--zmlx-check", *CHECKED_TESTS)
    if session.posargs:
        session.warn(
            "The clients are left out, because arguments were given: they are checked by nox -s check alone."
        )
    else:
        known = "--zmlx-check-suppressions=tests/clients/known_findings.ini"
        MATRIX.pytest(session, "cpu", [], "--zmlx-check", known, "tests/clients")


@nox.session
def bench(session: nox.Session) -> None:
    """Time kernels against MLX's operations and the memory; write build/bench. `-- --peers`: on CUDA against others."""
    MATRIX.bench(session, BENCH_DIR, group("peers"))


@nox.session(name="bench-cmp", venv_backend="none")
def bench_cmp(session: nox.Session) -> None:
    """Compare two benchmarks: `-- OLD.json NEW.json`, or the last of `bench` with the last release; a loss fails."""
    MATRIX.bench_cmp(session, BENCH_CMP_DIR)


@nox.session
def leaks(session: nox.Session) -> None:
    """Launch every kernel 10000 times: memory, files, threads and caches must stay flat; write build/evidence."""
    MATRIX.leaks(session)


@nox.session(name="report-browser", venv_backend=None if find_browser() else "none")
def report_browser(session: nox.Session) -> None:
    """Open the report's page in headless Chromium: sorting, filtering, a phone's width; screenshots in build."""
    browser = find_browser()
    if browser is None:
        missing(session, f"No browser: none of {', '.join(BROWSERS)} is on the PATH")
        return
    MATRIX.set_up(session, "cpu")
    session.env["ZMLX_TEST_BROWSER"] = browser
    session.env["ZMLX_TEST_SCREENSHOTS"] = str(ROOT / "build" / "report-browser")
    MATRIX.pytest(session, "cpu", session.posargs, "tests/testing/report/test_browser.py")


@nox.session
def mutants(session: nox.Session) -> None:
    """Plant faults into copies of the kernels, and name those that no test notices; `-- --only PATTERN` for some."""
    MATRIX.set_up(session, "cpu")
    python(session, "-m", "zmlx", "mutants", *session.posargs)


@nox.session
def lint(session: nox.Session) -> None:
    """Check style and format with ruff, and with import-linter which package may import which; `-- --fix` repairs."""
    fix = "--fix" in session.posargs
    install(session, ROOT, *group("lint"))
    python(session, "-m", "ruff", "check", *(["--fix"] if fix else []), ".")
    python(session, "-m", "ruff", "format", *([] if fix else ["--check"]), ".")
    python(session, "-c", LINT_IMPORTS)


@nox.session
def typecheck(session: nox.Session) -> None:
    """Check the types of zmlx and of this file with mypy --strict."""
    install(session, ROOT, "-e", ".[cpu]", *group("typecheck"))
    python(session, "-m", "mypy", *session.posargs)


@nox.session
def docs(session: nox.Session) -> None:
    """Build the documentation into build/site; a broken link or anchor fails."""
    install(session, ROOT, *group("docs"))
    python(session, "-m", "zensical", "build", "--clean", "--strict", *session.posargs)


if __name__ == "__main__":
    nox.main()
