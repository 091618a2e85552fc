"""The commands that measure: ``python -m zmlx bench | bench-cmp | leaks``.

Each calls the module that does the work. `zmlx.__main__` puts them beside the others.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from zmlx._commands import (
    Add,
    Commands,
    backend_option,
    clear_progress,
    find_and_say,
    ops_option,
    show_progress,
    write_and_say,
)

if TYPE_CHECKING:
    from zmlx.testing.bench.kept import KeptRun
    from zmlx.testing.bench.run import Benchmark

BENCH = """\
Time every kernel of the catalogue, in every dtype, against MLX's own operation, mx.compile of the formula and a copy
of as many bytes; then what is under the kernels: copying, barriers, launching, compiling (engine.*). What is compared
takes turns, so ratios hold on a machine that is busy with other things too; absolute times do not.

examples:
  python -m zmlx bench                               all, on MLX's default device
  python -m zmlx bench --quick                       small arrays, few rounds: does everything run?
  python -m zmlx bench --backend cpu --kernel 'norms.*' --dtype bfloat16
  python -m zmlx bench --kernel 'engine.*'           only what is under the kernels
  python -m zmlx bench --output-dir build/bench      and write BACKEND.md and BACKEND.json there, after each one anew
  python -m zmlx bench --keep 1.2.0                  and keep it as benchmarks/1.2.0-BACKEND.json, of a release

Exit status 0: all was measured, however slow. 1: something raised or computed wrong numbers. 2: nothing matches.
"""

BENCH_CMP = """\
Compare two benchmarks of one machine, files that `bench` wrote: what has become slower by more than 10 % beyond the
noise of both runs. Without files, the newest of build/bench is compared with the newest release that is kept in
benchmarks for its back end. Needs neither MLX nor NumPy.

examples:
  python -m zmlx bench-cmp                                     the last `nox -s bench` against the last release
  python -m zmlx bench-cmp benchmarks/1.1.0-cpu.json build/bench/cpu.json
  python -m zmlx bench-cmp OLD.json NEW.json --tolerance 0.05
  python -m zmlx bench-cmp OLD.json NEW.json --markdown build/bench-cmp/cpu.md

Exit status 0: nothing was lost. 1: something became slower, fails or is gone, or a file cannot be used. 2: the two
cannot be compared: other machines or back ends (--any-machine), other sizes, no row in common.
"""

LEAKS = """\
Launch every kernel very often, forward, backward, and forward with other shapes each time, and look at what the process
holds before and after: memory of arrays, resident memory, open files, threads, Python's objects, compiled kernels. Each
may grow by as much as the legend says, most of them by nothing; MLX's cache of free buffers must keep to its limit.

examples:
  python -m zmlx leaks                                10000 calls of each, on MLX's default device
  python -m zmlx leaks --kernel 'norms.*' --launches 1000
  python -m zmlx leaks --output-dir build/evidence    and write BACKEND-leaks.json there, which `report` shows

