from __future__ import annotations

import ctypes
import re
import subprocess
from collections import Counter
from typing import Any

import pytest

from zmlx import device_profile
from zmlx.device_profile import (
    APPLE_PROFILES,
    DeviceProfile,
    UnknownDeviceError,
    describe_apple,
    describe_cpu,
    describe_nvidia,
    get_current_device_profile,
    get_device_profile,
)

pytestmark = pytest.mark.cpu


def test_the_example_of_the_guide() -> None:
    assert get_device_profile("M3", "Max").gpu_cores == 40


@pytest.mark.parametrize(
    ("chip", "variant", "cores", "bandwidth"),
    [
        ("M1", "", 8, 68.25),
        ("M1", "Ultra", 64, 800.0),
        ("M2", "Max", 38, 400.0),
        ("M3", "Pro", 18, 150.0),
        ("M3", "Ultra", 80, 819.0),
        ("M4", "Pro", 20, 273.0),
        ("M4", "Max", 40, 546.0),
        ("M5", "", 10, 153.0),
        ("M5", "Max", 40, 614.0),
        ("M5", "Ultra", 80, 1200.0),
    ],
)
def test_the_full_chip_is_the_default(chip: str, variant: str, cores: int, bandwidth: float) -> None:
    profile = get_device_profile(chip, variant)
    assert (profile.gpu_cores, profile.memory_bandwidth_gbs) == (cores, bandwidth)


@pytest.mark.parametrize(
    ("chip", "cores", "bandwidth"),
    [
        ("M1", 7, 68.25),
        ("M3 Max", 30, 300.0),
        ("M4 Max", 32, 410.0),
        ("M5 Max", 32, 460.0),
        ("M5 Pro", 16, 307.0),
    ],
)
def test_binned_chips(chip: str, cores: int, bandwidth: float) -> None:
    profile = get_device_profile(chip, gpu_cores=cores)
    assert (profile.gpu_cores, profile.memory_bandwidth_gbs) == (cores, bandwidth)


@pytest.mark.parametrize("spelling", ["M3 Max", "m3 max", "Apple M3 Max", "m3max", "M3_Max", " M3  Max "])
def test_spellings(spelling: str) -> None:
    assert get_device_profile(spelling) == get_device_profile("M3", "Max")
    assert get_device_profile(spelling).name == "Apple M3 Max"


def test_bandwidth_that_depends_on_the_memory() -> None:
    assert get_device_profile("M6").memory_bandwidth_gbs == 170.0
    assert get_device_profile("M6", memory_gb=16).memory_bandwidth_gbs == 153.0
    with pytest.raises(
        UnknownDeviceError, match=r"No Apple M6 with 64 GB of memory is known. Known: 24, 32, 16 GB"
    ):
        get_device_profile("M6", memory_gb=64)


@pytest.mark.parametrize(
    ("asked", "message"),
    [
        pytest.param(
            "M4 Ultra", "No profile of 'M4 Ultra'. M4 comes as M4, M4 Pro, M4 Max. Known", id="variant"
        ),
        pytest.param(
            "M3 Mx", "No profile of 'M3 Mx'. M3 comes as M3, M3 Pro, M3 Max, M3 Ultra. Known", id="typo"
        ),
        pytest.param("N3 Max", "No profile of 'N3 Max'. Did you mean 'M3 Max'? Known chips: M1,", id="near"),
        pytest.param("Apple Paravirtual device", "device'. Known chips: M1, M1 Pro, M1 Max,", id="virtual"),
        pytest.param("", "No profile of ''. Known chips: M1,", id="empty"),
    ],
)
def test_an_unknown_chip_lists_the_known_ones(asked: str, message: str) -> None:
    with pytest.raises(UnknownDeviceError) as caught:
        get_device_profile(asked)
    assert message in str(caught.value)
    assert str(caught.value).endswith("M5 Ultra, M6.")


