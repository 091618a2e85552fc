"""Launches that do not end by themselves: Ctrl-C, the time limit, traps."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time

import pytest

import zmlx
from zmlx.launch import KernelRuntimeError
from zmlx.launch.failures import TIME_LIMIT_VARIABLE

pytestmark = pytest.mark.cpu

ENDLESS = {
    "empty": "while (true) {}",
    "stores": "volatile int i = 0; while (i < 1) out[0] = i;",
    "meets": "threadgroup float s[4]; s[thread_position_in_threadgroup.x] = 1; "
    "threadgroup_barrier(mem_flags::mem_threadgroup); volatile int i = 0; while (i < 1) out[0] = s[0];",
    "simd": "volatile int i = 0; while (i < 1) out[0] = simd_sum(1.0f);",
}


def kernel(source, name="endless"):
    return zmlx.metal_kernel(name, ["x"], ["out"], source)


def launch(made, grid=4):
    import mlx.core as mx

    return made(
        inputs=[mx.arange(8.0)],
        grid=(grid, 1, 1),
        threadgroup=(4, 1, 1),
        output_shapes=[(8,)],
        output_dtypes=[mx.float32],
        stream=mx.cpu,
    )[0]


@pytest.mark.parametrize("grid", [4, 40_000], ids=["one group", "all workers"])
@pytest.mark.parametrize("name", ENDLESS)
def test_the_time_limit_stops_a_launch(name, grid, monkeypatch):
    monkeypatch.setenv(TIME_LIMIT_VARIABLE, "0.05")
    message = r"Kernel 'endless' did not end within 0\.05 s, the time limit that \$ZMLX_TIME_LIMIT sets\."
    for _ in range(2):
        began = time.monotonic()
        with pytest.raises(KernelRuntimeError, match=message):
            launch(kernel(ENDLESS[name]), grid)
        assert time.monotonic() - began < 30  # compiling included
    monkeypatch.delenv(TIME_LIMIT_VARIABLE)
    source = "out[thread_position_in_grid.x] = x[thread_position_in_grid.x];"
    assert launch(kernel(source, "ends"), 8).tolist() == [0, 1, 2, 3, 4, 5, 6, 7]


def test_launches_within_the_limit_are_left_alone(monkeypatch):
    monkeypatch.setenv(TIME_LIMIT_VARIABLE, "60")
    made = kernel("out[thread_position_in_grid.x] = 1;", "ends")
    for _ in range(300):
        assert launch(made, 8).tolist() == [1] * 8


@pytest.mark.parametrize("limit", ["soon", "0", "-1", "nan", "1s"])
def test_a_limit_that_is_no_time(limit, monkeypatch):
    monkeypatch.setenv(TIME_LIMIT_VARIABLE, limit)
    with pytest.raises(ValueError, match=f"ZMLX_TIME_LIMIT='{limit}': expected a number of seconds above 0"):
        launch(kernel("out[0] = 1;", "ends"))


# Nothing that MLX computes itself: its threads are not there in a forked child.
SCRIPT = """
import os, signal, sys, threading, time
import mlx.core as mx, zmlx
from zmlx.launch import KernelRuntimeError
SETUP
def launch(source):
    kernel = zmlx.metal_kernel("endless", ["x"], ["out"], source)
    return kernel(inputs=[mx.array([1.0] * 8)], grid=(GRID, 1, 1), threadgroup=(4, 1, 1), output_shapes=[(8,)],
                  output_dtypes=[mx.float32], stream=mx.cpu)[0]
def press():
    for pause in PAUSES:
        time.sleep(pause)
        os.kill(os.getpid(), signal.SIGINT)
launch("out[0] = 1;")
for source in SOURCES:
    os.environ["ZMLX_TIME_LIMIT"] = "0.01"
    try:
        launch(source)  # compiled before the clock runs
    except KernelRuntimeError:
        pass
    os.environ["ZMLX_TIME_LIMIT"] = "60"
    threading.Thread(target=press, daemon=True).start()
    began = time.monotonic()
    try:
        launch(source)
    except KeyboardInterrupt:
        print("KeyboardInterrupt", time.monotonic() - began < 3)
    except BaseException as error:
        print(type(error).__name__, error)
    print(memoryview(launch("out[0] = 2;"))[0], signal.getsignal(signal.SIGINT) is HANDLER)
