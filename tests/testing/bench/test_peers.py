"""Peers: which are loaded, what is said of the others, and that they are checked and timed like rivals."""

import itertools
import subprocess
import sys
from dataclasses import replace
from types import ModuleType, SimpleNamespace

import mlx.core as mx
import numpy as np
import pytest

from zmlx.testing.bench import contest, peers
from zmlx.testing.bench.contest import measure_gradient, measure_kernel
from zmlx.testing.bench.measurement import PLANS, Measurement, Versus, WrongResultError, quick
from zmlx.testing.bench.peers import PEERS, Loaded, PeerRun, load_peers, peer_notes
from zmlx.testing.bench.run import Benchmark, bench
from zmlx.testing.bench.table import render_markdown, render_terminal
from zmlx.testing.bench.timing import Timing
from zmlx.testing.op_db import op_db
from zmlx.testing.rivals import Peer

pytestmark = pytest.mark.cpu

(SWIGLU,) = (op for op in op_db if op.name == "transformer.swiglu")
KERNELS = [op for op in op_db if op.kernel and op.rivals is not None]
ABSENT = Peer("Absent", ("zmlx_has_no_such_package",), lambda module: module)


def imported_by(module):
    code = f"import sys, {module}; print(*{{name.partition('.')[0] for name in sys.modules}})"
    return set(
        subprocess.run(
            [sys.executable, "-c", code], capture_output=True, text=True, check=True
        ).stdout.split()
    )


def plan(backend):
    return replace(quick(PLANS[backend]), rows=32, columns=16, rounds=2)


# ---- which ----


def test_no_peer_is_imported_by_the_table():
    names = {peer.name for op in KERNELS for peer in op.rivals.peers}
    assert names == {"torch.compile", "Liger"}
    assert not {"torch", "liger_kernel"} & imported_by("zmlx.testing.op_db")


#: What Liger has kernels of, by its modules: whoever adds one of these to the catalogue compares it with Liger's.
LIGER = {
    "rms_norm": "norms.rmsnorm",
    "layer_norm": "norms.layernorm",
    "softmax": "softmax.softmax_lastdim",
    "swiglu": "transformer.swiglu",
}


def test_every_kernel_that_liger_has_is_timed_against_it():
    by_name = {op.name: op for op in KERNELS}
    for name in LIGER.values():
        assert "Liger" in {peer.name for peer in by_name[name].rivals.peers}, name
    asked = {op.name for op in KERNELS for peer in op.rivals.peers if peer.name == "Liger"}
    assert asked >= set(LIGER.values())


def test_a_kernel_without_peers_has_a_dash(monkeypatch):
    alone = Measurement("f.alone", "float32", "cuda", Timing((1.0,)))
    beside = replace(alone, name="f.beside", versus=(Versus(PEERS, "Liger", Timing((2.0,)), 2.0),))
    about = {"device": "a GPU", "mlx": "1", "date": "2026-01-02"}
    text = render_terminal(Benchmark("cuda", about, PLANS["cuda"], (alone, beside))).splitlines()
    assert text[3].startswith("f.alone")
    assert text[3].endswith(" -")
    assert text[4].endswith("2.00x Liger")
    assert peer_notes([], "cuda") == ()


def test_a_peer_gets_its_modules_and_a_missing_one_is_told(monkeypatch):
    for name in ("torch", "zmlx_made_up"):
        monkeypatch.setitem(sys.modules, name, ModuleType(name))
    made = Peer("Made", ("zmlx_made_up", "torch"), lambda one, other: lambda: (one.__name__, other.__name__))
    found, missing = load_peers([made, ABSENT])
    assert [(peer.name, peer.torch.__name__, peer.call()) for peer in found] == [
        ("Made", "torch", ("zmlx_made_up", "torch"))
    ]
    (line,) = missing
    assert line == (
        "Absent was not timed: No module named 'zmlx_has_no_such_package'. `pip install --group peers`, or "
        "nox -s bench -- --peers installs it."
    )


