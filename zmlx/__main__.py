"""``python -m zmlx``, or ``zmlx``: doctor, verify, check, lint, cache, those on golden values (`zmlx.golden_commands`),
those that measure (`zmlx.evidence_commands`) and those for a project of one's own (`zmlx.project_commands`).

Each command calls the module that does the work. Exit status 0 is success, 1 a check that failed or could not
be made, 2 a request that makes no sense.
"""

from __future__ import annotations

import argparse
import os
import select
import sys
import traceback
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from zmlx import _compat
from zmlx._commands import (
    Commands,
    Run,
    backend_option,
    clear_progress,
    find_and_say,
    golden_dir_option,
    ops_option,
    show_progress,
    terminal_width,
    write_and_say,
)
from zmlx._version import __version__
from zmlx.evidence_commands import add_evidence
from zmlx.golden_commands import add_golden, add_report
from zmlx.project_commands import add_project_commands

#: Modules that some commands do without, as they are imported; for MLX, `zmlx._compat` has more to say.
REQUIREMENTS = ("numpy", "platformdirs", "filelock")

EXAMPLES = """\
examples:
  python -m zmlx doctor                          what runs on this machine, what does not, and why
  python -m zmlx verify                          every kernel against its float64 oracle
  python -m zmlx verify --kernel swiglu --dtype bfloat16
  python -m zmlx check train.py --steps 2        a script with its Metal kernels under the checker
  python -m zmlx lint kernels.metal              what Metal's compiler would refuse, without running anything
  python -m zmlx golden compare                  this machine against the recorded golden values
  python -m zmlx golden record --backend cpu     record them again, after a change that was meant
  python -m zmlx report --html report.html       how well the recorded back ends agree
  python -m zmlx cache prune                     remove compiled kernels that were not used for long
  python -m zmlx bench --kernel swiglu           how fast a kernel is, against MLX's own operations
  python -m zmlx bench-cmp OLD.json NEW.json     what became slower between two benchmarks
  python -m zmlx leaks --kernel swiglu           does a process that launches it very often grow?
  python -m zmlx show swiglu --backend cuda      what the kernel is on a back end, as text
  python -m zmlx cuda-compile                    every kernel's CUDA text through NVRTC, without a GPU
  python -m zmlx judge candidate.py --op swiglu  a kernel that nobody trusts yet, accepted or refused
  python -m zmlx init                            make this folder a project with kernels of its own
  python -m zmlx new-kernel activations relu2    a kernel and its OpInfo, from a template

Run `python -m zmlx COMMAND --help` for the options of a command.
"""

DOCTOR = """\
Examine this machine: platform, Python, MLX and its wheels, back ends, compilers, kernel cache and recorded
golden values. Then compute one small Metal kernel on every back end that is available.

Exit status 0: a kernel ran, and nothing that should work failed. 1: otherwise. It also works where MLX does not
import.
"""

VERIFY = """\
Run every operation of zmlx, forward and gradient, and compare it with its float64 oracle. Every sample runs several
times, and the results must have the same bits unless the entry says deterministic=False. Operations that multiply
matrices also run with TF32, where the back end has it.

examples:
  python -m zmlx verify                              all, on MLX's default device
  python -m zmlx verify --backend cpu                on the CPU of a Mac or a CUDA machine
  python -m zmlx verify --kernel 'norms.*'           one family (quote the pattern)
  python -m zmlx verify --kernel swiglu --dtype float16 --json
  python -m zmlx verify --orders                     and with the threads in other orders, by the checker
  python -m zmlx verify --output-dir build/evidence  and write BACKEND-verify.json there, which `report` shows

Exit status 0: everything is within its tolerance. 1: something is not. 2: nothing matches.
"""

CHECK = """\
Run a Python script with all its Metal kernels under the checker: races, accesses outside of arrays, memory that is
read before it is written, barriers that not all threads reach. The script stays as it is; kernels made with
mx.fast.metal_kernel run on the CPU, on any machine. Without a script, run every operation of the project here.

examples:
  python -m zmlx check train.py --steps 2            what follows the script goes to the script
  python -m zmlx check --kernel 'norms.*'            operations, forward and gradient, against their oracle too
  python -m zmlx check --sarif check.sarif train.py  and write the findings for GitHub

Exit status 0: no finding. 1: there are findings. Otherwise that of the script.
"""

LINT = """\
Read Metal source and say what Metal's compiler refuses: pointers between address spaces, atomics that Metal does not
have, variables outside of `constant` memory and so on. Nothing is run; no Mac and no MLX back end is needed.
FILE is Metal source (any name but *.py). Kernels in Python files are not taken out of them: `python -m zmlx check
script.py` judges those that the script launches. Needs `pip install '.[lint]'`.

examples:
  python -m zmlx lint kernels/*.metal
  python -m zmlx lint --body body.metal              the body of a kernel, as metal_kernel(source=...) takes it

Exit status 0: nothing found. 1: there are findings, or no libclang. 2: a file that cannot be read.
"""

