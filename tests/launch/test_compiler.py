from __future__ import annotations

import os
import platform
import shutil
import subprocess
import sys

import pytest

from zmlx.errors import CompilerNotFoundError, KernelCompileError
from zmlx.launch import compiler
from zmlx.launch.diagnosis import compile_error
from zmlx.metal.signature import ArrayType, KernelSource, make_signature

pytestmark = pytest.mark.cpu


@pytest.fixture
def fresh():
    compiler.find_compiler.cache_clear()
    yield
    compiler.find_compiler.cache_clear()


def test_no_compiler_says_what_to_install(fresh, monkeypatch, tmp_path):
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.delenv("CXX", raising=False)
    with pytest.raises(CompilerNotFoundError) as error:
        compiler.find_compiler()
    assert "No C++ compiler" in str(error.value)
    assert "Looked for $CXX, c++, g++, clang++ on PATH" in str(error.value)
    assert "set CXX to a C++17 compiler" in str(error.value)


def test_cxx_that_is_not_there(fresh, monkeypatch):
    monkeypatch.setenv("CXX", "no-such-compiler")
    with pytest.raises(CompilerNotFoundError, match="which is 'no-such-compiler' and is not on PATH"):
        compiler.find_compiler()


def test_cxx_that_does_not_run(fresh, monkeypatch, tmp_path):
    broken = tmp_path / "c++"
    broken.write_text("#!/bin/sh\nexit 3\n")
    broken.chmod(0o755)
    monkeypatch.setenv("CXX", str(broken))
    with pytest.raises(CompilerNotFoundError, match="does not run"):
        compiler.find_compiler()


@pytest.fixture
def ccache(monkeypatch, tmp_path):
    program = tmp_path / "ccache"
    program.write_text('#!/bin/sh\nexec "$@"\n')
    program.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=os.pathsep)
    return str(program)


def test_cxx_with_a_launcher_and_options(fresh, monkeypatch, ccache):
    monkeypatch.setenv("CXX", "ccache c++ -DHERE='a b'")
    found = compiler.find_compiler()
    assert found.command == (ccache, shutil.which("c++"), "-DHERE=a b")


@pytest.mark.parametrize("launchers", ["ccache", "sccache", "distcc", "ccache distcc", "/opt/bin/ccache"])
def test_a_launcher_wants_a_compiler_behind_it(fresh, monkeypatch, ccache, launchers):
    monkeypatch.setenv("CXX", launchers)
    last = launchers.split()[-1].rpartition("/")[2]
    with pytest.raises(CompilerNotFoundError) as error:
        compiler.find_compiler()
    assert str(error.value) == (
        f"[metal_kernel] CXX={launchers!r} is a launcher without a compiler: {last} runs the command behind it. "
        f"Put one there: CXX='{launchers} c++'."
    )


def test_a_compilers_path_may_have_spaces(fresh, monkeypatch, tmp_path):
    folder = tmp_path / "my tools"
    folder.mkdir()
    (folder / "c++").symlink_to(shutil.which("c++"))
    monkeypatch.setenv("CXX", str(folder / "c++"))
    assert compiler.find_compiler().command == (str(folder / "c++"),)


@pytest.mark.skipif(platform.machine() != "x86_64", reason="-m32 is of x86-64")
def test_a_compiler_for_other_programs_says_so(fresh, monkeypatch):
    monkeypatch.setenv("CXX", "c++ -m32")
    with pytest.raises(
        CompilerNotFoundError, match=r"CXX='c\+\+ -m32' makes 32-bit code, and this Python is a 64-bit"
    ):
        compiler.find_compiler()


def test_a_compiler_without_cpp_says_so(fresh, monkeypatch, tmp_path):
    broken = tmp_path / "gcc"
    broken.write_text(
        '#!/bin/sh\n[ "$1" = --version ] && exit 0\necho "cannot execute \'cc1plus\'" >&2; exit 1\n'
    )
    broken.chmod(0o755)
    monkeypatch.setenv("CXX", str(broken))
    with pytest.raises(
        CompilerNotFoundError, match=r"does not compile C\+\+: cannot execute 'cc1plus'.*install its C\+\+"
    ):
        compiler.find_compiler()