def test_what_a_table_says_of_those_that_it_has_not():
    assert peer_notes([], "cpu") == ()
    other = replace(ABSENT, name="Other")
    assert peer_notes([ABSENT, other, ABSENT], "cpu") == ("Absent, Other: timed on CUDA only, not on cpu.",)
    (note,) = peer_notes([ABSENT, ABSENT], "cuda")
    assert note.startswith("Absent was not timed: No module named")


def test_the_note_is_in_the_table_of_a_run():
    found = bench("cpu", "swiglu", "float32", small=True, ops=[SWIGLU], engine=[])
    note = "torch.compile, Liger: timed on CUDA only, not on cpu."
    assert found.peers == (note,)
    assert f"\n{note}\n" in render_terminal(found)
    assert f"\n{note}\n" in render_markdown(found)
    assert "against peers" not in render_terminal(found)


def test_the_column_is_there_where_a_peer_was_timed():
    versus = (
        Versus(PEERS, "Liger", Timing((2.0,)), 2.0),
        Versus(PEERS, "torch.compile", Timing((1.5,)), 1.5),
    )
    lines = (
        Measurement("f.g", "float32", "cuda", Timing((1.0,)), versus=versus),
        Measurement("f.h", "float32", failure="no"),
    )
    about = {"device": "a GPU", "mlx": "1", "date": "2026-01-02"}
    text = render_terminal(Benchmark("cuda", about, PLANS["cuda"], lines)).splitlines()
    assert text[2].endswith("against peers")
    assert text[3].endswith("1.50x torch.compile")
    assert text[4].endswith(" -")


# ---- how ----


class FakePeer:
    """Stands for a `PeerRun`: numbers instead of tensors."""

    def __init__(self, peer, arguments, positions=(), cotangent=None):
        self.name, self.scale = peer.name, peer.call
        self.arguments, self.positions, self.asked = arguments, positions, []

    def results(self, step):
        x = np.array(self.arguments[0]).astype(np.float64)
        gate, value = np.split(x, 2, axis=-1)
        return [(self.scale * gate / (1 + np.exp(-gate)) * value)[::step]]

    def gradients(self, cotangent):
        return [
            np.array(mx.vjp(SWIGLU.op, self.arguments, [cotangent])[1][0]).astype(np.float64) * self.scale
        ]

    def stopwatch(self, copies, batch, lead):
        return lambda: 1.0


@pytest.fixture
def with_peers(monkeypatch, backend):
    """A right peer, and as many wrong ones as are added."""
    loaded = [Loaded("right", None, 1.0)]
    monkeypatch.setattr(contest, "PEERS_BACKEND", backend)
    monkeypatch.setattr(contest, "load_peers", lambda _: (loaded, []))
    monkeypatch.setattr(contest, "PeerRun", FakePeer)
    return loaded


@pytest.mark.parametrize("measure", [measure_kernel, measure_gradient])
def test_a_peer_is_checked_and_timed_in_turn(measure, with_peers, backend, mx_device):
    found = measure(SWIGLU, "float32", backend, plan(backend))
    (versus,) = (v for v in found.versus if v.column == PEERS)
    assert (versus.name, versus.timing.seconds) == ("right", (1.0, 1.0))
    assert versus.ratio == versus.timing.times_slower_than(found.timing)
    with_peers.append(Loaded("wrong", None, 1.5))
    with pytest.raises(
        WrongResultError, match=r"wrong differs from the oracle by 0\.5 of the root mean square"
    ):
        measure(SWIGLU, "float32", backend, plan(backend))


def test_no_peer_is_loaded_on_another_back_end(backend, mx_device, monkeypatch):
    monkeypatch.setattr(contest, "PEERS_BACKEND", "elsewhere")
    monkeypatch.setattr(contest, "load_peers", lambda _: pytest.fail("loaded"))
    found = measure_kernel(SWIGLU, "float32", backend, plan(backend))
    assert all(v.column != PEERS for v in found.versus)


# ---- with PyTorch itself, on its CPU ----


