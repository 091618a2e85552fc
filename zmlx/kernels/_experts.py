"""Slots in the order of their experts: a counting sort in which every thread has an expert and a block of slots.

Threads count what their block has for their expert; the sums of the counts before tell each where to put it. All go
through their block in order, so the sort is stable and the same in every run, without atomics.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import Any, cast

import mlx.core as mx

from zmlx.kernels._autodiff import _stopped, _vmap
from zmlx.kernels._rows import MAX_GROUPS_Y, Launch
from zmlx.launch import MetalKernel, metal_kernel

Order = tuple[mx.array, mx.array, mx.array]

#: Slots of a block: few enough for many threads, and many enough that the counts are few.
BLOCK = 256
#: Experts whose threads are in a threadgroup.
TOGETHER = 128

# The last expert has the slots of none. A row of `counts` is an expert's, with a column for each block.
_COUNT = """
  const uint expert = thread_position_in_grid.x, number = thread_position_in_grid.y;
  const uint last = threads_per_grid.x - 1, columns = threads_per_grid.y;
  const uint slots = indices_shape[0], begin = number * uint(block);
  const uint end = min(begin + uint(block), slots);
  uint count = 0;
  for (uint slot = begin; slot < end; ++slot) count += min(uint(indices[slot]), last) == expert ? 1 : 0;
  counts[size_t(expert) * columns + number] = count;
"""

_PLACE = """
  const uint expert = thread_position_in_grid.x, number = thread_position_in_grid.y;
  const uint last = threads_per_grid.x - 1, columns = threads_per_grid.y;
  const uint slots = indices_shape[0], begin = number * uint(block);
  const uint end = min(begin + uint(block), slots);
  uint next = starts[size_t(expert) * columns + number];
  for (uint slot = begin; slot < end; ++slot)
    if (min(uint(indices[slot]), last) == expert) {
      positions[slot] = next;
      order[next] = slot;
      ++next;
    }
"""


def _kernels(experts: int, slots: int, block: int) -> tuple[MetalKernel, MetalKernel]:
    blocks = -(-slots // block)

    def members(indices: mx.array) -> mx.array:
        """Whether a slot is an expert's: (experts + 1, blocks, block)."""
        wide = indices.astype(mx.int64)
        owners = mx.where((wide >= 0) & (wide < experts), wide, experts)
        filling = mx.full((blocks * block - slots,), experts + 1, dtype=mx.int64)
        owners = mx.concatenate([owners, filling]).reshape(1, blocks, block)
        return (owners == mx.arange(experts + 1, dtype=mx.int64)[:, None, None]).astype(mx.uint32)

    def places(indices: mx.array, starts: mx.array) -> list[mx.array]:
        mine = members(indices)
        before = mx.cumsum(mine, axis=-1) - mine
        positions = mx.sum(mine * (starts[..., None] + before), axis=0).reshape(-1)[:slots].astype(mx.uint32)
        return [positions, mx.argsort(positions).astype(mx.uint32)]

    count = metal_kernel(
        "zmlx_expert_counts",
        ["indices", "block"],
        ["counts"],
        _COUNT,
        reference=lambda inputs, template: [mx.sum(members(inputs[0]), axis=-1).astype(mx.uint32)],
    )
    place = metal_kernel(
        "zmlx_expert_order",
        ["indices", "starts", "block"],
        ["positions", "order"],
        _PLACE,
        reference=lambda inputs, template: places(*inputs[:2]),
    )
    return count, place


@cache
def expert_order(experts: int) -> Callable[[mx.array], Order]:
    """The function of int32 indices, in any shape, that `zmlx.kernels.moe.expert_order` is."""

    def run(indices: mx.array) -> Order:
        slots = indices.size
        block = max(BLOCK, -(-slots // MAX_GROUPS_Y))
        counts_kernel, place_kernel = _kernels(experts, slots, block)
        blocks, flat = -(-slots // block), indices.reshape(slots)
        together = min(TOGETHER, 1 << experts.bit_length())
        launch = Launch((), (experts + 1, blocks, 1), (together, 1, 1))
        outputs = [((experts + 1, blocks), mx.uint32)]
        counts = launch.run(counts_kernel, [flat, block], outputs)[0]
        starts = mx.cumsum(counts.reshape(-1), inclusive=False).astype(mx.uint32).reshape(counts.shape)
        both = [((slots,), mx.uint32)] * 2
        positions, order = launch.run(place_kernel, [flat, starts, block], both)
        return order, positions.reshape(indices.shape), starts[:, 0]

    # Who trains a router has followed it to here, and these are integers.
    function: Any = mx.custom_function(_stopped(run))
    function.vmap(_vmap(function, row_arguments=0))
    return cast("Callable[[mx.array], Order]", function)
