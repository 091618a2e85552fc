"""Sentences that several findings share: what to change."""

from __future__ import annotations

BARRIER = {
    "threadgroup": "threadgroup_barrier(mem_flags::mem_threadgroup)",
    "device": "threadgroup_barrier(mem_flags::mem_device)",
}

BOUNDS = (
    "compare the index with the array's size before the access, also for the threads at the edge of the grid."
)
STOPPED_NOTE = "The thread was stopped before the access; the others went on."
ACROSS = (
    "let each element belong to one threadgroup, make all accesses to it atomic, or split the work into two launches: "
    "no barrier reaches from one threadgroup to another."
)
DIVERGENCE = (
    "move the barrier to where all threads of the threadgroup pass: out of the branch or loop that not all take, and "
    "in front of any early return."
)