def test_tensors_hold_the_numbers_of_arrays(mx_device):
    torch = pytest.importorskip("torch", reason="PyTorch is not installed in this Python")
    x, dy = mx.random.normal((6, 4)).astype(mx.bfloat16), mx.random.normal((6, 4)).astype(mx.bfloat16)
    square = Loaded("square", torch, lambda t: t * t)
    values = np.array(x.astype(mx.float32)).astype(np.float64)
    run = PeerRun(square, [x], device="cpu")
    assert np.allclose(run.results(2)[0], (values**2)[::2], rtol=1e-2)
    graded = PeerRun(square, [x], [0], dy, device="cpu")
    wanted = 2 * values * np.array(dy.astype(mx.float32)).astype(np.float64)
    for _ in range(2):  # again and again
        assert np.allclose(graded.gradients(dy)[0], wanted, rtol=2e-2)
    for timed in (run, graded):
        assert timed.stopwatch(2, 3)() > 0
    assert run.stopwatch(2, 3, lead=8192)() > 0  # a CPU has no clock of its own, and needs no lead


def test_several_results_and_labels_of_a_peer(mx_device):
    torch = pytest.importorskip("torch", reason="PyTorch is not installed in this Python")
    x, labels, mask = (
        mx.random.normal((6, 4)),
        mx.array([0, 3, 1, 2, 0, 3], mx.uint32),
        mx.array([True, False] * 3),
    )

    def call(x, labels, mask):
        assert (labels.dtype, mask.dtype) == (torch.int64, torch.bool)
        return x * mask[:, None], torch.gather(x, 1, labels[:, None])[:, 0], labels + 1

    made = Loaded("made", torch, call)
    masked, taken, more = PeerRun(made, [x, labels, mask], device="cpu").results(2)
    values = np.array(x).astype(np.float64)
    assert np.allclose(masked, values[::2] * np.array(mask)[::2, None])
    assert np.allclose(taken, values[np.arange(6), np.array(labels)][::2])
    assert more.tolist() == [1, 2, 1]
    one, other = mx.ones((6, 4)), mx.full((6,), 3.0)
    graded = PeerRun(made, [x, labels, mask], [0], (one, other), device="cpu")
    wanted = np.array(mask)[:, None] * np.ones((6, 4)) + 3.0 * (np.arange(4) == np.array(labels)[:, None])
    assert np.allclose(graded.gradients((one, other))[0], wanted)
    assert graded.stopwatch(1, 1)() > 0


def test_the_gpu_is_waited_for_before_the_clock_is_read(monkeypatch):
    told = []
    torch = SimpleNamespace(cuda=SimpleNamespace(synchronize=lambda: told.append("wait")))
    torch.set_grad_enabled = lambda on: memoryview(b"")  # any context
    run = object.__new__(PeerRun)
    run.name, run._torch, run._device, run._positions, run._tensors = "x", torch, "cuda", (), []
    run._call = lambda: told.append("call")
    clock = iter([1.0, 7.0])

    def read():
        told.append("clock")
        return next(clock)

    monkeypatch.setattr(peers, "time", SimpleNamespace(perf_counter=read))
    assert run.stopwatch(1, 2)() == 3.0
    assert told == ["wait", "clock", "call", "call", "wait", "clock"]

    # With a lead that is twice as many bytes as one operation moves the GPU reads its own clock, in milliseconds. Of a
    # lead that is over too soon it gets twice as much, and of one that always is sixteen times as much.
    told.clear()
    over = iter([True, False])

    class Event:
        def __init__(self, enable_timing):
            assert enable_timing

        def record(self):
            told.append("event")

        def query(self):
            told.append("query")
            return next(over)

        def elapsed_time(self, end):
            assert end is not self
            return 6000.0

    torch.cuda.Event = Event
    torch.zeros = lambda count, device: f"{count} on {device}"
    torch.neg = told.append
    monkeypatch.setattr(peers, "LEAD_BYTES", 400)
    assert run.stopwatch(1, 2, lead=1600)() == 3.0
    timed = ["event", "call", "call", "query", "event", "wait"]
    assert told == ["wait", *["100 on cuda"] * 2, *timed, "wait", *["100 on cuda"] * 4, *timed]
    told.clear()
    over = itertools.repeat(True)
    assert run.stopwatch(1, 2, lead=1600)() == 3.0
    assert [told.count(each) for each in ("100 on cuda", "query")] == [2 + 4 + 8 + 16 + 32, 5]
