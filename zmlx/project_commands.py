"""The commands for a project of one's own: ``python -m zmlx init | new-kernel | show | cuda-compile | judge``.

Each calls the module that does the work. `zmlx.__main__` puts them beside the others.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from zmlx import _compat
from zmlx._commands import Add, Commands, find_and_say, ops_option
from zmlx.testing.judge.command import JUDGE, add_options

INIT = """\
Make this folder a project whose kernels are tested on Metal, CUDA and CPU: a package with one kernel and its OpInfo,
a test module, a noxfile, a folder for golden values, a GitHub workflow, and [tool.zmlx] in pyproject.toml. A file that
is there already is kept as it is.

The package is the one in src, if there is one; else it is named after [project].name in pyproject.toml, or the folder.
In a project with a src folder it lies there.

examples:
  python -m zmlx init
  python -m zmlx init --name mykernels

Exit status 0: written, or kept. 1: a file cannot be written. 2: the name is none that Python can import.
"""

NEW_KERNEL = """\
Write a kernel and its OpInfo from a template that passes its tests. In zmlx's checkout they go to
zmlx/kernels/FAMILY.py and zmlx/testing/op_db/FAMILY.py; in a project of one's own to the module of its table. Then
change the formula, in kernel, oracle and gradient. A family that is there already is added to.

examples:
  python -m zmlx new-kernel activations relu2

Exit status 0: written. 1: a file cannot be written. 2: a name is taken, or none that Python can import.
"""

SHOW = """\
Print the text of kernels, as Metal, as the C++ that runs on the CPU and as the CUDA that NVRTC compiles. KERNEL is an
operation of the table, or module:attribute of a zmlx.metal_kernel, an OpInfo or a table of them. Nothing is run or
compiled, and no GPU is needed.

examples:
  python -m zmlx show swiglu                         all three, forward and backward
  python -m zmlx show norms.rmsnorm --backend cuda --dtype bfloat16
  python -m zmlx show mypackage.ops:OPS

Exit status 0: printed. 1: MLX does not import. 2: there is no such kernel.
"""

CUDA_COMPILE = """\
Compile the CUDA text of every kernel and its gradient with NVRTC, for all supported architectures. Needs neither a GPU
nor a driver: pip install nvidia-cuda-nvrtc

examples:
  python -m zmlx cuda-compile
  python -m zmlx cuda-compile --kernel swiglu --arch sm_90

Exit status 0: all compiled. 1: something was refused, or there is no NVRTC. 2: nothing matches.
"""

MUTANTS = """\
Plant faults into a copy of this folder, one at a time, and run the tests that should notice each, up to the first that
fails. TABLE is a Python file that defines MUTANTS, a tuple of zmlx.testing.mutants.Mutant. This folder stays as it is.

examples:
  python -m zmlx mutants                             those of tests/mutants.py
  python -m zmlx mutants --only 'removed barrier'    of one operator; or a name, or a file, or a pattern
  python -m zmlx mutants tests/mutants.py --jobs 8