"""


def interrupted(
    *sources,
    grid=4,
    setup="signal.signal(signal.SIGINT, signal.default_int_handler)",
    pauses=(0.05,),
    handler="signal.default_int_handler",
):
    """What a process prints in which SIGINT comes so long after the launch of each kernel."""
    script = SCRIPT
    for name, text in {
        "SOURCES": repr(sources),
        "GRID": str(grid),
        "SETUP": setup,
        "PAUSES": repr(pauses),
        "HANDLER": handler,
    }.items():
        script = script.replace(name, text)
    found = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, timeout=120, env={**os.environ}
    )
    assert found.returncode == 0, found.stderr
    return found.stdout.splitlines()


@pytest.mark.parametrize("grid", [4, 40_000], ids=["one group", "all workers"])
def test_ctrl_c_ends_an_endless_launch(grid):
    """Of each kind, one after the other in one process, which can launch after each."""
    assert interrupted(*ENDLESS.values(), grid=grid) == ["KeyboardInterrupt True", "2.0 True"] * len(ENDLESS)


def test_a_handler_of_the_programs_own_is_called_and_a_second_ctrl_c_ends_the_launch():
    setup = "seen = []\ndef mine(*_): seen.append(1); print('mine')\nsignal.signal(signal.SIGINT, mine)"
    lines = interrupted(ENDLESS["empty"], setup=setup, pauses=(0.1, 0.7), handler="mine")
    assert lines == ["mine", "KeyboardInterrupt True", "2.0 True"]


def test_where_sigint_is_ignored_it_stays_ignored():
    setup = "signal.signal(signal.SIGINT, signal.SIG_IGN)"
    script = "volatile int i = 0; for (int k = 0; k < 200000000; ++k) i = k; out[0] = 1;"
    lines = interrupted(script, setup=setup, pauses=(0.02,), handler="signal.SIG_IGN")
    assert lines == ["2.0 True"]


def test_a_launch_of_another_thread_is_stopped_with_an_error():
    script = f"""
import os, signal, threading, time
import mlx.core as mx, zmlx
from zmlx.launch import KernelRuntimeError
signal.signal(signal.SIGINT, signal.default_int_handler)
def work(limit):
    os.environ["ZMLX_TIME_LIMIT"] = limit
    kernel = zmlx.metal_kernel("endless", ["x"], ["out"], {ENDLESS["empty"]!r})
    try:
        kernel(inputs=[mx.arange(8.0)], grid=(4, 1, 1), threadgroup=(4, 1, 1), output_shapes=[(8,)],
               output_dtypes=[mx.float32], stream=mx.cpu)
    except KernelRuntimeError as error:
        print(error)
work("0.01")  # compiled before the clock runs
thread = threading.Thread(target=work, args=("60",))
thread.start()
time.sleep(0.3)
try:
    os.kill(os.getpid(), signal.SIGINT)
    time.sleep(5)
except KeyboardInterrupt:
    print("main")
thread.join(20)
print(thread.is_alive())
"""
    found = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=120)
    limit, *lines = found.stdout.splitlines()
    assert "did not end within 0.01 s" in limit
    assert sorted(lines) == [
        "False",
        "[metal_kernel] Kernel 'endless' was stopped by Ctrl-C (SIGINT).",
        "main",
    ], found.stderr


@pytest.mark.parametrize(
    "sync", ["", "threadgroup_barrier(mem_flags::mem_threadgroup);"], ids=["loop", "meets"]
)
def test_a_trap_is_an_error(sync):
    made = kernel(f"{sync} if (x[0] == 0) __builtin_trap(); out[0] = 1;", "traps")
    for _ in range(3):
        with pytest.raises(KernelRuntimeError, match=r"Kernel 'traps' ran into a trap: __builtin_trap\(\)"):
            launch(made)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork on this system")
def test_a_forked_child_can_be_interrupted_too(backend):
    if backend == "cuda":
        pytest.skip("a process that has used CUDA must not go on in a forked child")
    import mlx.core as mx

    if tuple(int(part) for part in mx.__version__.split(".")[:2]) < (0, 32):
        pytest.skip(f"the threads of MLX {mx.__version__} itself do not live on in a forked child")
    setup = """
def first():
    k = zmlx.metal_kernel("first", ["x"], ["out"], "out[0] = 1;")
    k(inputs=[mx.array([1.0] * 8)], grid=(4, 1, 1), threadgroup=(4, 1, 1), output_shapes=[(8,)],
      output_dtypes=[mx.float32],
      stream=mx.cpu)
first()
child = os.fork()
if child:
    sys.exit(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
signal.signal(signal.SIGINT, signal.default_int_handler)
"""
    assert interrupted(ENDLESS["empty"], setup=setup) == ["KeyboardInterrupt True", "2.0 True"]


def test_signals_that_are_not_a_kernels_end_the_process_as_before():
    script = """
import os, signal, time
import mlx.core as mx, zmlx
kernel = zmlx.metal_kernel("ends", ["x"], ["out"], "out[0] = 1;")
kernel(inputs=[mx.ones(8)], grid=(1, 1, 1), threadgroup=(1, 1, 1), output_shapes=[(1,)], output_dtypes=[mx.float32],
       stream=mx.cpu)
os.kill(os.getpid(), signal.SIGTRAP)
time.sleep(5)
print("lived")
"""
    found = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=60)
    assert (found.returncode, found.stdout) == (-signal.SIGTRAP, "")
