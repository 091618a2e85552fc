"""Benchmarks: what is selected, what is checked, what fails. No number is asserted that a machine could miss."""

import contextlib
import itertools
import os
from dataclasses import replace
from types import SimpleNamespace

import mlx.core as mx
import numpy as np
import pytest

import zmlx
from zmlx import _compat
from zmlx.launch import primitive
from zmlx.launch.cache import CACHE_VARIABLE, cache_dir
from zmlx.testing.bench import contest, measurement
from zmlx.testing.bench import engine as bench_engine
from zmlx.testing.bench.arguments import make_arguments
from zmlx.testing.bench.contest import measure_kernel
from zmlx.testing.bench.engine import ENGINE, EngineCase, fresh_cache
from zmlx.testing.bench.measurement import (
    PLANS,
    Measurement,
    WrongResultError,
    launched_path,
    mlx_stopwatch,
    quick,
)
from zmlx.testing.bench.rivals import COMPILED, MLX
from zmlx.testing.bench.run import BenchError, bench, select
from zmlx.testing.bench.timing import Timing
from zmlx.testing.opinfo import OpInfo
from zmlx.testing.rivals import Rivals

pytestmark = pytest.mark.cpu

DOUBLE = zmlx.metal_kernel(
    "bench_double", ["x"], ["y"], "uint i = thread_position_in_grid.x; y[i] = x[i] + x[i];"
)


def double(x):
    return DOUBLE(
        inputs=[x],
        output_shapes=[x.shape],
        output_dtypes=[x.dtype],
        grid=(x.size, 1, 1),
        threadgroup=(32, 1, 1),
    )[0]


def make(name="made.double", formula=lambda mx, x: 2 * x, **changes):
    fields = {
        "op": double,
        "oracle": lambda x: 2 * x,
        "samples": lambda rng: [],
        "source": "arithmetic",
        "bytes_moved": lambda sample, dtype: 8 * sample.args[0].size,
        "rivals": Rivals(lambda rows, columns: ((rows, columns),), formula),
    }
    return OpInfo(name=name, **{**fields, **changes})


def tiny(backend):
    return replace(quick(PLANS[backend]), rows=32, columns=8, norm_rows=16, launches=2)


# ---- what is measured ----


def test_a_kernel_is_timed_against_its_rivals_and_a_copy(backend, mx_device):
    plan = tiny(backend)
    found = measure_kernel(make(), "float32", backend, plan)
    assert (found.name, found.dtype, found.unit) == ("made.double", "float32", "GB/s")
    assert found.path == ("loop" if backend == "cpu" else backend)
    assert found.work == 8 * plan.rows * plan.columns
    assert len(found.timing.seconds) == plan.rounds
    assert found.rate == pytest.approx(found.work / found.timing.median / 1e9)
    assert found.of_copy > 0
    assert [(v.column, v.name) for v in found.versus] == [(MLX, "operations"), (COMPILED, "mx.compile")]
    for versus in found.versus:
        assert versus.ratio == versus.timing.times_slower_than(found.timing)


def test_ratios_are_above_one_where_the_kernel_is_faster(backend, mx_device, monkeypatch):
    asked = []
    seconds = iter([4.0, 8.0, 6.0])  # of the kernel, the operations and mx.compile

    def stopwatch(call, batch, lazy, lead):
        asked.append((batch, lazy, lead))
        taken = next(seconds)
        return lambda: taken

    def copying(taken):
        @contextlib.contextmanager
        def way(*sizes):
            asked.append(sizes)
            yield lambda: taken

        return way

    monkeypatch.setattr(contest, "mlx_stopwatch", stopwatch)
    monkeypatch.setattr(contest, "WAYS", {backend: {"slow": copying(3.0), "fast": copying(1.0)}})
    plan = replace(tiny(backend), traffic=5000, distinct=3000, lazy=True, lead=7)
    found = measure_kernel(make(), "float32", backend, plan)
    assert [versus.ratio for versus in found.versus] == [2.0, 1.5]
    assert found.of_copy == 0.25
    # 2048 bytes move: half of them are read. Three launches move 5000, three copies of the input have 3000.
    assert found.work == 2048
    assert asked == [(3, True, 7)] * 3 + [(1024, 3, 3, 7)] * 2


