"""Types and their arithmetic."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from kernel_cases.case import Case, Input, rng
from zmlx.testing.tolerance import round_to


def type_cases() -> Iterator[Case]:
    extremes = {
        "bool": [True, False, True],
        "int8": [-128, 127, -1],
        "uint8": [0, 255, 7],
        "int16": [-32768, 32767, -1],
        "uint16": [0, 65535, 7],
        "int32": [-(2**31), 2**31 - 1, -1],
        "uint32": [0, 2**32 - 1, 7],
        "int64": [-(2**63), 2**63 - 1, -1],
        "uint64": [0, 2**64 - 1, 7],
        "float16": [np.nan, -np.inf, 6e-8],
        "float32": [np.nan, -np.inf, 1e-45],
        "complex64": [complex(1, -2), complex(np.inf, 0), complex(-0.0, 3)],
    }
    for dtype, numbers in extremes.items():
        x = np.resize(np.array(numbers, dtype), 9)
        yield Case(
            f"copy_{dtype}", "uint i = thread_position_in_grid.x; out[i] = x[i];", (x,), {"x": x}, (9, 1, 1)
        )
    x = np.array([np.nan, -np.inf, 3.0], np.float32)
    yield Case(
        "copy_bfloat16",
        "uint i = thread_position_in_grid.x; out[i] = x[i];",
        (x,),
        {"x": Input(x, "bfloat16")},
        (3, 1, 1),
        dtypes=("bfloat16",),
    )
    unsigned = rng("wrap").integers(0, 2**32, 64, dtype=np.uint64).astype(np.uint32)
    yield Case(
        "unsigned_arithmetic_wraps",
        "uint i = thread_position_in_grid.x; uint v = x[i]; out[i] = v * v + 3 - (v << 7) ^ (v >> 3);",
        ((unsigned * unsigned + np.uint32(3) - (unsigned << np.uint32(7))) ^ (unsigned >> np.uint32(3)),),
        {"x": unsigned},
        (64, 1, 1),
    )
    random = rng("half")
    a, b, c = (random.standard_normal(256).astype(np.float16) for _ in range(3))
    yield Case(
        "half_rounds_after_each_operation",
        "uint i = thread_position_in_grid.x; half r = a[i] * b[i] + c[i]; r -= a[i]; out[i] = r / b[i];",
        ((a * b + c - a) / b,),
        {"a": a, "b": b, "c": c},
        (256, 1, 1),
    )
    yield Case(
        "half_overflows_to_infinity",
        "out[0] = x * x; out[1] = -x * x; out[2] = half(70000.0f); out[3] = float(x) * x > 65504.0f;",
        (np.array([np.inf, -np.inf, np.inf, 1], np.float16),),
        {"x": np.array(300, np.float16)},
        (1, 1, 1),
    )
    a, b, c = (round_to(random.standard_normal(256), "bfloat16") for _ in range(3))
    product = round_to(a * b, "bfloat16")
    yield Case(
        "bfloat_rounds_after_each_operation",
        "uint i = thread_position_in_grid.x; out[i] = a[i] * b[i] + c[i];",
        (round_to(product + c, "bfloat16").astype(np.float32),),
        {k: Input(v.astype(np.float32), "bfloat16") for k, v in {"a": a, "b": b, "c": c}.items()},
        (256, 1, 1),
        dtypes=("bfloat16",),
    )
    z = (rng("complex").integers(-9, 9, 32) + 1j * rng("complex2").integers(-9, 9, 32)).astype(np.complex64)
    yield Case(
        "complex_arithmetic",
        "uint i = thread_position_in_grid.x; out[i] = x[i] * x[i] - x[i]; out1[i] = x[i].real + x[i].imag;",
        (z * z - z, z.real + z.imag),
        {"x": z},
    )
    with np.errstate(over="ignore"):
        yield Case(
            "long_arithmetic",
            "uint i = thread_position_in_grid.x; long v = x[i]; out[i] = v * v / 7 - (v >> 3) + v % 5;",
            (_c_long(rng("long").integers(-(2**31), 2**31, 32)),),
            {"x": rng("long").integers(-(2**31), 2**31, 32)},
        )
    yield Case(
        "safe_maths",
        "out[0] = exp(-INFINITY); out[1] = exp(x); out[2] = isnan(x - x) ? 1 : 0; out[3] = max(-x, 1.0f);",
        (np.array([0, np.inf, 1, 1], np.float32),),
        {"x": np.array(np.inf, np.float32)},
        (1, 1, 1),
    )
    rows = rng("float4").integers(-9, 9, (8, 16)).astype(np.float32)
    yield Case(
        "loads_of_four",
        """
        uint i = thread_position_in_grid.x;
        float4 v = ((const device float4*)x)[i];
        *(device float4*)(out + 4 * i) = v.wzyx * 2 + float4(v.x);
        """,
        ((rows.reshape(-1, 4)[:, ::-1] * 2 + rows.reshape(-1, 4)[:, :1]).reshape(8, 16),),
        {"x": rows},
    )


def _c_long(x: np.ndarray) -> np.ndarray:
    """C truncates quotients towards zero."""
    square = x * x
    quotient = np.sign(square) * (abs(square) // 7)
    return quotient - (x >> 3) + np.sign(x) * (abs(x) % 5)
