"""Where a thread stands: every attribute, and no thread outside of the grid."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from kernel_cases.case import Case, Triple

_ATTRIBUTES = {
    "dispatch_quadgroups_per_threadgroup": 1,
    "dispatch_simdgroups_per_threadgroup": 1,
    "dispatch_threads_per_threadgroup": 3,
    "grid_origin": 3,
    "grid_size": 3,
    "quadgroup_index_in_threadgroup": 1,
    "quadgroups_per_threadgroup": 1,
    "simdgroup_index_in_threadgroup": 1,
    "simdgroups_per_threadgroup": 1,
    "thread_execution_width": 1,
    "thread_index_in_quadgroup": 1,
    "thread_index_in_simdgroup": 1,
    "thread_index_in_threadgroup": 1,
    "thread_position_in_grid": 3,
    "thread_position_in_threadgroup": 3,
    "threadgroup_position_in_grid": 3,
    "threadgroups_per_grid": 3,
    "threads_per_grid": 3,
    "threads_per_simdgroup": 1,
    "threads_per_threadgroup": 3,
}


def attribute_values(grid: Triple, threadgroup: Triple) -> np.ndarray:
    """All attributes of all threads, thread by thread along x, then y, then z."""
    whole = np.minimum(threadgroup, grid)
    z, y, x = np.indices(grid[::-1]).reshape(3, -1)
    position = np.stack([x, y, z], 1)
    group = position // whole
    local = position % whole
    size = np.minimum(whole, np.array(grid) - group * whole)
    index = (local[:, 2] * size[:, 1] + local[:, 1]) * size[:, 0] + local[:, 0]
    threads = size.prod(1)
    values = {
        "dispatch_quadgroups_per_threadgroup": -(-whole.prod() // 4),
        "dispatch_simdgroups_per_threadgroup": -(-whole.prod() // 32),
        "dispatch_threads_per_threadgroup": whole,
        "grid_origin": np.zeros(3, int),
        "grid_size": np.array(grid),
        "quadgroup_index_in_threadgroup": index // 4,
        "quadgroups_per_threadgroup": -(-threads // 4),
        "simdgroup_index_in_threadgroup": index // 32,
        "simdgroups_per_threadgroup": -(-threads // 32),
        "thread_execution_width": 32,
        "thread_index_in_quadgroup": index % 4,
        "thread_index_in_simdgroup": index % 32,
        "thread_index_in_threadgroup": index,
        "thread_position_in_grid": position,
        "thread_position_in_threadgroup": local,
        "threadgroup_position_in_grid": group,
        "threadgroups_per_grid": -(-np.array(grid) // whole),
        "threads_per_grid": np.array(grid),
        "threads_per_simdgroup": 32,
        "threads_per_threadgroup": size,
    }
    table = np.empty((len(x), sum(_ATTRIBUTES.values())), np.uint32)
    column = 0
    for name, width in _ATTRIBUTES.items():
        table[:, column : column + width] = np.asarray(values[name]).reshape(-1, width)
        column += width
    return table


def position_cases() -> Iterator[Case]:
    writes, column = [], 0
    for name, width in _ATTRIBUTES.items():
        for axis in "xyz"[:width]:
            writes.append(f"o[{column}] = {name}{'.' + axis if width == 3 else ''};")
            column += 1
    source = (
        "uint3 p = thread_position_in_grid, n = threads_per_grid;\n"
        f"auto o = out + (ulong(p.z * n.y + p.y) * n.x + p.x) * {column};\n" + "\n".join(writes)
    )
    launches: dict[str, tuple[Triple, Triple]] = {
        "whole": ((128, 1, 1), (32, 1, 1)),
        "edge": ((1000, 1, 1), (256, 1, 1)),
        "cut": ((5, 3, 1), (16, 16, 1)),
        "rows": ((33, 5, 2), (32, 1, 1)),
        "plane": ((33, 9, 1), (8, 8, 1)),
        "box": ((5, 7, 3), (4, 4, 2)),
        "deep": ((3, 3, 70), (2, 2, 70)),  # CUDA's blocks have at most 64 threads along z
        "tall": ((1, 66000, 1), (1, 1, 1)),  # and its grids 65535 blocks along y
        "tall_groups": ((3, 131075, 1), (2, 2, 1)),
        "far": ((1, 2, 65537), (1, 1, 1)),
    }
    for name, (grid, threadgroup) in launches.items():
        values = attribute_values(grid, threadgroup)
        yield Case(f"attributes_{name}", source, (values,), grid=grid, threadgroup=threadgroup)
    yield Case(
        "no_thread_outside_the_grid",
        "out[thread_position_in_grid.x] = thread_position_in_grid.x;",
        (np.where(np.arange(1024) < 1000, np.arange(1024), -1).astype(np.int32),),
        grid=(1000, 1, 1),
        threadgroup=(256, 1, 1),
        init_value=-1,
    )
    yield Case(
        "no_thread_outside_a_cut_plane",
        "out[thread_position_in_grid.y * 8 + thread_position_in_grid.x] += 1;",
        (np.pad(np.ones((5, 6)), ((0, 3), (0, 2))).astype(np.float32),),
        grid=(6, 5, 1),
        threadgroup=(4, 4, 1),
        init_value=0,
    )