def test_a_timing_has_as_many_launches_as_its_traffic_takes():
    plan = replace(PLANS["cuda"], traffic=1000, distinct=70)
    assert [plan.batch(moved) for moved in (1, 300, 1000, 9999)] == [1000, 4, 1, 1]
    assert [plan.copies(nbytes) for nbytes in (1, 30, 70, 71)] == [70, 3, 1, 1]
    assert quick(plan).batch(1) == quick(plan).copies(1) == 1


@pytest.mark.parametrize(
    ("op", "message"),
    [
        pytest.param(
            make(oracle=lambda x: 3 * x),
            r"made.double/float32: \d+ of \d+ elements .* tells more",
            id="kernel",
        ),
        pytest.param(
            make(formula=lambda mx, x: 2.2 * x),
            "operations differs from the oracle by 0.1 of the root mean square",
            id="rival",
        ),
        pytest.param(
            make(formula=lambda mx, x: x * mx.array(float("nan"))), "operations differs .* by nan", id="nan"
        ),
        pytest.param(
            make(formula=lambda mx, x: mx.sum(x, axis=-1)), r"should give shape .* got \(16,\)", id="shape"
        ),
        pytest.param(
            make(op=lambda x: x + x), "no kernel ran on .* a fallback took its place", id="fallback"
        ),
    ],
)
def test_what_computes_something_else_is_not_timed(op, message, backend, mx_device):
    with pytest.raises(WrongResultError, match="(?s)" + message):
        measure_kernel(op, "float32", backend, tiny(backend))


def test_a_rival_in_16_bits_may_round_more_often(backend, mx_device):
    def measure(factor):
        return measure_kernel(make(formula=lambda mx, x: factor * x), "bfloat16", backend, tiny(backend))

    assert measure(2.3).failure == ""
    with pytest.raises(
        WrongResultError, match=r"by 0\.3 of the root mean square; at most 0\.25 was expected"
    ):
        measure(2.6)


@pytest.mark.parametrize("case", ENGINE, ids=lambda case: case.name)
def test_every_benchmark_of_the_engine_runs(case, backend, mx_device):
    lines = list(case.measure(backend, tiny(backend)))
    assert lines
    for line in lines:
        assert line.name.startswith(case.name)
        assert line.path
        assert line.timing.median > 0


def test_a_chain_of_launches_is_timed_as_called_and_as_traced(backend, mx_device):
    reason = primitive.unavailable() if backend == "cpu" else ""
    lines = {line.name: line for line in bench_engine.launching(backend, tiny(backend))}
    called = lines["engine.launch (chain of 100)"]
    traced = lines.get("engine.launch (chain of 100, compiled)")
    if reason:
        assert traced is None
        return
    assert called.versus[0].timing is traced.versus[0].timing  # one rival in one run
    if backend == "cpu":
        assert (called.path, traced.path) == ("loop", "lazy")
    native = [line.path for name, line in lines.items() if "MLX's kernel" in name]
    assert native == [f"mx.fast.{backend}_kernel"] * (0 if backend == "cpu" else 2)


def test_sums_of_a_chain_are_checked_before_they_are_timed(backend, mx_device):
    wrong = bench_engine._kernel("wrong_add", bench_engine.ADD.replace("b[i]", "1.25f * b[i]"), ("a", "b"))
    numbers = mx.ones((bench_engine.LAUNCH_ELEMENTS,))
    with pytest.raises(WrongResultError, match=r"100 sums by a kernel expected those of mx.add, got other"):
        list(bench_engine._chains(wrong, numbers, numbers, "loop", backend, tiny(backend)))


