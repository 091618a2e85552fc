from __future__ import annotations

import subprocess
import sys
from types import ModuleType
from typing import Any

import pytest

from zmlx import _compat
from zmlx._compat import Availability, BackendUnavailableError, CudaDriver, Host

pytestmark = pytest.mark.cpu

NO_DRIVER = CudaDriver(0, "there is no NVIDIA driver (libcuda.so.1 cannot be loaded)")
HIDDEN = CudaDriver(0, "the NVIDIA driver shows no GPU (driver status 100)")


class FakeDevice:
    def __init__(self, kind: str) -> None:
        self.type = kind


def fake_mx(
    default: str = "cpu", metal: bool | None = False, cuda: bool | None = False, gpus: int | None = 0
) -> ModuleType:
    """An ``mlx.core`` whose parts can be missing (None), as they are in older versions."""
    mx: Any = ModuleType("mlx.core")
    mx.__version__ = "0.99.0"
    mx.cpu, mx.gpu = "cpu", "gpu"
    mx.Device, mx.DeviceType = FakeDevice, type("DeviceType", (), {"cpu": "cpu", "gpu": "gpu"})
    mx.default_device = lambda: FakeDevice(default)
    for name, value in (("metal", metal), ("cuda", cuda)):
        if value is not None:
            namespace: Any = ModuleType(name)
            namespace.is_available = lambda value=value: value
            setattr(mx, name, namespace)
    if gpus is not None:
        mx.device_count = lambda kind: gpus if kind == "gpu" else 1
    return mx


def host(
    system: str = "Linux",
    machine: str = "x86_64",
    mx: ModuleType | Exception | None = None,
    driver: CudaDriver = NO_DRIVER,
    **environ: str,
) -> Host:
    def load() -> ModuleType:
        if isinstance(mx, Exception):
            raise mx
        return mx if mx is not None else fake_mx()

    return Host(system, machine, load, lambda: driver, environ)


def mac(default: str = "gpu", **environ: str) -> Host:
    return host("Darwin", "arm64", fake_mx(default, metal=True, gpus=1), **environ)


def cuda_box(default: str = "gpu", **environ: str) -> Host:
    return host("Linux", "x86_64", fake_mx(default, cuda=True, gpus=2), CudaDriver(2), **environ)


def test_importing_the_module_does_not_import_mlx() -> None:
    code = "import sys, zmlx._compat; sys.exit('mlx' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


@pytest.mark.parametrize(
    ("machine", "expected"),
    [
        pytest.param(mac(), "metal", id="mac"),
        pytest.param(mac(default="cpu"), "cpu", id="mac-with-cpu-default"),
        pytest.param(cuda_box(), "cuda", id="cuda"),
        pytest.param(cuda_box(default="cpu"), "cpu", id="cuda-with-cpu-default"),
        pytest.param(host(), "cpu", id="linux-cpu"),
        pytest.param(host(mx=ImportError("libmlx.so: no such file")), "unknown", id="broken-mlx"),
        pytest.param(mac(ZMLX_TEST_BACKEND="cpu"), "cpu", id="mac-pinned-to-cpu"),
        pytest.param(mac(default="cpu", ZMLX_TEST_BACKEND="metal"), "metal", id="mac-pinned-to-metal"),
        pytest.param(cuda_box(ZMLX_TEST_BACKEND=""), "cuda", id="empty-is-unset"),
    ],
)
def test_detect_backend_follows_the_default_device_and_the_variable(machine: Host, expected: str) -> None:
    assert _compat._detect(machine) == expected


def test_detect_backend_on_a_gpu_default_without_a_gpu_says_how_to_use_the_cpu() -> None:
    machine = host(mx=fake_mx("gpu", cuda=True, gpus=0), driver=HIDDEN)
    with pytest.raises(BackendUnavailableError) as caught:
        _compat._detect(machine)
    assert str(caught.value) == (
        "MLX's default device is a GPU that cannot be used: MLX 0.99.0 is a CUDA build, but the NVIDIA "
        "driver shows no GPU (driver status 100); install or update the driver, or start the container with "
        "its GPUs (docker run --gpus all).\nTo work on the CPU, set ZMLX_TEST_BACKEND=cpu for the tests, or "
        "call mx.set_default_device(mx.cpu)."
    )


