"""`zmlx.checked`: what it collects, what it raises, and how launches behave inside it."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import textwrap
import threading
import time
from types import SimpleNamespace

import numpy as np
import pytest
from wrong_kernels import BARRIER, CASES, Case

import zmlx
from zmlx.check import layout, stopped
from zmlx.errors import KernelRuntimeError
from zmlx.launch import launch_counts, reset_launch_counts

pytestmark = pytest.mark.cpu

BY_NAME = {case.name: case for case in CASES}


def test_by_default_the_launch_raises_with_the_report():
    with zmlx.checked() as check, pytest.raises(zmlx.KernelCheckError) as raised:
        BY_NAME["no_barrier"].run()
    assert isinstance(raised.value, RuntimeError)
    text = str(raised.value)
    assert text.startswith(
        "[metal_kernel] The checker has 1 finding: 1 data-race in 'no_barrier'.\n\ndata-race in kernel"
    )
    assert raised.value.findings == check.findings
    assert all(isinstance(finding, zmlx.Finding) for finding in check.findings)


def test_a_race_is_told_with_both_lines_and_threads(collect):
    check = collect(BY_NAME["mem_none"])
    (finding,) = check.findings
    # Where in this folder the lines are: another test is about that.
    assert re.sub(r" \(\S+wrong_kernels.py:\d+\)", "", str(finding)) == textwrap.dedent(
        """\
        memory-order in kernel 'mem_none': s[0] is exchanged through a barrier without mem_flags::mem_threadgroup: \
