"""Small wrong kernels, each with the repair that makes it right.

The lines that a finding must name are marked ``//!`` in the source. ``repair`` replaces parts of the source; the
result must be without a finding.
"""

from __future__ import annotations

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

    def run(self, check: Any = None) -> Any:
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
POSITION = "uint i = thread_position_in_grid.x;\n"
SHARED = "uint i = thread_position_in_threadgroup.x;\nthreadgroup float s[64];\n"

BOUNDS = (
    Case("read_past_end", "out-of-bounds", POSITION + "out[i] = x[i + 1]; //!", (("i + 1", "min(i + 1, 63u)"),), array="x", says="x[64] of 64"),
    Case("write_past_end", "out-of-bounds", POSITION + "out[i] = x[i % 64]; //!", (("out[i] =", "if (i < 64) out[i] ="),), threads=70, array="out", says="out[64] of 64"),
    Case("below_zero", "out-of-bounds", POSITION + "out[i] = x[i - 1]; //!", (("i - 1", "max(i, 1u) - 1"),), array="x", says="it went below 0"),
    Case("negative_index", "out-of-bounds", POSITION + "int k = int(i) - 4;\nout[i] = x[k]; //!", (("int(i) - 4", "max(int(i) - 4, 0)"),), array="x", says="4 before the start"),
    Case("threadgroup_array", "out-of-bounds", SHARED + f"s[i] = x[i];\n{BARRIER}\nout[i] = s[i + 1]; //!", (("i + 1", "(i + 1) % 64"),), array="s", says="s[64] of 64"),
    Case("threadgroup_pointer", "out-of-bounds", SHARED + f"threadgroup float* p = s + 8;\ns[i] = x[i];\n{BARRIER}\nout[i] = p[i]; //!", (("p[i]", "p[i % 56]"),), array="s", says="of 64"),
    Case("own_array", "out-of-bounds", POSITION + "float a[4] = {0, 0, 0, 0};\nfor (uint k = 0; k <= 4; ++k)\n  a[k] = x[i]; //!\nout[i] = a[i % 4];", (("k <= 4", "k < 4"),), array="a", says="a[4] of 4"),
    Case("own_array_in_function", "out-of-bounds", POSITION + "float a[4] = {0, 0, 0, 0};\nfill(a, x[i], int(x[0]) + 4);\nout[i] = a[i % 4];", (("+ 4)", "+ 3)"),), header="inline void fill(thread float* p, float v, int n) {\n  for (int k = 0; k < n; ++k)\n    p[k] = v; //!\n}\n", says="thread's own arrays", gcc_only_line=True),
    Case("cast_to_vector", "out-of-bounds", POSITION + "device float4* v = (device float4*)out;\nv[i] = float4(x[i]); //!", (("v[i] =", "if (i < 16) v[i] ="),), array="out", says="out[64] of 64"),
    Case("moving_pointer", "out-of-bounds", POSITION + "auto p = x + i;\np += 8;\nout[i] = *p; //!", (("p += 8", "p += i < 56 ? 8 : 0"),), array="x", says="x[64] of 64"),
    Case("wide_read_of_bytes", "out-of-bounds", POSITION + "auto words = (const device uint*)x;\nout[i] = float(words[i]); //!", (("words[i]", "words[i / 4]"),), input_dtype="uint8", array="x"),
    Case("two_dimensions", "out-of-bounds", f"uint i = thread_position_in_threadgroup.x;\nthreadgroup float t[4][8];\nt[i / 8][i % 8] = x[i]; //!\n{BARRIER}\nout[i] = t[i % 4][i / 8];", (("t[4][8]", "t[8][8]"),), array="t", says="t[4] of 4"),
    Case("helper_in_header", "out-of-bounds", POSITION + "out[i] = load(x, i);", (("p[k + 2]", "p[min(k + 2, 63u)]"),), header="inline float load(const device float* p, uint k) {\n  return p[k + 2]; //!\n}\n", array="x", says="x[64] of 64"),
    Case("write_to_input", "out-of-bounds", POSITION + "((device float*)x)[i] = 0; //!\nout[i] = 0;", (("((device float*)x)[i] = 0;", "out[i] = x[i];"),), array="x", says="inputs are read-only"),
)