@pytest.mark.parametrize("text", ["no-such g++", "ccache no-such"])
def test_a_word_of_cxx_that_is_not_there(fresh, monkeypatch, ccache, text):
    monkeypatch.setenv("CXX", text)
    with pytest.raises(CompilerNotFoundError, match="which is 'no-such' and is not on PATH"):
        compiler.find_compiler()


@pytest.mark.parametrize("name", ["gcc", "ccache g++"])
def test_kernels_run_with_such_a_compiler(name, ccache, tmp_path):
    if shutil.which(name.split()[-1]) is None:
        pytest.skip(f"{name} is not installed")
    script = (
        "import mlx.core as mx, zmlx\nk = zmlx.metal_kernel('k', ['x'], ['out'], 'out[0] = exp(x[0]);')\n"
        "print(k(inputs=[mx.zeros(8)], output_shapes=[(1,)], output_dtypes=[mx.float32], grid=(1, 1, 1), "
        "threadgroup=(1, 1, 1), stream=mx.cpu)[0].item())"
    )
    env = {**os.environ, "CXX": name, "ZMLX_CACHE_DIR": str(tmp_path / "cache")}
    run = subprocess.run([sys.executable, "-c", script], env=env, capture_output=True, text=True, timeout=240)
    assert run.stdout == "1.0\n", run.stderr


def test_a_compiler_is_described(fresh):
    found = compiler.find_compiler()
    assert found.kind in ("gcc", "clang")
    assert found.version
    assert len(found.identity) == 64


@pytest.mark.parametrize(
    ("edited", "anew"),
    [
        ("host/host.h", True),
        ("msl/math.h", True),
        ("host/runtime.cpp", False),
        ("check/check.cpp", False),
        ("cuda/math.h", False),
    ],
)
def test_kernels_depend_on_the_headers_that_they_include(edited, anew, fresh, monkeypatch, tmp_path):
    """Another edition of the thread pool, of the checker or of what is for CUDA compiles none of them anew."""
    found = compiler.find_compiler()
    shutil.copytree(compiler.RUNTIME, tmp_path, dirs_exist_ok=True)
    monkeypatch.setattr(compiler, "RUNTIME", tmp_path)

    def identity():
        for cached in (compiler.runtime_digest, compiler._identity):
            cached.cache_clear()
        return found.identity

    before = identity()
    with (tmp_path / edited).open("a") as file:
        file.write("// another edition")
    after = identity()
    monkeypatch.undo()
    assert (identity() == before, after != before) == (True, anew)


KERNEL = KernelSource("k", ("x",), ("out",), "int a;\n  out[0] = oops;\n", "float f() {\n  return nothing; }")
SIGNATURE = make_signature(KERNEL, [ArrayType("float32", 1)], ["float32"])


@pytest.mark.parametrize(
    "log",
    [
        "k source:2:12: error: 'oops' was not declared in this scope\n",
        "k source(2): error: 'oops' was not declared in this scope\n",
        "In file included from <stdin>:\nk source:2:12: error: 'oops' was not declared in this scope\n    2 | x\n",
    ],
    ids=["gcc", "nvrtc", "with context"],
)
def test_errors_quote_the_kernels_own_line(log):
    error = compile_error(SIGNATURE, log, "g++ 12 refused it")
    assert isinstance(error, KernelCompileError)
    assert str(error) == (
        "[metal_kernel] Kernel 'k' does not compile (g++ 12 refused it):\n"
        "  source line 2: 'oops' was not declared in this scope\n"
        "    out[0] = oops;\n"
        '  What to do: if `oops` is a template argument, pass it with the call: template=[("oops", …)].\n'
        "The whole output is in this error's `log`."
    )
    assert error.log == log


def test_errors_in_the_header_and_many_errors():
    log = "".join(f"k header:2:3: error: number {i}\n" for i in range(8))
    message = str(compile_error(SIGNATURE, log, "refused"))
    assert "header line 2: number 0\n    return nothing; }" in message
    assert "number 4" in message
    assert "number 5" not in message
    assert "… and 3 more errors" in message


def test_errors_elsewhere_are_shown_as_they_are():
    assert "ld: cannot find -lm" in str(compile_error(SIGNATURE, "ld: cannot find -lm\n", "refused"))
