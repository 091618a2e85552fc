"""`metal_library` in hands that do not know it: what is wrong is named, and what is unusual computes right."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import mlx.core as mx
import numpy as np
import pytest

import zmlx
from zmlx.errors import ArgumentTypeError

pytestmark = pytest.mark.cpu

#: What stands in front of a one-line kernel's body.
HEAD = "kernel void k(device float* x, uint i [[thread_position_in_grid]])"

SOURCE = """
constant bool causal [[function_constant(0)]];
constant int n [[function_constant(1)]];
constant uchar small [[function_constant(2)]];
constant float limit [[function_constant(3)]];

kernel void add(const device float* x, device float* y, uint i [[thread_position_in_grid]]) { y[i] += x[i]; }
kernel void swap(device float2* x, uint i [[thread_position_in_grid]]) { x[i] = x[i].yx; }
kernel void rounded(device bfloat* x, uint i [[thread_position_in_grid]]) { x[i] += 1; }
kernel void held(device float* x, threadgroup float* a, threadgroup float* b, uint i [[thread_position_in_grid]]) {
  a[i] = x[i]; b[i] = a[i];
  x[i] = 2 * b[i];
}
kernel void optional(device float* x, device float* y [[function_constant(causal)]], uint i [[thread_position_in_grid]]) {
  x[i] = 5;
  if (causal) y[i] = 6;
}
kernel void same(device float* x [[buffer(1)]], device float* y [[buffer(1)]]) { x[0] = 1; }
kernel void beyond(device float* x [[buffer(31)]]) { x[0] = 1; }
"""  # noqa: E501


def zeros(*shape: int) -> Any:
    return np.zeros(shape, np.float32)


@pytest.fixture(scope="module")
def library() -> Any:
    return zmlx.metal_library(SOURCE)


# --- texts ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("source", "message"),
    [
        (HEAD + " {\n  x[i] = 1;", "the library, line 1: `{` is not closed. Write `}` behind what it holds."),
        (HEAD + " {\n  x[i] = (1;\n}", "line 3: expected `)` for the `(` of line 2 but got `}`. Close each bracket"),
        (HEAD + " {}\n}", "the library, line 2: `}` closes nothing. Remove it, or write its `{`."),
        ("#if 1\n" + HEAD + " {}", "the library, line 1: `#if` has no `#endif`."),
        (
            f"{HEAD} {{}}\nkernel void k(device int* x) {{}}",
            "to have names of their own, but 'k' is there twice (line 1 and 2). Give one another name",
        ),
        (
            "namespace a { kernel void k(device int* x) {} } namespace b { kernel void k(device int* x) {} }",
            "'k' is there twice (line 1).",
        ),
    ],
)  # fmt: skip
def test_a_source_that_metal_would_refuse_says_what_is_wrong(source: str, message: str) -> None:
    with pytest.raises(ValueError, match=re.escape(message)):
        zmlx.metal_library(source)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"defines": ["A"]}, "[metal_library] Expected `defines` to be texts by name, {'TILE': 32}, but got ['A']."),
        ({"defines": {"N": None}}, "[metal_library] Expected defines['N'] to be a text, a number or a bool but got"),
        ({"include_dirs": "here"}, "Expected `include_dirs` to be a list of folders but got 'here'. Write ['here']."),
        ({"function_constants": ["n"]}, "function_constants to be values by name, {'causal': True}, got ['n']."),
    ],
)  # fmt: skip
def test_options_of_another_kind_are_named(options: Any, message: str) -> None:
    with pytest.raises(
        ArgumentTypeError, match="^" + re.escape(message) if message[0] == "[" else re.escape(message)
    ):
        zmlx.metal_library(SOURCE, **options)


def test_a_file_that_is_not_utf8_is_named(tmp_path: Path) -> None:
    path = tmp_path / "old.metal"
    path.write_bytes(b"// \xfc\n" + HEAD.encode() + b" {}")
    with pytest.raises(ValueError, match=r"old\.metal is not UTF-8"):
        zmlx.metal_library(path)


def test_text_from_windows_and_without_a_last_line_end() -> None:
    source = f"// größe\r\n#define N \\\r\n  4\r\n#if 0\r\nkernel don't\r\n#endif\r\n{HEAD} {{ x[i] = N; }}"
    x = zeros(3)
    zmlx.metal_library(source).k(x)
    assert x.tolist() == [4, 4, 4]


def test_a_file_is_included_in_angle_brackets(tmp_path: Path) -> None:
    (tmp_path / "helper.h").write_text("inline float helper(float x) { return x + 3; }\n")
    source = f"#include <metal_stdlib>\n#include <helper.h>\n{HEAD} {{ x[i] = helper(x[i]); }}"
    x = zeros(2)
    zmlx.metal_library(source, include_dirs=[tmp_path]).k(x)
    assert x.tolist() == [3, 3]


def test_defines_are_numbers_also_of_numpy_and_below_zero() -> None:
    body = "{ x[i] = 2-A; x[i] += B; x[i] = min(x[i], C); }"
    x = zeros(2)
    zmlx.metal_library(f"{HEAD} {body}", defines={"A": -5, "B": np.float32(0.5), "C": float("inf")}).k(x)
    assert x.tolist() == [7.5, 7.5]


def test_types_made_of_kernels_as_in_llama_cpp() -> None:
    library = zmlx.metal_library("""
        template <typename T, int N> kernel void f(device T* x, uint i [[thread_position_in_grid]]) { x[i] = N; }
        typedef decltype(f<float, 2>) f_t;
        template [[host_name("f_2")]] kernel f_t f<float, 2>;
        template [[host_name("f_3")]] kernel f_t f<float, 3>;
    """)
    x = zeros(2)
    library.f_3(x)
    assert (list(library), x.tolist()) == (["f_2", "f_3"], [3, 3])


def test_parameters_without_names_and_attributes_in_front() -> None:
    library = zmlx.metal_library("""
        kernel void k([[buffer(1)]] device float* x, constant float&, uint [[thread_index_in_threadgroup]],
                      [[thread_position_in_grid]] uint i) { x[i] = 3; }
    """)
    x = zeros(2)
    library.k(1.0, x, threads=2)
    assert x.tolist() == [3, 3]


@pytest.mark.parametrize(
    "source", [HEAD + " { x[i] = missing; }", f"float f() {{ return missing; }}\n{HEAD} {{ x[i] = f(); }}"]
)
def test_a_name_that_is_nothing_is_no_template_argument_of_a_library(source: str) -> None:
    with pytest.raises(
        zmlx.KernelCompileError, match="`missing` is declared neither in the file nor in what it includes"
    ):
        zmlx.metal_library(source).k(zeros(1))


# --- function constants --------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"n": 2.5}, "function_constants['n'] to be a value of `int`, as it is declared, got 2.5."),
        ({"n": 2**31}, "`int`, as it is declared, got 2147483648."),
        ({"n": float("nan")}, "`int`, as it is declared, got nan."),
        ({"small": -1}, "`uchar`, as it is declared, got -1."),
        ({"causal": 2}, "`bool`, as it is declared, got 2."),
    ],
)
def test_a_function_constant_is_of_its_type(given: Any, message: str) -> None:
    with pytest.raises(ValueError, match=re.escape(message)):
        zmlx.metal_library(SOURCE, function_constants=given)


def test_values_of_numpy_and_infinity_are_values() -> None:
    source = "constant float limit [[function_constant(0)]]; constant int n [[function_constant(1)]];"
    x = zeros(2)
    values = {"limit": float("-inf"), "n": np.int64(-3)}
    zmlx.metal_library(f"{source}{HEAD} {{ x[i] = i ? limit : -n; }}", function_constants=values).k(x)
    assert x.tolist() == [3, -np.inf]


def test_a_buffer_that_a_constant_keeps_has_to_be_given() -> None:
    kept = zmlx.metal_library(SOURCE, function_constants={"causal": True})
    with pytest.raises(ValueError, match=r"'optional' to be called with 2 arguments .* but got 1\."):
        kept.optional(zeros(2))
    with pytest.raises(ArgumentTypeError, match=r"argument 1 of 'optional'.* but got None"):
        kept.optional(zeros(2), None)
    x, y = kept.optional(zeros(2), zeros(2))
    assert (x.tolist(), y.tolist()) == ([5, 5], [6, 6])
    (x,) = zmlx.metal_library(SOURCE, function_constants={"causal": False}).optional(zeros(2))
    assert x.tolist() == [5, 5]


# --- arrays --------------------------------------------------------------------------------------


def test_views_between_each_other_are_apart(library: Any) -> None:
    memory = np.arange(6, dtype=np.float32)
    library.add(memory[::2], memory[1::2])
    assert memory.tolist() == [0, 1, 2, 5, 4, 9]


def test_memory_behind_another_object_is_seen_to_be_shared(library: Any) -> None:
    memory = zeros(4)
    with pytest.raises(ValueError, match="'x' and 'y' share some"):
        library.add(memoryview(memory), memory)


def test_windows_that_slide_are_not_written(library: Any) -> None:
    windows = np.lib.stride_tricks.as_strided(zeros(5), (4, 2), (4, 4))
    message = "whose elements lie apart, since the kernel writes them, but several share memory: shape (4, 2), strides"
    with pytest.raises(ValueError, match=re.escape(message)):
        library.add(zeros(8), windows)
    turned = np.arange(6, dtype=np.float32).reshape(2, 3).T[::-1]  # elements apart, in any order
    library.add(np.ones(6, np.float32), turned)
    assert turned.tolist() == [[3, 6], [2, 5], [1, 4]]


@pytest.mark.parametrize("written", [False, True])
def test_another_byte_order_is_named(written: bool, library: Any) -> None:
    arrays = [zeros(2), zeros(2)]
    arrays[written] = np.zeros(2, ">f4")
    with pytest.raises(
        ArgumentTypeError, match=re.escape("byte order but got dtype '>f4'. Convert it: x.astype('float32').")
    ):
        library.add(*arrays)  # fmt: skip


def test_complex_numbers_are_told_how_to_be_pairs(library: Any) -> None:
    numbers = np.array([1 + 2j, 3], np.complex64)
    with pytest.raises(ArgumentTypeError, match=re.escape("pass x.view('float32').")):
        library.swap(numbers)
    with pytest.raises(ArgumentTypeError, match=re.escape("pass x.view(mx.float32).")):
        library.swap(mx.array(numbers))
    library.swap(numbers.view("float32"), threads=2)
    assert numbers.tolist() == [2 + 1j, 3j]


def test_numpy_has_no_bfloat(library: Any) -> None:
    with pytest.raises(ArgumentTypeError, match=r"NumPy has none: pass an mx\.array\."):
        library.rounded(np.zeros(2, np.uint16))


# --- extents and memory --------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"threads": (1, -1)}, "`threads` to be one to three counts of threads but got (1, -1)."),
        ({"group_size": (0, 4)}, "`group_size` to have at least one thread but got (0, 4, 1)."),
        ({"group_size": (32, 64)}, "`group_size` to be at most 1024 threads, as Metal has them, but got (32, 64, 1)."),
        ({"threadgroup_memory": 64}, "Expected no `threadgroup_memory`, since 'add' takes none, but got 64."),
    ],
)  # fmt: skip
def test_extents_are_spoken_of_by_their_own_names(options: Any, message: str, library: Any) -> None:
    with pytest.raises(
        ValueError, match=r"^\[metal_library\] Expected .*" + re.escape(message.removeprefix("Expected "))
    ):
        library.add(zeros(4), zeros(4), **options)  # fmt: skip


def test_threadgroup_memory_is_as_much_as_metal_has(library: Any) -> None:
    message = "to be at most 32768 bytes, as Metal has it, but got {'a': 32768, 'b': 4}."
    with pytest.raises(ValueError, match=re.escape(message)):
        library.held(zeros(4), threadgroup_memory={"a": 32768, "b": 4})
    (x,) = library.held(np.ones(4, np.float32), threadgroup_memory={"a": np.int64(16), "b": 32752})
    assert x.tolist() == [2, 2, 2, 2]


@pytest.mark.parametrize(
    ("name", "message"),
    [
        (
            "same",
            "'same' cannot be launched: 'x' and 'y' are both [[buffer(1)]]; give each an index of its own.",
        ),
        ("beyond", "'beyond' cannot be launched: 'x' is [[buffer(31)]], and Metal has 31 buffers, from 0."),
    ],
)
def test_a_kernel_with_wrong_indices_stops_no_other(name: str, message: str, library: Any) -> None:
    with pytest.raises(ValueError, match=re.escape(message)):
        library[name](zeros(1))
