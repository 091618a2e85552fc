"""Accesses outside of arrays."""

from __future__ import annotations

from wrong_kernels.case import Case

BOUNDS = (
    Case(
        "read_past_end",
        "out-of-bounds",
        """
            uint i = thread_position_in_grid.x;
            out[i] = x[i + 1]; //!
        """,
        repair=(("i + 1", "min(i + 1, 63u)"),),
        array="x",
        says="x[64] of 64",
    ),
    Case(
        "write_past_end",
        "out-of-bounds",
        """
            uint i = thread_position_in_grid.x;
            out[i] = x[i % 64]; //!
        """,
        repair=(("out[i] =", "if (i < 64) out[i] ="),),
        threads=70,
        array="out",
        says="out[64] of 64",
    ),
    Case(
        "below_zero",
        "out-of-bounds",
        """
            uint i = thread_position_in_grid.x;
            out[i] = x[i - 1]; //!
        """,
        repair=(("i - 1", "max(i, 1u) - 1"),),
        array="x",
        says="it went below 0",
    ),
    Case(
        "negative_index",
        "out-of-bounds",
        """
            uint i = thread_position_in_grid.x;
            int k = int(i) - 4;
            out[i] = x[k]; //!
        """,
        repair=(("int(i) - 4", "max(int(i) - 4, 0)"),),
        array="x",
        says="4 before the start",
    ),
    Case(
        "threadgroup_array",
        "out-of-bounds",
        """
            uint i = thread_position_in_threadgroup.x;
            threadgroup float s[64];
            s[i] = x[i];
            threadgroup_barrier(mem_flags::mem_threadgroup);
            out[i] = s[i + 1]; //!
        """,
        repair=(("i + 1", "(i + 1) % 64"),),
        array="s",
        says="s[64] of 64",
    ),
    Case(
        "threadgroup_pointer",
        "out-of-bounds",
        """
            uint i = thread_position_in_threadgroup.x;
            threadgroup float s[64];
            threadgroup float* p = s + 8;
            s[i] = x[i];
            threadgroup_barrier(mem_flags::mem_threadgroup);
            out[i] = p[i]; //!
        """,
        repair=(("p[i]", "p[i % 56]"),),
        array="s",
        says="of 64",
    ),
    Case(
        "own_array",
        "out-of-bounds",
        """
            uint i = thread_position_in_grid.x;
            float a[4] = {0, 0, 0, 0};
            for (uint k = 0; k <= 4; ++k)
              a[k] = x[i]; //!
            out[i] = a[i % 4];
        """,
        repair=(("k <= 4", "k < 4"),),
        array="a",
        says="a[4] of 4",
    ),
    Case(
        "own_array_in_function",
        "out-of-bounds",
        """
            uint i = thread_position_in_grid.x;
            float a[4] = {0, 0, 0, 0};
            fill(a, x[i], int(x[0]) + 8);
            out[i] = a[i % 4];
        """,
        repair=(("+ 8)", "+ 3)"),),
        header="""
            inline void fill(thread float* p, float v, int n) {
              for (int k = 0; k < n; ++k)
                p[k] = v; //!
            }
        """,
        says="thread's own arrays",
        gcc_only_line=True,
    ),
    Case(
        "cast_to_vector",
        "out-of-bounds",
        """
            uint i = thread_position_in_grid.x;
            device float4* v = (device float4*)out;
            v[i] = float4(x[i]); //!
        """,
        repair=(("v[i] =", "if (i < 16) v[i] ="),),
        array="out",
        says="out[64] of 64",
    ),
    Case(
        "moving_pointer",
        "out-of-bounds",
        """
            uint i = thread_position_in_grid.x;
            auto p = x + i;
            p += 8;
            out[i] = *p; //!
        """,
        repair=(("p += 8", "p += i < 56 ? 8 : 0"),),
        array="x",
        says="x[64] of 64",
    ),
    Case(
        "wide_read_of_bytes",
        "out-of-bounds",
        """
            uint i = thread_position_in_grid.x;
            auto words = (const device uint*)x;
            out[i] = float(words[i]); //!
        """,
        repair=(("words[i]", "words[i / 4]"),),
        input_dtype="uint8",
        array="x",
    ),
    Case(
        "two_dimensions",
        "out-of-bounds",
        """
            uint i = thread_position_in_threadgroup.x;
            threadgroup float t[4][8];
            t[i / 8][i % 8] = x[i]; //!
            threadgroup_barrier(mem_flags::mem_threadgroup);
            out[i] = t[i % 4][i / 8];
        """,
        repair=(("t[4][8]", "t[8][8]"),),
        array="t",
        says="t[4] of 4",
    ),
    Case(
        "helper_in_header",
        "out-of-bounds",
        """
            uint i = thread_position_in_grid.x;
            out[i] = load(x, i);
        """,
        repair=(("p[k + 2]", "p[min(k + 2, 63u)]"),),
        header="""
            inline float load(const device float* p, uint k) {
              return p[k + 2]; //!
            }
        """,
        array="x",
        says="x[64] of 64",
    ),
    Case(
        "write_to_input",
        "out-of-bounds",
        """
            uint i = thread_position_in_grid.x;
            ((device float*)x)[i] = 0; //!
            out[i] = 0;
        """,
        repair=(("((device float*)x)[i] = 0;", "out[i] = x[i];"),),
        array="x",
        says="inputs are read-only",
    ),
)
