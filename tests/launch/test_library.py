"""`metal_library`: which kernels it has, how they are called, and what a call does to its arrays."""

from __future__ import annotations

import array
import contextlib
import ctypes
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import zmlx
from zmlx.errors import ArgumentTypeError
from zmlx.launch import (
    KernelCompileError,
    KernelRuntimeError,
    NvrtcNotFoundError,
    TranslationError,
    current_backend,
    recording,
    watch,
)
from zmlx.launch.memory import view
from zmlx.launch.nvrtc import find_nvrtc

pytestmark = pytest.mark.cpu

FILES = Path(__file__).parent / "metal_files"

SOURCE = """
#include <metal_stdlib>
using namespace metal;

struct Params { float scale; int shift; };
typedef float real;

kernel void fill(device float* out, constant float& value, uint i [[thread_position_in_grid]]) { out[i] = value; }

kernel void add(device float* x [[buffer(1)]], const device real* y [[buffer(0)]],
                uint2 at [[thread_position_in_grid]], uint2 size [[threads_per_grid]]) {
  x[at.y * size.x + at.x] += y[at.x];
}

kernel void transform(device int* x, constant Params& params, constant uint2& range, uint i [[thread_position_in_grid]]) {
  if (i >= range.x && i < range.y) x[i] = int(x[i] * params.scale) + params.shift;
}

kernel void count(device atomic_uint& total, const device uchar* x, constant ushort* limits,
                  uint thread_position_in_grid [[thread_position_in_grid]]) {
  if (x[thread_position_in_grid] >= limits[0] && x[thread_position_in_grid] < limits[1])
    atomic_fetch_add_explicit(&total, 1, memory_order_relaxed);
}

kernel void reverse(device float4* x, threadgroup float4* held [[threadgroup(0)]],
                    ushort i [[thread_index_in_threadgroup]], uint3 size [[threads_per_threadgroup]]) {
  held[i] = x[i];
  threadgroup_barrier(mem_flags::mem_threadgroup);
  x[i] = held[size.x - 1 - i];
}

[[kernel, max_total_threads_per_threadgroup(8 * 8)]] void places(
    device uint* out,
    ushort3 in_group [[thread_position_in_threadgroup]], uint2 group [[threadgroup_position_in_grid]],
    ushort2 groups [[threadgroups_per_grid]], uint2 size [[threads_per_threadgroup]],
    uint3 thread_position_in_grid [[thread_position_in_grid]], uint3 all [[threads_per_grid]]) {
  const uint i = thread_position_in_grid.y * all.x + thread_position_in_grid.x;
  out[i] = in_group.x + 10 * group.x + 100 * groups.x + 1000 * size.x + 10000 * size.y;
}

kernel void read_only(const device float* x, uint i [[thread_position_in_grid]]) {}
kernel void gap(device float* x [[buffer(2)]], constant float& value [[buffer(0)]], uint i [[thread_position_in_grid]]) {
  x[i] = value;
}
kernel void drawn(device float* x, texture2d<float> picture [[texture(0)]]) {}
"""  # noqa: E501

NAMES = ["fill", "add", "transform", "count", "reverse", "places", "read_only", "gap", "drawn"]
PARAMS = np.dtype([("scale", np.float32), ("shift", np.int32)])


@pytest.fixture
def mx() -> Any:
    import mlx.core as mx

    return mx


@pytest.fixture(scope="module")
def library() -> Any:
    return zmlx.metal_library(SOURCE)


# --- which kernels there are --------------------------------------------------------------------


def test_a_library_lists_its_kernels(library: Any) -> None:
    assert list(library) == NAMES
    assert len(library) == len(NAMES)
    assert set(NAMES) <= set(dir(library))
    assert "fill" in library
    assert "file" not in library
    assert library["fill"] is library.fill
    assert repr(library) == f"<zmlx.metal_library {', '.join(NAMES)}>"
    assert (
        repr(library.add)
        == "<zmlx.metal_library kernel add(const device real* y, device float* x)>"
    )  # fmt: skip


def test_an_unknown_name_is_answered_with_a_close_one(library: Any) -> None:
    message = re.escape(
        f"the library has no kernel 'revers'. Did you mean 'reverse'? It has {', '.join(NAMES)}."
    )
    with pytest.raises(AttributeError, match=message):
        library.revers  # noqa: B018
    with pytest.raises(KeyError, match=r"the library has no kernel 'xyz'\. It has fill, add"):
        library["xyz"]


