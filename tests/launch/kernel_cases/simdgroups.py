"""simdgroup and quadgroup functions, among all lanes and among some."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from kernel_cases.case import LANES, Case, Input, rng
from zmlx.testing.tolerance import round_to

_REDUCTIONS: dict[str, Callable[[Any, Any], Any]] = {
    "sum": lambda a, b: a + b,
    "product": lambda a, b: a * b,
    "min": np.minimum,
    "max": np.maximum,
    "and": lambda a, b: a & b,
    "or": lambda a, b: a | b,
    "xor": lambda a, b: a ^ b,
}


def tree(
    values: np.ndarray, active: np.ndarray, join: Callable[[Any, Any], Any], width: int = 32
) -> np.ndarray:
    """What every lane of each block of ``width`` gets: leaves that are not active are left out of the butterfly."""
    out = np.zeros_like(values)
    for base in range(0, len(values), width):
        node = [values[base + i] if active[base + i] else None for i in range(width)]
        step = width // 2
        while step:
            low, high = node[:step], node[step : 2 * step]
            node = [
                a if b is None else b if a is None else values.dtype.type(join(a, b))
                for a, b in zip(low, high, strict=True)
            ]
            step //= 2
        if node[0] is not None:
            out[base : base + width] = node[0]
    return out


def _for_dtype(name: str, dtype: str, count: int) -> np.ndarray:
    random = rng(name + dtype)
    if np.dtype(dtype).kind == "f":
        return random.integers(1, 4, count).astype(dtype)
    low = 0 if np.dtype(dtype).kind == "u" else -100
    return random.integers(low, 100, count).astype(dtype)


def simd_cases() -> Iterator[Case]:
    dtypes = ["float32", "int32", "uint32", "float16", "int64", "uint64", "int8", "uint8", "int16", "uint16"]
    for dtype in dtypes:
        names = [n for n in _REDUCTIONS if np.dtype(dtype).kind != "f" or n not in ("and", "or", "xor")]
        for group in (32, 50):
            # 96 threads in groups of 50: simdgroups of 32, 18, 32 and 14 lanes
            x = _for_dtype("reduce", dtype, 96)
            expected = []
            for start in range(0, 96, group):
                lanes = np.arange(start, min(start + group, 96))
                for first in range(0, len(lanes), 32):
                    part = lanes[first : first + 32]
                    padded = np.zeros(32, x.dtype)
                    padded[: len(part)] = x[part]
                    active = np.arange(32) < len(part)
                    with np.errstate(over="ignore"):
                        rows = [tree(padded, active, _REDUCTIONS[n])[: len(part)] for n in names]
                        rows += [tree(padded, active, _REDUCTIONS[n], 4)[: len(part)] for n in names]
                    expected.append(np.stack(rows))
            calls = [f"simd_{n}" for n in names] + [f"quad_{n}" for n in names]
            yield Case(
                f"reductions_{dtype}_{group}",
                "uint i = thread_position_in_grid.x; auto v = x[i];\n"
                + "\n".join(f"out[{row} * 96 + i] = {call}(v);" for row, call in enumerate(calls)),
                (np.concatenate(expected, 1),),
                {"x": x},
                grid=(96, 1, 1),
                threadgroup=(group, 1, 1),
            )
    bf16 = round_to(rng("bf16").integers(1, 4, 32).astype(float), "bfloat16")
    yield Case(
        "reductions_bfloat16",
        "uint i = thread_position_in_grid.x; out[i] = simd_sum(x[i]); out[32 + i] = simd_max(x[i]);",
        (np.repeat([bf16.sum(), bf16.max()], 32).astype(np.float32),),
        {"x": Input(bf16.astype(np.float32), "bfloat16")},
        dtypes=("bfloat16",),
    )
    # The order of additions: the same butterfly on every back end.
    x = rng("order").standard_normal(32).astype(np.float32)
    odd = LANES % 3 != 0
    yield Case(
        "order_of_a_sum",
        """
        uint i = thread_position_in_grid.x;
        out[i] = simd_sum(x[i]);
        out1[i] = 0;
        if (i % 3 != 0) out1[i] = simd_sum(x[i]);
        """,
        (
            tree(x, np.ones(32, bool), _REDUCTIONS["sum"]),
            np.where(odd, tree(x, odd, _REDUCTIONS["sum"]), np.float32(0)),
        ),
        {"x": x},
    )
    yield Case(
        "diverged_lanes_meet_again",
        """
        uint t = thread_index_in_simdgroup;
        int v = 0;
        if (t < 16) {
            v = simd_sum(1);
        } else if (t < 24) {
            v = simd_sum(100);
        }
        for (uint i = 0; i < t % 3; ++i)
            v += simd_sum(1000);
        out[t] = v * 100 + simd_sum(1);
        """,
        (
            (
                (
                    np.where(LANES < 16, 16, np.where(LANES < 24, 800, 0))
                    + np.where(LANES % 3 > 0, np.count_nonzero(LANES % 3 > 0) * 1000, 0)
                    + np.where(LANES % 3 > 1, np.count_nonzero(LANES % 3 > 1) * 1000, 0)
                )
                * 100
                + 32
            ).astype(np.int32),
        ),
    )
    lengths = rng("rows").integers(0, 200, 40)
    starts = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int32)
    ragged = rng("ragged").integers(-9, 9, int(starts[-1]) + 1).astype(np.float32)
    yield Case(
        "rows_of_all_lengths",
        """
        uint row = thread_position_in_grid.x / 32, lane = thread_index_in_simdgroup;
        float sum = 0, top = -INFINITY;
        for (int i = start[row] + lane; i < start[row + 1]; i += 32) {
            if (x[i] == 3) continue;
            sum += x[i];
            top = max(top, x[i]);
        }
        sum = simd_sum(sum);
        top = simd_max(top);
        if (lane == 0) { out[row] = sum; out1[row] = top; }
        """,
        (
            np.array(
                [sum(v for v in ragged[a:b] if v != 3) for a, b in itertools.pairwise(starts)], np.float32
            ),
            np.array(
                [
                    max([v for v in ragged[a:b] if v != 3], default=-np.inf)
                    for a, b in itertools.pairwise(starts)
                ],
                np.float32,
            ),
        ),
        {"x": ragged, "start": starts},
        grid=(40 * 32, 1, 1),
        threadgroup=(128, 1, 1),
    )
    yield Case(
        "returned_lanes_take_no_part",
        """
        uint t = thread_position_in_grid.x;
        if (t % 4 == 1) return;
        out[t] = simd_sum(int(t));
        out[32 + t] = simd_max(t);
        """,
        (
            np.concatenate(
                [
                    np.where(LANES % 4 == 1, -1, LANES[LANES % 4 != 1].sum()),
                    np.where(LANES % 4 == 1, -1, 31),
                ]
            ).astype(np.int32),
        ),
        init_value=-1,
    )
    yield from _shuffle_cases()
    yield from _prefix_cases()
    yield from _vote_cases()


def _shuffle_cases() -> Iterator[Case]:
    def pick(source: np.ndarray, active: np.ndarray | None = None) -> np.ndarray:
        """Own lane where the source is out of range or takes no part."""
        valid = (source >= 0) & (source < 32)
        if active is not None:
            valid &= active[np.clip(source, 0, 31)]
        return np.where(valid, source, LANES)

    quad = LANES & ~3
    inner = LANES & 3

    def in_quad(source: np.ndarray) -> np.ndarray:
        return np.where((source >= 0) & (source < 4), quad + source, LANES)

    moves = {
        "simd_broadcast(v, 5)": np.full(32, 5),
        "simd_broadcast_first(v)": np.zeros(32, int),
        "simd_shuffle(v, (t * 7) % 32)": LANES * 7 % 32,
        "simd_shuffle(v, t + 8)": pick(LANES + 8),
        "simd_shuffle_up(v, 3)": pick(LANES - 3),
        "simd_shuffle_down(v, 3)": pick(LANES + 3),
        "simd_shuffle_xor(v, 13)": LANES ^ 13,
        "simd_shuffle_rotate_up(v, 5)": (LANES - 5) % 32,
        "simd_shuffle_rotate_down(v, 5)": (LANES + 5) % 32,
        "quad_broadcast(v, 2)": quad + 2,
        "quad_broadcast_first(v)": quad,
        "quad_shuffle(v, 3 - t % 4)": quad + 3 - inner,
        "quad_shuffle_up(v, 1)": in_quad(inner - 1),
        "quad_shuffle_down(v, 2)": in_quad(inner + 2),
        "quad_shuffle_xor(v, 3)": quad + (inner ^ 3),
        "quad_shuffle_rotate_up(v, 1)": quad + (inner - 1) % 4,
        "quad_shuffle_rotate_down(v, 1)": quad + (inner + 1) % 4,
    }
    body = "uint t = thread_index_in_simdgroup; {T} v = {v};\n" + "\n".join(
        f"out[{row} * 32 + t] = {{get}}({call});" for row, call in enumerate(moves)
    )
    sources = np.stack(list(moves.values()))
    types = {
        "float": ("float(t) + 0.25", "float", np.float32, lambda lane: lane + 0.25),
        "uchar": ("uchar(t * 3)", "uchar", np.uint8, lambda lane: lane * 3),
        "half": ("half(t) + 0.5h", "half", np.float16, lambda lane: lane + 0.5),
        "bool": ("t % 3 == 0", "bool", np.bool_, lambda lane: lane % 3 == 0),
        "long": ("(long(t) << 40) - 1", "long", np.int64, lambda lane: (lane.astype(np.int64) << 40) - 1),
        "float4": (
            "float4(t, t * 2, t * 3, t * 4)",
            "last",
            np.float32,
            lambda lane: lane * 10,
        ),
        "complex64_t": ("complex64_t(t, -float(t))", "parts", np.float32, lambda lane: lane * 101),
    }
    for name, (make, get, dtype, value) in types.items():
        yield Case(
            f"shuffle_{name}",
            body.format(T=name, v=make, get=get),
            (value(sources).astype(dtype),),
            header="float last(float4 v) { return v.x + v.y + v.z + v.w; }\n"
            "float parts(complex64_t z) { return z.real - 100 * z.imag; }\n",
        )
    active = LANES % 5 != 2
    rows = [pick(s, active) for s in (LANES + 1, LANES - 1, LANES ^ 1, np.full(32, 2))]
    rows += [np.full(32, np.flatnonzero(active)[0])]
    yield Case(
        "shuffle_among_some_lanes",
        """
        int t = thread_index_in_simdgroup;
        if (t % 5 != 2) {
            out[t] = simd_shuffle_down(t, 1);
            out[32 + t] = simd_shuffle_up(t, 1);
            out[64 + t] = simd_shuffle_xor(t, 1);
            out[96 + t] = simd_broadcast(t, 2);
            out[128 + t] = simd_broadcast_first(t);
        }
        """,
        (np.where(active, np.stack(rows), -1).astype(np.int32),),
        init_value=-1,
    )
    up, down = [], []
    for modulo, delta in ((32, 3), (8, 3)):
        base, place = LANES // modulo * modulo, LANES % modulo
        up.append(np.where(place >= delta, LANES - delta, 100 + base + place + modulo - delta))
        down.append(np.where(place + delta < modulo, LANES + delta, 100 + base + place + delta - modulo))
    yield Case(
        "shuffle_and_fill",
        """
        int t = thread_index_in_simdgroup;
        out[t] = simd_shuffle_and_fill_up(t, t + 100, 3);
        out[32 + t] = simd_shuffle_and_fill_up(t, t + 100, 3, 8);
        out[64 + t] = simd_shuffle_and_fill_down(t, t + 100, 3);
        out[96 + t] = simd_shuffle_and_fill_down(t, t + 100, 3, 8);
        """,
        (np.stack([*up, *down]).astype(np.int32),),
    )


def _prefix_cases() -> Iterator[Case]:
    for dtype in ("int32", "float32", "float16", "int64"):
        x = rng("prefix" + dtype).integers(1, 5, 32).astype(dtype)
        signs = np.where(rng("signs").integers(0, 2, 32), 1, -1).astype(dtype)
        for name, active in {"all": np.ones(32, bool), "some": LANES % 3 != 1}.items():
            values, factors = np.where(active, x, 0), np.where(active, signs, 1)
            rows = [
                np.cumsum(values),
                np.cumsum(values) - values,
                np.cumprod(factors),
                np.concatenate([[1], np.cumprod(factors)[:-1]]),
            ]
            yield Case(
                f"prefix_{dtype}_{name}",
                f"""
                uint t = thread_index_in_simdgroup;
                if ({"true" if name == "all" else "t % 3 != 1"}) {{
                    out[t] = simd_prefix_inclusive_sum(x[t]);
                    out[32 + t] = simd_prefix_exclusive_sum(x[t]);
                    out[64 + t] = simd_prefix_inclusive_product(s[t]);
                    out[96 + t] = simd_prefix_exclusive_product(s[t]);
                }}
                """,
                (np.where(active, np.stack(rows), -7).astype(dtype),),
                {"x": x, "s": signs},
                init_value=-7,
            )


def _vote_cases() -> Iterator[Case]:
    quad = LANES // 4
    yield Case(
        "votes",
        """
        uint t = thread_index_in_simdgroup;
        uint ballot = static_cast<uint>(static_cast<simd_vote::vote_t>(simd_ballot(t % 3 == 0)));
        uint active = static_cast<uint>(static_cast<simd_vote::vote_t>(simd_active_threads_mask()));
        out[t] = ballot;
        out[32 + t] = active;
        out[64 + t] = simd_all(t < 32) * 8 + simd_all(t < 31) * 4 + simd_any(t == 31) * 2 + simd_any(t == 32);
        out[96 + t] = quad_all(t / 4 != 3) * 8 + quad_all(t != 20) * 4 + quad_any(t == 9) * 2 + quad_any(t == 40);
        out[128 + t] = simd_is_first() * 2 + quad_is_first();
        if (t >= 6) out[128 + t] += simd_is_first() * 8 + quad_is_first() * 4;
        """,
        (
            np.stack(
                [
                    np.full(32, sum(1 << i for i in range(0, 32, 3))),
                    np.full(32, 2**32 - 1),
                    np.full(32, 8 + 2),
                    (quad != 3) * 8 + (quad != 5) * 4 + (quad == 2) * 2,
                    (LANES == 0) * 2
                    + (LANES % 4 == 0)
                    + (LANES == 6) * 12
                    + ((LANES >= 8) & (LANES % 4 == 0)) * 4,
                ]
            ).astype(np.uint32),
        ),
    )
