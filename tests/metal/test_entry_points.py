"""The kernels that a Metal text has: their names, buffers and attributes."""

from __future__ import annotations

import pytest

from zmlx.metal.entry_points import EntryPoint, TemplateParameter, entry_points

pytestmark = pytest.mark.cpu


def only(text: str) -> EntryPoint:
    (entry,) = entry_points(text)
    return entry


@pytest.mark.parametrize(
    ("text", "names"),
    [
        ("kernel void f(device float* x) {}", ["f"]),
        ("[[kernel]] void f(device float* x) {}", ["f"]),
        ('[[host_name("other")]] kernel void f(device float* x) {}', ["other"]),
        ("void f(device float* x) {} kernel void g(device float* x) {}", ["g"]),
        ("kernel void f(device float* x);", []),
        ("template <typename T> kernel void f(device T* x) {}", []),
        (
            """template <typename T> [[kernel]] void f(device T* x) {}
            template [[host_name("f_" "float")]] [[kernel]] decltype(f<float>) f<float>;
            template [[host_name("f_half")]] kernel void f<half>(device half*);""",
            ["f_float", "f_half"],
        ),
        ("template <int N> [[kernel]] void f(device int* x) {} template [[kernel]] decltype(f<4>) f<4>;", ["f"]),
        ("namespace a { kernel void f(device float* x) {} } int kernel_size = 3;", ["f"]),
    ],
)  # fmt: skip
def test_kernels_are_found(text: str, names: list[str]) -> None:
    assert [entry.name for entry in entry_points(text)] == names


@pytest.mark.parametrize(
    ("parameter", "declaration", "written"),
    [
        ("device float* x", "device float* x", True),
        ("const device float* x", "const device float* x", False),
        ("device const float *x [[buffer(0)]]", "const device float* x", False),
        ("device float* const x", "device float* x", True),
        ("constant uint& n", "constant uint& n", False),
        ("constant const int64_t strides[2]", "const constant int64_t* strides", False),
        ("device metal::atomic<int>* x", "device metal::atomic<int>* x", True),
        ("device atomic_uint &x", "device atomic_uint& x", True),
        ("const constant unsigned int* n", "const constant unsigned int* n", False),
        ("device vec<float, 4>* restrict x", "device vec<float, 4>* x", True),
        ("coherent(device) device float* x", "device float* x", True),
        ("device volatile float* x", "device float* x", True),
    ],
)
def test_a_buffer_is_read_from_its_declaration(parameter: str, declaration: str, written: bool) -> None:
    entry = only(f"kernel void f({parameter}, uint i [[thread_position_in_grid]]) {{}}")
    ((_, argument),) = entry.buffers
    assert (argument.declaration, argument.written) == (declaration, written)


def test_buffers_are_in_the_order_of_their_indices() -> None:
    entry = only(
        "kernel void f(device int* a [[buffer(2)]], device int* b, device int* c [[buffer(0)]], device int* d, "
        "threadgroup int* t [[threadgroup(1)]], threadgroup int* s [[threadgroup(0)]]) {}"
    )
    assert [(index, argument.name) for index, argument in entry.buffers] == [
        (0, "c"),
        (1, "b"),
        (2, "a"),
        (3, "d"),
    ]
    assert [argument.name for _, argument in entry.threadgroup_memory] == ["s", "t"]


def test_a_template_has_the_values_of_its_instance() -> None:
    entry = only(
        "namespace a { namespace b {\n"
        "template <typename T, typename U = T, int N = 4 * 2, bool wide = false>\n"
        "[[kernel, max_total_threads_per_threadgroup(N * 32)]] void f(device T* x) {\n"
        "  x[0] = N; }\n"
        '}}\ntemplate [[host_name("g")]] [[kernel]] decltype(a::b::f<float, array<int, 2>, 16>) '
        "a::b::f<float, array<int, 2>, 16>;"
    )
    assert entry.template == (
        TemplateParameter("typename", "T", "float"),
        TemplateParameter("typename", "U", "array<int, 2>"),
        TemplateParameter("int", "N", "16"),
        TemplateParameter("bool", "wide", "false"),
    )
    assert entry.namespaces == ("a", "b")
    assert entry.max_threads == 512
    assert (entry.line, entry.body) == (3, "\n  x[0] = N; ")
    assert not entry.problem


@pytest.mark.parametrize(
    ("parameters", "problem"),
    [
        ("typename T, int N", "its instantiation does not say what the template parameter 'N' is"),
        ("typename... T", "its template parameter 'T' is a template or a pack"),
        ("template <typename> class T", "its template parameter 'T' is a template or a pack"),
    ],
)
def test_what_no_launch_can_have_is_said(parameters: str, problem: str) -> None:
    entry = only(
        f"template <{parameters}> kernel void f(device int* x) {{}}\n"
        'template [[host_name("g")]] [[kernel]] decltype(f<float>) f<float>;'
    )
    assert entry.problem == problem