Exit status 0: every mutant was noticed, or is declared equivalent and was not. 1: one survived, or proves nothing.
2: the table cannot be used, a pattern no longer matches, or the tests fail without a mutant.
"""


def _run_init(options: argparse.Namespace) -> int:
    from zmlx.scaffold.init import init

    print(init(Path.cwd(), options.name).text())
    return 0


def _run_new_kernel(options: argparse.Namespace) -> int:
    from zmlx.scaffold.new_kernel import new_kernel

    print(new_kernel(Path.cwd(), options.family, options.name))
    return 0


def _run_show(options: argparse.Namespace) -> int:
    from zmlx.testing.opinfo import OpInfo
    from zmlx.testing.project import find_project, load_attribute, load_ops
    from zmlx.testing.show import show_kernel, show_operations

    project = find_project(tables=options.ops)
    if ":" not in options.kernel:
        print(show_operations(project.ops, options.kernel, options.dtype, options.backend))
        return 0
    value = load_attribute(options.kernel, project.root)
    if isinstance(value, (OpInfo, tuple, list)):
        ops = load_ops([options.kernel], project.root)
        print(show_operations(ops, "*", options.dtype, options.backend))
    else:
        print(show_kernel(value, options.kernel))
    return 0


def _run_cuda_compile(options: argparse.Namespace) -> int:
    from zmlx.testing.cuda_compile import cuda_compile

    found = cuda_compile(find_and_say(options).ops, options.kernel, options.dtype, options.arch)
    print(found.text())
    return found.exit_code


def _run_mutants(options: argparse.Namespace) -> int:
    from zmlx.testing.mutants.mutant import load_table
    from zmlx.testing.mutants.run import run_mutants, select

    def progress(done: int, total: int, name: str) -> None:
        print(f"{done}/{total} {name}", file=sys.stderr, flush=True)

    mutants = select(load_table(options.table), options.only)
    found = run_mutants(
        Path.cwd(), mutants, options.backend, jobs=options.jobs, limit=options.limit, progress=progress
    )
    print(found.text())
    return found.exit_code


def _run_judge(options: argparse.Namespace) -> int:
    from zmlx.testing.judge.command import run_judge

    _compat.import_mx()
    return run_judge(options)


def add_project_commands(commands: Commands[argparse.ArgumentParser], add: Add) -> None:
    """Add the parsers of these commands."""
    init = add(
        commands, "init", "make this folder a project with a kernel, tests and a matrix", INIT, _run_init
    )
    init.add_argument("--name", metavar="PACKAGE", help="of the package (default: as the project has it)")

    new = add(
        commands, "new-kernel", "write a kernel and its OpInfo from a template", NEW_KERNEL, _run_new_kernel
    )
    new.add_argument("family", metavar="FAMILY", help="the module that it goes to")
    new.add_argument("name", metavar="NAME", help="of the function")

    show = add(commands, "show", "the Metal, C++ and CUDA text of a kernel", SHOW, _run_show)
    show.add_argument("kernel", metavar="KERNEL", help="a name or pattern, or module:attribute")
    show.add_argument("--backend", choices=_compat.BACKENDS, help="only this one's text")
    show.add_argument("--dtype", metavar="NAME", help="such as bfloat16 (default: the first it supports)")
    ops_option(show)

    compile_ = add(
        commands,
        "cuda-compile",
        "compile every kernel's CUDA text, without a GPU",
        CUDA_COMPILE,
        _run_cuda_compile,
    )
    compile_.add_argument(
        "--kernel", default="*", metavar="GLOB", help="only operations of this name or pattern"
    )
    compile_.add_argument("--dtype", metavar="NAME", help="only this dtype, such as bfloat16")
    compile_.add_argument(
        "--arch", action="append", default=[], metavar="SM", help="only this one, such as sm_90"
    )
    ops_option(compile_)

    mutants = add(
        commands, "mutants", "plant faults into kernels: does a test notice each?", MUTANTS, _run_mutants
    )
    mutants.add_argument(
        "table",
        type=Path,
        nargs="?",
        default=Path("tests/mutants.py"),
        metavar="TABLE",
        help="a Python file that defines MUTANTS (default: tests/mutants.py)",
    )
    mutants.add_argument(
        "--only", default="*", metavar="GLOB", help="only mutants of this name, operator, file or pattern"
    )
    mutants.add_argument("--backend", choices=_compat.BACKENDS, default="cpu", help="that tests run on")
    mutants.add_argument("--jobs", type=int, metavar="N", help="how many at a time (default: one a core)")
    mutants.add_argument(
        "--limit", type=float, default=300.0, metavar="SECONDS", help="for one mutant's tests (default: 300)"
    )
    add_options(
        add(commands, "judge", "a kernel that nobody trusts yet, accepted or refused", JUDGE, _run_judge)
    )