the other thread need not see what was written
          source line 4: threadgroup_barrier(mem_flags::mem_none); //!
            this threadgroup_barrier lies between the two and does not cover threadgroup memory
          source line 5: out[i] = s[63 - i]; //!
            thread 63 (lane 31 of simdgroup 1, threadgroup (0, 0, 0), thread_position_in_grid (63, 0, 0)) reads s[0]
          source line 3: s[i] = x[i]; //!
            thread 0 (lane 0 of simdgroup 0, threadgroup (0, 0, 0), thread_position_in_grid (0, 0, 0)) wrote s[0]
          Found 64 times in this launch; this is the first.
          What to do: give the barrier mem_flags::mem_threadgroup (flags are combined with |)."""
    )
    assert (finding.line, finding.source_line) == (4, "threadgroup_barrier(mem_flags::mem_none); //!")
    assert finding.lines == (4, 5, 3)
    assert [(t.thread, t.lane, t.simdgroup) for t in finding.threads] == [(63, 31, 1), (0, 0, 0)]


def test_a_race_is_one_finding_whichever_access_comes_first(collect):
    (finding,) = collect(BY_NAME["no_barrier"]).findings
    assert finding.count == 64
    assert {access.what for access in finding.accesses} == {"writes s[32]", "read s[32]"}


def test_an_index_out_of_bounds_is_told_with_the_array_and_its_size(collect):
    (finding,) = collect(BY_NAME["read_past_end"]).findings
    assert finding.message == "reads x[64] of 64, 1 past the end of the input x"
    assert finding.advice.startswith("compare the index with the array's size before the access")
    assert finding.notes == ("The thread went on, and read what lies there: zeros.",)


def test_positions_in_a_grid_with_partial_groups(collect):
    case = Case(
        "positions",
        "out-of-bounds",
        "uint3 p = thread_position_in_grid;\nuint i = p.x;\nout[i] = i == 69 ? x[1000] : 0;",
        (),
        threads=70,
        group=32,
        outputs=70,
    )
    (finding,) = collect(case).findings
    (thread,) = finding.threads
    assert (thread.threadgroup, thread.position_in_threadgroup, thread.position_in_grid) == (
        (2, 0, 0),
        (5, 0, 0),
        (69, 0, 0),
    )


def test_an_array_of_two_dimensions_is_indexed_as_it_is_written(collect):
    case = Case(
        "tiles",
        "data-race",
        "uint i = thread_position_in_threadgroup.x;\nthreadgroup float t[8][9];\nt[i / 8][i % 8] = x[i];\n"
        "out[i] = t[(i / 8 + 3) % 8][i % 8];",
        (),
    )
    check = collect(case)
    assert {finding.index for finding in check.findings} <= {
        f"{row}][{column}" for row in range(8) for column in range(8)
    }
    assert "t[3][0]" in check.report()


def test_outputs_are_those_of_an_ordinary_launch():
    case = BY_NAME["no_barrier"].repaired()
    ordinary = case.run()
    reset_launch_counts()
    with zmlx.checked() as check:
        checked = case.run()
    assert np.array_equal(np.asarray(ordinary[0]), np.asarray(checked[0]))
    assert (check.launches, check.findings) == (1, [])
    assert [(key.backend, key.path, n) for key, n in launch_counts().items()] == [("cpu", "checked", 1)]


def test_the_innermost_check_gets_the_launches():
    with zmlx.checked(raise_on_finding=False) as outer:
        with zmlx.checked(raise_on_finding=False) as inner:
            BY_NAME["no_barrier"].run()
        assert inner.findings
        assert not outer.findings
        assert outer.launches == 0


def test_the_same_finding_of_many_launches_is_one_with_a_count():
    with zmlx.checked(raise_on_finding=False) as check:
        for _ in range(3):
            BY_NAME["mem_none"].run()
    (finding,) = check.findings
    assert finding.count == 192
    assert check.report().endswith("1 finding: 1 memory-order")
    assert check.launches == 3


def own_notes(check):
    """The notes, but for the one that there is no libclang here."""
    return [note for note in check.notes if "libclang" not in note]


def test_writes_of_the_same_value_are_a_note(collect):
    source = f"""
        uint i = thread_position_in_threadgroup.x;
        threadgroup float total;
        total = 7;
        {BARRIER}
        out[i] = total;
    """
    check = collect(Case("same_value", "", source, ()))
    assert not check.findings
    assert own_notes(check) == [
        (
            "same_value: threads write the same value to the same element without any order (source line 3); this "
            "is not reported as a race."
        )
    ]


def test_sums_of_atomics_that_only_round_differently_are_a_note(collect):
    source = """
        uint i = thread_position_in_grid.x;
        atomic_fetch_add_explicit(&out[0], 1.0f / x[i], memory_order_relaxed);
    """
    check = collect(Case("rounds", "", source, (), outputs=1, init_value=0, atomic=True))
    assert not check.findings
    assert any("as sums of floating-point atomics do" in note for note in check.notes)


def test_strided_inputs_and_empty_grids():
    import mlx.core as mx

    kernel = zmlx.metal_kernel(
        name="strided",
        input_names=["x"],
        output_names=["out"],
        source="uint i = thread_position_in_grid.x;\nout[i] = x[i * x_strides[0]];",
        ensure_row_contiguous=False,
    )
    x = mx.arange(64).astype(mx.float32)
    mx.eval(x)

    def run(array, threads):
        return kernel(
            inputs=[array],
            output_shapes=[(threads,)],
            output_dtypes=[mx.float32],
            grid=(threads, 1, 1),
            threadgroup=(16, 1, 1),
            stream=mx.cpu,
        )[0]

    with zmlx.checked():
        assert np.asarray(run(x[::2], 32)).tolist() == list(range(0, 64, 2))
        assert run(x, 0).size == 0


def test_an_output_beyond_the_memory_limit_is_checked_against_its_bounds():
    """And a warning says so: a note is easily missed."""
    with zmlx.checked(raise_on_finding=False, memory_limit=100) as check:
        with pytest.warns(UserWarning, match="are checked against its bounds only"):
            BY_NAME["two_threads_one_element"].run()
        with pytest.warns(UserWarning, match="are checked against its bounds only"):
            BY_NAME["write_past_end"].run()
    assert [finding.kind for finding in check.findings] == ["out-of-bounds"]
    assert "are checked against its bounds only" in own_notes(check)[0]


def launch_large(source, elements=1 << 16, init_value=None):
    import mlx.core as mx

    kernel = zmlx.metal_kernel(name="large", input_names=["x"], output_names=["out"], source=source)
    kernel(
        inputs=[mx.arange(8)],
        grid=(elements, 1, 1),
        threadgroup=(256, 1, 1),
        output_shapes=[(elements,)],
        output_dtypes=[mx.int32],
        init_value=init_value,
        stream=mx.cpu,
    )


# The launch's output has 16 times as much shadow as the limit; a quarter of a tile is one block.
RACE = "uint i = thread_position_in_grid.x; out[i / 2 * 2] = i; out[i / 2 * 2 + 1] = 0;"
RIGHT = "uint i = thread_position_in_grid.x; out[i] = i;"
BYTES = "uint i = thread_position_in_grid.x; for (int k = 0; k < 4; ++k) ((device uchar*)out)[4 * i + k] = k;"
HALF = "uint i = thread_position_in_grid.x; if (i < 32768) out[i] = i;"


def test_a_race_in_an_output_larger_than_its_shadow_is_found_where_it_repeats():
    with (
        zmlx.checked(raise_on_finding=False, memory_limit=1 << 16) as check,
        pytest.warns(UserWarning, match=r"compared with each other in one of 32 blocks of 4096 bytes"),
    ):
        launch_large(RACE)
    assert {finding.kind for finding in check.findings} == {"data-race"}


@pytest.mark.parametrize("source", [RIGHT, BYTES], ids=["elements", "bytes"])
def test_a_right_kernel_with_a_sampled_output_has_no_finding(source):
    with (
        zmlx.checked(raise_on_finding=False, memory_limit=1 << 16) as check,
        pytest.warns(UserWarning, match="in one of 32 blocks"),
    ):
        launch_large(source)
    assert not check.findings, check.report()


def test_elements_without_a_value_are_counted_as_at_least_so_many():
    with (
        zmlx.checked(raise_on_finding=False, memory_limit=1 << 16) as check,
        pytest.warns(UserWarning, match="in one of 32 blocks"),
    ):
        launch_large(HALF)
    (finding,) = check.findings
    assert finding.message.startswith(
        "at least 1024 of 65536 elements of the output out are never written; the first is out[32768]"
    )


@pytest.mark.parametrize(
    ("shadow", "budget", "expected"),
    [
        (1 << 20, 1 << 20, (1, 1 << 20)),
        (1 << 20, (1 << 20) - 1, (4, 1 << 18)),
        (1 << 20, 1 << 16, (32, 1 << 15)),
        (1 << 20, 100, (0, 0)),
        (1 << 20, 0, (0, 0)),
        (0, 0, (1, 0)),
    ],
)
def test_how_much_of_an_array_has_a_shadow(shadow, budget, expected):
    assert layout.blocks_shadowed(shadow, budget) == expected


def test_a_kernel_that_does_not_end_is_stopped(collect):
    source = (
        "uint i = thread_position_in_threadgroup.x;\nif (i < 3)\n  threadgroup_barrier(mem_flags::mem_none);\n"
        "float v = 0;\nwhile (v >= 0)\n  v += x[i];\nout[i] = v;"
    )
    began = time.monotonic()
    check = collect(Case("endless", "", source, ()), time_limit=1, schedules=())
    assert time.monotonic() - began < 30
    (finding,) = check.findings
    assert (finding.kind, finding.message) == ("stopped", "did not end within 1 s under the checker")
    text = str(finding)
    assert "thread 3 (lane 3 of simdgroup 0" in text
    assert "was running" in text
    assert "source line 3: threadgroup_barrier(mem_flags::mem_none);" in text
    assert "waits at this barrier, and so do 2 other threads" in text
    assert "0 of 1 threadgroups were done." in text
    assert not collect(BY_NAME["no_barrier"].repaired()).findings


def test_a_kernel_that_overflows_its_stack_is_reported(collect):
    header = (
        "inline float deep(float v, int n) {\n  float a[64];\n  for (int k = 0; k < 64; ++k) a[k] = v + k;\n"
        "  return n == 0 ? v : deep(v + 1, n - 1) + a[n & 63];\n}\n"
    )
    source = "uint i = thread_position_in_grid.x;\nout[i] = deep(x[i], 1000000);"
    check = collect(Case("deep", "", source, (), header=header), schedules=())
    assert [finding.kind for finding in check.findings] == ["metal-lint", "stopped"]
    assert check.findings[1].message == "overflowed a thread's stack of 192 KB"
    assert not collect(BY_NAME["no_barrier"].repaired()).findings


def test_a_division_by_zero_is_reported_with_its_line(collect):
    check = collect(
        Case("divides", "", "uint i = thread_position_in_grid.x;\nout[i] = 5 / (int(x[i]) - 1);", ())
    )
    (finding,) = check.findings
    assert (finding.kind, finding.line) == ("stopped", 2)
    assert finding.message == "divides an integer by zero, which Metal leaves undefined"


@pytest.mark.parametrize(
    ("path", "source"),
    [
        ("loop", "uint i = thread_position_in_grid.x;\nout[i] = x[i];\nif (i == 3) __builtin_trap();"),
        (
            "regions",
            f"uint i = thread_position_in_grid.x;\nout[i] = x[i];\n{BARRIER}\nif (i == 3) __builtin_trap();",
        ),
        (
            "fibers",
            (
                f"uint i = thread_position_in_grid.x;\nout[i] = simd_sum(x[i]);\nwhile (out[i] > 1e9) {BARRIER}\n"
                "if (i == 3) __builtin_trap();"
            ),
        ),
    ],
)
def test_a_trap_is_reported(collect, path, source):
    check = collect(Case(f"trap_{path}", "", source, ()))
    (finding,) = check.findings
    assert (finding.kind, finding.kernel) == ("stopped", f"trap_{path}")
    assert finding.message.startswith(
        "ran into a trap: __builtin_trap(), or code that the compiler knows to be"
    )
    assert not collect(BY_NAME["no_barrier"].repaired()).findings


def test_an_endless_kernel_is_stopped_after_another_one_was_checked(collect):
    endless = Case("endless_before", "", "float v = 0;\nwhile (v >= 0)\n  v += x[0];\nout[0] = v;", ())
    other = Case("other", "", "out[thread_position_in_grid.x] = x[0];", ())
    for case, kinds in ((endless, ["stopped"]), (other, []), (endless, ["stopped"])):
        check = collect(case, time_limit=0.5, schedules=())
        assert [finding.kind for finding in check.findings] == kinds


def test_a_fault_without_words_is_an_error():
    check, words = (
        layout.Check(),
        SimpleNamespace(
            kernel="odd",
            thread=lambda *_: None,
            places=SimpleNamespace(at=lambda _: SimpleNamespace(line=None)),
        ),
    )
    check.outer.error = 99
    with pytest.raises(
        KernelRuntimeError, match=r"'odd' ended under the checker with error 99.*nothing after that"
    ):
        stopped.word_stopped(check, words, 1, 1.0)


def test_too_much_threadgroup_memory(collect):
    source = (
        "uint i = thread_position_in_threadgroup.x;\nthreadgroup float a[8000];\nthreadgroup float b[400];\n"
        f"a[i] = x[i];\nb[i] = x[i];\n{BARRIER}\nout[i] = a[i] + b[i];"
    )
    (finding,) = collect(Case("large", "", source, ())).findings
    assert (finding.kind, finding.message) == (
        "metal-lint",
        "declares 33600 bytes of threadgroup memory; Metal has 32768 bytes a threadgroup",
    )


def test_unknown_schedules_are_refused():
    with (
        pytest.raises(
            ValueError, match="expected some of 'one simdgroup at a time', 'reversed', 'random'; got 'x'"
        ),
        zmlx.checked(schedules=("x",)),
    ):
        pass


def test_json_has_everything(collect):
    data = json.loads(collect(BY_NAME["mem_none"]).to_json())
    assert data["launches"] == 1
    (finding,) = data["findings"]
    assert (finding["kind"], finding["array"], finding["count"]) == ("memory-order", "s", 64)
    assert [access["line"] for access in finding["accesses"]] == [4, 5, 3]
    assert finding["accesses"][1]["thread"]["lane"] == 31


SCRIPT = """
import mlx.core as mx
import zmlx
k = zmlx.metal_kernel(name="k", input_names=["x"], output_names=["out"],
                      source="uint i = thread_position_in_grid.x;\\nout[i] = {index};")
