"""Small wrong kernels, each with the repair that makes it right.

The lines that a finding must name are marked ``//!`` in the source. ``repair`` replaces parts of the source; the
result must be without a finding.
"""

from __future__ import annotations

import textwrap
from dataclasses import dataclass, replace
from typing import Any


@dataclass(frozen=True)
class Case:
    name: str
    kind: str
    source: str
    repair: tuple[tuple[str, str], ...]
    header: str = ""
    threads: int = 64
    group: int = 64
    inputs: int = 64
    outputs: int = 64
    input_dtype: str = "float32"
    output_dtype: str = "float32"
    init_value: float | None = None
    atomic: bool = False
    array: str = ""
    says: str = ""
    gcc_only_line: bool = False

    def __post_init__(self) -> None:
        # Sources are indented like the table that they stand in.
        for name in ("source", "header"):
            object.__setattr__(self, name, textwrap.dedent(getattr(self, name)).strip("\n"))

    @property
    def marked(self) -> set[tuple[str, int]]:
        return {
            (part, number)
            for part, text in (("source", self.source), ("header", self.header))
            for number, line in enumerate(text.split("\n"), 1)
            if "//!" in line
        }

    def repaired(self) -> Case:
        source, header = self.source, self.header
        for wrong, right in self.repair:
            assert (wrong in source) != (wrong in header), (self.name, wrong)
            source, header = source.replace(wrong, right), header.replace(wrong, right)
        return replace(self, name=f"{self.name}_repaired", source=source, header=header)

    def run(self) -> Any:
        import mlx.core as mx

        import zmlx

        kernel = zmlx.metal_kernel(
            name=self.name,
            input_names=["x"],
            output_names=["out"],
            source=self.source,
            header=self.header,
            atomic_outputs=self.atomic,
        )
        x = (mx.arange(self.inputs) + 1).astype(getattr(mx, self.input_dtype))
        return kernel(
            inputs=[x],
            output_shapes=[(self.outputs,)],
            output_dtypes=[getattr(mx, self.output_dtype)],
            grid=(self.threads, 1, 1),
            threadgroup=(self.group, 1, 1),
            init_value=self.init_value,
            stream=mx.cpu,
        )


BARRIER = "threadgroup_barrier(mem_flags::mem_threadgroup);"

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

