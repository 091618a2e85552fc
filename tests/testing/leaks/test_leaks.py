"""A planted leak of each kind is noticed, what is flat passes, and the figures come back from their file."""

import ctypes
import itertools
import json
import os
import threading
from dataclasses import replace

import mlx.core as mx
import numpy as np
import pytest
from example_ops import OPS as EXAMPLES

import zmlx
from zmlx.launch.cache import CACHE_VARIABLE, cached, digest
from zmlx.testing.evidence import EvidenceError
from zmlx.testing.leak_figures import HELD, Leaks, Row, read_leaks
from zmlx.testing.leaks import run as leaks_run
from zmlx.testing.leaks.figures import READERS, take_figures
from zmlx.testing.leaks.run import (
    LeaksError,
    NotLaunchedError,
    directions_of,
    find_leaks,
    measure_row,
    select,
)
from zmlx.testing.leaks.text import render_terminal
from zmlx.testing.op_db import op_db
from zmlx.testing.opinfo import OpInfo, SampleInput

pytestmark = pytest.mark.cpu

CALLS = 120

TRIPLE = zmlx.metal_kernel(
    "leaks_triple", ["x"], ["y"], "uint i = thread_position_in_grid.x; y[i] = x[i] * 3;"
)


def triple(x):
    return TRIPLE(
        inputs=[x],
        output_shapes=[x.shape],
        output_dtypes=[x.dtype],
        grid=(x.size, 1, 1),
        threadgroup=(32, 1, 1),
    )[0]


def make(op=triple, **changes):
    fields = {
        "name": "made.triple",
        "oracle": lambda x: 3 * x,
        "samples": lambda rng: [
            SampleInput("small", (np.ones((2, 16)),)),
            SampleInput("none", (np.ones(0),)),
        ],
        "source": "arithmetic",
        "dtypes": ("float32",),
        "kernels": ("leaks_triple",),
    }
    return OpInfo(op=op, **{**fields, **changes})


@pytest.fixture
def held():
    """What a planted leak keeps; it is given back after the test."""
    kept = []
    yield kept
    for thing in kept:
        if isinstance(thing, int):
            os.close(thing)
        if isinstance(thing, tuple):
            event, thread = thing
            event.set()
            thread.join()


def leak_thread(kept):
    event = threading.Event()
    thread = threading.Thread(target=event.wait)
    thread.start()
    kept.append((event, thread))


def leak_memory(_):
    libc = ctypes.CDLL(None)
    libc.malloc.restype = ctypes.c_void_p
    libc.malloc.argtypes = (ctypes.c_size_t,)
    ctypes.memset(libc.malloc(1 << 15), 1, 1 << 15)


NUMBERS = itertools.count()


def leak_entry(_):
    cached("host", digest(str(next(NUMBERS))), ".x", lambda path: path.write_bytes(b"x"))


#: By what they make grow.
PLANTED = {
    "active_memory": lambda kept: kept.append(mx.ones(3) + 1) or mx.eval(kept[-1]),
    "rss": leak_memory,
    "file_handles": lambda kept: kept.append(os.open(os.devnull, os.O_RDONLY)),
    "threads": leak_thread,
    "blocks": lambda kept: kept.append(object()),
    "cache_entries": leak_entry,
}


def test_every_figure_has_a_reader_and_a_planted_leak():
    names = [h.name for h in HELD]
    assert list(READERS) == names
    assert list(PLANTED) == names


@pytest.mark.parametrize("name", PLANTED)
def test_a_planted_leak_is_noticed(name, held, backend, mx_device, tmp_path, monkeypatch):
    mx.eval(triple(mx.ones(4)))  # compiled where it will be found again
    monkeypatch.setenv(CACHE_VARIABLE, str(tmp_path))

    def leaking(x):
        PLANTED[name](held)
        return triple(x)

    found = measure_row(make(leaking), "forward", backend, CALLS)
    assert name in [h.name for h in found.leaks]
    assert not found.ok
    (line,) = [line for line in Leaks("cpu", {}, CALLS, 1, (found,)).problems if name_of(name) in line]
    assert line.startswith(
        f"LEAK made.triple forward: expected at most {allowed_of(name):g} more {name_of(name)}"
    )


def name_of(name):
    return next(h.title for h in HELD if h.name == name)


def allowed_of(name):
    return next(h.allowed for h in HELD if h.name == name)


@pytest.mark.parametrize("direction", ["forward", "new shapes"])
def test_what_keeps_nothing_is_flat(direction, backend, mx_device):
    found = measure_row(make(), direction, backend, CALLS)
    assert found.leaks == ()
    assert (found.calls, found.launches) == (CALLS, CALLS)