k(inputs=[mx.ones(8)], output_shapes=[(8,)], output_dtypes=[mx.float32], grid=(8, 1, 1), threadgroup=(8, 1, 1),
  stream=mx.cpu)
"""


@pytest.mark.parametrize(("index", "status"), [("x[i]", 0), ("x[i + 8]", 1)])
def test_zmlx_check_checks_a_whole_process(index, status):
    environment = {**os.environ, "ZMLX_CHECK": "1"}
    run = subprocess.run(
        [sys.executable, "-c", SCRIPT.replace("{index}", index)],
        capture_output=True,
        text=True,
        env=environment,
    )
    assert run.returncode == status, run.stderr
    assert ("reads x[8] of 8, 1 past the end of the input x" in run.stderr) == (status == 1)


INTERRUPTED = """
import os, signal, sys, threading, time
import mlx.core as mx
import zmlx
source = "uint i = thread_position_in_grid.x; float v = 0; while (v >= 0) v += x[i]; out[i] = v;"
k = zmlx.metal_kernel(name="k", input_names=["x"], output_names=["out"], source=source)
def run():
    k(inputs=[mx.ones(8)], output_shapes=[(8,)], output_dtypes=[mx.float32], grid=(8, 1, 1), threadgroup=(8, 1, 1),
      stream=mx.cpu)
