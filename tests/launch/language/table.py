"""The table of rows; run as a program, it records a back end's results and writes docs/language.md.

    cd tests/launch && python -m language.table            # on the default device

Results lie in ``results/<backend>.json`` beside this file, with a digest of each row, so that the table says "not run"
of a row that has changed since.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from language import (
    algorithms,
    arguments,
    compiler,
    groups,
    idioms,
    integers,
    maths,
    matrices,
    packing,
    programs,
    scalars,
    simd,
    sorting,
    vectors,
)
from language.row import Kernel, Row, kernels, to_numpy

_MODULES = (
    *(scalars, vectors, integers, packing, maths, simd, groups, programs, arguments, matrices, compiler),
    *(idioms, algorithms, sorting),
)
ROWS: tuple[Row, ...] = tuple(row for module in _MODULES for row in module.ROWS)
BACKENDS = ("cpu", "cuda")
RESULTS = Path(__file__).parent / "results"
DOCUMENT = Path(__file__).parents[3] / "docs" / "language.md"

_HEAD = """# The language

What kernels may use of the Metal Shading Language, and where it was seen to work. Each line is a few statements in
`tests/launch/language/` with a NumPy oracle; this page is written by `python -m language.table`, from results that a
run on each back end left. On Metal the kernel is MLX's own: the column says that its text is produced.

"""
_TAIL = """
## Refused

What exists only on Metal is refused with its line, before anything runs:

"""


def run(kernel: Kernel) -> dict[str, str]:
    """Each row's result: the path it ran on ("loop", "regions", "fibers", "cuda"), or why it failed."""
    from zmlx.errors import KernelError
    from zmlx.launch import watch

    try:
        with watch() as launches:
            outputs = [to_numpy(array) for array in kernel.launch()]
    except KernelError as error:
        if len(kernel.rows) > 1:
            return {name: text for row in kernel.rows for name, text in run(Kernel((row,))).items()}
        return {kernel.rows[0].name: f"fails: {str(error).splitlines()[0]}"}
    return {
        row.name: _judged(row, output, launches[0].path)
        for row, output in zip(kernel.rows, outputs, strict=True)
    }


def _judged(row: Row, output: Any, path: str) -> str:
    try:
        row.check(output)
    except AssertionError:
        return "differs"
    return path


def record(backend: str, environment: str) -> None:
    """Run every row on the default device and keep the results."""
    found = {name: text for kernel in kernels(ROWS) for name, text in run(kernel).items()}
    rows = {row.name: {"digest": row.digest, "result": found[row.name]} for row in ROWS}
    RESULTS.mkdir(exist_ok=True)
    text = json.dumps({"environment": environment, "rows": rows}, indent=1, ensure_ascii=False)
    (RESULTS / f"{backend}.json").write_text(text + "\n")


def results() -> dict[str, Mapping[str, Any]]:
    """What was recorded, by back end."""
    paths = {backend: RESULTS / f"{backend}.json" for backend in BACKENDS}
    return {backend: json.loads(path.read_text()) for backend, path in paths.items() if path.exists()}


def _cell(row: Row, backend: str, recorded: Mapping[str, Mapping[str, Any]]) -> str:
    found = recorded.get(backend, {"rows": {}})["rows"].get(row.name)
    if found is None or found["digest"] != row.digest:
        return "not run"
    if backend in row.differs:
        return f"differs: {row.differs[backend]}"
    return (
        "yes"
        if found["result"] == backend
        else f"yes, {found['result']}"
        if found["result"] in PATHS
        else found["result"]
    )


PATHS = frozenset({"loop", "regions", "fibers"})


def render() -> str:
    """The text of docs/language.md."""
    from zmlx.translate.refusals import REFUSED_CONSTRUCTS

    recorded = results()
    lines = [_HEAD]
    for backend, found in recorded.items():
        lines.append(f"- {backend.upper()}: {found['environment']}\n")
    for section in dict.fromkeys(row.section for row in ROWS):
        lines.append(f"\n## {section}\n\n| | CPU | CUDA | Metal |\n|---|---|---|---|\n")
        for row in (row for row in ROWS if row.section == section):
            cells = [_cell(row, backend, recorded) for backend in BACKENDS]
            lines.append(f"| {row.feature.replace('|', chr(92) + '|')} | {' | '.join(cells)} | text |\n")
    lines.append(_TAIL)
    lines += [f"- `{name}`: {reason}\n" for name, reason in REFUSED_CONSTRUCTS.items()]
    return "".join(lines)


def main() -> None:
    import mlx.core as mx

    from zmlx.launch import current_backend
    from zmlx.launch.compiler import find_compiler

    backend = current_backend()
    device = mx.device_info().get("device_name", "GPU") if backend != "cpu" else find_compiler().version
    record(backend, f"MLX {mx.__version__}, {device}")
    DOCUMENT.write_text(render())


if __name__ == "__main__":
    main()
