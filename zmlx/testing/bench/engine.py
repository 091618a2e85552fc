"""Benchmarks of the engine under the kernels: copying, compiling, launching, and threads that wait for each other."""

from __future__ import annotations

import contextlib
import itertools
import os
import tempfile
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

from zmlx import _compat
from zmlx.testing.bench.bandwidth import WAYS
from zmlx.testing.bench.measurement import (
    Measurement,
    Plan,
    Versus,
    WrongResultError,
    launched_path,
    mlx_stopwatch,
)
from zmlx.testing.bench.rivals import MLX
from zmlx.testing.bench.timing import Stopwatch, Timing, race
from zmlx.testing.tolerance import Tolerance, compare

if TYPE_CHECKING:
    from zmlx.launch import MetalKernel

GROUP = 256
COLUMNS = 1024
LAUNCH_ELEMENTS = 1000
#: Launches of which each reads what the one before it wrote, so that none can be merged with another.
CHAIN = 100

SILU = """
    uint i = thread_position_in_grid.x;
    out[i] = x[i] / (1.0f + exp(-x[i]));
"""

ADD = """
    uint i = thread_position_in_grid.x;
    out[i] = a[i] + b[i];
"""

#: MLX's own custom kernels, where it runs them: the function that makes them, and `ADD` in its language. The difference
#: between a launch of theirs and of ours is what zmlx adds.
NATIVE = {
    "cuda": ("cuda_kernel", "uint32_t i = blockIdx.x * blockDim.x + threadIdx.x;\nout[i] = a[i] + b[i];"),
    "metal": ("metal_kernel", ADD),
}

#: RMSNorm of rows of 1024, a threadgroup of 256 a row, which meets nine times.
RMSNORM_BARRIERS = """
    threadgroup float shared[256];
    uint t = thread_position_in_threadgroup.x;
    uint row = threadgroup_position_in_grid.x;
    float sum = 0;
    for (uint i = t; i < 1024; i += 256) {
        float v = x[row * 1024 + i];
        sum += v * v;
    }
    shared[t] = sum;
    threadgroup_barrier(mem_flags::mem_threadgroup);
    for (uint k = 128; k > 0; k /= 2) {
        if (t < k) shared[t] += shared[t + k];
        threadgroup_barrier(mem_flags::mem_threadgroup);
    }
    float scale = rsqrt(shared[0] / 1024 + 1e-6f);
    for (uint i = t; i < 1024; i += 256) out[row * 1024 + i] = x[row * 1024 + i] * scale;
"""

#: The same with one barrier: each simdgroup adds up by itself.
RMSNORM_SIMD = """
    threadgroup float shared[8];
    uint t = thread_position_in_threadgroup.x;
    uint row = threadgroup_position_in_grid.x;
    float sum = 0;
    for (uint i = t; i < 1024; i += 256) {
        float v = x[row * 1024 + i];
        sum += v * v;
    }
    sum = simd_sum(sum);
    if (thread_index_in_simdgroup == 0) shared[simdgroup_index_in_threadgroup] = sum;
    threadgroup_barrier(mem_flags::mem_threadgroup);
    sum = 0;
    for (uint k = 0; k < 8; ++k) sum += shared[k];
    float scale = rsqrt(sum / 1024 + 1e-6f);
    for (uint i = t; i < 1024; i += 256) out[row * 1024 + i] = x[row * 1024 + i] * scale;
"""

#: What is compiled, the kinds that the CPU launcher runs in different ways, and threads for a row of `COLUMNS`.
KINDS: Mapping[str, tuple[str, int]] = {
    "loop": (SILU, COLUMNS),
    "barriers": (RMSNORM_BARRIERS, GROUP),
    "simd": (RMSNORM_SIMD, GROUP),
}

NORMS: Mapping[str, str] = {"9 barriers": RMSNORM_BARRIERS, "simd_sum": RMSNORM_SIMD}

#: 1024 squares of float32 numbers, added up in another order and put through another rsqrt.
NORM_TOLERANCE = Tolerance(rtol=1e-5, atol=1e-5, reason="two orders of adding up 1024 squares")

_numbers = itertools.count()


def _kernel(name: str, source: str, inputs: tuple[str, ...] = ("x",)) -> MetalKernel:
    from zmlx.launch import metal_kernel

    return metal_kernel(f"zmlx_bench_{name}", inputs, ["out"], source)


