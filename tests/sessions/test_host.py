"""The matrix's choices: which wheel, which workers, skip or error."""

from __future__ import annotations

from typing import Any

import pytest

from zmlx.sessions import host as hosts
from zmlx.sessions.host import Driver, Host

pytestmark = pytest.mark.cpu

MAC = Host("Darwin", "arm64", Driver(problem="no driver"))
LAPTOP = Host("Linux", "x86_64", Driver(problem="there is no NVIDIA driver"))
GPU_13 = Host("Linux", "x86_64", Driver(13000, 1))
GPU_12 = Host("Linux", "aarch64", Driver(12080, 1))


# ---- which wheel ----


@pytest.mark.parametrize(
    ("backend", "host", "extra"),
    [
        pytest.param("cpu", LAPTOP, "cpu", id="cpu-linux"),
        pytest.param("cpu", GPU_13, "cpu", id="cpu-linux-with-gpu"),
        pytest.param("cpu", MAC, "", id="cpu-mac"),
        pytest.param("metal", MAC, "", id="metal-mac"),
        pytest.param("cuda", GPU_13, "cuda13", id="cuda-driver-13.0"),
        pytest.param("cuda", Host("Linux", "x86_64", Driver(13020, 1)), "cuda13", id="cuda-driver-13.2"),
        pytest.param("cuda", GPU_12, "cuda12", id="cuda-driver-12.8"),
    ],
)
def test_find_wheel(backend: str, host: Any, extra: str) -> None:
    assert hosts.find_wheel(backend, host).extra == extra


@pytest.mark.parametrize(
    ("backend", "host", "reason"),
    [
        pytest.param(
            "metal", LAPTOP, "metal needs macOS on Apple silicon; this is Linux x86_64", id="metal-linux"
        ),
        pytest.param(
            "metal",
            Host("Darwin", "x86_64"),
            "metal needs macOS on Apple silicon; this is Darwin x86_64",
            id="metal-intel",
        ),
        pytest.param("cuda", MAC, "cuda needs Linux with an NVIDIA GPU; this is Darwin arm64", id="cuda-mac"),
        pytest.param(
            "cuda",
            LAPTOP,
            "cuda needs Linux with an NVIDIA GPU; there is no NVIDIA driver",
            id="cuda-no-driver",
        ),
        pytest.param(
            "cuda",
            Host("Linux", "x86_64", Driver(11080, 1)),
            "cuda needs Linux with an NVIDIA GPU and a driver for CUDA 12 or newer; "
            "this driver stops at CUDA 11.8",
            id="cuda-old-driver",
        ),
        pytest.param(
            "cpu",
            Host("Windows", "AMD64"),
            "cpu needs Linux (x86-64, arm64) or macOS (Apple silicon); this is Windows AMD64",
            id="cpu-windows",
        ),
    ],
)
def test_find_wheel_says_what_is_missing(backend: str, host: Any, reason: str) -> None:
    with pytest.raises(hosts.MissingBackend) as caught:
        hosts.find_wheel(backend, host)
    assert str(caught.value) == reason


@pytest.mark.parametrize(
    ("host", "backend"), [(MAC, "metal"), (GPU_12, "cuda"), (LAPTOP, "cpu")], ids=["mac", "gpu", "laptop"]
)
def test_best_backend(host: Any, backend: str) -> None:
    assert hosts.best_backend(host) == backend


# ---- positional arguments ----


@pytest.mark.parametrize(
    ("posargs", "variable", "required"),
    [
        ([], "", False),
        ([], "0", False),
        ([], "false", False),
        ([], "1", True),
        (["--require-backend"], "", True),
        (["-k", "x", "--require-backend"], "0", True),
    ],
)
def test_is_required(
    posargs: list[str], variable: str, required: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ZMLX_REQUIRE_BACKEND", variable)
    assert hosts.is_required(posargs) is required


@pytest.mark.parametrize(
    ("posargs", "expected"),
    [
        (["-v"], (None, ["-v"])),
        (["--golden-dir", "d", "-v"], ("d", ["-v"])),
        (["-v", "--golden-dir=d"], ("d", ["-v"])),
        (["--golden-dir=a", "--golden-dir", "b"], ("b", [])),
        (["--golden-directory", "d"], (None, ["--golden-directory", "d"])),
    ],
)
def test_take_option(posargs: list[str], expected: tuple[str | None, list[str]]) -> None:
    assert hosts.take_option(posargs, "--golden-dir") == expected


def test_take_option_without_its_value() -> None:
    with pytest.raises(hosts.UsageError, match=r"^--backend: expected a value after it$"):
        hosts.take_option(["-v", "--backend"], "--backend")


def test_choose_backend() -> None:
    assert hosts.choose_backend(["-v"], GPU_13) == ("cuda", ["-v"])
    assert hosts.choose_backend(["--backend", "cpu", "-v"], GPU_13) == ("cpu", ["-v"])
    with pytest.raises(hosts.UsageError, match=r"^--backend: expected one of cpu, metal, cuda; got 'tpu'$"):
        hosts.choose_backend(["--backend=tpu"], GPU_13)


@pytest.mark.parametrize(
    ("posargs", "expected"),
    [
        ([], ["-n", "3", "--dist", "worksteal"]),
        (["-n", "0"], ["-n", "3", "--dist", "worksteal"]),  # pytest takes the last -n
        (["--pdb"], []),
        (["-p", "no:xdist"], []),
        (["-pno:xdist"], []),
    ],
)
def test_xdist_arguments(posargs: list[str], expected: list[str]) -> None:
    assert hosts.xdist_arguments(posargs, 3, ["0"]) == expected


def test_workers_are_spread_over_several_gpus() -> None:
    assert hosts.xdist_arguments([], 3, ["0", "5"]) == [
        "--dist",
        "worksteal",
        "--tx=popen//env:CUDA_VISIBLE_DEVICES=0",
        "--tx=popen//env:CUDA_VISIBLE_DEVICES=5",
        "--tx=popen//env:CUDA_VISIBLE_DEVICES=0",
    ]


@pytest.mark.parametrize(("variable", "gpus"), [(None, ["0", "1"]), ("", ["0", "1"]), ("3,1", ["3", "1"])])
def test_visible_gpus(variable: str | None, gpus: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    if variable is not None:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", variable)
    assert hosts.visible_gpus(Driver(13000, 2)) == gpus


@pytest.mark.parametrize(
    ("cores", "gpus", "workers"), [(1, 0, 1), (4, 1, 4), (128, 1, 4), (128, 8, 8), (2, 8, 2)]
)
def test_workers_are_capped(cores: int, gpus: int, workers: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hosts, "count_cores", lambda: cores)
    assert hosts.count_workers(hosts.SUITES["cuda"], gpus) == workers