CACHE = """\
Compiled kernels are kept on the disk, in $ZMLX_CACHE_DIR or the user's cache folder, so that a second process does not
compile them again. Removing them is always safe: what is needed is compiled anew.

examples:
  python -m zmlx cache                               where they are, how many, how large, how old
  python -m zmlx cache prune                         remove what was not used for 30 days
  python -m zmlx cache prune --days 7 --max-size 100 ... for 7, then the oldest until 100 MB are left
  python -m zmlx cache clear                         remove all

Exit status 0: done. 1: the folder cannot be read or changed.
"""

if TYPE_CHECKING:
    from zmlx.check.checker import Checking


def run_doctor(options: argparse.Namespace) -> int:
    from zmlx.doctor import diagnose

    diagnosis = diagnose(options.golden_dir)
    print(diagnosis.to_json() if options.json else diagnosis.text())
    return diagnosis.exit_code


def run_verify(options: argparse.Namespace) -> int:
    from zmlx.testing.verification import SUFFIX
    from zmlx.testing.verify import verify

    project = find_and_say(options)
    found = verify(
        *(options.backend, options.kernel, options.dtype),
        ops=project.ops,
        runs=options.runs,
        orders=options.orders,
        project=project,
        progress=show_progress,
    )
    clear_progress()
    print(found.to_json() if options.json else found.text(terminal_width(), options.ops), flush=True)
    if options.output_dir is not None:
        write_and_say(options.output_dir / f"{found.backend}{SUFFIX}", found.to_json() + "\n")
    return found.exit_code


def run_cache(options: argparse.Namespace) -> int:
    from zmlx.launch import cache_command
    from zmlx.launch.cache import cache_dir

    folder = cache_dir()
    if options.action == "prune":
        print(cache_command.prune(folder, options.days, options.max_size))
    else:
        print(cache_command.clear(folder) if options.action == "clear" else cache_command.show(folder))
    return 0


def run_check(options: argparse.Namespace) -> int:
    from zmlx.check.command import run_checked, run_script

    _compat.import_mx()
    rules = {
        "json_file": options.json,
        "sarif_file": options.sarif,
        "suppressions": options.suppressions,
        "time_limit": options.time_limit,
        "allow_nothing": options.allow_nothing,
        "arithmetic": options.arithmetic,
    }
    if options.script is not None:
        return run_script(options.script, options.arguments, **rules)
    options.json = None  # a file here, not what is printed
    ops = tuple(op for op in find_and_say(options).ops if op.kernel)

    def run_operations(check: Checking, _: Callable[[int], int]) -> int:
        from zmlx.launch.hook import intercepting
        from zmlx.testing.verify import verify

        with intercepting(check):
            found = verify("cpu", options.kernel, ops=ops, progress=show_progress)
        clear_progress()
        print(found.text(terminal_width(), options.ops))
        return found.exit_code

    return run_checked(run_operations, "no operation of the table", **rules)


def run_lint(options: argparse.Namespace) -> int:
    from zmlx.check.legality.command import lint_files

    return lint_files(options.files, options.body)


