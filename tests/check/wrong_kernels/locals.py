"""A thread's own variables without a value, and inputs that are not what the kernel takes them for."""

from __future__ import annotations

from wrong_kernels.case import Case

LOCALS = (
    Case(
        "own_array_in_part",
        "uninitialized",
        """
            uint i = thread_position_in_grid.x;
            float best[4]; //!
            uint n = 0;
            for (uint k = i; k < 64 && n < 4; k += 32) best[n++] = x[k];
            float sum = 0;
            for (uint k = 0; k < uint(x[3]); ++k) sum += best[k];
            out[i] = sum;
        """,
        repair=(("float best[4];", "float best[4] = {0, 0, 0, 0};"),),
        threads=32,
        group=32,
        outputs=32,
        array="best",
        says="the variable best",
    ),
    Case(
        "set_in_a_branch",
        "uninitialized",
        """
            uint i = thread_position_in_grid.x;
            float v;
            if (x[i] > 10) v = x[i];
            out[i] = v; //!
        """,
        repair=(("float v;", "float v = 0;"),),
        array="v",
    ),
    Case(
        "shape_beyond_rank",
        "out-of-bounds",
        """
            uint i = thread_position_in_grid.x;
            out[i] = x[i] + float(x_shape[1]); //!
        """,
        repair=(("x_shape[1]", "x_shape[0]"),),
        array="x_shape",
        says="x_shape[1] of 1",
    ),
    Case(
        "strides_beyond_rank",
        "out-of-bounds",
        """
            uint i = thread_position_in_grid.x;
            out[i] = x[i] + float(x_strides[1]); //!
        """,
        repair=(("x_strides[1]", "x_strides[0]"),),
        array="x_strides",
        says="x_strides[1] of 1",
    ),
    Case(
        "constant_input_hides_a_race",
        "data-race",
        """
            uint i = thread_position_in_grid.x;
            out[i / 2] = x[i]; //!
        """,
        repair=(("out[i / 2]", "if (i % 2 == 0) out[i / 2]"),),
        outputs=32,
        constant=True,
        array="out",
        says="inputs that hold one number only",
    ),
)