RACES = (
    Case(
        "no_barrier",
        "data-race",
        """
            uint i = thread_position_in_threadgroup.x;
            threadgroup float s[64];
            s[i] = x[i]; //!
            out[i] = s[63 - i]; //!
        """,
        repair=(("\nout", "\nthreadgroup_barrier(mem_flags::mem_threadgroup);\nout"),),
        array="s",
        says="nothing orders them",
    ),
    Case(
        "overwritten_while_read",
        "data-race",
        """
            uint i = thread_position_in_threadgroup.x;
            threadgroup float s[64];
            uint g = i / 32;
            if (i % 32 == 0) s[g] = x[i];
            threadgroup_barrier(mem_flags::mem_threadgroup);
            float a = s[i % 2]; //!
            if (i % 32 == 0) s[g] = a + 1; //!
            threadgroup_barrier(mem_flags::mem_threadgroup);
            out[i] = s[g];
        """,
        repair=(("//!\nif", "//!\nthreadgroup_barrier(mem_flags::mem_threadgroup);\nif"),),
        array="s",
    ),
    Case(
        "tree_without_barrier",
        "data-race",
        """
            uint i = thread_position_in_threadgroup.x;
            threadgroup float s[64];
            s[i] = x[i];
            threadgroup_barrier(mem_flags::mem_threadgroup);
            for (uint k = 32; k > 0; k /= 2) {
              if (i < k) s[i] += s[i + k]; //!
            }
            threadgroup_barrier(mem_flags::mem_threadgroup);
            out[i] = s[0];
        """,
        repair=(("//!\n}", "//!\n  threadgroup_barrier(mem_flags::mem_threadgroup);\n}"),),
        array="s",
    ),
    Case(
        "lockstep",
        "data-race",
        """
            uint i = thread_position_in_threadgroup.x;
            threadgroup float s[32];
            s[i] = x[i]; //!
            out[i] = s[i ^ 1]; //!
        """,
        repair=(("\nout", "\nsimdgroup_barrier(mem_flags::mem_threadgroup);\nout"),),
        threads=32,
        group=32,
        outputs=32,
        array="s",
        says="lockstep",
    ),
    Case(
        "simd_operation_between",
        "data-race",
        """
            uint i = thread_position_in_threadgroup.x;
            threadgroup float s[32];
            s[i] = x[i]; //!
            float t = simd_sum(x[i]);
            out[i] = s[i ^ 1] + t; //!
        """,
        repair=(("\nout", "\nsimdgroup_barrier(mem_flags::mem_threadgroup);\nout"),),
        threads=32,
        group=32,
        outputs=32,
        array="s",
        says="the simd operation between the two orders no memory",
    ),
    Case(
        "device_memory",
        "data-race",
        """
            uint i = thread_position_in_grid.x;
            out[i] = x[i]; //!
            out[64 + i] = out[63 - i]; //!
        """,
        repair=(("\nout[64", "\nthreadgroup_barrier(mem_flags::mem_device);\nout[64"),),
        outputs=128,
        array="out",
        says="mem_device",
    ),
    Case(
        "across_threadgroups",
        "data-race",
        """
            uint i = thread_position_in_grid.x;
            out[i % 64] = x[i]; //!
        """,
        repair=(("out[i % 64]", "if (i < 64) out[i]"),),
        threads=128,
        inputs=128,
        array="out",
        says="threads of two threadgroups",
    ),
    Case(
        "counting_without_atomics",
        "data-race",
        """
            uint i = thread_position_in_grid.x;
            out[uint(x[i]) % 8] += 1; //!
        """,
        repair=(
            (
                "out[uint(x[i]) % 8] += 1;",
                "if (i == 0) for (uint k = 0; k < 64; ++k) out[uint(x[k]) % 8] += 1;",
            ),
        ),
        outputs=8,
        init_value=0,
        array="out",
    ),
    Case(
        "two_threads_one_element",
        "data-race",
        """
            uint i = thread_position_in_grid.x;
            out[i / 2] = x[i]; //!
        """,
        repair=(("out[i / 2]", "if (i % 2 == 0) out[i / 2]"),),
        outputs=32,
        array="out",
        says="two threads write out[0]",
    ),
    Case(
        "atomic_and_plain",
        "data-race",
        """
            uint i = thread_position_in_threadgroup.x;
            threadgroup atomic_int c;
            if (i == 0) atomic_store_explicit(&c, 0, memory_order_relaxed);
            threadgroup_barrier(mem_flags::mem_threadgroup);
            atomic_fetch_add_explicit(&c, 1, memory_order_relaxed); //!
            out[i] = *(threadgroup int*)&c; //!
        """,
        repair=(("\nout", "\nthreadgroup_barrier(mem_flags::mem_threadgroup);\nout"),),
        array="c",
        says="one of the two accesses is atomic",
    ),
    Case(
        "scalar_broadcast",
        "data-race",
        """
            uint i = thread_position_in_threadgroup.x;
            threadgroup float total;
            if (i == 40) total = x[0]; //!
            out[i] = total; //!
        """,
        repair=(("\nout", "\nthreadgroup_barrier(mem_flags::mem_threadgroup);\nout"),),
        array="total",
    ),
    Case(
        "last_writer_wins",
        "data-race",
        """
            uint i = thread_position_in_threadgroup.x;
            threadgroup float last;
            last = x[i]; //!
            threadgroup_barrier(mem_flags::mem_threadgroup);
            out[i] = last;
        """,
        repair=(("last = x[i];", "if (i == 63) last = x[i];"),),
        array="last",
        says="two threads write last",
    ),
    Case(
        "reused_buffer",
        "data-race",
        """
            uint i = thread_position_in_threadgroup.x;
            threadgroup float s[64];
            for (uint k = 0; k < 2; ++k) {
              s[i] = x[i] + k; //!
              threadgroup_barrier(mem_flags::mem_threadgroup);
              out[i + 64 * k] = s[63 - i]; //!
            }
        """,
        repair=(("//!\n}", "//!\n  threadgroup_barrier(mem_flags::mem_threadgroup);\n}"),),
        outputs=128,
        array="s",
    ),
    Case(
        "half_words",
        "data-race",
        """
            uint i = thread_position_in_threadgroup.x;
            threadgroup half s[64];
            s[i] = half(x[i]); //!
            out[i] = float(s[i ^ 32]); //!
        """,
        repair=(("\nout", "\nthreadgroup_barrier(mem_flags::mem_threadgroup);\nout"),),
        array="s",
    ),
)