def test_barriers_are_checked_before_they_are_timed(backend, mx_device, monkeypatch):
    wrong = bench_engine.RMSNORM_SIMD.replace("rsqrt(sum / 1024", "rsqrt(sum / 1000")
    monkeypatch.setattr(bench_engine, "NORMS", {"wrong": wrong})
    with pytest.raises(
        WrongResultError, match=r"(?s)engine.rmsnorm \(wrong\): .*what mx.fast.rms_norm computes"
    ):
        list(bench_engine.barriers(backend, tiny(backend)))


def test_a_fresh_cache_is_empty_and_gone_afterwards(monkeypatch):
    monkeypatch.delenv(CACHE_VARIABLE, raising=False)
    with fresh_cache():
        folder = cache_dir()
        assert list(folder.iterdir()) == []
    assert CACHE_VARIABLE not in os.environ
    assert not folder.exists()
    monkeypatch.setenv(CACHE_VARIABLE, "mine")
    with fresh_cache():
        assert str(cache_dir()) != "mine"
    assert os.environ[CACHE_VARIABLE] == "mine"


def test_compiled_kernels_are_new_each_time(backend, mx_device):
    x = mx.ones((1, bench_engine.COLUMNS))
    before = {key.kernel for key in zmlx.launch.launch_counts()}
    call = bench_engine._new_kernel("loop", x)
    mx.eval(call(), call())
    made = {key.kernel for key in zmlx.launch.launch_counts()} - before
    assert len(made) == 2


def test_a_stopwatch_leaves_out_the_call_only_if_it_is_lazy(mx_device, monkeypatch):
    clock = itertools.count()

    def call():
        next(clock)  # a call takes a tick
        return mx.ones(3)

    monkeypatch.setattr(measurement, "time", SimpleNamespace(perf_counter=lambda: float(next(clock))))
    assert mlx_stopwatch(call, batch=4)() == 5 / 4
    assert mlx_stopwatch(call, batch=4, lazy=True)() == 1 / 4


def test_what_a_lead_takes_is_not_in_a_calls_time(mx_device, monkeypatch):
    clock, taken = itertools.count(), []

    def evaluated(*arrays):
        leads = [array.size for array in arrays if isinstance(array, mx.array)]
        taken.extend(leads)
        for _ in [*leads, *(result for results in arrays if isinstance(results, list) for result in results)]:
            next(clock)  # a lead takes a tick, and each call

    fake = SimpleNamespace(perf_counter=lambda: float(next(clock)))
    monkeypatch.setattr(measurement, "time", fake)
    monkeypatch.setattr(measurement, "LEAD_BYTES", 64)
    once = mlx_stopwatch(lambda: mx.ones(3), batch=4, lazy=True, lead=300)
    monkeypatch.setattr(mx, "eval", evaluated)
    monkeypatch.setattr(mx, "async_eval", evaluated)
    assert once() == 1
    assert taken == [16, 16, 16]  # before one call, which is not timed, before four and before eight
    with pytest.raises(ValueError, match="expected lazy=True with a lead, got lead=300 without"):
        mlx_stopwatch(lambda: mx.ones(3), lead=300)


def test_paths_come_from_the_launch_records(backend, mx_device):
    x = mx.ones((4, 8))
    assert launched_path(lambda: double(x), backend, "f.g") == ("loop" if backend == "cpu" else backend)


def test_the_best_of_a_column():
    assert Measurement("f.g").best(MLX) is None
    assert Measurement("f.g", timing=Timing((1.0,))).rate is None


# ---- what is selected ----


def names(cases):
    return [(case.name, case.dtype) for case in cases]


