"""Finding NVRTC and calling it. Needs neither a GPU nor a driver; without NVRTC, only the errors are tested."""

from __future__ import annotations

import ctypes
import ctypes.util
import os
import subprocess
import sys

import pytest

from zmlx.launch import NvrtcNotFoundError, nvrtc
from zmlx.launch.nvrtc import Nvrtc, NvrtcError, arch_number, find_nvrtc

pytestmark = pytest.mark.cpu

KERNEL = 'extern "C" __global__ void k(float* x) { x[threadIdx.x] = VALUE; }\n'


@pytest.fixture
def search(monkeypatch):
    """find_nvrtc without what it found before, here and after the test."""
    monkeypatch.delenv(nvrtc.NVRTC_VARIABLE, raising=False)
    find_nvrtc.cache_clear()
    yield monkeypatch
    find_nvrtc.cache_clear()


@pytest.fixture
def found() -> Nvrtc:
    try:
        return find_nvrtc()
    except NvrtcNotFoundError as error:
        pytest.skip(str(error))


def test_what_is_found_describes_itself(found):
    assert found.version >= nvrtc.MIN_VERSION
    assert found.name == f"NVRTC {found.version[0]}.{found.version[1]}"
    assert 90 in found.archs
    assert found.supports("sm_90")
    assert found.supports("compute_90")
    assert not found.supports("sm_10")


def test_compiles_for_a_device_and_to_ptx(found):
    cubin = found.compile(KERNEL, "k.cu", "sm_90", ["-DVALUE=1"], {})
    assert cubin[:4] == b"\x7fELF"
    ptx = found.compile(KERNEL, "k.cu", "compute_90", ["-DVALUE=1"], {})
    assert b".entry k" in ptx


def test_headers_come_from_memory(found):
    headers = {"a.h": '#include "b.h"\n', "b.h": "#define VALUE 3.0f\n"}
    assert found.compile('#include "a.h"\n' + KERNEL, "k.cu", "sm_90", [], headers)[:4] == b"\x7fELF"


def test_errors_carry_the_whole_log(found):
    with pytest.raises(NvrtcError, match=r"^NVRTC [0-9.]+: NVRTC_ERROR_COMPILATION$") as error:
        found.compile(KERNEL, "k.cu", "sm_90", [], {})
    assert 'k.cu(1): error: identifier "VALUE" is undefined' in error.value.log


def test_an_option_that_nvrtc_does_not_know(found):
    with pytest.raises(NvrtcError, match="NVRTC_ERROR_INVALID_OPTION") as error:
        found.compile(KERNEL, "k.cu", "sm_90", ["--no-such-option"], {})
    assert "--no-such-option" in error.value.log


def test_an_architecture_that_nvrtc_does_not_know(found):
    with pytest.raises(ValueError) as error:
        found.compile(KERNEL, "k.cu", "sm_10", [], {})
    known = ", ".join(f"sm_{number}" for number in found.archs)
    assert str(error.value) == f"{found.name} cannot compile for 'sm_10'. Expected one of {known}."


@pytest.mark.parametrize(
    ("arch", "number"), [("sm_75", 75), ("compute_120", 120), ("sm_90a", 90), ("sm_100f", 100)]
)
def test_architecture_numbers(arch, number):
    assert arch_number(arch) == number


@pytest.mark.parametrize("arch", ["", "90", "sm_", "sm_9.0", "gfx90"])
def test_names_that_are_no_architecture(arch):
    with pytest.raises(ValueError) as error:
        arch_number(arch)
    assert str(error.value) == f"Expected an architecture such as 'sm_90' but got {arch!r}."


INSTALL = "Install it with `pip install nvidia-cuda-nvrtc` (CUDA 13) or `pip install nvidia-cuda-nvrtc-cu12` (CUDA 12)."


def test_no_nvrtc(search):
    search.setattr(nvrtc, "_candidates", lambda: iter([]))
    with pytest.raises(NvrtcNotFoundError) as error:
        find_nvrtc()
    assert str(error.value) == (
        "[metal_kernel] No NVRTC: running a Metal kernel on CUDA compiles it first. Looked for libnvrtc.so in the "
        "nvidia-cuda-nvrtc Python packages, on the loader's path, in $CUDA_HOME, $CUDA_PATH and /usr/local/cuda. "
        + INSTALL
    )


