"""Copies: every way of this session's back end copies, and says how long one copy took."""

import ctypes
import itertools
from types import SimpleNamespace

import numpy as np
import pytest

from zmlx import _compat
from zmlx.testing.bench import bandwidth, measurement
from zmlx.testing.bench.bandwidth import WAYS, CudaDriverError, driver_copy, host_copy, mlx_copy

pytestmark = pytest.mark.cpu


def test_every_back_end_has_a_way():
    assert set(WAYS) == set(_compat.BACKENDS)
    assert all(WAYS.values())


def test_every_way_of_this_back_end_works(backend, mx_device):
    for name, way in WAYS[backend].items():
        with way(1_000_003, 3, 2, 0) as once:
            times = [once() for _ in range(3)]
        assert all(0 < seconds < 10 for seconds in times), name


def test_the_host_copies_all_bytes(monkeypatch):
    copied = []
    monkeypatch.setattr(np, "copyto", lambda target, source: copied.append((target.size, source.size)))
    with host_copy(1001, 2, 3) as once:
        once()
    assert sum(target for target, _ in copied) == 3003
    assert all(target == source for target, source in copied)


@pytest.mark.parametrize("way", [host_copy, mlx_copy])
def test_the_time_is_that_of_one_copy(way, monkeypatch, mx_device):
    clock = itertools.count()
    for module in (bandwidth, measurement):
        monkeypatch.setattr(module, "time", SimpleNamespace(perf_counter=lambda: 10.0 * next(clock)))
    with way(100, 1, 4) as once:
        assert once() == 2.5


class FakeDriver:
    """Takes down what is called; the function named `broken` fails."""

    def __init__(self, broken=""):
        self.called = []
        self.broken = broken

    def __getattr__(self, function):
        def call(*arguments):
            self.called.append(function)
            return 2 if function == self.broken else 0

        return call


def test_the_driver_is_left_as_it_was(monkeypatch):
    driver = FakeDriver()
    monkeypatch.setattr(ctypes, "CDLL", lambda name: driver)
    with driver_copy(64, 4, 3) as once:
        once()
    assert driver.called.count("cuMemcpyDtoDAsync_v2") == 3
    assert driver.called.count("cuMemAlloc_v2") == driver.called.count("cuMemFree_v2") == 5
    assert driver.called[-2:] == ["cuCtxPopCurrent_v2", "cuDevicePrimaryCtxRelease_v2"]


def test_the_drivers_copies_are_timed_as_what_has_a_lead(monkeypatch):
    driver = FakeDriver()
    monkeypatch.setattr(ctypes, "CDLL", lambda name: driver)
    with driver_copy(64, 4, 3, lead=1) as once:
        once()
    copies = driver.called.count("cuMemcpyDtoDAsync_v2")
    assert copies == 1 + 3 + 6  # one to begin with, three, and twice as many


def test_a_failing_driver_says_what_failed_and_what_it_took_is_given_back(monkeypatch):
    driver = FakeDriver(broken="cuMemAlloc_v2")
    monkeypatch.setattr(ctypes, "CDLL", lambda name: driver)
    with pytest.raises(CudaDriverError, match=r"cuMemAlloc_v2 failed with status 2, .* Free some memory"):
        bandwidth.driver_copy(64, 1, 1).__enter__()
    assert driver.called[-2:] == ["cuCtxPopCurrent_v2", "cuDevicePrimaryCtxRelease_v2"]