UNINITIALIZED = (
    Case(
        "part_of_array",
        "uninitialized",
        """
            uint i = thread_position_in_threadgroup.x;
            threadgroup float s[64];
            if (i < 60) s[i] = x[i];
            threadgroup_barrier(mem_flags::mem_threadgroup);
            out[i] = s[63 - i]; //!
        """,
        repair=(("if (i < 60) s[i] = x[i];", "s[i] = i < 60 ? x[i] : 0;"),),
        array="s",
        says="s[63] before any thread",
    ),
    Case(
        "idle_slots",
        "uninitialized",
        """
            uint i = thread_position_in_threadgroup.x;
            threadgroup float s[32];
            float v = simd_sum(x[i]);
            if (i % 32 == 0) s[i / 32] = v;
            threadgroup_barrier(mem_flags::mem_threadgroup);
            out[i] = simd_sum(s[i % 32]); //!
        """,
        repair=(("simd_sum(s[i % 32])", "simd_sum(i % 32 < 2 ? s[i % 32] : 0.0f)"),),
        array="s",
    ),
    Case(
        "only_first_group",
        "uninitialized",
        """
            uint i = thread_position_in_grid.x;
            threadgroup float base;
            if (i == 0) base = x[0];
            threadgroup_barrier(mem_flags::mem_threadgroup);
            out[i] = x[i] + base; //!
        """,
        repair=(("i == 0", "i % 32 == 0"),),
        group=32,
        array="base",
    ),
    Case(
        "tail_of_output",
        "uninitialized",
        """
            uint i = thread_position_in_grid.x;
            if (i != 7) out[i] = x[i]; //!
        """,
        repair=(("if (i != 7) ", ""),),
        array="out",
        says="1 of 64 elements of the output out are never written; the first is out[7]",
    ),
    Case(
        "returns_before_writing",
        "uninitialized",
        """
            uint i = thread_position_in_grid.x;
            if (i % 3 == 0) return;
            out[i] = x[i]; //!
        """,
        repair=(("return;", "{ out[i] = 0; return; }"),),
        array="out",
        says="22 of 64",
    ),
    Case(
        "adds_to_output",
        "uninitialized",
        """
            uint i = thread_position_in_grid.x;
            out[i] += x[i]; //!
        """,
        repair=(("+=", "="),),
        array="out",
        says="init_value is not set",
    ),
    Case(
        "atomic_without_init",
        "uninitialized",
        """
            uint i = thread_position_in_grid.x;
            atomic_fetch_add_explicit(&out[i], 1.0f, memory_order_relaxed); //!
        """,
        repair=(("atomic_fetch_add_explicit(&out[i], 1.0f", "atomic_store_explicit(&out[i], 1.0f"),),
        atomic=True,
        array="out",
    ),
    Case(
        "unset_variable",
        "uninitialized",
        """
            uint i = thread_position_in_grid.x;
            float v;
            out[i] = x[i] + v; //!
        """,
        repair=(("float v;", "float v = 0;"),),
        array="v",
        says="the variable v",
    ),
)

DIVERGENCE = (
    Case(
        "in_a_branch",
        "barrier-divergence",
        """
            uint i = thread_position_in_threadgroup.x;
            threadgroup float s[64];
            s[i] = x[i];
            if (i < 32) {
              threadgroup_barrier(mem_flags::mem_threadgroup); //!
            }
            out[i] = s[i];
        """,
        repair=(
            (
                "if (i < 32) {\n  threadgroup_barrier(mem_flags::mem_threadgroup); //!\n}",
                "threadgroup_barrier(mem_flags::mem_threadgroup);",
            ),
        ),
        says="32 threads of the threadgroup have returned",
    ),
    Case(
        "after_early_return",
        "barrier-divergence",
        """
            uint i = thread_position_in_threadgroup.x;
            threadgroup float s[64];
            out[i] = x[i];
            if (i >= 50) return;
            s[i] = x[i];
            threadgroup_barrier(mem_flags::mem_threadgroup); //!
            out[i] = s[i];
        """,
        repair=(("if (i >= 50) return;\n", ""),),
        says="14 threads",
    ),
    Case(
        "different_barriers",
        "barrier-divergence",
        """
            uint i = thread_position_in_threadgroup.x;
            threadgroup float s[64];
            s[i] = x[i];
            if (i < 32) {
              threadgroup_barrier(mem_flags::mem_threadgroup); //!
            } else {
              threadgroup_barrier(mem_flags::mem_threadgroup); //!
            }
            out[i] = s[i];
        """,
        repair=(("i < 32", "x[0] > 0"),),
        says="different barriers",
    ),
    Case(
        "uneven_loop",
        "barrier-divergence",
        """
            uint i = thread_position_in_threadgroup.x;
            threadgroup float s[64];
            s[i] = x[i];
            for (uint k = 0; k < 1 + i / 32; ++k)
              threadgroup_barrier(mem_flags::mem_threadgroup); //!
            out[i] = s[i];
        """,
        repair=(("1 + i / 32", "2"),),
    ),
    Case(
        "simdgroup_barrier_in_branch",
        "barrier-divergence",
        """
            uint i = thread_position_in_threadgroup.x;
            threadgroup float s[64];
            s[i] = x[i];
            if (i % 32 < 7)
              simdgroup_barrier(mem_flags::mem_threadgroup); //!
            out[i] = s[i];
        """,
        repair=(("if (i % 32 < 7)\n", ""),),
        says="only 7 lanes",
    ),
    Case(
        "in_a_function",
        "barrier-divergence",
        """
            uint i = thread_position_in_threadgroup.x;
            threadgroup float s[64];
            s[i] = x[i];
            if (i < 10) wait();
            out[i] = s[i];
        """,
        repair=(("if (i < 10) ", ""),),
        header="""
            inline void wait() {
              threadgroup_barrier(mem_flags::mem_threadgroup); //!
            }
        """,
    ),
)

