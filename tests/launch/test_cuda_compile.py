"""Every kernel's CUDA text, compiled for every architecture by NVRTC: no GPU and no driver.

Without NVRTC the tests are skipped; with ``ZMLX_REQUIRE_NVRTC=1`` its absence is an error.
"""

from __future__ import annotations

import functools
import os
import re
import subprocess
import sys
from collections.abc import Iterable, Sequence

import numpy as np
import pytest
from kernel_cases import CASES, Case

import zmlx
from zmlx.launch import KernelCompileError, NvrtcNotFoundError, cubin, cuda, nvrtc, recording
from zmlx.launch.cuda import Plan, compile_cubin, cuda_text, make_plan
from zmlx.launch.nvrtc import Nvrtc, find_nvrtc
from zmlx.launch.records import LaunchRecord
from zmlx.metal.signature import Signature
from zmlx.testing.cuda_compile import ARCHS, BRANCHES_AT, spread
from zmlx.testing.launches import recorded_launches
from zmlx.testing.op_db import op_db
from zmlx.testing.opinfo import OpInfo, SampleInput

pytestmark = pytest.mark.cpu

KERNEL_OPS = [(op, dtype) for op in op_db if op.kernel for dtype in op.dtypes_on("cuda")]


def test_a_launch_of_no_threads_has_no_text() -> None:
    kernel = zmlx.metal_kernel(
        name="same",
        input_names=["x"],
        output_names=["y"],
        source="uint i = thread_position_in_grid.x; y[i] = x[i];",
    )

    def same(x):
        (y,) = kernel(
            inputs=[x],
            grid=(x.size, 1, 1),
            threadgroup=(32, 1, 1),
            output_shapes=[x.shape],
            output_dtypes=[x.dtype],
        )
        return y

    def samples(rng):
        yield SampleInput("empty", (np.zeros((0, 8)),))
        yield SampleInput("some", (np.ones(3),))

    op = OpInfo("mine.same", same, lambda x: x, samples, "x = x", kernels=("same",))
    (record,) = recorded_launches(op, "float32", "cuda")
    assert record.grid == (3, 1, 1)
    assert cuda_text(record.signature, make_plan(record.grid, record.threadgroup))


@pytest.fixture(scope="module")
def installed() -> Nvrtc:
    try:
        return find_nvrtc()
    except NvrtcNotFoundError as error:
        if os.environ.get("ZMLX_REQUIRE_NVRTC", "") not in ("", "0"):
            raise
        pytest.skip(str(error))


@pytest.fixture
def fresh(monkeypatch, tmp_path) -> Iterable[None]:
    """Nothing compiled yet, neither in this process nor on disk."""
    monkeypatch.setenv("ZMLX_CACHE_DIR", str(tmp_path / "cache"))
    cuda._program.cache_clear()
    yield
    cuda._program.cache_clear()


@pytest.fixture
def compilations(monkeypatch) -> list[str]:
    """The names of the kernels that NVRTC is asked to compile."""
    names: list[str] = []
    compile_ = Nvrtc.compile

    def counted(self, text, name, *rest):
        names.append(name)
        return compile_(self, text, name, *rest)

    monkeypatch.setattr(Nvrtc, "compile", counted)
    return names


def known(archs: Iterable[str], compiler: Nvrtc) -> list[str]:
    """The architectures that this NVRTC compiles for; none at all is an error."""
    found = [arch for arch in archs if compiler.supports(arch)]
    assert found, f"{compiler.name} knows none of {', '.join(archs)}"
    return found


def texts_of(records: Iterable[LaunchRecord]) -> dict[str, tuple[Signature, Plan]]:
    launches = [(r.signature, make_plan(r.grid, r.threadgroup)) for r in records]
    return {cuda_text(*launch): launch for launch in launches}


def compile_all(records: Iterable[LaunchRecord], archs: Sequence[str]) -> None:
    for signature, plan in texts_of(records).values():
        for arch in archs:
            assert compile_cubin(signature, arch, plan)[:4] == b"\x7fELF"