def test_an_unknown_core_count_lists_the_known_ones() -> None:
    with pytest.raises(
        UnknownDeviceError, match=r"^No Apple M3 Max with 38 GPU cores is known. Known: 40, 30.$"
    ):
        get_device_profile("M3", "Max", gpu_cores=38)


def test_every_generation_has_the_variants_that_exist() -> None:
    variants = {(p.chip, p.variant) for p in APPLE_PROFILES}
    every = {"", "Pro", "Max", "Ultra"}
    for chip, expected in {
        "M1": every,
        "M2": every,
        "M3": every,
        "M4": every - {"Ultra"},
        "M5": every,
    }.items():
        assert {variant for name, variant in variants if name == chip} == expected


def test_rows_are_distinct_and_the_full_chip_comes_first() -> None:
    keys = Counter((p.chip, p.variant, p.gpu_cores, p.memory_gb) for p in APPLE_PROFILES)
    assert max(keys.values()) == 1
    for profile in APPLE_PROFILES:
        full = get_device_profile(profile.chip, profile.variant)
        assert (full.gpu_cores or 0) >= (profile.gpu_cores or 0)
        assert (full.memory_bandwidth_gbs or 0) >= (profile.memory_bandwidth_gbs or 0)


@pytest.mark.parametrize(
    "profile", APPLE_PROFILES, ids=lambda p: f"{p.name}-{p.gpu_cores}-{p.memory_bandwidth_gbs}"
)
def test_every_figure_has_a_source(profile: DeviceProfile) -> None:
    figures = {"gpu_cores", "memory_bandwidth_gbs", "simd_width", "max_threads_per_threadgroup"}
    assert set(profile.sources) == figures | {"max_threadgroup_memory"}
    for source in profile.sources.values():
        assert re.search(r"https://(support|www|developer)\.apple\.com/\S+", source)
    limits = (profile.simd_width, profile.max_threads_per_threadgroup, profile.max_threadgroup_memory)
    assert limits == (32, 1024, 32768)


def test_profiles_are_frozen_and_hashable() -> None:
    profile = get_device_profile("M3", "Max")
    with pytest.raises(AttributeError):
        profile.gpu_cores = 1  # type: ignore[misc]
    assert len(set(APPLE_PROFILES)) == len(APPLE_PROFILES)


IOREG = '+-o AGXAcceleratorG15X  <class AGXAcceleratorG15X>\n    {\n      "gpu-core-count" = 30\n    }\n'


def test_the_apple_gpu_at_hand_is_the_one_with_its_core_count() -> None:
    info = {"device_name": "Apple M3 Max", "architecture": "applegpu_g15s", "memory_size": 36 * 2**30}
    profile = describe_apple(info, lambda: IOREG)
    assert (profile.name, profile.gpu_cores, profile.memory_bandwidth_gbs) == ("Apple M3 Max", 30, 300.0)
    assert profile.memory_bytes == 36 * 2**30
    assert profile.sources == get_device_profile("M3", "Max").sources


def test_the_memory_at_hand_picks_the_bandwidth() -> None:
    info = {"device_name": "Apple M6", "memory_size": 16 * 2**30}
    assert describe_apple(info, lambda: "").memory_bandwidth_gbs == 153.0


def test_a_core_count_that_cannot_be_read_is_not_guessed() -> None:
    def no_ioreg() -> str:
        raise subprocess.CalledProcessError(1, "ioreg")

    with pytest.raises(
        UnknownDeviceError, match=r"Apple M3 Max comes with 40, 30 GPU cores, and the I/O registry"
    ):
        describe_apple({"device_name": "Apple M3 Max"}, no_ioreg)


@pytest.mark.parametrize("name", ["Apple Paravirtual device", "Apple M99"])
def test_an_apple_gpu_that_is_not_in_the_table_is_an_error(name: str) -> None:
    with pytest.raises(UnknownDeviceError, match=rf"No profile of '{name}'\. .*Known chips: M1"):
        describe_apple({"device_name": name}, lambda: IOREG)