def test_unknown_name_in_the_variable_lists_the_known_ones() -> None:
    with pytest.raises(ValueError, match="ZMLX_TEST_BACKEND: expected one of metal, cuda, cpu; got 'rocm'"):
        _compat._detect(host(ZMLX_TEST_BACKEND="rocm"))


def test_unavailable_name_in_the_variable_says_why() -> None:
    with pytest.raises(BackendUnavailableError) as caught:
        _compat._detect(host(ZMLX_TEST_BACKEND="metal"))
    assert str(caught.value) == (
        "ZMLX_TEST_BACKEND=metal: metal is not available here: "
        "Metal needs macOS on Apple silicon; this is Linux."
    )


@pytest.mark.parametrize(
    ("machine", "backend", "reason"),
    [
        pytest.param(host(), "metal", "Metal needs macOS on Apple silicon; this is Linux", id="linux"),
        pytest.param(
            host("Darwin"),
            "metal",
            "Metal in MLX needs Apple silicon; this Python runs as x86_64",
            id="rosetta",
        ),
        pytest.param(host("Darwin", "arm64"), "metal", "MLX 0.99.0 finds no Metal device", id="virtual-mac"),
        pytest.param(
            host("Darwin", "arm64", fake_mx(metal=None)), "metal", "no Metal device", id="no-mx.metal"
        ),
        pytest.param(host("Darwin", "arm64"), "cuda", "there is no CUDA for macOS", id="cuda-on-mac"),
        pytest.param(host(), "cuda", "a build without CUDA, and there is no NVIDIA driver", id="cpu-wheel"),
        pytest.param(
            host(mx=fake_mx(cuda=None), driver=CudaDriver(1)),
            "cuda",
            "though the NVIDIA driver shows a GPU; in a fresh environment, pip install '.[cuda13]'",
            id="cpu-wheel-on-a-gpu-machine",
        ),
        pytest.param(
            host(mx=fake_mx(cuda=True)),
            "cuda",
            "a CUDA build, but there is no NVIDIA driver",
            id="cuda-wheel",
        ),
        pytest.param(
            host(mx=fake_mx(cuda=True), driver=CudaDriver(1)),
            "cuda",
            "its CUDA runtime cannot use the GPUs that the driver shows",
            id="old-driver",
        ),
        pytest.param(
            host(mx=fake_mx(cuda=True, gpus=None), driver=HIDDEN),
            "cuda",
            "shows no GPU",
            id="no-mx.device_count",
        ),
        pytest.param(
            host(mx=ImportError("libmlx.so: cannot open\nmore")),
            "cpu",
            "MLX does not import here (ImportError: libmlx.so: cannot open)",
            id="broken-mlx",
        ),
    ],
)
def test_availability_gives_a_reason_to_act_on(machine: Host, backend: Any, reason: str) -> None:
    state = _compat._availability(machine)[backend]
    assert not state.available
    assert reason in state.reason


@pytest.mark.parametrize(
    ("machine", "backend", "reason"),
    [
        pytest.param(mac(), "metal", "MLX 0.99.0 with Metal", id="metal"),
        pytest.param(mac(), "cpu", "MLX 0.99.0 on arm64", id="cpu-of-a-mac"),
        pytest.param(cuda_box(), "cuda", "MLX 0.99.0 with CUDA, 2 GPUs", id="cuda"),
        pytest.param(
            host(mx=fake_mx(cuda=True, gpus=None), driver=CudaDriver(1)),
            "cuda",
            "MLX 0.99.0 with CUDA, 1 GPU",
            id="cuda-without-mx.device_count",
        ),
    ],
)
def test_availability_of_what_is_there(machine: Host, backend: Any, reason: str) -> None:
    assert _compat._availability(machine)[backend] == Availability(True, reason)


