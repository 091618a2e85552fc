"""``python -m zmlx judge``: its options, and what they mean."""

from __future__ import annotations

import argparse
from pathlib import Path

JUDGE = """\
Judge a kernel that nobody trusts yet, from a colleague or a model, against an operation of the table. CANDIDATE is a
Python file with a function of the operation's name and signature. It runs in a process of its own, with limits of time
and memory, and is asked for results of shapes, values, dtypes and layouts drawn for this run: edge shapes and special
values too. Its kernels are run by another process, under the checker, into poisoned outputs. It is refused unless each
result is right and is what those kernels wrote: MLX operations, caches and constants do not count.

examples:
  python -m zmlx judge candidate.py --op swiglu
  python -m zmlx judge candidate.py --op mypackage.ops:swiglu --seeds 5
  python -m zmlx judge candidate.py --op swiglu --function my_swiglu --json
  python -m zmlx judge candidate.py --op swiglu --against-time     and how fast it is, beside the table's own

--op is a name of the table here, or package.module:NAME, where NAME is an OpInfo, or the last name of an operation of
the table OPS in that module. Forward only; gradients are for `verify`, once it is in the table. The limits hold off
accidents and cheats, not malware: judge code that may attack the machine in a container.

Exit status 0: accepted. 1: refused, with the reasons. 2: a request that makes no sense.
"""


def add_options(parser: argparse.ArgumentParser) -> None:
    """The arguments of the command."""
    parser.add_argument("candidate", type=Path, metavar="CANDIDATE", help="a Python file with the function")
    parser.add_argument(
        "--op", required=True, metavar="NAME", help="the operation: swiglu, or mypackage.ops:swiglu"
    )
    parser.add_argument("--function", metavar="NAME", help="in the file (default: the operation's last name)")
    parser.add_argument(
        "--seeds", type=int, default=1, metavar="N", help="hidden shapes for each dtype (default: 1)"
    )
    parser.add_argument("--json", action="store_true", help="print JSON")
    parser.add_argument(
        "--time-limit", type=float, default=20.0, metavar="S", help="seconds for one call (default: 20)"
    )
    parser.add_argument(
        "--memory-limit", type=int, default=2048, metavar="MB", help="of its process (default: 2048)"
    )
    parser.add_argument("--against-time", action="store_true", help="also time it against the operation")


def run_judge(options: argparse.Namespace) -> int:
    """Judge, print the verdict, and return the exit status.

    Raises
    ------
    zmlx.testing.project.ProjectError
        There is no such operation.
    ValueError
        There is no such file, or a limit is not above 0.
    """
    import mlx.core as mx

    from zmlx.testing.judge.choice import find_operation
    from zmlx.testing.judge.hearing import Limits, judge

    for name in ("time_limit", "memory_limit"):
        if not getattr(options, name) > 0:
            given = getattr(options, name)
            raise ValueError(f"--{name.replace('_', '-')}: expected a number above 0, got {given}.")
    chosen = find_operation(options.op)
    mx.set_default_device(mx.cpu)
    verdict = judge(
        options.candidate,
        chosen.op,
        function=options.function,
        seeds=options.seeds,
        limits=Limits(options.time_limit, options.memory_limit),
        paths=chosen.paths,
        against=chosen.table if options.against_time else None,
    )
    print(verdict.to_json() if options.json else verdict.text())
    return verdict.exit_code