@functools.cache
def spread_of(name: str, archs: tuple[str, ...]) -> dict[str, tuple[str, ...]]:
    """Architectures for every text of an operation, in all of its dtypes."""
    (op,) = {op.name: op for op, _ in KERNEL_OPS if op.name == name}.values()
    by_kernel: dict[str, dict[str, None]] = {}
    for dtype in op.dtypes_on("cuda"):
        for text, (signature, _) in texts_of(recorded_launches(op, dtype, "cuda")).items():
            by_kernel.setdefault(signature.kernel.name, {})[text] = None
    return {text: found for texts in by_kernel.values() for text, found in spread(list(texts), archs).items()}


def record(source: str, header: str = "", name: str = "k", **creation) -> LaunchRecord:
    """What a launch of a kernel from x to out would be on CUDA."""
    import mlx.core as mx

    kernel = zmlx.metal_kernel(name, ["x"], ["out"], source, header, **creation)
    x = mx.zeros((8, 4))
    with recording("cuda") as records:
        kernel(
            inputs=[x],
            output_shapes=[x.shape],
            output_dtypes=[x.dtype],
            grid=(32, 1, 1),
            threadgroup=(32, 1, 1),
        )
    return records[0]


@pytest.mark.parametrize(("op", "dtype"), KERNEL_OPS, ids=[f"{op}-{dtype}" for op, dtype in KERNEL_OPS])
def test_catalogue(installed: Nvrtc, op: OpInfo, dtype: str) -> None:
    """Each text for the architectures that `spread` gives it: all would take three times as long. `python -m zmlx
    cuda-compile` takes all."""
    archs = spread_of(op.name, tuple(known(ARCHS, installed)))
    for text, (signature, plan) in texts_of(recorded_launches(op, dtype, "cuda")).items():
        for arch in archs[text]:
            assert compile_cubin(signature, arch, plan)[:4] == b"\x7fELF"


@pytest.mark.parametrize("op", [op for op in op_db if op.kernel], ids=str)
def test_every_kernel_meets_every_architecture(op: OpInfo) -> None:
    met: dict[str, set[str]] = {}
    archs = spread_of(op.name, ARCHS)
    for dtype in op.dtypes_on("cuda"):
        for text, (signature, _) in texts_of(recorded_launches(op, dtype, "cuda")).items():
            met.setdefault(signature.kernel.name, set()).update(archs[text])
            assert "sm_75" in archs[text]
            assert len(archs[text]) > 1
    assert set(map(frozenset, met.values())) == {frozenset(ARCHS)}