RACES = (
    Case("no_barrier", "data-race", SHARED + "s[i] = x[i]; //!\nout[i] = s[63 - i]; //!", (("\nout", f"\n{BARRIER}\nout"),), array="s", says="nothing orders them"),
    Case("overwritten_while_read", "data-race", SHARED + f"uint g = i / 32;\nif (i % 32 == 0) s[g] = x[i];\n{BARRIER}\nfloat a = s[i % 2]; //!\nif (i % 32 == 0) s[g] = a + 1; //!\n{BARRIER}\nout[i] = s[g];", (("//!\nif", f"//!\n{BARRIER}\nif"),), array="s"),
    Case("tree_without_barrier", "data-race", SHARED + f"s[i] = x[i];\n{BARRIER}\nfor (uint k = 32; k > 0; k /= 2) {{\n  if (i < k) s[i] += s[i + k]; //!\n}}\n{BARRIER}\nout[i] = s[0];", (("//!\n}", f"//!\n  {BARRIER}\n}}"),), array="s"),
    Case("lockstep", "data-race", f"uint i = thread_position_in_threadgroup.x;\nthreadgroup float s[32];\ns[i] = x[i]; //!\nout[i] = s[i ^ 1]; //!", (("\nout", "\nsimdgroup_barrier(mem_flags::mem_threadgroup);\nout"),), threads=32, group=32, outputs=32, array="s", says="lockstep"),
    Case("simd_operation_between", "data-race", f"uint i = thread_position_in_threadgroup.x;\nthreadgroup float s[32];\ns[i] = x[i]; //!\nfloat t = simd_sum(x[i]);\nout[i] = s[i ^ 1] + t; //!", (("\nout", "\nsimdgroup_barrier(mem_flags::mem_threadgroup);\nout"),), threads=32, group=32, outputs=32, array="s", says="the simd operation between the two orders no memory"),
    Case("device_memory", "data-race", POSITION + "out[i] = x[i]; //!\nout[64 + i] = out[63 - i]; //!", (("\nout[64", "\nthreadgroup_barrier(mem_flags::mem_device);\nout[64"),), outputs=128, array="out", says="mem_device"),
    Case("across_threadgroups", "data-race", POSITION + "out[i % 64] = x[i]; //!", (("out[i % 64]", "if (i < 64) out[i]"),), threads=128, inputs=128, array="out", says="threads of two threadgroups"),
    Case("counting_without_atomics", "data-race", POSITION + "out[uint(x[i]) % 8] += 1; //!", (("out[uint(x[i]) % 8] += 1;", "if (i == 0) for (uint k = 0; k < 64; ++k) out[uint(x[k]) % 8] += 1;"),), outputs=8, init_value=0, array="out"),
    Case("two_threads_one_element", "data-race", POSITION + "out[i / 2] = x[i]; //!", (("out[i / 2]", "if (i % 2 == 0) out[i / 2]"),), outputs=32, array="out", says="two threads write out[0]"),
    Case("atomic_and_plain", "data-race", f"uint i = thread_position_in_threadgroup.x;\nthreadgroup atomic_int c;\nif (i == 0) atomic_store_explicit(&c, 0, memory_order_relaxed);\n{BARRIER}\natomic_fetch_add_explicit(&c, 1, memory_order_relaxed); //!\nout[i] = *(threadgroup int*)&c; //!", (("\nout", f"\n{BARRIER}\nout"),), array="c", says="one of the two accesses is atomic"),
    Case("scalar_broadcast", "data-race", f"uint i = thread_position_in_threadgroup.x;\nthreadgroup float total;\nif (i == 40) total = x[0]; //!\nout[i] = total; //!", (("\nout", f"\n{BARRIER}\nout"),), array="total"),
    Case("last_writer_wins", "data-race", f"uint i = thread_position_in_threadgroup.x;\nthreadgroup float last;\nlast = x[i]; //!\n{BARRIER}\nout[i] = last;", (("last = x[i];", "if (i == 63) last = x[i];"),), array="last", says="two threads write last"),
    Case("reused_buffer", "data-race", SHARED + f"for (uint k = 0; k < 2; ++k) {{\n  s[i] = x[i] + k; //!\n  {BARRIER}\n  out[i + 64 * k] = s[63 - i]; //!\n}}", (("//!\n}", f"//!\n  {BARRIER}\n}}"),), outputs=128, array="s"),
    Case("half_words", "data-race", f"uint i = thread_position_in_threadgroup.x;\nthreadgroup half s[64];\ns[i] = half(x[i]); //!\nout[i] = float(s[i ^ 32]); //!", (("\nout", f"\n{BARRIER}\nout"),), array="s"),
)