H200 = {
    "device_name": "NVIDIA H200",
    "architecture": "sm_90",
    "total_memory": 150_754_820_096,
    "compute_capability_major": 9,
    "compute_capability_minor": 0,
}
H200_ATTRIBUTES = {
    "max_threads": 1024,
    "shared_memory": 49152,
    "warp_size": 32,
    "multiprocessors": 132,
    "memory_clock_khz": 3_201_000,
    "memory_bus_bits": 6144,
}


def test_nvidia_is_described_from_mlx_and_the_driver() -> None:
    profile = describe_nvidia(H200, H200_ATTRIBUTES)
    assert (profile.vendor, profile.name, profile.architecture) == ("NVIDIA", "NVIDIA H200", "sm_90")
    assert (profile.gpu_cores, profile.memory_bandwidth_gbs) == (132, 4916.7)
    assert (profile.simd_width, profile.max_threadgroup_memory) == (32, 49152)
    assert profile.memory_bytes == 150_754_820_096


def test_nvidia_without_driver_attributes_says_nothing_it_does_not_know() -> None:
    profile = describe_nvidia(H200, {})
    assert profile.gpu_cores is None
    assert profile.memory_bandwidth_gbs is None
    assert profile.simd_width == 32
    assert "CUDA C++ Programming Guide" in profile.sources["simd_width"]


class FakeLibrary:
    def __init__(self, status: int = 0) -> None:
        self._status = status

    def cuInit(self, flags: int) -> int:
        return self._status

    def cuDeviceGet(self, device: Any, index: int) -> int:
        device._obj.value = 7
        return 0

    def cuDeviceGetAttribute(self, value: Any, number: int, device: ctypes.c_int) -> int:
        if number == 36:  # the memory clock, which newer drivers may refuse
            return 1
        value._obj.value = number * 100 + device.value
        return 0


def test_query_cuda_attributes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(device_profile.ctypes, "CDLL", lambda name: FakeLibrary())
    expected = {"max_threads": 107, "shared_memory": 807, "warp_size": 1007, "multiprocessors": 1607}
    assert device_profile.query_cuda_attributes() == {**expected, "memory_bus_bits": 3707}
    monkeypatch.setattr(device_profile.ctypes, "CDLL", lambda name: FakeLibrary(status=100))
    assert device_profile.query_cuda_attributes() == {}


def test_cpu_without_mlx_information_is_described_by_the_system() -> None:
    profile = describe_cpu({})
    assert profile.vendor == "CPU"
    assert profile.name
    assert profile.architecture
    assert (profile.gpu_cores, profile.memory_bandwidth_gbs) == (0, None)
    assert profile.memory_bytes is not None
    assert profile.memory_bytes > 2**28


def test_the_cpu_at_hand() -> None:
    mx = pytest.importorskip("mlx.core", exc_type=ImportError)
    before = mx.default_device()
    try:
        mx.set_default_device(mx.cpu)
        with pytest.MonkeyPatch.context() as patch:
            patch.delenv("ZMLX_TEST_BACKEND", raising=False)
            profile = get_current_device_profile()
    finally:
        mx.set_default_device(before)
    assert profile.vendor == "CPU"
    assert profile.chip


@pytest.mark.cuda
def test_the_cuda_gpu_at_hand() -> None:
    profile = get_current_device_profile()
    assert profile.vendor == "NVIDIA"
    assert re.fullmatch(r"sm_\d+", profile.architecture)
    assert profile.gpu_cores is not None
    assert profile.gpu_cores > 0
    assert profile.memory_bytes is not None
    assert profile.memory_bytes > 2**30


@pytest.mark.metal
def test_the_apple_gpu_at_hand() -> None:
    import mlx.core as mx

    name = str(mx.device_info(mx.gpu)["device_name"])
    if name == "Apple Paravirtual device":
        with pytest.raises(UnknownDeviceError, match="Known chips: M1"):
            get_current_device_profile()
    else:
        assert get_current_device_profile().name == name