def test_select():
    ops = [
        make("norms.rmsnorm"),
        make("softmax.soft", rivals=None),
        make("norms.other", dtypes={"cpu": ("float16",)}),
    ]
    engine = [EngineCase("engine.copy", lambda backend, plan: iter(()))]
    assert names(select(ops, engine, "cpu", "norms.*", "float16")) == [
        ("norms.rmsnorm", "float16"),
        ("norms.other", "float16"),
    ]
    assert names(select(ops, engine, "cuda", dtype="float32")) == [
        ("norms.rmsnorm", "float32"),
        ("engine.copy", "float32"),
    ]
    assert names(select(ops, engine, "cpu", "copy")) == [("engine.copy", "float32")]
    known = "Known: norms.rmsnorm, norms.other, engine.copy."
    with pytest.raises(BenchError, match=f"^No benchmark matches 'sof'. {known}$"):
        select(ops, engine, "cpu", "sof")
    none = "softmax.soft has none: give its OpInfo `rivals`."
    with pytest.raises(BenchError, match=f"^No benchmark matches 'soft'. {none} {known}$"):
        select(ops, engine, "cpu", "soft")
    with pytest.raises(BenchError, match=r"'copy' has dtype 'float16' on cpu; they have float32\.$"):
        select(ops, engine, "cpu", "copy", "float16")


# ---- a run ----


def counting(backend, plan):
    yield Measurement("engine.made", path="made", timing=Timing((1.0,)))
    raise RuntimeError("out of luck")


def test_a_case_that_fails_is_reported_and_the_others_run():
    broken = make("made.broken", oracle=lambda x: x)
    steps, kept = [], []
    found = bench(
        "cpu",
        dtype="float32",
        small=True,
        ops=[broken, make()],
        engine=[EngineCase("engine.made", counting)],
        progress=lambda *step: steps.append(step),
        keep=kept.append,
    )
    assert found.exit_code == 1
    assert [(len(part.measurements), part.missing) for part in kept] == [(1, 2), (2, 1), (4, 0)]
    assert kept[-1] == found
    assert [(line.name, bool(line.failure)) for line in found.measurements] == [
        ("made.broken", True),
        ("made.double", False),
        ("engine.made", False),
        ("engine.made", True),
    ]
    assert found.failures[1].failure == "engine.made/float32: RuntimeError: out of luck"
    assert steps == [
        (0, 3, "made.broken/float32 forward"),
        (1, 3, "made.double/float32 forward"),
        (2, 3, "engine.made/float32"),
    ]
    assert found.plan == quick(PLANS["cpu"])
    assert int(found.environment["threads"]) >= 1


def test_a_run_in_which_all_is_well_succeeds_and_leaves_the_device_alone():
    before = mx.default_device()
    found = bench("cpu", dtype="float32", small=True, ops=[make()], engine=[])
    assert found.exit_code == 0
    assert mx.default_device() == before
    assert replace(found, measurements=()).exit_code == 1
    assert replace(found, missing=1).exit_code == 1


def test_more_seconds_are_more_rounds():
    found = bench("cpu", dtype="float32", small=True, seconds=0.3, ops=[make()], engine=[])
    assert found.plan == replace(quick(PLANS["cpu"]), seconds=0.3)
    assert len(found.measurements[0].timing.seconds) > found.plan.rounds
    with pytest.raises(BenchError, match=r"^--seconds: expected 0 or more, got -1\.$"):
        bench("cpu", seconds=-1.0, ops=[make()])


def test_unknown_and_missing_back_ends():
    with pytest.raises(ValueError, match="expected one of metal, cuda, cpu; got 'tpu'"):
        bench("tpu", ops=[make()])
    for name, state in _compat.availability().items():
        if not state.available:
            with pytest.raises(_compat.BackendUnavailableError, match=f"{name} is not available here"):
                bench(name, ops=[make()])


def test_inputs_are_the_same_in_every_run(mx_device):
    one, other = (make_arguments([(4, 5)], "float32")[0] for _ in range(2))
    assert np.array_equal(np.array(one), np.array(other))