def build_parser() -> argparse.ArgumentParser:
    """The parser of all commands."""
    raw = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(
        prog="python -m zmlx",
        description="One MLX kernel, written once as Metal, runs on Metal, CUDA and CPU. Do the three agree?",
        epilog=EXAMPLES,
        formatter_class=raw,
    )
    parser.add_argument("--version", action="version", version=f"zmlx {__version__}")
    parser.add_argument("--traceback", action="store_true", help="show where an error came from")
    commands = parser.add_subparsers(metavar="COMMAND", required=True)

    def add(
        to: Commands[argparse.ArgumentParser],
        name: str,
        brief: str,
        text: str,
        run: Run | None = None,
    ) -> argparse.ArgumentParser:
        made = to.add_parser(name, help=brief, description=text, formatter_class=raw)
        if run is not None:
            made.set_defaults(run=run)
        return made

    doctor = add(commands, "doctor", "what runs on this machine, what does not, and why", DOCTOR, run_doctor)
    doctor.add_argument("--json", action="store_true", help="print JSON")
    golden_dir_option(doctor)

    verify = add(commands, "verify", "every operation against its oracle, here", VERIFY, run_verify)
    backend_option(verify)
    verify.add_argument(
        "--kernel", default="*", metavar="GLOB", help="only operations of this name or pattern"
    )
    verify.add_argument("--dtype", metavar="NAME", help="only this dtype, such as bfloat16")
    verify.add_argument(
        "--runs", type=int, default=3, metavar="N", help="runs that must have the same bits (default: 3)"
    )
    verify.add_argument(
        "--orders", action="store_true", help="also run with the threads in other orders, on the CPU"
    )
    verify.add_argument("--json", action="store_true", help="print JSON")
    verify.add_argument("--output-dir", type=Path, metavar="DIR", help="write BACKEND-verify.json there")
    ops_option(verify)

    check = add(commands, "check", "run a script with its kernels under the checker", CHECK, run_check)
    check.add_argument("--json", type=Path, metavar="FILE", help="write the findings as JSON")
    check.add_argument("--sarif", type=Path, metavar="FILE", help="write the findings as SARIF 2.1.0")
    check.add_argument("--suppressions", type=Path, metavar="FILE", help="findings that are known and meant")
    check.add_argument(
        "--time-limit", type=float, default=60.0, metavar="SECONDS", help="for one launch (default: 60)"
    )
    check.add_argument(
        "--arithmetic",
        action="store_true",
        help="undefined arithmetic, and NaN out of finite inputs, are findings too",
    )
    check.add_argument(
        "--allow-nothing", action="store_true", help="exit 0 also if the script launched no kernel to check"
    )
    check.add_argument(
        "--kernel",
        default="*",
        metavar="GLOB",
        help="without a script: only operations of this name or pattern",
    )
    ops_option(check)
    check.add_argument(
        "script", type=Path, nargs="?", help="the Python script (default: the operations here)"
    )
    check.add_argument("arguments", nargs=argparse.REMAINDER, help="its arguments")

    lint = add(commands, "lint", "what Metal's compiler would refuse in source text", LINT, run_lint)
    lint.add_argument("--body", action="store_true", help="the files are bodies of kernels")
    lint.add_argument("files", type=Path, nargs="+", metavar="FILE", help="Metal source")

    add_golden(commands, add)

    cache = add(commands, "cache", "what compiled kernels take on the disk; prune, clear", CACHE, run_cache)
    cache.set_defaults(action="show")
    steps = cache.add_subparsers(metavar="ACTION")
    for step, brief in (
        ("show", "where they are, how many, how large, how old (the default)"),
        ("prune", "remove what was not used for a while"),
        ("clear", "remove all"),
    ):
        add(steps, step, brief, CACHE, run_cache).set_defaults(action=step)
    prune: argparse.ArgumentParser = steps.choices["prune"]
    prune.add_argument(
        "--days",
        type=float,
        default=30.0,
        metavar="N",
        help="keep what was used in the last N days (default: 30)",
    )
    prune.add_argument(
        "--max-size",
        type=float,
        metavar="MB",
        help="then remove the oldest until this many megabytes are left",
    )

    add_report(commands, add)

    add_evidence(commands, add)
    add_project_commands(commands, add)
    return parser


def _advice(error: BaseException) -> str:
    """What to do about a requirement of zmlx that this Python lacks; empty for any other error."""
    if not isinstance(error, ModuleNotFoundError) or error.name not in REQUIREMENTS:
        return ""
    return (
        f". zmlx needs {error.name} for this: install zmlx with its requirements into {sys.executable}. `report`, "
        "`bench-cmp` and `golden compare --offline` do without."
    )


def _nobody_reads() -> bool:
    """Whether the reader of stdout, such as `head`, has gone; what is left goes nowhere then."""
    try:
        stdout = sys.stdout.fileno()
    except OSError:  # not a file: somebody has replaced it
        return False
    poll = select.poll()
    poll.register(stdout, 0)  # errors alone
    if not poll.poll(0):
        return False
    # Python flushes once more at its end.
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, stdout)
    os.close(nowhere)
    return True


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command and return its exit status."""
    options = build_parser().parse_args(arguments)
    run: Run = options.run
    try:
        status = run(options)
        sys.stdout.flush()
        return status
    except KeyboardInterrupt:
        clear_progress()
        return 130
    # What a user can run into; anything else is a mistake of ours and keeps its traceback.
    except (ImportError, OSError, RuntimeError, ValueError) as error:
        clear_progress()
        if isinstance(error, BrokenPipeError) and _nobody_reads():
            return 141  # as a command that SIGPIPE ends
        if isinstance(error, ImportError) and (error.name or "").startswith("zmlx"):
            raise
        if options.traceback:
            traceback.print_exc()
        print(f"zmlx: {error}{_advice(error)}", file=sys.stderr)
        return 2 if isinstance(error, ValueError) else 1


if __name__ == "__main__":
    sys.exit(main())