Exit status 0: all is flat. 1: something grew, or raised. 2: nothing matches.
"""

#: Where `nox -s bench` leaves its files.
LATEST_DIR = Path("build") / "bench"


def _run_bench(options: argparse.Namespace) -> int:
    from zmlx.testing.bench.kept import kept_path
    from zmlx.testing.bench.run import bench
    from zmlx.testing.bench.table import render_terminal, to_json, write_files

    project = find_and_say(options)
    if options.keep is not None:
        # A name that cannot be is told before anything takes minutes.
        kept_path(project.root, options.keep, "")
    found: Benchmark | None = None
    paths: list[Path] = []

    def keep(so_far: Benchmark) -> None:
        nonlocal found, paths
        found = so_far
        if options.output_dir is not None:
            paths = write_files(so_far, options.output_dir)

    def show(measured: Benchmark) -> None:
        clear_progress()
        print(to_json(measured) if options.json else render_terminal(measured), flush=True)

    try:
        found = bench(
            options.backend,
            options.kernel,
            options.dtype,
            small=options.quick,
            seconds=options.seconds,
            ops=project.ops,
            progress=show_progress,
            keep=keep,
        )
    except (KeyboardInterrupt, OSError):
        # Numbers that took minutes are shown, whatever ended the run.
        if found is not None:
            show(found)
        raise
    show(found)
    for path in paths:
        print(f"wrote {path}", file=sys.stderr)
    if options.keep is not None:
        write_and_say(kept_path(project.root, options.keep, found.backend), to_json(found) + "\n")
    return found.exit_code


def _pair(files: list[Path]) -> tuple[KeptRun, KeptRun]:
    """The two runs to compare: as named, else the newest of the last benchmarks and the release that it follows."""
    from zmlx.testing.bench.kept import KEPT_DIR, newest_kept, read_run
    from zmlx.testing.project import find_project

    if len(files) == 2:
        return read_run(files[0]), read_run(files[1])
    if files:
        raise ValueError(f"bench-cmp: expected two files, OLD and NEW, or none; got {len(files)}.")
    root = find_project().root
    latest = sorted((root / LATEST_DIR).glob("*.json"), key=lambda path: path.stat().st_mtime)
    if not latest:
        raise RuntimeError(
            f"There is no benchmark in {root / LATEST_DIR}. Run `nox -s bench` first, or name two files."
        )
    new = read_run(latest[-1])
    old = newest_kept(root, new.backend)
    if old is None:
        raise RuntimeError(
            f"No benchmark of {new.backend} is kept in {root / KEPT_DIR}. `python -m zmlx bench --keep NAME` keeps "
            "that of a release; or name two files."
        )
    return old, new


def _run_bench_cmp(options: argparse.Namespace) -> int:
    from zmlx.testing.bench.regression import compare_runs
    from zmlx.testing.bench.regression_text import render_markdown, render_terminal, to_json

    found = compare_runs(*_pair(options.files), options.tolerance, any_machine=options.any_machine)
    sys.stdout.write(to_json(found) + "\n" if options.json else render_terminal(found))
    if options.markdown is not None:
        write_and_say(options.markdown, render_markdown(found))
    return found.exit_code


def _run_leaks(options: argparse.Namespace) -> int:
    from zmlx.testing.leak_figures import SUFFIX
    from zmlx.testing.leaks.run import find_leaks
    from zmlx.testing.leaks.text import render_terminal

    ops = find_and_say(options).ops
    found = find_leaks(options.backend, options.kernel, options.launches, ops=ops, progress=show_progress)
    clear_progress()
    print(found.to_json() if options.json else render_terminal(found), flush=True)
    if options.output_dir is not None:
        write_and_say(options.output_dir / f"{found.backend}{SUFFIX}", found.to_json() + "\n")
    return found.exit_code


def add_evidence(commands: Commands[argparse.ArgumentParser], add: Add) -> None:
    """Add the parsers of these commands."""
    bench = add(commands, "bench", "how fast the kernels are, against MLX and the memory", BENCH, _run_bench)
    backend_option(bench)
    ops_option(bench)
    bench.add_argument(
        "--kernel", default="*", metavar="GLOB", help="only benchmarks of this name or pattern"
    )
    bench.add_argument("--dtype", metavar="NAME", help="only this dtype, such as bfloat16")
    bench.add_argument("--quick", action="store_true", help="small arrays and few rounds, for a first look")
    bench.add_argument(
        "--seconds", type=float, metavar="S", help="for the rounds of each, at least (default: 0.5)"
    )
    bench.add_argument("--json", action="store_true", help="print JSON")
    bench.add_argument(
        "--output-dir", type=Path, metavar="DIR", help="write BACKEND.md and BACKEND.json there"
    )
    bench.add_argument(
        "--keep", metavar="NAME", help="keep the JSON of a release as benchmarks/NAME-BACKEND.json"
    )

    compare = add(
        commands, "bench-cmp", "what became slower between two benchmarks", BENCH_CMP, _run_bench_cmp
    )
    compare.add_argument(
        "files", type=Path, nargs="*", metavar="FILE", help="OLD.json and NEW.json (default: see above)"
    )
    compare.add_argument(
        "--tolerance",
        type=float,
        default=0.10,
        metavar="PART",
        help="of the speed that may be lost beyond the noise (default: 0.10)",
    )
    compare.add_argument(
        "--any-machine", action="store_true", help="compare two machines or back ends, for what that is worth"
    )
    compare.add_argument("--json", action="store_true", help="print JSON")
    compare.add_argument("--markdown", type=Path, metavar="FILE", help="write Markdown")

    leaks = add(commands, "leaks", "launch kernels very often: does anything grow?", LEAKS, _run_leaks)
    backend_option(leaks)
    ops_option(leaks)
    leaks.add_argument(
        "--kernel", default="*", metavar="GLOB", help="only operations of this name or pattern"
    )
    leaks.add_argument(
        "--launches", type=int, default=10_000, metavar="N", help="calls of each (default: 10000)"
    )
    leaks.add_argument("--json", action="store_true", help="print JSON")
    leaks.add_argument("--output-dir", type=Path, metavar="DIR", help="write BACKEND-leaks.json there")