@pytest.mark.parametrize("op", [op for op in op_db if op.kernel], ids=str)
def test_every_kernel_of_the_catalogue_can_be_measured(op, backend, mx_device, monkeypatch):
    """Whether it is flat shows after many more launches than a test has time for: `nox -s leaks`."""
    monkeypatch.setattr(leaks_run, "WARM", 1)
    for direction in directions_of(op):
        assert measure_row(op, direction, backend, 3).launches >= 3
    assert ("gradient" in directions_of(op)) == bool(op.grad_kernels)


def test_another_number_of_rows_comes_with_each_call(mx_device):
    seen = []
    op = make(lambda x, weight: seen.append((x.shape, weight.shape)) or triple(x))
    op = replace(op, samples=lambda rng: [SampleInput("s", (np.ones((2, 4)), np.ones(4)))])
    for step in itertools.islice(leaks_run.new_shapes(op, "cpu"), 3):
        step()
    assert seen == [((1, 4), (4,)), ((2, 4), (4,)), ((3, 4), (4,))]


def new_shapes_of(op, args, count=3, **changes):
    """The shapes of the arguments, and the integers among them, in the first calls."""
    seen = []

    def spying(*given):
        seen.append([a.tolist() if a.dtype == mx.int32 else a.shape for a in given])
        return given[0]

    op = replace(op, op=spying, samples=lambda rng: [SampleInput("s", args)], **changes)
    for step in itertools.islice(leaks_run.new_shapes(op, "cpu"), count):
        step()
    return seen


def test_one_number_for_each_row_grows_with_the_rows(mx_device):
    args = (np.ones((3, 4)), np.array([2, 1, -1], np.int32), np.ones(3), np.ones(4))
    assert new_shapes_of(make(), args) == [[(n, 4), [2] * n, (n,), (4,)] for n in (1, 2, 3)]


def test_what_counts_rows_stays_within_them(mx_device):
    args = (np.ones((3, 4)), np.array([2, -1], np.int32))
    assert new_shapes_of(make(), args, 2, indices={1: (0, 0)}) == [[(n, 4), [0, -1]] for n in (1, 2)]


def test_square_matrices_stay_square_and_extents_within_those_of_the_entry(mx_device):
    seen = new_shapes_of(make(), (np.ones((3, 3)),), 5, extents=(2, 4))
    assert seen == [[(n, n)] for n in (2, 3, 4, 2, 3)]


@pytest.mark.parametrize("op", EXAMPLES, ids=str)
def test_several_results_labels_and_keyword_arguments_can_be_measured(op, backend, mx_device, monkeypatch):
    monkeypatch.setattr(leaks_run, "WARM", 1)
    for direction in directions_of(op):
        assert measure_row(op, direction, backend, 3).launches >= 3
    assert set(directions_of(op)) >= {"forward", "new shapes"}
    assert ("gradient" in directions_of(op)) == bool(op.grad_kernels)


def test_what_does_not_launch_is_a_failure(backend, mx_device):
    expected = rf"^expected other_\* to run on {backend} in 3 calls, got leaks_triple\.$"
    with pytest.raises(NotLaunchedError, match=expected):
        measure_row(make(kernels=("other_*",)), "forward", backend, 3)
    with pytest.raises(NotLaunchedError, match=r"expected a kernel to run .* got no launch"):
        measure_row(make(lambda x: x + x, kernels=()), "forward", backend, 3)


def test_a_run(backend):
    before = mx.default_device(), mx.set_cache_limit(1 << 30)
    mx.set_cache_limit(before[1])
    broken = make(lambda x: 1 / 0, name="made.broken")
    steps = []
    found = find_leaks("cpu", launches=20, ops=[make(), broken], progress=lambda *step: steps.append(step))
    assert [(row.op, row.direction, row.ok) for row in found.rows] == [
        ("made.triple", "forward", True),
        ("made.triple", "new shapes", True),
        ("made.broken", "forward", False),
        ("made.broken", "new shapes", False),
    ]
    assert found.rows[2].failure == "ZeroDivisionError: division by zero"
    assert found.exit_code == 1
    assert [step[0] for step in steps] == [0, 1, 2, 3]
    limit = mx.set_cache_limit(before[1])
    assert (mx.default_device(), limit) == before