def _run(kernel: Callable[..., Any], inputs: list[Any], threads: int) -> Any:
    """The output, of the shape and dtype of the first input."""
    x = inputs[0]
    return kernel(
        inputs=inputs,
        output_shapes=[x.shape],
        output_dtypes=[x.dtype],
        grid=(threads, 1, 1),
        threadgroup=(GROUP, 1, 1),
    )[0]


def copies(backend: str, plan: Plan) -> Iterator[Measurement]:
    """Each way to copy as many bytes as a float32 result of the catalogue has."""
    nbytes = 4 * plan.rows * plan.columns
    with contextlib.ExitStack() as stack:
        stopwatches = {
            name: stack.enter_context(way(nbytes, plan.copies(nbytes), plan.batch(2 * nbytes), plan.lead))
            for name, way in WAYS[backend].items()
        }
        for name, timing in race(stopwatches, plan.rounds, plan.seconds).items():
            yield Measurement("engine.copy", path=name, timing=timing, work=2 * nbytes, unit="GB/s")


@contextlib.contextmanager
def fresh_cache() -> Iterator[None]:
    """Compiled kernels go to a new folder, which is removed at the end."""
    from zmlx.launch.cache import CACHE_VARIABLE

    before = os.environ.get(CACHE_VARIABLE)
    with tempfile.TemporaryDirectory(prefix="zmlx-bench-") as folder:
        os.environ[CACHE_VARIABLE] = folder
        try:
            yield
        finally:
            if before is None:
                del os.environ[CACHE_VARIABLE]
            else:
                os.environ[CACHE_VARIABLE] = before


def _new_kernel(kind: str, x: Any) -> Callable[[], Any]:
    """A call that makes a kernel which this process has not seen, and runs it once."""
    source, threads = KINDS[kind]
    return lambda: _run(_kernel(f"{kind}_{next(_numbers)}", source), [x], threads)


def compiling(backend: str, plan: Plan) -> Iterator[Measurement]:
    """From the source to the first result, which is a small one."""
    mx = _compat.import_mx()
    x = mx.ones((1, COLUMNS))
    mx.eval(x)
    # What a process loads once (compiler, NVRTC, worker threads) is there before the clock starts.
    with fresh_cache():
        path = launched_path(_new_kernel("loop", x), backend, "engine.compile")
    first = []
    for _ in range(plan.compiles):
        with fresh_cache():
            first.append(mlx_stopwatch(_new_kernel("loop", x))())
    yield Measurement("engine.compile (the first)", "float32", path, Timing(tuple(first)))
    with fresh_cache():
        paths = {kind: launched_path(_new_kernel(kind, x), backend, kind) for kind in KINDS}
        timings = race(
            {kind: mlx_stopwatch(_new_kernel(kind, x)) for kind in KINDS}, plan.compiles, seconds=0.0
        )
    for kind, timing in timings.items():
        yield Measurement(f"engine.compile ({kind})", "float32", paths[kind], timing)