UNINITIALIZED = (
    Case("part_of_array", "uninitialized", SHARED + f"if (i < 60) s[i] = x[i];\n{BARRIER}\nout[i] = s[63 - i]; //!", (("if (i < 60) s[i] = x[i];", "s[i] = i < 60 ? x[i] : 0;"),), array="s", says="s[63] before any thread"),
    Case("idle_slots", "uninitialized", f"uint i = thread_position_in_threadgroup.x;\nthreadgroup float s[32];\nfloat v = simd_sum(x[i]);\nif (i % 32 == 0) s[i / 32] = v;\n{BARRIER}\nout[i] = simd_sum(s[i % 32]); //!", (("simd_sum(s[i % 32])", "simd_sum(i % 32 < 2 ? s[i % 32] : 0.0f)"),), array="s"),
    Case("only_first_group", "uninitialized", f"uint i = thread_position_in_grid.x;\nthreadgroup float base;\nif (i == 0) base = x[0];\n{BARRIER}\nout[i] = x[i] + base; //!", (("i == 0", "i % 32 == 0"),), group=32, array="base"),
    Case("tail_of_output", "uninitialized", POSITION + "if (i != 7) out[i] = x[i]; //!", (("if (i != 7) ", ""),), array="out", says="1 of 64 elements of the output out are never written; the first is out[7]"),
    Case("returns_before_writing", "uninitialized", POSITION + "if (i % 3 == 0) return;\nout[i] = x[i]; //!", (("return;", "{ out[i] = 0; return; }"),), array="out", says="22 of 64"),
    Case("adds_to_output", "uninitialized", POSITION + "out[i] += x[i]; //!", (("+=", "="),), array="out", says="init_value is not set"),
    Case("atomic_without_init", "uninitialized", POSITION + "atomic_fetch_add_explicit(&out[i], 1.0f, memory_order_relaxed); //!", (("atomic_fetch_add_explicit(&out[i], 1.0f", "atomic_store_explicit(&out[i], 1.0f"),), atomic=True, array="out"),
    Case("unset_variable", "uninitialized", POSITION + "float v;\nout[i] = x[i] + v; //!", (("float v;", "float v = 0;"),), array="v", says="the variable v"),
)