def test_a_named_library_that_is_not_there(search, tmp_path):
    missing = tmp_path / "libnvrtc.so"
    search.setenv(nvrtc.NVRTC_VARIABLE, str(missing))
    with pytest.raises(NvrtcNotFoundError) as error:
        find_nvrtc()
    message = str(error.value)
    assert f"ZMLX_NVRTC is {str(missing)!r}; {missing} does not load (" in message
    assert message.endswith(INSTALL)


def test_a_named_library_that_is_something_else(search):
    other = ctypes.util.find_library("c")
    assert other is not None
    search.setenv(nvrtc.NVRTC_VARIABLE, other)
    with pytest.raises(NvrtcNotFoundError, match=rf"{other} does not load \(.*nvrtcVersion"):
        find_nvrtc()


def test_one_that_is_too_old(search, found):
    search.setattr(nvrtc, "MIN_VERSION", (99, 1))
    search.setattr(nvrtc, "_candidates", lambda: iter([(found.path, ctypes.DEFAULT_MODE)]))
    find_nvrtc.cache_clear()
    with pytest.raises(NvrtcNotFoundError) as error:
        find_nvrtc()
    assert f"/usr/local/cuda; {found.name} in {found.path} is older than 99.1. Install" in str(error.value)


def test_a_toolkit_is_found_by_its_variable(search, tmp_path):
    library = tmp_path / "lib64" / "libnvrtc.so"
    library.parent.mkdir()
    library.touch()
    search.setenv("CUDA_HOME", str(tmp_path))
    assert (str(library), ctypes.DEFAULT_MODE) in list(nvrtc._candidates())


def test_python_packages_newest_first(search, tmp_path):
    for folder, name in (
        ("cuda_nvrtc", "libnvrtc.so.12"),
        ("cu13", "libnvrtc.so.13"),
        ("cu13", "libnvrtc-builtins.so.13"),
    ):
        path = tmp_path / folder / "lib" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    search.setattr(
        nvrtc, "_namespace_folders", lambda package: [str(tmp_path)] if package == "nvidia" else []
    )
    paths = [path for path, _ in nvrtc._candidates() if path.startswith(str(tmp_path))]
    assert paths == [
        str(tmp_path / "cu13/lib/libnvrtc.so.13"),
        str(tmp_path / "cuda_nvrtc/lib/libnvrtc.so.12"),
    ]


FAKE_NVRTC = """
extern "C" {
const char* nvrtcGetErrorString(int) { return "fake"; }
int nvrtcVersion(int* major, int* minor) { *major = 97; *minor = 3; return 0; }
int nvrtcGetNumSupportedArchs(int* n) { *n = 0; return 0; }
int nvrtcGetSupportedArchs(int*) { return 0; }
int nvrtcCreateProgram() { return 1; }
int nvrtcCompileProgram() { return 1; }
int nvrtcGetProgramLogSize() { return 1; }
int nvrtcGetProgramLog() { return 1; }
int nvrtcGetCUBINSize() { return 1; }
int nvrtcGetCUBIN() { return 1; }
int nvrtcGetPTXSize() { return 1; }
int nvrtcGetPTX() { return 1; }
int nvrtcDestroyProgram() { return 1; }
}
"""


@pytest.mark.skipif(sys.platform != "linux", reason="NVRTC is there on Linux only")
def test_what_nvrtc_loads_by_name_is_loaded_by_path(tmp_path):
    """As in wheels that do not say where to look: the folder is on no loader's path."""
    from zmlx.launch.compiler import find_compiler

    def build(name, text):
        command = [find_compiler().path, "-shared", "-fPIC", "-x", "c++", "-", "-o", str(tmp_path / name)]
        subprocess.run([*command, f"-Wl,-soname,{name}"], input=text, text=True, check=True)

    build("libnvrtc-builtins.so.97.3", "int builtins;")
    build("libnvrtc-builtins.so.97.4", "int of_another_version;")
    build("libnvrtc.so.97", FAKE_NVRTC)
    loaded = os.RTLD_NOLOAD | os.RTLD_NOW
    with pytest.raises(OSError, match="libnvrtc-builtins"):
        ctypes.CDLL("libnvrtc-builtins.so.97.3", loaded)
    assert nvrtc.load(str(tmp_path / "libnvrtc.so.97")).version == (97, 3)
    assert ctypes.CDLL("libnvrtc-builtins.so.97.3", loaded)
    with pytest.raises(OSError, match="libnvrtc-builtins"):
        ctypes.CDLL("libnvrtc-builtins.so.97.4", loaded)