def launching(backend: str, plan: Plan) -> Iterator[Measurement]:
    """A kernel with next to nothing to do, against the same operation of MLX."""
    mx = _compat.import_mx()
    kernel = _kernel("add", ADD, ("a", "b"))
    a, b = mx.random.normal((LAUNCH_ELEMENTS,)), mx.random.normal((LAUNCH_ELEMENTS,))
    mx.eval(a, b)

    def ours() -> Any:
        return _run(kernel, [a, b], LAUNCH_ELEMENTS)

    path = launched_path(ours, backend, "engine.launch")
    if not mx.array_equal(ours(), a + b):
        raise WrongResultError(
            "engine.launch: a kernel that adds two arrays expected a + b, got other numbers."
        )
    for label, batch in (("1000 elements", 1), ("100 in one eval", 100)):
        stopwatches = {
            "ours": mlx_stopwatch(ours, batch),
            "mx.add": mlx_stopwatch(lambda: a + b, batch),
        }
        timings = race(stopwatches, max(plan.launches // batch, plan.rounds), plan.seconds)
        yield _against(f"engine.launch ({label})", path, timings, "mx.add")
    yield from _chains(kernel, a, b, path, backend, plan)


def _chains(
    kernel: MetalKernel, a: Any, b: Any, path: str, backend: str, plan: Plan
) -> Iterator[Measurement]:
    """``a + b + b + …``, one launch a sum: called as they stand, and traced by mx.compile; against mx.add, called. The
    same by a custom kernel of MLX's own, where there are such."""
    from zmlx.launch import primitive

    mx = _compat.import_mx()

    def chain(add: Callable[[Any, Any], Any]) -> Callable[[Any, Any], Any]:
        def total(x: Any, y: Any) -> Any:
            for _ in range(CHAIN):
                x = add(x, y)
            return x

        return total

    called = chain(lambda x, y: _run(kernel, [x, y], LAUNCH_ELEMENTS))
    ways = {"ours": called, "mx.add": chain(mx.add)}
    names = {"ours": ("engine.launch (chain of 100)", path)}
    if backend != "cpu" or not primitive.unavailable():
        traced = mx.compile(called)
        way = launched_path(lambda: traced(a, b), backend, "engine.launch (chain of 100, compiled)")
        ways["compiled"] = traced
        names["compiled"] = ("engine.launch (chain of 100, compiled)", way)
    if backend in NATIVE:
        maker, source = NATIVE[backend]
        native = getattr(mx.fast, maker)("zmlx_bench_add", ["a", "b"], ["out"], source)
        own = ways["native"] = chain(lambda x, y: _run(native, [x, y], LAUNCH_ELEMENTS))
        ways["native compiled"] = mx.compile(own)
        names["native"] = ("engine.launch (chain of 100, MLX's kernel)", f"mx.fast.{maker}")
        names["native compiled"] = (
            "engine.launch (chain of 100, MLX's kernel, compiled)",
            f"mx.fast.{maker}",
        )
    wanted = ways["mx.add"](a, b)
    for total in ways.values():
        if not mx.array_equal(total(a, b), wanted):
            raise WrongResultError(
                f"engine.launch: {CHAIN} sums by a kernel expected those of mx.add, got other numbers."
            )
    stopwatches = {key: _shared(mlx_stopwatch(partial(total, a, b)), CHAIN) for key, total in ways.items()}
    timings = race(stopwatches, max(plan.launches // CHAIN, plan.rounds), plan.seconds)
    for key, (name, way) in names.items():
        yield _against(name, way, {"ours": timings[key], "mx.add": timings["mx.add"]}, "mx.add")


def _shared(stopwatch: Stopwatch, count: int) -> Stopwatch:
    """The seconds of one of so many launches in a call."""
    return lambda: stopwatch() / count


def barriers(backend: str, plan: Plan) -> Iterator[Measurement]:
    """RMSNorm by threadgroups whose threads wait for each other, against MLX's."""
    mx = _compat.import_mx()
    x = mx.random.normal((plan.norm_rows, COLUMNS))
    mx.eval(x)
    threads = plan.norm_rows * GROUP
    batch = plan.batch(2 * x.nbytes)
    truth = mx.fast.rms_norm(x, None, 1e-6)
    some = slice(None, None, max(1, plan.norm_rows // 16))
    for label, source in NORMS.items():
        name = f"engine.rmsnorm ({label})"
        kernel = _kernel(f"rmsnorm_{label.replace(' ', '_')}", source)

        def ours(kernel: MetalKernel = kernel) -> Any:
            return _run(kernel, [x], threads)

        path = launched_path(ours, backend, name)
        got, wanted = mx.contiguous(ours()[some]), mx.contiguous(truth[some])
        verdict = compare(got, wanted, "float32", NORM_TOLERANCE, name=name)
        if not verdict.ok:
            raise WrongResultError(f"{verdict.message}\n  expected: what mx.fast.rms_norm computes")
        stopwatches = {
            "ours": mlx_stopwatch(ours, batch, plan.lazy, plan.lead),
            "mx.fast.rms_norm": mlx_stopwatch(
                lambda: mx.fast.rms_norm(x, None, 1e-6), batch, plan.lazy, plan.lead
            ),
        }
        timings = race(stopwatches, plan.rounds, plan.seconds)
        yield _against(name, path, timings, "mx.fast.rms_norm", x.size, "Mel/s")


def _against(
    name: str, path: str, timings: Mapping[str, Timing], rival: str, work: float = 0.0, unit: str = ""
) -> Measurement:
    ours = timings["ours"]
    versus = Versus(MLX, rival, timings[rival], timings[rival].times_slower_than(ours))
    return Measurement(name, "float32", path, ours, work, unit, versus=(versus,))


@dataclass(frozen=True)
class EngineCase:
    """A benchmark that selections know by name; ``measure(backend, plan)`` yields its lines."""

    name: str
    measure: Callable[[str, Plan], Iterator[Measurement]]


ENGINE = (
    EngineCase("engine.copy", copies),
    EngineCase("engine.rmsnorm", barriers),
    EngineCase("engine.launch", launching),
    EngineCase("engine.compile", compiling),
)