def test_names_are_made_by_macros_and_given_by_the_caller(mx: Any) -> None:
    library = zmlx.metal_library(
        """
        template <typename T, int N>
        kernel void set(device T* out, uint i [[thread_position_in_grid]]) { out[i] = T(N * FACTOR); }
        #define INSTANCE(name, type, n) \\
          template [[host_name("set_" #name "_" #n)]] [[kernel]] decltype(set<type, n>) set<type, n>;
        INSTANCE(float32, float, 2)
        #ifdef WITH_INTS
        INSTANCE(int32, int, 3)
        #endif
        """,
        defines={"FACTOR": 5, "WITH_INTS": True},
    )
    assert list(library) == ["set_float32_2", "set_int32_3"]
    assert library.set_float32_2(mx.zeros(3))[0].tolist() == [10.0] * 3
    assert library.set_int32_3(mx.zeros(3, mx.int32))[0].tolist() == [15] * 3


def test_a_template_in_a_namespace_finds_what_is_beside_it(mx: Any) -> None:
    library = zmlx.metal_library(
        """
        namespace a {
        constant int offset = 7;
        struct Twice { static int of(int x) { return 2 * x; } };
        namespace b {
        template <typename Op> [[kernel]] void apply(device int* x, uint i [[thread_position_in_grid]]) {
          x[i] = Op::of(x[i]) + offset;
        }
        }}
        template [[host_name("apply_twice")]] [[kernel]] decltype(a::b::apply<a::Twice>) a::b::apply<a::Twice>;
        """
    )
    assert library.apply_twice(mx.array([1, 2], mx.int32))[0].tolist() == [9, 11]


# --- files --------------------------------------------------------------------------------------


def softmaxless(x: np.ndarray[Any, Any], weight: Any, bias: Any) -> np.ndarray[Any, Any]:
    x = x.astype(np.float64)
    scale = 1 / np.sqrt(x.var(-1, keepdims=True) + 1e-5)
    return (x - x.mean(-1, keepdims=True)) * scale * weight + bias


@pytest.mark.parametrize("biased", [False, True])
def test_norms_of_a_file_compute(biased: bool, mx: Any) -> None:
    library = zmlx.metal_library(FILES / "norms.metal", function_constants={"has_bias": biased})
    rng = np.random.default_rng(0)
    x, weight, bias = (rng.normal(size=shape).astype(np.float32) for shape in ((3, 300), 300, 300))
    launch = {"threads": 3 * 96, "group_size": 96}
    with zmlx.checked() as check:
        (normed,) = library.layer_norm_float32(
            x, weight, bias if biased else None, mx.zeros((3, 300)), 1e-5, 300, **launch
        )
        (scaled,) = library.rms_norm_float16(
            x.astype(np.float16), weight.astype(np.float16), np.zeros((3, 300), np.float16), 1e-5, 300, **launch
        )  # fmt: skip
    assert check.launches == 2
    np.testing.assert_allclose(np.array(normed), softmaxless(x, weight, bias * biased), atol=1e-5)
    square = (x.astype(np.float64) ** 2).mean(-1, keepdims=True)
    np.testing.assert_allclose(scaled, x / np.sqrt(square + 1e-5) * weight, atol=6e-3)


def test_rotary_positions_of_a_file_are_turned_and_turned_back(mx: Any) -> None:
    library = zmlx.metal_library(FILES / "rope.metal")
    params = np.dtype([("base", "f4"), ("scale", "f4"), ("offset", "i4"), ("forward", "?")], align=True)
    x = mx.array(np.random.default_rng(0).normal(size=(1, 2, 5, 8)).astype(np.float32))
    launch = {"threads": (4, 5, 2), "group_size": (4, 2)}
    (turned,) = library.rope_float32(x, np.array((1e4, 1, 3, True), params), (2, 5), **launch)
    expected = mx.fast.rope(x, 8, traditional=False, base=1e4, scale=1, offset=3)
    np.testing.assert_allclose(np.array(turned), np.array(expected), atol=1e-6)
    (back,) = library.rope_float32(turned, np.array((1e4, 1, 3, False), params), (2, 5), **launch)
    np.testing.assert_allclose(np.array(back), np.array(x), atol=1e-6)
    (small,) = library.rope_bfloat16(
        x.astype(mx.bfloat16), np.array((1e4, 1, 3, True), params), (2, 5), **launch
    )
    np.testing.assert_allclose(np.array(small.astype(mx.float32)), np.array(expected), atol=2e-2)