@pytest.mark.parametrize(
    ("machine", "metal", "cuda", "gpu"),
    [
        pytest.param(mac(), True, False, True, id="mac"),
        pytest.param(mac(default="cpu"), True, False, True, id="mac-with-cpu-default"),
        pytest.param(mac(ZMLX_TEST_BACKEND="cpu"), False, False, False, id="mac-pinned-to-cpu"),
        pytest.param(cuda_box(), False, True, True, id="cuda"),
        pytest.param(host(), False, False, False, id="cpu"),
        pytest.param(host(mx=ModuleNotFoundError("No module named 'mlx'")), False, False, False, id="no-mlx"),
    ],
)
def test_what_may_be_used(
    machine: Host, metal: bool, cuda: bool, gpu: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_compat, "this_host", lambda: machine)
    found = (_compat.is_metal_available(), _compat.is_cuda_available(), _compat.has_gpu_backend())
    assert found == (metal, cuda, gpu)


@pytest.mark.parametrize(
    ("machine", "advice"),
    [
        pytest.param(("Linux", "x86_64"), "pip install '.[cpu]'      the CPU only", id="linux-cpu"),
        pytest.param(("Linux", "x86_64"), "pip install '.[cuda12]'", id="linux-cuda"),
        pytest.param(
            ("Linux", "aarch64"), "A bare `pip install mlx` does not import on Linux", id="bare-mlx"
        ),
        pytest.param(("Darwin", "arm64"), "pip install --force-reinstall mlx mlx-metal", id="mac"),
        pytest.param(("Darwin", "x86_64"), "arm64 Python", id="rosetta"),
        pytest.param(("Windows", "x86_64"), "WSL 2", id="windows"),
    ],
)
def test_import_error_says_what_to_install_and_shows_the_cause(machine: tuple[str, str], advice: str) -> None:
    cause = OSError("libmlx.so: cannot open shared object file")
    with pytest.raises(ImportError) as caught:
        _compat._import_mx(host(*machine, mx=cause))
    message = str(caught.value)
    assert advice in message
    assert "Cause: OSError: libmlx.so: cannot open shared object file" in message
    assert caught.value.__cause__ is cause
    assert caught.value.name == "mlx.core"


@pytest.mark.parametrize(
    ("cause", "meaning"),
    [
        (
            "libmlx.so: cannot open shared object file",
            "its wheel was never installed, or another one's removal",
        ),
        (
            "libcuda.so.1: cannot open shared object file",
            "MLX's CUDA wheel needs the NVIDIA driver even to import",
        ),
        ("libnccl.so.2: cannot open shared object file", "NVIDIA's libraries are missing"),
        ("libcublasLt.so.13: cannot open shared object file", "NVIDIA's libraries are missing"),
        ("/lib/libc.so.6: version `GLIBC_2.35' not found", "This system's C library is older than the wheel"),
    ],
)
def test_import_error_explains_what_the_loader_said(cause: str, meaning: str) -> None:
    with pytest.raises(ImportError) as caught:
        _compat._import_mx(host(mx=ImportError(cause)))
    _, said, explained, *_ = str(caught.value).splitlines()
    assert said == f"Cause: ImportError: {cause}"
    assert meaning in explained


def test_import_mx_of_a_missing_mlx(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "mlx.core", None)
    monkeypatch.delenv("ZMLX_TEST_BACKEND", raising=False)
    with pytest.raises(ImportError, match=r"zmlx needs MLX, and `import mlx\.core` failed on this machine"):
        _compat.import_mx()
    assert _compat.detect_backend() == "unknown"


def test_import_mx_is_mlx_core() -> None:
    mx = pytest.importorskip("mlx.core", exc_type=ImportError)
    assert _compat.import_mx() is mx


