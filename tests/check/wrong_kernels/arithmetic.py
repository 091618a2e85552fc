"""Arithmetic that Metal leaves undefined; reported where it is asked for."""

from __future__ import annotations

from wrong_kernels.case import Case

ARITHMETIC = (
    Case(
        "float_to_uint",
        "arithmetic",
        """
            uint i = thread_position_in_grid.x;
            out[i] = uint(-x[i]); //!
        """,
        repair=(("-x[i]", "x[i]"),),
        output_dtype="uint32",
        arithmetic=True,
        says="cannot hold",
    ),
    Case(
        "signed_overflow",
        "arithmetic",
        """
            uint i = thread_position_in_grid.x;
            int v = int(x[i]);
            out[i] = v * 0x7fffffff; //!
        """,
        repair=(("int v = int", "uint v = uint"),),
        output_dtype="int32",
        arithmetic=True,
        says="overflows a signed integer",
    ),
    Case(
        "shift_too_far",
        "arithmetic",
        """
            uint i = thread_position_in_grid.x;
            out[i] = 1u << i; //!
        """,
        repair=(("<< i", "<< (i & 31)"),),
        output_dtype="uint32",
        arithmetic=True,
        says="by 32",
    ),
    Case(
        "not_a_number",
        "arithmetic",
        """
            uint i = thread_position_in_grid.x;
            out[i] = sqrt(x[i] - 5.0f); //!
        """,
        repair=(("x[i] - 5.0f", "max(x[i] - 5.0f, 0.0f)"),),
        arithmetic=True,
        array="out",
        says="4 elements of out are NaN",
    ),
)