# --- what a call does to arrays -----------------------------------------------------------------


def test_a_call_is_pytorchs(library: Any, mx: Any) -> None:
    """The example of ``torch.mps.compile_shader``: as many threads as the first array has elements."""
    x = mx.zeros(16)
    (filled,) = library.fill(x, 3.25)
    assert filled.tolist() == [3.25] * 16
    with zmlx.checked():
        assert library.fill(x, 2)[0].tolist() == [2.0] * 16
    assert x.tolist() == [0.0] * 16, "an mx.array never changes"


def test_a_buffer_may_have_an_attributes_name(mx: Any) -> None:
    library = zmlx.metal_library(
        """
        kernel void f(device float* grid_size, constant float& threads_per_grid, uint i [[thread_position_in_grid]]) {
          grid_size[i] = threads_per_grid;
        }
        """
    )
    with zmlx.checked():
        assert library.f(mx.zeros(3), 2)[0].tolist() == [2.0] * 3
    assert library.f(mx.zeros(3), 2)[0].tolist() == [2.0] * 3


def test_numpy_arrays_are_written_in_place(library: Any) -> None:
    x = np.ones((3, 4), np.float32)
    (same,) = library.add(np.arange(4, dtype=np.float32), x, threads=(4, 3))
    assert same is x
    assert x.tolist() == [[1, 2, 3, 4]] * 3


def test_a_view_is_written_where_it_lies(library: Any) -> None:
    whole = np.zeros((4, 6), np.float32)
    library.fill(whole[::2, 1:3], 1)
    assert whole.sum() == 4
    assert whole[::2, 1:3].tolist() == [[1, 1]] * 2


@pytest.mark.parametrize(
    "memory", [array.array("f", [0] * 4), memoryview(bytearray(16)).cast("f")], ids=["array", "memoryview"]
)
def test_whatever_has_a_buffer_is_written(memory: Any, library: Any) -> None:
    (same,) = library.fill(memory, 2)
    assert same is memory
    assert list(memory) == [2.0] * 4


def test_what_is_not_written_stays(library: Any, mx: Any) -> None:
    x = mx.arange(8, dtype=mx.float32).reshape(2, 4)
    (filled,) = library.fill(x, -1, threads=3)
    assert filled.tolist() == [[-1, -1, -1, 3], [4, 5, 6, 7]]


@pytest.mark.parametrize("size", [0, 1, 20_001])
def test_any_size_is_taken(size: int, library: Any, mx: Any) -> None:
    (filled,) = library.fill(mx.zeros(size), 2)
    assert filled.tolist() == [2.0] * size
    with zmlx.checked():
        assert library.fill(np.zeros(size, np.float32), 2)[0].tolist() == [2.0] * size


def test_structs_vectors_and_lists_are_bound(library: Any, mx: Any) -> None:
    x = mx.arange(6, dtype=mx.int32)
    params = np.array((2.5, 100), PARAMS)
    for given in (params, params[()], params.tobytes()):
        (out,) = library.transform(x, given, [1, 5])
        assert out.tolist() == [0, 102, 105, 107, 110, 5]


def test_atomics_and_bytes_are_bound(library: Any, mx: Any) -> None:
    (total,) = library.count(np.array([5], np.uint32), bytes(range(200)), [10, 20], threads=200)
    assert total.tolist() == [15]
    (total,) = library.count(mx.array([5], mx.uint32), mx.arange(200).astype(mx.uint8), [10, 20], threads=200)
    assert total.tolist() == [15]