def test_the_real_machine_agrees_with_mlx(monkeypatch: pytest.MonkeyPatch) -> None:
    mx = pytest.importorskip("mlx.core", exc_type=ImportError)
    monkeypatch.delenv("ZMLX_TEST_BACKEND", raising=False)
    states = _compat.availability()
    assert tuple(states) == _compat.BACKENDS
    assert states["cpu"].available
    assert states["metal"].available == mx.metal.is_available()
    before = mx.default_device()
    try:
        assert _compat.select_backend("cpu") == "cpu"
        assert mx.default_device() == mx.Device(mx.cpu)
        assert _compat.detect_backend() == "cpu"
    finally:
        mx.set_default_device(before)


def test_device_for() -> None:
    mx = pytest.importorskip("mlx.core", exc_type=ImportError)
    assert _compat.device_for("cpu") == mx.Device(mx.cpu)
    with pytest.raises(ValueError, match="back end: expected one of metal, cuda, cpu; got 'gpu'"):
        _compat.device_for("gpu")


def test_device_for_an_unavailable_backend_says_why(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_compat, "this_host", host)
    with pytest.raises(
        BackendUnavailableError, match=r"device_for\('metal'\): metal is not available here: "
    ):
        _compat.device_for("metal")


def test_select_backend_honours_the_variable(monkeypatch: pytest.MonkeyPatch) -> None:
    chosen: list[Any] = []
    mx: Any = fake_mx("gpu", metal=True, gpus=1)
    mx.set_default_device = chosen.append
    machine = host("Darwin", "arm64", mx, ZMLX_TEST_BACKEND="cpu")
    monkeypatch.setattr(_compat, "this_host", lambda: machine)
    assert _compat.select_backend() == "cpu"
    assert [device.type for device in chosen] == ["cpu"]


@pytest.mark.parametrize(
    ("system", "machine", "macos", "arm", "supported"),
    [
        ("Darwin", "arm64", True, True, True),
        ("Darwin", "x86_64", True, False, False),
        ("Linux", "aarch64", False, True, True),
        ("Linux", "x86_64", False, False, True),
        ("Linux", "riscv64", False, False, False),
        ("Windows", "AMD64", False, False, False),
    ],
)
def test_platform_questions(
    system: str, machine: str, macos: bool, arm: bool, supported: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_compat.platform, "system", lambda: system)
    monkeypatch.setattr(_compat.platform, "machine", lambda: machine)
    answers = (_compat.is_macos(), _compat.is_arm64(), _compat.is_supported_host())
    assert answers == (macos, arm, supported)


class FakeLibrary:
    """libcuda: each function returns a status; cuDeviceGetCount also writes."""

    def __init__(self, init: int, count: int) -> None:
        self._init, self._count = init, count

    def cuInit(self, flags: int) -> int:
        return self._init

    def cuDeviceGetCount(self, pointer: Any) -> int:
        pointer._obj.value = self._count
        return 0


@pytest.mark.parametrize(
    ("library", "expected", "visible"),
    [
        pytest.param(FakeLibrary(0, 3), CudaDriver(3), None, id="three-gpus"),
        pytest.param(
            FakeLibrary(100, 0),
            CudaDriver(0, "the NVIDIA driver shows no GPU (driver status 100, CUDA_VISIBLE_DEVICES is '')"),
            "",
            id="hidden",
        ),
        pytest.param(
            FakeLibrary(0, 0),
            CudaDriver(0, "the NVIDIA driver shows no GPU (driver status 0)"),
            None,
            id="none",
        ),
    ],
)
def test_query_cuda_driver(
    library: FakeLibrary, expected: CudaDriver, visible: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    if visible is not None:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    monkeypatch.setattr(_compat.ctypes, "CDLL", lambda name: library)
    assert _compat.query_cuda_driver() == expected


def test_query_cuda_driver_without_a_driver(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(name: str) -> None:
        raise OSError(f"{name}: cannot open shared object file")

    monkeypatch.setattr(_compat.ctypes, "CDLL", refuse)
    assert _compat.query_cuda_driver() == NO_DRIVER