def test_what_is_selected():
    ops = [
        make(),
        make(name="made.stock", kernel=False, kernels=()),
        make(name="made.gpu", dtypes={"cuda": ()}),
    ]
    assert [op.name for op in select(ops, "cpu")] == ["made.triple"]
    known = r"^No operation with a kernel on cpu matches 'stock'\. Known: made\.triple\.$"
    with pytest.raises(LeaksError, match=known):
        select(ops, "cpu", "stock")
    with pytest.raises(LeaksError, match=r"^--launches: expected 1 or more, got 0\.$"):
        find_leaks("cpu", launches=0, ops=ops)
    empty = make(samples=lambda rng: [SampleInput("none", (np.ones(0),))])
    with pytest.raises(
        LeaksError, match=r"^made\.triple: all samples are empty, so that nothing is launched"
    ):
        directions_of(empty)


# ---- verdicts, text and file ----

ZERO = dict.fromkeys((h.name for h in HELD), 0)
ABOUT = {"device": "a CPU", "mlx": "1", "date": "2026-01-02"}


def row(direction="forward", **after):
    return Row("f.g", direction, 1000, 2000, {**ZERO, "rss": 10 << 20}, {**ZERO, "rss": 10 << 20, **after})


def found_of(*rows):
    return Leaks("cpu", ABOUT, 1000, 1 << 20, rows)


def test_new_shapes_may_fill_tables_that_have_a_bound():
    assert not row(blocks=101).ok
    assert row(blocks=100).ok
    assert row("new shapes", blocks=40_000).ok
    assert not row("new shapes", blocks=40_001).ok
    assert not row("new shapes", file_handles=1).ok


def test_the_cache_of_free_buffers_has_a_bound():
    inside, outside = (replace(row(), buffer_cache=n << 20) for n in (33, 34))
    assert found_of(inside).exit_code == 0
    assert found_of(outside).exit_code == 1
    assert found_of(outside).verdict == (
        "FAIL: cpu: 1 operation, 2000 launches: MLX's cache of free buffers: at most 34.0 MiB, with a limit of 1"
    )
    assert found_of().verdict.endswith("nothing was measured")


def test_the_table():
    failed = Row("f.h", "gradient", 1000, 0, {}, {}, failure="ValueError: no")
    text = render_terminal(found_of(row(), row(rss=(10 << 20) + (3 << 20)), failed))
    lines = [" ".join(line.split()) for line in text.splitlines()]
    assert lines[0] == "cpu: a CPU, MLX 1, 2026-01-02; 1000 calls a row"
    assert lines[3:6] == [
        "f.g forward 2000 0.0 10.0 0 0 0 0 flat",
        "f.g forward 2000 0.0 10.0 → 13.0 0 0 0 0 LEAK",
        "f.h gradient 0 - - - - - - FAIL",
    ]
    assert lines[-3:] == [
        "LEAK f.g forward: expected at most 1 more RSS MiB after 2000 launches, got 3 more (1.57e+03 bytes a launch)",
        "FAIL f.h gradient: ValueError: no",
        "FAIL: cpu: 2 operations, 2000 launches: not flat: f.g forward, f.h gradient".replace("2000", "4000"),
    ]
    assert render_terminal(found_of(row())).endswith("\nPASS: cpu: 1 operation, 2000 launches: flat")


def test_the_file(tmp_path):
    path = tmp_path / "cpu-leaks.json"
    failed = Row("f.h", "gradient", 1000, 0, {}, {}, failure="ValueError: no")
    found = found_of(row(), row(threads=2), failed)
    path.write_text(found.to_json(), encoding="utf-8")
    assert read_leaks(path) == found
    body = json.loads(found.to_json())
    assert (body["ok"], [r["flat"] for r in body["rows"]]) == (False, [True, False, False])
    del body["rows"][1]["after"]["threads"]
    path.write_text(json.dumps(body), encoding="utf-8")
    with pytest.raises(
        EvidenceError, match=r"a row is damaged \(KeyError: 'threads'\)\. `python -m zmlx leaks"
    ):
        read_leaks(path)
    path.write_text(json.dumps({**body, "schema": 9}), encoding="utf-8")
    with pytest.raises(EvidenceError, match="expected schema 1, got 9"):
        read_leaks(path)


def test_figures_are_those_of_this_process(mx_device):
    before = take_figures()
    kept = mx.ones((1 << 20,))
    mx.eval(kept)
    with open(os.devnull) as _:
        after = take_figures()
    assert after["active_memory"] - before["active_memory"] >= 4 << 20
    assert after["file_handles"] == before["file_handles"] + 1
    assert before["rss"] > 10 << 20
    assert before["threads"] >= 1