def test_threadgroup_memory_is_given_in_bytes(library: Any, mx: Any) -> None:
    (x,) = library.reverse(mx.arange(32, dtype=mx.float32), threads=8, threadgroup_memory={"held": 128})
    assert x.tolist() == [4 * (7 - i // 4) + i % 4 for i in range(32)]


def test_threadgroup_memory_has_an_end(library: Any, mx: Any) -> None:
    with zmlx.checked(raise_on_finding=False) as check:
        library.reverse(mx.arange(32, dtype=mx.float32), threads=8, threadgroup_memory={"held": 64})
    assert "out-of-bounds" in {finding.kind for finding in check.findings}


def test_attributes_are_of_any_type_and_groups_smaller_at_the_edge(library: Any) -> None:
    x, y = np.meshgrid(np.arange(10), np.arange(3))
    in_edge = x // 4 == 2
    expected = (
        x % 4 + 10 * (x // 4) + 100 * 3 + 1000 * np.where(in_edge, 2, 4) + 10000 * np.where(y == 2, 1, 2)
    )
    out = np.zeros((3, 10), np.uint32)
    library.places(out, threads=(10, 3), group_size=(4, 2))
    assert out.tolist() == expected.tolist()


def test_an_index_that_no_buffer_has_is_none(library: Any, mx: Any) -> None:
    assert library.gap(2.0, None, mx.zeros(3))[0].tolist() == [2.0] * 3
    with pytest.raises(
        ArgumentTypeError, match=r"Expected argument 1 of 'gap' to be None, since it has no \[\[buffer"
    ):
        library.gap(2.0, 3.0, mx.zeros(3))


@pytest.mark.parametrize("size", [20, 20_000])
def test_a_write_past_the_end_is_an_error_without_a_check(size: int, library: Any, mx: Any) -> None:
    if current_backend() != "cpu":
        pytest.skip("on a GPU nothing guards the end of an output")
    with pytest.raises(KernelRuntimeError, match=r"past the end of its output 'x', at index"):
        library.add(np.ones(1, np.float32), np.zeros(size, np.float32), threads=(1, size + 8))


@pytest.mark.parametrize("checked", [False, True])
@pytest.mark.parametrize("followed", [0, 1])
def test_a_gradient_is_an_error(followed: int, checked: bool, library: Any, mx: Any) -> None:
    def total(x: Any) -> Any:
        arguments = [mx.ones(4), mx.ones(4)]
        arguments[followed] = x
        return library.add(*arguments, threads=(4, 1))[0].sum()

    with (
        zmlx.checked() if checked else contextlib.nullcontext(),
        pytest.raises(ValueError, match="'add' has no gradient"),
    ):
        mx.grad(total)(mx.ones(4))


def test_launches_are_recorded(library: Any, mx: Any) -> None:
    with watch() as seen:
        library.fill(mx.zeros(16), 1, threads=(8, 2), group_size=(4,))
    path = {"cpu": "loop"}.get(current_backend(), current_backend())
    (record,) = seen
    assert (record.kernel.name, record.backend, record.path) == ("fill", current_backend(), path)


# --- what is refused ----------------------------------------------------------------------------


#: Calls that are wrong, and what the error says.
WRONG = {
    "too few": (
        lambda lib, mx: lib.fill(mx.zeros(3)),
        "Expected 'fill' to be called with 2 arguments (0: device float* out; 1: constant float& value) but got 1.",
    ),
    "too many": (lambda lib, mx: lib.fill(mx.zeros(3), 1, 2), "1: constant float& value) but got 3."),
    "dtype": (
        lambda lib, mx: lib.fill(mx.zeros(3, mx.float16), 1),
        """Expected argument 0 of 'fill', `device float* out`, to be an array of float32 but got an mx.array of
        float16, shape (3,). Convert it: x.astype(mx.float32).""",
    ),
    "double": (lambda lib, mx: lib.fill(np.zeros(3), 1), "Convert it: x.astype('float32')."),
    "number for an array": (
        lambda lib, mx: lib.fill(3, 1),
        "to be an array of float32 but got 3. What a kernel writes has to be an array.",
    ),
    "None": (lambda lib, mx: lib.fill(None, 1), "to be an array of float32 but got None."),
    "text": (
        lambda lib, mx: lib.fill(mx.zeros(3), "1"),
        "Expected argument 1 of 'fill', `constant float& value`, to be an array of float32 or numbers but got '1'.",
    ),
    "list for a reference": (
        lambda lib, mx: lib.fill(mx.zeros(3), [1, 2]),
        "to be an array of float32 with 1 element, since it is a reference, but got [1, 2].",
    ),
    "complex": (lambda lib, mx: lib.fill(mx.zeros(3), 1j), "or numbers but got 1j"),
    "fraction": (
        lambda lib, mx: lib.count(mx.zeros(1, mx.uint32), b"1", [1.5, 70000]),
        """Expected argument 2 of 'count', `constant ushort* limits`, to be an array of uint16 or numbers that are
        exactly of it but got [1.5, 70000].""",
    ),
    "sign": (lambda lib, mx: lib.count(mx.zeros(1, mx.uint32), b"1", [-1, 5]), "but got [-1, 5]."),
    "number for a struct": (
        lambda lib, mx: lib.transform(mx.zeros(3, mx.int32), 3, [0, 1]),
        """Expected argument 1 of 'transform', `constant Params& params`, to be an array, or bytes, but got 3. For a
        struct, pass a NumPy array with the layout of Params.""",
    ),
    "shared": (
        lambda lib, mx: lib.add(*[np.zeros(4, np.float32)] * 2),
        """Expected arguments of 'add' that are written to have memory of their own, but 'y' and 'x' share some. Pass
        a copy for one.""",
    ),
    "read-only": (
        lambda lib, mx: lib.fill(np.broadcast_to(np.float32(0), 4), 1),
        "to be an array of float32 that can be written, but it is read-only. Pass a copy: np.array(x).",
    ),
    "nothing written": (
        lambda lib, mx: lib.read_only(mx.zeros(3)),
        """Expected 'read_only' to have a `device` buffer that is not const, to hold what it computes, but it takes
        const device float* x.""",
    ),
    "no threadgroup memory": (
        lambda lib, mx: lib.reverse(mx.zeros(8)),
        "Expected `threadgroup_memory` to have the bytes of held, by name, for 'reverse' but got {}.",
    ),
    "none of it": (
        lambda lib, mx: lib.reverse(mx.zeros(8), threadgroup_memory={"held": 0}),
        "Expected threadgroup_memory['held'] to be a number of bytes but got 0.",
    ),
    "some where none is": (
        lambda lib, mx: lib.fill(mx.zeros(3), 1, threadgroup_memory={"held": 64}),
        "Expected no `threadgroup_memory`, since 'fill' takes none, but got {'held': 64}.",
    ),
    "four counts": (
        lambda lib, mx: lib.fill(mx.zeros(3), 1, threads=(1, 1, 1, 1)),
        "Expected `threads` to be a number of threads, or one to three of them, but got (1, 1, 1, 1).",
    ),
    "text for threads": (lambda lib, mx: lib.fill(mx.zeros(3), 1, threads="3"), "but got '3'."),
    "negative": (
        lambda lib, mx: lib.fill(mx.zeros(3), 1, threads=-3),
        "[metal_library] Expected `threads` to be one to three counts of threads but got -3.",
    ),
    "large group": (
        lambda lib, mx: lib.fill(mx.zeros(3), 1, group_size=2048),
        "[metal_library] Expected `group_size` to be at most 1024 threads, as Metal has them, but got (2048, 1, 1).",
    ),
    "larger than it may": (
        lambda lib, mx: lib.places(np.zeros(200, np.uint32), threads=200, group_size=128),
        """Expected `group_size` to be at most 64 threads, the max_total_threads_per_threadgroup of 'places', but got
        (128, 1, 1).""",
    ),
    "traced": (
        lambda lib, mx: mx.compile(lambda x: lib.fill(x, 1)[0])(mx.zeros(3)),
        "'fill' changes its arrays as soon as it is called, so it cannot be traced by mx.compile",
    ),
}


@pytest.mark.parametrize("name", WRONG)
def test_a_wrong_call_says_what_was_expected(name: str, library: Any, mx: Any) -> None:
    call, message = WRONG[name]
    with pytest.raises(ValueError, match=re.escape(" ".join(message.split()))):
        call(library, mx)


def test_what_only_metals_own_api_has_is_refused(library: Any, mx: Any) -> None:
    with pytest.raises(TranslationError, match=r"got `texture2d.*` with \[\[texture\]\]. Textures, samplers"):
        library.drawn(mx.zeros(3))


@pytest.mark.parametrize(
    ("source", "options", "message"),
    [
        ("void f() {}", {}, "Expected the library to have kernels, `kernel void name(…)`"),
        ("kernels.metal", {}, "To read a file, pass Path('kernels.metal')."),
        ("\n#error not here\n", {}, "[metal_library] the library, line 2: #error not here"),
        ("kernel void f(device int* x) {}", {"defines": {"a b": 1}}, "to have identifiers as names but got 'a b'."),
        ("kernel void f(device int* x) {}", {"defines": {"N": [1]}}, "defines['N'] to be a text, a number or a bool"),
        ("kernel void f(device int* x) {}", {"function_constants": {"n": 1}}, "those of the library, got 'n'"),
        (7, {}, "Expected `source` to be Metal source, a str, but got 7"),
    ],
)  # fmt: skip
def test_a_wrong_library_says_what_was_expected(source: Any, options: Any, message: str) -> None:
    with pytest.raises(ValueError, match=re.escape(message)):
        zmlx.metal_library(source, **options)


def test_a_file_that_is_not_there_is_an_error() -> None:
    with pytest.raises(FileNotFoundError):
        zmlx.metal_library(FILES / "nothing.metal")


def test_a_compiler_speaks_of_the_files_lines(mx: Any) -> None:
    library = zmlx.metal_library("\n\nkernel void f(device int* x) {\n  int i = 0;\n  x[i] = nothing;\n}")
    with pytest.raises(KernelCompileError, match=r"source line 5"):
        library.f(mx.zeros(1, mx.int32))


# --- Metal and CUDA, as far as they go without ---------------------------------------------------

LAUNCHES = {
    "fill": lambda lib, mx: lib.fill(mx.zeros(3), 1),
    "add": lambda lib, mx: lib.add(mx.zeros(3), np.zeros(3, np.float32)),
    "transform": lambda lib, mx: lib.transform(mx.zeros(30, mx.int32), np.array((2, 1), PARAMS), [0, 9]),
    "count": lambda lib, mx: lib.count(mx.zeros(1, mx.uint32), bytes(4), [1, 2]),
    "embedded": lambda lib, mx: lib.count(mx.zeros(1, mx.uint32), bytes(4), [1, 2, *range(11)]),
    "reverse": lambda lib, mx: lib.reverse(mx.zeros(32), threads=8, threadgroup_memory={"held": 128}),
    "places": lambda lib, mx: lib.places(np.zeros(40, np.uint32)),
}  # fmt: skip


@pytest.mark.tools
@pytest.mark.parametrize("name", LAUNCHES)
def test_the_text_for_metal_is_what_mlx_would_compile_and_metal_take(
    name: str, library: Any, mx: Any, mlx_text: Any
) -> None:
    from zmlx.check.legality.judge import static_findings

    with recording("metal") as records:
        LAUNCHES[name](library, mx)
    (record,) = records
    signature = record.signature
    findings, _ = static_findings(signature, record.threadgroup)
    assert not findings, findings
    arrays = [
        mx.zeros((1 if kind.small else 8,), getattr(mx, {"bool": "bool_"}.get(kind.dtype, kind.dtype)))
        for kind in signature.inputs
    ]
    assert signature.metal_text() == mlx_text(signature.kernel, arrays, [mx.uint8], [])


def test_metal_has_small_structs_as_arguments_and_large_constants_in_its_text(library: Any, mx: Any) -> None:
    with recording("metal") as records:
        LAUNCHES["transform"](library, mx)
        LAUNCHES["embedded"](library, mx)
    small, large = (record.signature.metal_text() for record in records)
    assert "const constant uint64_t* zmlx_params [[buffer(1)]]" in small
    assert "constant ulong zmlx_limits[4] = {0x1000000020001ul, 0x5000400030002ul, " in large
    assert "zmlx_limits [[buffer" not in large


def test_metal_has_writable_copies_as_inputs(library: Any, mx: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """MLX's kernel, played by one that writes into what it is given, as the text says that the kernel does."""
    x = mx.arange(3, dtype=mx.float32)
    mx.eval(x)
    seen = []

    def native_kernel(source: Any) -> Any:
        def play(**call: Any) -> list[Any]:
            seen.append((source, call))
            assert any(arrays is call["inputs"] for arrays in evaluated), "nobody waits for the copies"
            evaluated.clear()
            held: list[Any] = []
            (ctypes.c_float * 2).from_address(view(call["inputs"][0], False, held).address)[:] = [5, 6]
            return [
                mx.zeros(shape, dtype)
                for shape, dtype in zip(call["output_shapes"], call["output_dtypes"], strict=True)
            ]

        return play

    evaluate, evaluated = mx.eval, []

    def noted(*arrays: Any) -> None:
        evaluated.extend(arrays)
        evaluate(*arrays)

    monkeypatch.setattr(mx, "eval", noted)
    monkeypatch.setattr("zmlx.launch.metal.native_kernel", native_kernel)
    for module in ("library", "kernel"):
        monkeypatch.setattr(f"zmlx.launch.{module}.current_backend", lambda stream=None: "metal")
    (filled,) = library.fill(x, 1, stream=mx.cpu)
    assert any(isinstance(arrays, list) for arrays in evaluated), "nobody waits for the launch"
    assert (filled.tolist(), x.tolist()) == ([5.0, 6.0, 2.0], [0.0, 1.0, 2.0])
    with pytest.raises(ValueError, match="'fill' has no gradient"):
        mx.grad(lambda x: library.fill(x, 1, stream=mx.cpu)[0].sum())(x)
    memory = np.zeros(3, np.float32)
    library.fill(memory, 1, stream=mx.cpu)
    assert memory.tolist() == [5.0, 6.0, 0.0]
    source, call = seen[0]
    assert "device float* out = (device float*)(zmlx_out);" in source.source
    assert "constant float& value = *(constant float*)(zmlx_value);" in source.source
    assert call["inputs"][0].size >= 8, "device memory: MLX passes fewer in constant memory"
    assert call["inputs"][1].size == 1
    message = (
        r"Expected `constant ushort\* limits` to have at most 4096 bytes on Metal but got 6000: MLX passes"
    )
    with pytest.raises(ValueError, match=message):
        library.count(mx.zeros(1, mx.uint32), b"1", [0] * 3000, stream=mx.cpu)


def test_cuda_has_what_is_written_behind_its_inputs(
    library: Any, mx: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A GPU that writes 7 to the first element of what is written, and notes what it was given."""
    from zmlx.launch import cuda

    try:
        find_nvrtc()
    except NvrtcNotFoundError as error:
        pytest.skip(str(error))
    seen = []

    def precompiled_cuda_kernel(**given: Any) -> list[Any]:
        seen.append(given)
        held: list[Any] = []
        ctypes.c_float.from_address(view(given["inputs"][-1], False, held).address).value = 7
        return [mx.zeros(s, d) for s, d in zip(given["output_shapes"], given["output_dtypes"], strict=True)]

    monkeypatch.setattr(mx.fast, "precompiled_cuda_kernel", precompiled_cuda_kernel)
    monkeypatch.setattr(mx, "device_info", lambda device: {"architecture": "sm_90"})
    monkeypatch.setattr(cuda, "_devices", [])
    for module in ("library", "kernel"):
        monkeypatch.setattr(f"zmlx.launch.{module}.current_backend", lambda stream=None: "cuda")
    x = mx.array([[1.0, 2.0]])
    (filled,) = library.fill(x, 3)
    assert (filled.tolist(), x.tolist()) == ([[7.0, 2.0]], [[1.0, 2.0]])
    with pytest.raises(ValueError, match="'fill' has no gradient"):
        mx.grad(lambda x: library.fill(x, 3)[0].sum())(x)
    given, _ = seen
    assert [array.shape for array in given["inputs"]] == [(), (3,)]
    assert (given["output_shapes"], given["output_dtypes"]) == ([(1,)], [mx.uint8])
    (nothing,) = library.fill(x, 3, threads=0)
    assert nothing.tolist() == [[1.0, 2.0]]
    assert len(seen) == 2, "no threads, no launch"


@pytest.mark.tools
@pytest.mark.parametrize("name", LAUNCHES)
def test_the_text_for_cuda_compiles(name: str, library: Any, mx: Any) -> None:
    from zmlx.launch.cuda import compile_cubin

    try:
        find_nvrtc()
    except NvrtcNotFoundError as error:
        pytest.skip(str(error))
    with recording("cuda") as records:
        LAUNCHES[name](library, mx)
    assert compile_cubin(records[0].signature, "sm_90")
