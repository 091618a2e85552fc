"""simdgroup and quadgroup functions: whole and partial simdgroups, and lanes that have diverged."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np

from language.row import Row
from language.values import Values

_simd = partial(Row, "simdgroups")
_quad = partial(Row, "quadgroups")
_partial = partial(Row, "Partial simdgroups", grid=(50, 1, 1), threadgroup=(50, 1, 1))
_diverged = partial(Row, "Diverged lanes")

LANES = np.arange(64)
Join = Callable[[Any, Any], Any]

JOINS: dict[str, Join] = {
    "sum": np.add,
    "product": np.multiply,
    "min": np.minimum,
    "max": np.maximum,
    "and": np.bitwise_and,
    "or": np.bitwise_or,
    "xor": np.bitwise_xor,
}


def blocks(count: int, width: int) -> list[Any]:
    return [np.arange(first, min(first + width, count)) for first in range(0, count, width)]


def reduced(values: Any, join: Any, width: int = 32, active: Any = None) -> Any:
    """Each active lane gets what ``join`` makes of all active lanes of its block; others 0."""
    values = np.asarray(values)
    active = np.ones(len(values), bool) if active is None else active
    out = np.zeros_like(values)
    for block in blocks(len(values), width):
        lanes = block[active[block]]
        if len(lanes):
            total = values[lanes[0]]
            for lane in lanes[1:]:
                total = join(total, values[lane])
            out[lanes] = total
    return out


def prefixed(values: Any, join: Any, inclusive: bool, identity: int, width: int = 32) -> Any:
    out = np.zeros_like(values)
    for block in blocks(len(values), width):
        running = values.dtype.type(identity)
        for lane in block:
            following = join(running, values[lane])
            out[lane] = following if inclusive else running
            running = following
    return out


def moved(values: Any, source: Callable[[Any], Any], width: int = 32, active: Any = None) -> Any:
    """Each lane reads that of its block that ``source`` names; its own where there is none."""
    count = len(values)
    active = np.ones(count, bool) if active is None else active
    base, lane = np.arange(count) // width * width, np.arange(count) % width
    wanted = source(lane)
    place = np.clip(base + wanted, 0, count - 1)
    ok = (wanted >= 0) & (wanted < width) & (base + wanted < count) & active[place]
    return np.where(ok, values[place], values)


def _mixed(prefix: str, width: int) -> list[Row]:
    """Every reduction in one row each, over int, uint and (where it makes sense) exact floats."""
    rows = []
    row = _simd if prefix == "simd" else _quad
    for name, join in JOINS.items():
        integer = name in ("and", "or", "xor")
        code = f"int o = {prefix}_{name}(n[i]); uint f = {prefix}_{name}(u[i]);"
        code += " out[i] = float(o % 1000) + float(f % 1000);" if integer else ""
        if not integer:
            factor = "(1 + p[i] * 0)" if name == "product" else "p[i]"
            code += f" out[i] = float(o % 1000) + float(f % 1000) + {prefix}_{name}({factor} * 2);"

        def expected(V: Values, join: Any = join, integer: bool = integer, name: str = name) -> Any:
            total = np.fmod(reduced(V.n, join, width), 1000).astype("float32") + (
                reduced(V.u, join, width) % 1000
            ).astype("float32")
            if integer:
                return total
            floats = np.full(64, 2, "float32") if name == "product" else V.p * 2
            return total + reduced(floats, join, width)

        rows.append(row(f"`{prefix}_{name}`", code, expected, "float32"))
    return rows


def _prefixes(prefix: str, width: int) -> list[Row]:
    row = _simd if prefix == "simd" else _quad
    return [
        row(
            f"`{prefix}_prefix_{kind}_{name}`",
            f"out[i] = {prefix}_prefix_{kind}_{name}(u[i]);",
            lambda V, join=JOINS[name], inclusive=kind == "inclusive", identity=int(name == "product"): (
                prefixed(V.u, join, inclusive, identity, width)
            ),
            "uint32",
        )
        for kind in ("inclusive", "exclusive")
        for name in ("sum", "product")
    ]


#: Name -> (argument, which lane of the block it reads).
_MOVES: dict[str, tuple[str, Callable[[Any, int], Any]]] = {
    "shuffle": ("(i * 5 + 3) % W", lambda lane, w: None),
    "shuffle_up": ("2", lambda lane, w: lane - 2),
    "shuffle_down": ("3", lambda lane, w: lane + 3),
    "shuffle_xor": ("1", lambda lane, w: lane ^ 1),
    "shuffle_rotate_up": ("1", lambda lane, w: (lane - 1) % w),
    "shuffle_rotate_down": ("3", lambda lane, w: (lane + 3) % w),
    "broadcast": ("2", lambda lane, w: lane * 0 + 2),
}


def _moves(prefix: str, width: int) -> list[Row]:
    row = _simd if prefix == "simd" else _quad
    rows = []
    for name, (argument, source) in _MOVES.items():
        argument = argument.replace("W", str(width))
        if name == "shuffle":
            source = lambda lane, w: (np.arange(64) * 5 + 3) % w  # noqa: E731
        code = (
            f"out[i] = {prefix}_{name}(n[i], {argument}) % 1000 + 1000 * int({prefix}_{name}(h[i], "
            f"{argument}) > 0);"
        )

        def expected(V: Values, source: Any = source) -> Any:
            first, second = (moved(x, lambda lane: source(lane, width), width) for x in (V.n, V.h))
            return np.fmod(first, 1000) + 1000 * (second > 0)

        rows.append(row(f"`{prefix}_{name}`", code, expected))
    return rows


def _filled(V: Values, delta: int, modulo: int) -> Any:
    lane = LANES % 32
    part = lane % modulo
    source = np.where(part + delta < modulo, lane + delta, lane + delta - modulo)
    return np.where(
        part + delta < modulo,
        V.n[LANES // 32 * 32 + np.minimum(source, 31)],
        V.m[LANES // 32 * 32 + np.clip(source, 0, 31)],
    )


def _filled_up(V: Values, delta: int, modulo: int) -> Any:
    lane = LANES % 32
    part = lane % modulo
    source = np.where(part >= delta, lane - delta, lane - delta + modulo)
    return np.where(
        part >= delta,
        V.n[LANES // 32 * 32 + np.clip(source, 0, 31)],
        V.m[LANES // 32 * 32 + np.clip(source, 0, 31)],
    )


def _ballot(flags: Any, width: int = 32) -> Any:
    out = np.zeros(len(flags), "uint64")
    for block in blocks(len(flags), width):
        out[block] = sum(1 << int(k) for k, lane in enumerate(block) if flags[lane])
    return out


SIMD = (
    *_mixed("simd", 32),
    *_prefixes("simd", 32),
    *_moves("simd", 32),
    _simd(
        "`simd_shuffle_and_fill_down`, `_up`",
        "out[i] = simd_shuffle_and_fill_down(n[i], m[i], 5) ^ simd_shuffle_and_fill_up(n[i], m[i], 3);",
        lambda V: _filled(V, 5, 32) ^ _filled_up(V, 3, 32),
    ),
    _simd(
        "`simd_shuffle_and_fill_…` modulo 8",
        (
            "out[i] = simd_shuffle_and_fill_down(n[i], m[i], 5, 8) ^ simd_shuffle_and_fill_up(n[i], "
            "m[i], 3, 8);"
        ),
        lambda V: _filled(V, 5, 8) ^ _filled_up(V, 3, 8),
    ),
    _simd(
        "`simd_broadcast_first`, `simd_is_first`",
        "out[i] = simd_broadcast_first(n[i]) % 1000 + 1000 * simd_is_first();",
        lambda V: np.fmod(V.n[LANES // 32 * 32], 1000) + 1000 * (LANES % 32 == 0),
    ),
    _simd(
        "`simd_all`, `simd_any`",
        "out[i] = simd_all(i < 40) + 2 * simd_any(i > 50) + 4 * simd_all(true) + 8 * simd_any(false);",
        lambda V: (LANES < 32) + 2 * (LANES >= 32) + 4,
    ),
    _simd(
        "`simd_ballot`, `simd_vote`, `simd_active_threads_mask`",
        (
            "simd_vote o = simd_ballot(t[i]); simd_vote::vote_t f = (simd_vote::vote_t)o; "
            "out[i] = ulong(f) + 2 * o.any() + 4 * o.all() + ((ulong)simd_active_threads_mask() >> 30);"
        ),
        lambda V: _ballot(V.t) + np.uint64(2 + 3),
        "uint64",
    ),
    _simd(
        "popcount of a ballot",
        "out[i] = popcount((uint)(ulong)simd_ballot(t[i]) & ((1u << (i % 32)) - 1));",
        lambda V: np.concatenate([np.cumsum(V.t[b]) - V.t[b] for b in blocks(64, 32)]),
    ),
    _simd(
        "of 8 and 16 bit integers, `bool`, 64 bits",
        (
            "out[i] = simd_sum(c[i]) + simd_max(a[i]) + simd_min(s[i]) + simd_xor(r[i]) + simd_sum(l[i]) "
            "+ long(simd_max(q[i])) + simd_shuffle(t[i], 3) + simd_broadcast(l[i], 2);"
        ),
        lambda V: (
            reduced(V.c, np.add).astype("int64")
            + reduced(V.a, np.maximum)
            + reduced(V.s, np.minimum)
            + reduced(V.r, np.bitwise_xor)
            + reduced(V.l, np.add)
            + reduced(V.q, np.maximum).astype("int64")
            + V.t[LANES // 32 * 32 + 3]
            + V.l[LANES // 32 * 32 + 2]
        ),
        "int64",
    ),
    _simd(
        "of half and bfloat",
        "out[i] = simd_max(h[i]) + simd_sum(half(i % 8)) + half(float(simd_min(b[i])));",
        lambda V: reduced(V.h, np.maximum) + np.float16(112) + reduced(V.b, np.minimum).astype("float16"),
        "float16",
    ),
    _simd(
        "of vectors",
        (
            "float4 o = simd_sum(float4(p[i], g[i], 1, 2)); "
            "int2 f = simd_shuffle_xor(int2(n[i], m[i]), 1); "
            "out[i] = o.x + o.y + o.z + o.w + float(f.y % 1000);"
        ),
        lambda V: reduced(V.p, np.add) + reduced(V.g, np.add) + 32 + 64 + np.fmod(V.m[LANES ^ 1], 1000),
        "float32",
    ),
    _simd(
        "of complex64",
        "complex64_t o = simd_shuffle_down(z[i], 1); out[i] = o.real + o.imag;",
        lambda V: (lambda m: m.real + m.imag)(moved(V.z, lambda lane: lane + 1)),
        "float32",
    ),
    _simd(
        "sums of floats: as the GPU's butterfly adds",
        "out[i] = simd_sum(e[i]) / 32;",
        lambda V: _butterfly(V.e),
        "float32",
        ulp=1,
    ),
    _simd(
        "attributes: lane, simdgroup, width",
        (
            "out[i] = thread_index_in_simdgroup + 100 * simdgroup_index_in_threadgroup + 10000 * "
            "threads_per_simdgroup + 1000000 * simdgroups_per_threadgroup;"
        ),
        lambda V: LANES % 32 + 100 * (LANES // 32) + 320000 + 2000000,
    ),
)


def _butterfly(values: Any) -> Any:
    out = np.zeros(64, "float32")
    for block in blocks(64, 32):
        node = values[block]
        while len(node) > 1:
            half = len(node) // 2
            node = node[:half] + node[half:]
        out[block] = node[0] / np.float32(32)
    return out


def _quad_filled(V: Values) -> Any:
    lane, base = LANES % 4, LANES // 4 * 4
    down = np.where(lane + 1 < 4, V.n[base + np.minimum(lane + 1, 3)], V.m[base])
    up = np.where(lane >= 3, V.n[base], V.m[base + np.minimum(lane + 1, 3)])
    return down ^ up


QUAD = (
    *_mixed("quad", 4),
    *_prefixes("quad", 4),
    *_moves("quad", 4),
    _quad(
        "`quad_shuffle_and_fill_down`, `_up`",
        "out[i] = quad_shuffle_and_fill_down(n[i], m[i], 1) ^ quad_shuffle_and_fill_up(n[i], m[i], 3);",
        _quad_filled,
    ),
    _quad(
        "`quad_broadcast_first`, `quad_is_first`",
        "out[i] = quad_broadcast_first(n[i]) % 1000 + 1000 * quad_is_first();",
        lambda V: np.fmod(V.n[LANES // 4 * 4], 1000) + 1000 * (LANES % 4 == 0),
    ),
    _quad(
        "`quad_all`, `quad_any`",
        "out[i] = quad_all(i < 42) + 2 * quad_any(i > 50);",
        lambda V: (LANES < 40) + 2 * (LANES >= 48),
    ),
    _quad(
        "`quad_ballot`, `quad_vote`, `quad_active_threads_mask`",
        (
            "quad_vote o = quad_ballot(t[i]); out[i] = uint((quad_vote::vote_t)o) + 100 * o.any() + 1000 "
            "* o.all() + 10000 * uint((quad_vote::vote_t)quad_active_threads_mask());"
        ),
        lambda V: (lambda f: f + 100 * (f > 0) + 1000 * (f == 15) + 150000)(_ballot(V.t, 4).astype("int64")),
    ),
    _quad(
        "attributes",
        (
            "out[i] = thread_index_in_quadgroup + 10 * quadgroup_index_in_threadgroup + 1000 * "
            "quadgroups_per_threadgroup;"
        ),
        lambda V: LANES % 4 + 10 * (LANES // 4) + 16000,
    ),
)

FIFTY = np.arange(50)

PARTIAL = (
    _partial(
        "`simd_sum`, `simd_max`",
        "out[i] = simd_sum(p[i]) + simd_max(n[i] % 1000);",
        lambda V: reduced(V.p[:50], np.add) + reduced(np.fmod(V.n[:50], 1000), np.maximum),
        "float32",
    ),
    _partial(
        "`simd_prefix_inclusive_sum`",
        "out[i] = simd_prefix_inclusive_sum(u[i]);",
        lambda V: prefixed(V.u[:50], np.add, True, 0),
        "uint32",
    ),
    _partial(
        "`simd_shuffle_down`: no value, no change",
        "out[i] = simd_shuffle_down(n[i], 4);",
        lambda V: moved(V.n[:50], lambda lane: lane + 4),
    ),
    _partial(
        "`simd_ballot`, `simd_active_threads_mask`",
        "out[i] = (ulong)simd_ballot(i % 2 == 0) + ((ulong)simd_active_threads_mask() << 32);",
        lambda V: _ballot(FIFTY % 2 == 0) + (_ballot(FIFTY >= 0) << np.uint64(32)),
        "uint64",
    ),
    _partial(
        "`simd_all`, `simd_any`",
        "out[i] = simd_all(i < 50) + 2 * simd_any(i == 49);",
        lambda V: 1 + 2 * (FIFTY >= 32),
    ),
    _partial("`quad_sum`", "out[i] = quad_sum(u[i]);", lambda V: reduced(V.u[:50], np.add, 4), "uint32"),
    _partial(
        "sizes",
        (
            "out[i] = threads_per_threadgroup.x + 100 * simdgroups_per_threadgroup + 1000 * "
            "quadgroups_per_threadgroup;"
        ),
        lambda V: np.full(50, 50 + 200 + 13000),
    ),
)

ODD = LANES % 2 == 1

DIVERGED = (
    _diverged(
        "in both branches",
        "if (i % 2) out[i] = simd_sum(u[i]); else out[i] = simd_sum(w[i]);",
        lambda V: np.where(ODD, reduced(V.u, np.add, active=ODD), reduced(V.w, np.add, active=~ODD)),
        "uint32",
    ),
    _diverged(
        "behind a branch: together again",
        "uint o = 1; if (i % 3 == 0) o = 2; out[i] = simd_sum(o);",
        lambda V: reduced(1 + (LANES % 3 == 0).astype("uint32"), np.add),
        "uint32",
    ),
    _diverged(
        "in a loop of different length",
        "uint o = 0; for (uint k_ = 0; k_ < i % 4; ++k_) o += simd_sum(1u); out[i] = o;",
        lambda V: sum(reduced(np.ones(64, "uint32"), np.add, active=k < LANES % 4) for k in range(3)),
        "uint32",
    ),
    _diverged(
        "ballots and first lanes",
        (
            "ulong o = 0; if (t[i]) o = (ulong)simd_ballot(i % 3 == 0) + ((ulong)simd_is_first() << 40) "
            "+ ((ulong)simd_active_threads_mask() << 8); out[i] = o;"
        ),
        lambda V: np.where(
            V.t,
            _ballot(V.t & (LANES % 3 == 0))
            + (_first(V.t).astype("uint64") << np.uint64(40))
            + (_ballot(V.t) << np.uint64(8)),
            np.uint64(0),
        ),
        "uint64",
    ),
    _diverged(
        "shuffles from inactive lanes: no change",
        "int o = n[i]; if (t[i]) o = simd_shuffle_xor(n[i], 1); out[i] = o;",
        lambda V: np.where(V.t & V.t[LANES ^ 1], V.n[LANES ^ 1], V.n),
    ),
    _diverged(
        "prefix sums",
        "uint o = 0; if (t[i]) o = simd_prefix_exclusive_sum(1u); out[i] = o;",
        lambda V: np.where(V.t, np.concatenate([np.cumsum(V.t[b]) - V.t[b] for b in blocks(64, 32)]), 0),
        "uint32",
    ),
    _diverged(
        "quads",
        "uint o = 0; if (t[i]) o = quad_sum(u[i] % 100); out[i] = o;",
        lambda V: reduced(V.u % 100, np.add, 4, V.t),
        "uint32",
    ),
    _diverged(
        "with `continue`",
        (
            "uint o = 0; for (uint k_ = 0; k_ < 3; ++k_) { if (k_ == 1 && i % 2) continue; "
            "o = o * 100 + simd_sum(1u); } out[i] = o;"
        ),
        lambda V: np.where(ODD, 3232, 321632),
        "uint32",
    ),
    _diverged(
        "a function called in two branches",
        "if (t[i]) out[i] = lang_total(1); else out[i] = 100 * lang_total(1);",
        lambda V: np.where(
            V.t,
            reduced(np.ones(64, int), np.add, active=V.t),
            100 * reduced(np.ones(64, int), np.add, active=~V.t),
        ),
        header="int lang_total(int v) { return simd_sum(v); }",
    ),
    _diverged(
        "`?:` and `&&`",
        "int o = t[i] ? simd_sum(1) : -simd_sum(1); out[i] = o + 1000 * (t[i] && simd_sum(1) > 3);",
        lambda V: (
            np.where(
                V.t,
                reduced(np.ones(64, int), np.add, active=V.t),
                -reduced(np.ones(64, int), np.add, active=~V.t),
            )
            + 1000 * V.t
        ),
    ),
    _diverged(
        "after `return`",
        "if (i % 2) { out[i] = 7; return; } out[i] = simd_sum(1);",
        lambda V: np.where(ODD, 7, 16),
        alone=True,
    ),
    _diverged(
        "`switch`",
        (
            "int o; switch (i % 3) { case 0: o = simd_sum(1); break; case 1: o = 100 * simd_sum(1); "
            "break; default: o = 10000 * simd_sum(1); } out[i] = o;"
        ),
        lambda V: np.select(
            [k == LANES % 3 for k in range(3)],
            [reduced(np.ones(64, int), np.add, active=k == LANES % 3) * 100**k for k in range(3)],
        ),
    ),
)


def _first(flags: Any) -> Any:
    out = np.zeros(64, bool)
    for block in blocks(64, 32):
        out[block[flags[block]][:1]] = True
    return out


ROWS = (*SIMD, *QUAD, *PARTIAL, *DIVERGED)