DIVERGENCE = (
    Case("in_a_branch", "barrier-divergence", SHARED + f"s[i] = x[i];\nif (i < 32) {{\n  {BARRIER} //!\n}}\nout[i] = s[i];", ((f"if (i < 32) {{\n  {BARRIER} //!\n}}", BARRIER),), says="32 threads of the threadgroup have returned"),
    Case("after_early_return", "barrier-divergence", SHARED + f"out[i] = x[i];\nif (i >= 50) return;\ns[i] = x[i];\n{BARRIER} //!\nout[i] = s[i];", (("if (i >= 50) return;\n", ""),), says="14 threads"),
    Case("different_barriers", "barrier-divergence", SHARED + f"s[i] = x[i];\nif (i < 32) {{\n  {BARRIER} //!\n}} else {{\n  {BARRIER} //!\n}}\nout[i] = s[i];", (("i < 32", "x[0] > 0"),), says="different barriers"),
    Case("uneven_loop", "barrier-divergence", SHARED + f"s[i] = x[i];\nfor (uint k = 0; k < 1 + i / 32; ++k)\n  {BARRIER} //!\nout[i] = s[i];", (("1 + i / 32", "2"),)),
    Case("simdgroup_barrier_in_branch", "barrier-divergence", SHARED + "s[i] = x[i];\nif (i % 32 < 7)\n  simdgroup_barrier(mem_flags::mem_threadgroup); //!\nout[i] = s[i];", (("if (i % 32 < 7)\n", ""),), says="only 7 lanes"),
    Case("in_a_function", "barrier-divergence", SHARED + "s[i] = x[i];\nif (i < 10) wait();\nout[i] = s[i];", (("if (i < 10) ", ""),), header=f"inline void wait() {{\n  {BARRIER} //!\n}}\n"),
)

MEMORY_ORDER = (
    Case("mem_none", "memory-order", SHARED + "s[i] = x[i]; //!\nthreadgroup_barrier(mem_flags::mem_none); //!\nout[i] = s[63 - i]; //!", (("mem_none", "mem_threadgroup"),), array="s", says="without mem_flags::mem_threadgroup"),
    Case("wrong_flag", "memory-order", SHARED + "s[i] = x[i]; //!\nthreadgroup_barrier(mem_flags::mem_device); //!\nout[i] = s[63 - i]; //!", (("mem_device", "mem_threadgroup"),), array="s"),
    Case("device_data", "memory-order", POSITION + f"out[i] = x[i]; //!\n{BARRIER} //!\nout[64 + i] = out[63 - i]; //!", (("mem_threadgroup", "mem_device"),), outputs=128, array="out", says="without mem_flags::mem_device"),
    Case("simdgroup_mem_none", "memory-order", f"uint i = thread_position_in_threadgroup.x;\nthreadgroup float s[32];\ns[i] = x[i]; //!\nsimdgroup_barrier(mem_flags::mem_none); //!\nout[i] = s[i ^ 1]; //!", (("mem_none", "mem_threadgroup"),), threads=32, group=32, outputs=32, array="s", says="simdgroup_barrier"),
    Case("in_a_macro", "memory-order", "#define SYNC threadgroup_barrier(mem_flags::mem_none)\n" + SHARED + "s[i] = x[i]; //!\nSYNC; //!\nout[i] = s[63 - i]; //!", (("mem_none", "mem_threadgroup"),), array="s"),
)

SCHEDULE = (
    Case("ticket", "schedule-dependent", POSITION + "int k = atomic_fetch_add_explicit(&out[64], 1, memory_order_relaxed);\natomic_store_explicit(&out[i], k, memory_order_relaxed);", (("&out[i], k", "&out[i], k < 64"),), outputs=65, output_dtype="int32", init_value=0, atomic=True, array="out", says="depend on the order in which threads run"),
    Case("who_comes_last", "schedule-dependent", POSITION + "atomic_exchange_explicit(&out[0], int(i), memory_order_relaxed);", (("atomic_exchange_explicit", "atomic_fetch_max_explicit"),), outputs=1, output_dtype="int32", init_value=0, atomic=True, array="out"),
    Case("order_of_atomics", "schedule-dependent", POSITION + "if (atomic_fetch_add_explicit(&out[0], 1.0f, memory_order_relaxed) == 9.0f)\n  atomic_store_explicit(&out[1], x[i], memory_order_relaxed);", (("if (atomic_fetch_add_explicit(&out[0], 1.0f, memory_order_relaxed) == 9.0f)", "if (i == 9)"),), outputs=2, init_value=0, atomic=True, array="out", says="out[1] is"),
)

CASES = (*BOUNDS, *RACES, *UNINITIALIZED, *DIVERGENCE, *MEMORY_ORDER, *SCHEDULE)