MEMORY_ORDER = (
    Case(
        "mem_none",
        "memory-order",
        """
            uint i = thread_position_in_threadgroup.x;
            threadgroup float s[64];
            s[i] = x[i]; //!
            threadgroup_barrier(mem_flags::mem_none); //!
            out[i] = s[63 - i]; //!
        """,
        repair=(("mem_none", "mem_threadgroup"),),
        array="s",
        says="without mem_flags::mem_threadgroup",
    ),
    Case(
        "wrong_flag",
        "memory-order",
        """
            uint i = thread_position_in_threadgroup.x;
            threadgroup float s[64];
            s[i] = x[i]; //!
            threadgroup_barrier(mem_flags::mem_device); //!
            out[i] = s[63 - i]; //!
        """,
        repair=(("mem_device", "mem_threadgroup"),),
        array="s",
    ),
    Case(
        "device_data",
        "memory-order",
        """
            uint i = thread_position_in_grid.x;
            out[i] = x[i]; //!
            threadgroup_barrier(mem_flags::mem_threadgroup); //!
            out[64 + i] = out[63 - i]; //!
        """,
        repair=(("mem_threadgroup", "mem_device"),),
        outputs=128,
        array="out",
        says="without mem_flags::mem_device",
    ),
    Case(
        "simdgroup_mem_none",
        "memory-order",
        """
            uint i = thread_position_in_threadgroup.x;
            threadgroup float s[32];
            s[i] = x[i]; //!
            simdgroup_barrier(mem_flags::mem_none); //!
            out[i] = s[i ^ 1]; //!
        """,
        repair=(("mem_none", "mem_threadgroup"),),
        threads=32,
        group=32,
        outputs=32,
        array="s",
        says="simdgroup_barrier",
    ),
    Case(
        "in_a_macro",
        "memory-order",
        """
            #define SYNC threadgroup_barrier(mem_flags::mem_none)
            uint i = thread_position_in_threadgroup.x;
            threadgroup float s[64];
            s[i] = x[i]; //!
            SYNC; //!
            out[i] = s[63 - i]; //!
        """,
        repair=(("mem_none", "mem_threadgroup"),),
        array="s",
    ),
)

SCHEDULE = (
    Case(
        "ticket",
        "schedule-dependent",
        """
            uint i = thread_position_in_grid.x;
            int k = atomic_fetch_add_explicit(&out[64], 1, memory_order_relaxed);
            atomic_store_explicit(&out[i], k, memory_order_relaxed);
        """,
        repair=(("&out[i], k", "&out[i], k < 64"),),
        outputs=65,
        output_dtype="int32",
        init_value=0,
        atomic=True,
        array="out",
        says="depend on the order in which threads run",
    ),
    Case(
        "who_comes_last",
        "schedule-dependent",
        """
            uint i = thread_position_in_grid.x;
            atomic_exchange_explicit(&out[0], int(i), memory_order_relaxed);
        """,
        repair=(("atomic_exchange_explicit", "atomic_fetch_max_explicit"),),
        outputs=1,
        output_dtype="int32",
        init_value=0,
        atomic=True,
        array="out",
    ),
    Case(
        "order_of_atomics",
        "schedule-dependent",
        """
            uint i = thread_position_in_grid.x;
            if (atomic_fetch_add_explicit(&out[0], 1.0f, memory_order_relaxed) == 9.0f)
              atomic_store_explicit(&out[1], x[i], memory_order_relaxed);
        """,
        repair=(
            ("if (atomic_fetch_add_explicit(&out[0], 1.0f, memory_order_relaxed) == 9.0f)", "if (i == 9)"),
        ),
        outputs=2,
        init_value=0,
        atomic=True,
        array="out",
        says="out[1] is",
    ),
)

CASES = (*BOUNDS, *RACES, *UNINITIALIZED, *DIVERGENCE, *MEMORY_ORDER, *SCHEDULE)
