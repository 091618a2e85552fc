"""Registered values: shapes, complex numbers, several writers, stale ones; and what a worker reports."""

import multiprocessing

import mlx.core as mx
import numpy as np
import pytest

from zmlx.testing.golden import registry
from zmlx.testing.golden.case import GoldenCase
from zmlx.testing.golden.file import GoldenError, load
from zmlx.testing.golden.registry import GoldenRegistry, encode, persist, prune, registered_path, stale_names
from zmlx.testing.ledger import Ledger

pytestmark = pytest.mark.cpu


@pytest.mark.parametrize("shape", [(0,), (3, 0), (0, 3), (2, 0, 4), (0, 0)], ids=str)
def test_arrays_without_elements_keep_their_shape(tmp_path, shape):
    values = GoldenRegistry(tmp_path, Ledger())
    values.register("empty", mx.zeros(shape), "cpu")
    assert np.shape(values.get("empty", "cpu")) == shape
    assert np.shape(values.all()["cpu"]["empty"]) == shape


def test_complex_values_are_kept(tmp_path):
    value = np.array([[1 + 2j, complex(-0.0, np.inf)]], np.complex64)
    persist(
        tmp_path,
        "cpu",
        {"c": encode(mx.array(value)).to_json(), "n": encode(3 - 1j).to_json()},
        {"device": "d"},
    )
    cases = load(registered_path(tmp_path, "cpu"), backend="cpu").cases
    assert (cases["c"].dtype, cases["c"].shape) == ("complex64", (1, 2))
    np.testing.assert_array_equal(cases["c"].array(), value)
    assert GoldenRegistry(tmp_path, Ledger()).get("n", "cpu") == 3 - 1j


@pytest.mark.parametrize("value", [-(2**31) - 1, 2**63 - 1, -(2**63)])
def test_a_report_holds_integers_of_64_bits(value):
    one, all_of_them = Ledger(), Ledger()
    one.record_golden("cpu", "low", encode(np.array([value])).to_json())
    wire = one.to_wire()
    assert isinstance(wire, str)  # execnet's own numbers end at 32 bits
    all_of_them.merge_wire(wire)
    assert GoldenCase.from_json(all_of_them.golden["cpu"]["low"]).array().tolist() == [value]


def _write(directory, writer, barrier):
    barrier.wait()
    for i in range(10):
        persist(directory, "cpu", {f"{writer}/{i}": encode(float(i)).to_json()}, {"device": "d"})


def test_several_writers_lose_nothing(tmp_path):
    context = multiprocessing.get_context("spawn")
    barrier = context.Barrier(4)
    writers = [context.Process(target=_write, args=(tmp_path, n, barrier)) for n in range(4)]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join()
    assert [writer.exitcode for writer in writers] == [0] * 4
    assert len(load(registered_path(tmp_path, "cpu"), backend="cpu").cases) == 40


def test_stale_values_are_found_and_pruned(tmp_path):
    persist(tmp_path, "cpu", {name: encode(1.0).to_json() for name in "abc"}, {"device": "d"})
    assert stale_names(tmp_path, "cpu", ["b"]) == ["a", "c"]
    prune(tmp_path, "cpu", ["a", "c"])
    assert list(load(registered_path(tmp_path, "cpu"), backend="cpu").cases) == ["b"]
    prune(tmp_path, "cpu", ["b"])
    assert not registered_path(tmp_path, "cpu").exists()
    assert stale_names(tmp_path, "cpu", []) == []
    with pytest.raises(GoldenError, match="does not exist"):
        registry.prune(tmp_path, "cpu", ["b"])
