"""The rows of the table on the default device."""

from __future__ import annotations

from functools import cache
from typing import Any

import pytest

from language.row import Kernel, Row, kernels, to_numpy
from language.table import DOCUMENT, PATHS, ROWS, render, results
from zmlx.errors import KernelError, NvrtcNotFoundError
from zmlx.launch import cuda, current_backend, recording, watch
from zmlx.launch.compiler import hastily
from zmlx.launch.nvrtc import find_nvrtc
from zmlx.translate import translate

KERNELS = kernels(ROWS)
HOME = {row.name: kernel for kernel in KERNELS for row in kernel.rows}


@cache
def outputs(kernel: Kernel) -> list[Any]:
    """What the rows compute. The compiler is not to do its best: each of so many kernels runs once, on little."""
    with hastily():
        return [to_numpy(array) for array in kernel.launch()]


def result(row: Row) -> Any:
    """The row's output. Where its companions keep a kernel from compiling, it gets one of its own."""
    kernel = HOME[row.name]
    try:
        return outputs(kernel)[kernel.rows.index(row)]
    except KernelError:
        if len(kernel.rows) == 1:
            raise
        return outputs(alone(row))[0]


@cache
def alone(row: Row) -> Kernel:
    return Kernel((row,))


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.name)
def test_row(row: Row) -> None:
    reason = row.differs.get(current_backend())
    if reason is None:
        row.check(result(row))
        return
    with pytest.raises(AssertionError):
        row.check(result(row))


@pytest.mark.parametrize("kernel", KERNELS, ids=lambda kernel: kernel.rows[0].name)
def test_rows_as_fibers(kernel: Kernel, backend: str, as_fibers: None) -> None:
    """Where threads meet, the CPU has a second way, for what the first cannot take apart."""
    if backend != "cpu":
        pytest.skip("fibers are a way of the CPU")
    with recording("cpu") as calls:
        kernel.launch()
    if not translate(calls[0].signature.kernel, "host").uses_sync:
        return
    with watch() as launches:
        arrays = [to_numpy(array) for array in kernel.launch()]
    assert {launch.path for launch in launches} <= {"fibers", "loop"}
    for row, array in zip(kernel.rows, arrays, strict=True):
        if "cpu" not in row.differs:
            row.check(array)


@pytest.mark.tools
@pytest.mark.parametrize("kernel", KERNELS, ids=lambda kernel: kernel.rows[0].name)
@pytest.mark.cpu
def test_metal_and_cuda_text(kernel: Kernel) -> None:
    """Each kernel has its Metal text, and compiles for CUDA where there is an NVRTC."""
    with recording("metal") as calls:
        kernel.launch()
    assert calls[0].signature.kernel.source in calls[0].signature.metal_text()
    try:
        find_nvrtc()
    except NvrtcNotFoundError:
        return
    assert cuda.compile_cubin(calls[0].signature, "sm_90")


@pytest.mark.cpu
def test_names_are_unique() -> None:
    assert len({row.name for row in ROWS}) == len(ROWS)


@pytest.mark.cpu
def test_the_page_is_what_the_results_say() -> None:
    assert DOCUMENT.read_text() == render(), "run `python -m language.table` in tests/launch"


@pytest.mark.cpu
def test_the_cpu_column_is_current() -> None:
    recorded = results()["cpu"]["rows"]
    assert {name: found["digest"] for name, found in recorded.items()} == {
        row.name: row.digest for row in ROWS
    }
    wrong = {name for name, found in recorded.items() if found["result"] not in PATHS}
    assert wrong == {row.name for row in ROWS if "cpu" in row.differs}