@pytest.mark.parametrize("count", [1, 2, 3, 5, 8])
def test_texts_are_spread_over_architectures(count: int) -> None:
    texts = [f"text {i}" for i in range(count)]
    found = spread(texts, ARCHS)
    assert list(found) == texts
    assert {arch for archs in found.values() for arch in archs} == set(ARCHS)
    for archs in found.values():
        assert archs[0] == "sm_75"
        assert len(archs) == len(set(archs)) <= 1 + -(-5 // count)
    # Without an architecture of one of the branches, the others remain.
    assert spread(["one"], ["sm_75"]) == {"one": ("sm_75",)}
    assert spread(["one", "other"], ["sm_90"]) == {"one": ("sm_90",), "other": ("sm_90",)}
    assert spread([], ARCHS) == {}


def test_headers_branch_at_one_architecture() -> None:
    """What `spread` relies on: from there on, all architectures see the same text."""
    found = [
        number
        for text in cuda.runtime_headers().values()
        for number in re.findall(r"__CUDA_ARCH__\s*(?:[<>=!]+)\s*(\d+)", text)
    ]
    assert found
    assert set(found) == {str(10 * BRANCHES_AT)}


#: Prints the names of the kernels that there are once every module of the catalogue is imported.
DEFINED = """
import gc, importlib, pkgutil
import zmlx.kernels
from zmlx.launch import MetalKernel
for module in pkgutil.iter_modules(zmlx.kernels.__path__):
    importlib.import_module(f"zmlx.kernels.{module.name}")
print(*{kernel.source.name for kernel in gc.get_objects() if type(kernel) is MetalKernel})
"""


def test_the_catalogue_is_compiled_whole() -> None:
    """The launches above reach every kernel that zmlx.kernels defines when it is imported: here other tests have made
    kernels with its functions."""
    compiled = {r.kernel.name for op, dtype in KERNEL_OPS for r in recorded_launches(op, dtype, "cuda")}
    run = subprocess.run([sys.executable, "-c", DEFINED], capture_output=True, text=True, check=True)
    defined = set(run.stdout.split())
    assert len(defined) > 20
    assert defined - compiled == set()


#: The constants that MLX puts before every kernel, and Metal's log.
KEPT = (
    "MAX_REDUCE_SPECIALIZED_DIMS REDUCE_N_READS REDUCE_N_WRITES SOFTMAX_N_READS RMS_N_READS RMS_LOOPED_LIMIT "
    "os_log_default"
)


@pytest.mark.parametrize(
    "source",
    [
        "out[thread_position_in_grid.x] = 1.0f;",
        "float4 v = float4(x[0]); out[0] = exp(v.x) + fmax(v.y, 2.0f) + float(half(v.z)) + rint(v.w);",
        "out[0] = simd_sum(x[0]) + as_type<float>(simd_shuffle(1u, ushort(2)) << 3) + INFINITY + NAN;",
        "threadgroup half s[32]; s[0] = half(x[0]); out[0] = clamp(float(s[1]), 0.0f, 1.0f) + popcount(7u);",
    ],
)
def test_programs_hold_none_of_the_runtimes_own_constants(installed: Nvrtc, source: str) -> None:
    """MLX hashes all of a program's bytes at each launch, and NVRTC keeps every constant: see msl/traits.h."""
    launch = record(source)
    code = compile_cubin(launch.signature, "sm_90", make_plan(launch.grid, launch.threadgroup))
    mangled = "|".join(f"{len(name)}{name}" for name in KEPT.split()).encode()
    found = {name for name in re.findall(rb"_ZN[A-Za-z0-9_]+", code) if b"5metal" in name}
    assert [name for name in found if not re.search(rb"(%s)E$" % mangled, name)] == []


#: The instruction that makes an integer of a float; 8 and 16 bits are the lowest of 32.
CONVERSIONS = {
    **dict.fromkeys(["int8_t", "short", "int"], "cvt.rzi.s32.f32"),
    **dict.fromkeys(["uchar", "ushort", "uint"], "cvt.rzi.u32.f32"),
    "long": "cvt.rzi.s64.f32",
    "ulong": "cvt.rzi.u64.f32",
}


def ptx_of(launch: LaunchRecord) -> str:
    ptx = compile_cubin(launch.signature, "compute_80", make_plan(launch.grid, launch.threadgroup))
    return ptx.decode()


@pytest.mark.parametrize(
    "form", ["TO n = x[i];", "TO n = (TO)x[i];", "TO n = vec<TO, 2>(float2(x[i], 1.0f)).x;"]
)
@pytest.mark.parametrize("kind", CONVERSIONS)
def test_floats_become_integers_by_the_instruction_that_the_host_follows(
    installed: Nvrtc, kind: str, form: str
) -> None:
    source = f"uint i = thread_position_in_grid.x; {form} out[i] = n;".replace("TO", kind)
    ptx = ptx_of(record(source))
    found = set(re.findall(r"cvt\.rzi\.[us]\d+\.f32", ptx))
    assert found == {CONVERSIONS[kind]}


FUSED = "uint i = thread_position_in_grid.x; float product = x[i] * x[i + 1]; out[i] = product + x[i + 2];"


@pytest.mark.parametrize(
    ("header", "pragma", "fused"),
    [
        ("", "", True),
        ("", "#pragma clang fp contract(off)\n", False),
        ("", "#pragma METAL fp contract(off)\n", False),
        ("", '_Pragma("clang fp contract(off)") ', False),
        ("", "#pragma STDC FP_CONTRACT OFF\n", False),
        ("", "#pragma METAL fp math_mode(safe)\n", True),
        ("#pragma METAL fp contract(off)\n", "", False),
        # NVRTC knows no smaller scope than the kernel.
        ("inline float f(float a) {\n#pragma clang fp contract(off)\nreturn a; }\n", "", False),
    ],
)
def test_products_and_sums_are_fused_unless_a_pragma_forbids_it(
    installed: Nvrtc, header: str, pragma: str, fused: bool
) -> None:
    ptx = ptx_of(record(pragma + FUSED, header))
    assert ("fma.rn.f32" in ptx) is fused
    assert ("mul.rn.f32" in ptx or "mul.f32" in ptx) is not fused


def test_fma_is_fused_where_a_pragma_forbids_fusing(installed: Nvrtc) -> None:
    source = FUSED.replace("product + x[i + 2]", "fma(x[i], x[i + 1], x[i + 2])")
    assert "fma.rn.f32" in ptx_of(record(f"#pragma clang fp contract(off)\n{source}"))


@pytest.mark.parametrize(("index", "case"), list(enumerate(CASES)), ids=[case.name for case in CASES])
def test_language(installed: Nvrtc, index: int, case: Case) -> None:
    """Small kernels that use everything, each for one of the architectures in turn."""
    with recording("cuda") as records:
        case.launch()
    archs = known(ARCHS, installed)
    compile_all(records, [archs[index % len(archs)]])


@pytest.mark.parametrize("layout", ["FLAT", "BLOCK", "LINEAR"])
def test_layouts(installed: Nvrtc, layout: str) -> None:
    signature = record("out[thread_position_in_grid.x] = x[threadgroup_position_in_grid.y];").signature
    assert compile_cubin(signature, "sm_90", cuda.Plan(layout, 64))[:4] == b"\x7fELF"


def test_designated_initialisers(installed: Nvrtc) -> None:
    header = "struct Pair { int first; float second; };"
    source = "Pair p = {.first = 1, .second = x[0]}; out[0] = p.second;"
    assert compile_cubin(record(source, header).signature, "sm_90")[:4] == b"\x7fELF"


@pytest.mark.parametrize("header", ["cuda/cuda.h", "cuda/simd.h", "cuda/atomic.h", "msl/types.h"])
def test_a_broken_runtime_header_is_noticed(installed: Nvrtc, monkeypatch, header: str) -> None:
    broken = {**cuda.runtime_headers(), header: cuda.runtime_headers()[header] + "\nint planted = ;\n"}
    monkeypatch.setattr(cuda, "runtime_headers", lambda: broken)
    signature = record("out[0] = x[0];", name="victim").signature
    cuda._program.cache_clear()
    with pytest.raises(KernelCompileError, match=rf"{header}\(\d+\): error: expected an expression"):
        compile_cubin(signature, "sm_90")


def test_errors_speak_of_the_author_s_lines(installed: Nvrtc) -> None:
    source = "uint i = thread_position_in_grid.x;\nfloat y = twice(x[i]);\nout[i] = y + missing;\n"
    header = "// a comment\nfloat twice(float v) { return v * unknown; }\n"
    with pytest.raises(KernelCompileError) as error:
        compile_cubin(record(source, header, name="wrong").signature, "sm_90")
    assert str(error.value) == (
        f"[metal_kernel] Kernel 'wrong' does not compile ({installed.name} refused it for sm_90):\n"
        '  header line 2: identifier "unknown" is undefined\n'
        "    float twice(float v) { return v * unknown; }\n"
        '  source line 3: identifier "missing" is undefined\n'
        "    out[i] = y + missing;\n"
        "  What to do: functions of the header do not see the kernel's template arguments: if `unknown` is one, make "
        'the function a template of its own, and pass it with the call: template=[("unknown", …)].\n'
        '  What to do: if `missing` is a template argument, pass it with the call: template=[("missing", …)].\n'
        "The whole output is in this error's `log`."
    )
    assert 'wrong source(3): error: identifier "missing" is undefined' in error.value.log


def test_errors_in_templates_speak_of_the_author_s_lines(installed: Nvrtc) -> None:
    source = "uint i = thread_position_in_grid.x;\n\nout[i] = x[i].nonsense;"
    with pytest.raises(KernelCompileError, match=r"source line 3: .*\n    out\[i\] = x\[i\]\.nonsense;"):
        compile_cubin(record(source).signature, "sm_90")


def test_too_much_threadgroup_memory(installed: Nvrtc) -> None:
    source = "threadgroup float s[20000]; uint i = thread_index_in_threadgroup; s[i] = x[i]; out[i] = s[uint(x[i])];"
    with pytest.raises(
        KernelCompileError, match="declares 80000 bytes of threadgroup memory; Metal has 32768 bytes"
    ):
        compile_cubin(record(source, name="greedy").signature, "sm_90")


@pytest.mark.parametrize("arch", ARCHS)
def test_as_much_threadgroup_memory_as_metal_has(installed: Nvrtc, arch: str) -> None:
    """CUDA has more of it."""
    if not installed.supports(arch):
        pytest.skip(f"{installed.name} does not know {arch}")
    text = (
        "threadgroup float s[{}], u[4096]; uint i = thread_index_in_threadgroup; s[i] = u[i + 1] = x[i];"
        "threadgroup_barrier(mem_flags::mem_threadgroup); out[i] = s[uint(x[i])] + u[uint(x[i + 1])];"
    )
    signature = record(text.format(4096), name="greedy").signature
    program = cuda._program(signature, arch, cuda.Plan())
    assert cubin.shared_bytes(program.code, program.entry, nvrtc.arch_number(arch)) == 32768
    said = "'greedy' declares 32832 bytes of threadgroup memory; Metal has 32768"
    with pytest.raises(KernelCompileError, match=said):
        compile_cubin(record(text.format(4112), name="greedy").signature, arch)


def test_what_has_no_threadgroup_memory(installed: Nvrtc) -> None:
    program = cuda._program(record("out[0] = x[0];").signature, "sm_90", cuda.Plan())
    assert cubin.shared_bytes(program.code, program.entry, 90) == 0
    assert cubin.shared_bytes(b".version 8.0", "greedy", 90) == 0


def test_an_unknown_architecture(installed: Nvrtc) -> None:
    with pytest.raises(ValueError, match=r"cannot compile for 'sm_10'\. Expected one of sm_"):
        compile_cubin(record("out[0] = x[0];").signature, "sm_10")


def test_no_nvrtc(monkeypatch) -> None:
    find_nvrtc.cache_clear()
    monkeypatch.setenv(nvrtc.NVRTC_VARIABLE, "/nowhere/libnvrtc.so")
    cuda._program.cache_clear()
    with pytest.raises(NvrtcNotFoundError, match="pip install nvidia-cuda-nvrtc"):
        compile_cubin(record("out[0] = x[0];").signature, "sm_90")
    find_nvrtc.cache_clear()


@pytest.mark.usefixtures("fresh")
def test_compiled_once_and_found_on_disk(installed: Nvrtc, compilations: list[str]) -> None:
    signature = record("out[0] = x[0];", name="kept").signature
    first = compile_cubin(signature, "sm_90")
    assert compilations == ["kept.cu"]
    assert compile_cubin(signature, "sm_90") == first
    cuda._program.cache_clear()  # as in another process
    assert compile_cubin(signature, "sm_90") == first
    assert compilations == ["kept.cu"]
    compile_cubin(signature, "sm_80")
    compile_cubin(signature, "sm_90", cuda.Plan("FLAT", 32))
    assert compilations == ["kept.cu"] * 3


@pytest.mark.usefixtures("fresh")
def test_a_changed_header_compiles_anew(installed: Nvrtc, compilations: list[str], monkeypatch) -> None:
    signature = record("out[0] = x[0];", name="kept").signature
    compile_cubin(signature, "sm_90")
    changed = {
        **cuda.runtime_headers(),
        "cuda/cuda.h": cuda.runtime_headers()["cuda/cuda.h"] + "// changed\n",
    }
    monkeypatch.setattr(cuda, "runtime_headers", lambda: changed)
    cuda._program.cache_clear()
    compile_cubin(signature, "sm_90")
    assert compilations == ["kept.cu"] * 2


@pytest.mark.usefixtures("fresh")
def test_a_broken_entry_is_built_again(installed: Nvrtc, compilations: list[str], tmp_path) -> None:
    signature = record("out[0] = x[0];", name="kept").signature
    first = compile_cubin(signature, "sm_90")
    (entry,) = (tmp_path / "cache" / "cuda").rglob("*.cubin")
    entry.write_bytes(first[:100])
    cuda._program.cache_clear()
    assert compile_cubin(signature, "sm_90") == first
    assert compilations == ["kept.cu"] * 2