try:
    with zmlx.checked(time_limit=0.01):  # compiled before the clock runs
        run()
except zmlx.KernelCheckError as error:
    print("did not end" in str(error))
with zmlx.checked():
    threading.Thread(target=lambda: (time.sleep(1), os.kill(os.getpid(), signal.SIGINT)), daemon=True).start()
    try:
        run()
    except KeyboardInterrupt:
        print("interrupted", flush=True)
print("alive", float((mx.ones(3) + 1).sum()))
"""


@pytest.mark.skipif(not hasattr(signal, "SIGURG"), reason="needs POSIX signals")
def test_ctrl_c_ends_a_launch_and_not_the_process():
    run = subprocess.run([sys.executable, "-c", INTERRUPTED], capture_output=True, text=True, timeout=120)
    assert run.stdout.split("\n")[:3] == ["True", "interrupted", "alive 6.0"], run.stderr
    assert run.returncode == 0


def launch(name, source, arrays, threads=64, group=64, outputs=64, **options):
    import mlx.core as mx

    kernel = zmlx.metal_kernel(
        name=name, input_names=[f"x{k}" for k in range(len(arrays))], output_names=["out"], source=source
    )
    return kernel(
        inputs=arrays,
        output_shapes=[(outputs,)],
        output_dtypes=[mx.float32],
        grid=(threads, 1, 1),
        threadgroup=(group, 1, 1),
        stream=mx.cpu,
        **options,
    )[0]


@pytest.mark.parametrize("far", [8, 1000, -1_000_000_000])
def test_a_read_outside_whose_value_is_thrown_away_changes_nothing(far):
    import mlx.core as mx

    source = (
        "uint i = thread_position_in_grid.x; int j = x1[i];\n"
        "float v = x0[j];\nout[i] = j >= 0 && j < 8 ? v : 0.0f;"
    )
    with zmlx.checked(raise_on_finding=False) as check:
        out = launch("peek", source, [mx.ones(8), mx.array([3, far], dtype=mx.int32)], 2, 2, 2)
    assert out.tolist() == [1.0, 0.0]
    (finding,) = check.findings
    assert (finding.kind, finding.array, finding.line) == ("out-of-bounds", "x0", 2)
    assert finding.notes == ("The thread went on, and read what lies there: zeros.",)


@pytest.mark.parametrize("array", [False, True])
def test_a_variable_that_is_written_and_read_under_the_same_condition_is_no_finding(array):
    """GCC says that ``held`` may be used uninitialized, and names parts of the array ``held$0``."""
    import mlx.core as mx

    held, declared = ("held[k]", "float held[1];") if array else ("held", "float held;")
    source = f"""
        uint i = thread_position_in_threadgroup.x;
        {declared}
        float sum = 0;
        for (uint k = 0; k < 1; ++k) {{ uint j = i + k * 64; if (j < 64) {{ {held} = x0[j]; sum += x0[j]; }} }}
        sum = simd_sum(sum);
        {BARRIER}
        for (uint k = 0; k < 1; ++k) {{ uint j = i + k * 64; if (j < 64) out[j] = {held} * sum; }}
    """
    with zmlx.checked() as check:
        launch(f"guarded_{array}", source, [mx.ones(64)])
    assert check.findings == []


WAITS_FOR_AN_EARLIER = """
uint g = threadgroup_position_in_grid.x;
device atomic_int* a = (device atomic_int*)out;
if (thread_position_in_threadgroup.x == 0) {
  while (g > 0 && atomic_load_explicit(a + g - 1, memory_order_relaxed) == 0) {}
  atomic_store_explicit(a + g, 1, memory_order_relaxed);
}
"""


def test_waiting_for_an_earlier_threadgroup_is_a_note(monkeypatch):
    import mlx.core as mx

    from zmlx.check import run

    monkeypatch.setattr(run, "SHORTEST_LIMIT", 0.5)
    with zmlx.checked() as check:
        launch("waits", WAITS_FOR_AN_EARLIER, [mx.ones(8)], 128, 32, 4, init_value=0)
    assert check.findings == []
    assert any("seems to wait for an earlier threadgroup" in note for note in check.notes)


def test_lines_are_known_after_the_cache_is_cleared(tmp_path, monkeypatch, fill_cache):
    import mlx.core as mx

    source = f"uint i = thread_position_in_grid.x;\nout[i] = x0[i + {os.getpid()}];"
    monkeypatch.setenv("ZMLX_CACHE_DIR", "relative")
    monkeypatch.chdir(tmp_path)
    lines = []
    for where in (tmp_path, tmp_path / "elsewhere"):
        fill_cache(where / "relative")
        monkeypatch.chdir(where)
        with zmlx.checked(raise_on_finding=False) as check:
            launch("moved", source, [mx.ones(8)], 8, 8, 8)
        lines.append(check.findings[0].line)
    shutil.rmtree("relative")
    fill_cache("relative")
    with zmlx.checked(raise_on_finding=False) as check:
        launch("moved", source, [mx.ones(8)], 8, 8, 8)
    lines.append(check.findings[0].line)
    assert lines == [2, 2, 2]


def test_two_threads_have_findings_of_their_own():
    found = {}
    both_open = threading.Barrier(2)

    def check_one(name):
        with zmlx.checked(raise_on_finding=False) as check:
            both_open.wait(timeout=60)
            BY_NAME[name].run()
            both_open.wait(timeout=60)
        found[name] = [(f.kernel, f.kind) for f in check.findings]

    threads = [threading.Thread(target=check_one, args=(name,)) for name in ("read_past_end", "mem_none")]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == {
        "read_past_end": [("read_past_end", "out-of-bounds")],
        "mem_none": [("mem_none", "memory-order")],
    }


def test_threads_that_a_block_starts_are_part_of_it():
    with zmlx.checked(raise_on_finding=False) as check:
        threads = [threading.Thread(target=BY_NAME[name].run) for name in ("read_past_end", "mem_none")]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert {f.kernel for f in check.findings} == {"read_past_end", "mem_none"}
    assert check.launches == 2


def test_arithmetic_is_checked_where_it_is_asked_for(collect):
    case = BY_NAME["float_to_uint"]
    assert not collect(case).findings
    assert [f.kind for f in collect(case, arithmetic=True).findings] == ["arithmetic"]


def test_finite_inputs_are_what_makes_a_nan_a_finding():
    import mlx.core as mx

    source = "uint i = thread_position_in_grid.x; out[i] = x0[i] * 2;"
    for value, findings in ((float("nan"), 0), (float("inf"), 0), (1.0, 0)):
        with zmlx.checked(raise_on_finding=False, arithmetic=True) as check:
            launch("doubles", source, [mx.full((64,), value)])
        assert len(check.findings) == findings


def test_a_cut_threadgroup_that_the_kernel_asks_about_is_no_finding():
    import mlx.core as mx

    source = (
        "uint i = thread_position_in_threadgroup.x; float sum = 0;\n"
        "for (uint k = i; k < 64; k += threads_per_threadgroup.x) sum += x0[k];\nout[i] = simd_sum(sum) / 256;"
    )
    with zmlx.checked() as check:
        launch("asks", source, [mx.ones(64)], 32, 256, 32)
    assert check.findings == []
