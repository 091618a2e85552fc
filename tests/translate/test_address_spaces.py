from __future__ import annotations

import pytest

from zmlx.errors import TranslationError
from zmlx.metal.signature import KernelSource
from zmlx.translate import translate

pytestmark = pytest.mark.cpu


def squeeze(text: str) -> str:
    return " ".join(text.split())


def body(source: str, target: str = "host", header: str = "") -> str:
    return squeeze(translate(KernelSource("k", ("x",), ("out",), source, header), target, False).body)


def header(text: str, target: str = "host") -> str:
    return squeeze(translate(KernelSource("k", ("x",), ("out",), "", text), target, False).header)


@pytest.mark.parametrize(
    ("metal", "cpp"),
    [
        ("device float* p = out;", "float* p = out;"),
        ("const device float4* p = (const device float4*)x;", "const float4* p = (const float4*)x;"),
        ("thread float& r = a;", "float& r = a;"),
        ("constant float* w = t;", "const float* w = t;"),
        ("const constant float* w = t;", "const float* w = t;"),
        ("constant const float* w = t;", "const float* w = t;"),
        ("const T constant* w = t;", "const T * w = t;"),
        ("float constant* w = t;", "float const* w = t;"),
        ("constant float* const w = t;", "const float* const w = t;"),
        ("static constexpr constant float n[2] = {1, 2};", "static constexpr float n[2] = {1, 2};"),
        ("f(x, (constant float*)w);", "f(x, (const float*)w);"),
        ("auto q = (threadgroup float*)s;", "auto q = ( float*)s;"),
        ("threadgroup float* q = s;", "float* q = s;"),
        ("threadgroup float (&q)[4] = s;", "float (&q)[4] = s;"),
        ("threadgroup float* rows[2] = {s, t};", "float* rows[2] = {s, t};"),
        ("const threadgroup auto& q = s[0];", "const auto& q = s[0];"),
        ("f<threadgroup float*>(q);", "f< float*>(q);"),
        ("reinterpret_cast<threadgroup uint*>(s);", "reinterpret_cast< uint*>(s);"),
        ("mem_flags f = mem_flags::mem_device;", "mem_flags f = mem_flags::mem_device;"),
        ("p.device = 1; q->thread = 2;", "p.device = 1; q->thread = 2;"),
    ],
)
def test_words_that_go(metal, cpp):
    assert body(metal) == cpp


def test_constants_of_the_header():
    assert header("constant constexpr int n = 3;") == "constexpr int n = 3;"


def test_a_word_that_becomes_a_part_of_a_name_stays():
    meet = "#define MEET(memory) threadgroup_barrier(mem_flags::mem_##memory)"
    assert body("MEET(threadgroup); MEET(device);", header=meet) == "MEET(threadgroup); MEET(device);"
    with pytest.raises(TranslationError, match=r"line 2: `device` is an address space and a part of a name"):
        header("#define FIRST(space) int first_##space(const space int* p) { return p[0]; }\nFIRST(device)")


@pytest.mark.parametrize("metal", ["volatile threadgroup int s[4];", "threadgroup volatile int s[4];"])
def test_volatile_is_of_the_elements(metal):
    assert "__shared__ zmlx_storage<volatile int[4]>" in body(metal, "cuda")
    assert "slot<volatile int[4]>" in body(metal)
    assert body(metal).startswith("volatile int (&s)[4]")


@pytest.mark.parametrize(
    ("metal", "kind", "name", "extents"),
    [
        ("threadgroup float s[32];", "float", "s", "[32]"),
        ("threadgroup T a[N][M + 1];", "T", "a", "[N][M + 1]"),
        ("threadgroup int n;", "int", "n", ""),
        ("threadgroup vec<float, 4> q[8];", "vec<float, 4>", "q", "[8]"),
        ("threadgroup metal::float4 q;", "metal::float4", "q", ""),
        ("threadgroup unsigned int u[4];", "unsigned int", "u", "[4]"),
        ("threadgroup typename Tile<T>::Row r[2];", "typename Tile<T>::Row", "r", "[2]"),
        ("threadgroup decltype(x) d;", "decltype(x)", "d", ""),
        ("threadgroup volatile float s[2];", "volatile float", "s", "[2]"),
        ("threadgroup atomic_int hits[N > 4 ? 4 : N];", "atomic_int", "hits", "[(N > 4 ? 4 : N)]"),
        ("threadgroup float s[1 << N];", "float", "s", "[1 << N]"),
        ("threadgroup float s[N >> 1][2];", "float", "s", "[(N >> 1)][2]"),
        ("threadgroup array<half, (N >> M)> s;", "array<half, (N >> M)>", "s", ""),
        ("alignas(16) threadgroup half4 h[4];", "half4", "h", "[4]"),
        ("threadgroup alignas(16) half4 h[4];", "half4", "h", "[4]"),
        ("threadgroup alignas(16) alignas(float4) half4 h[4];", "half4", "h", "[4]"),
        ("threadgroup half4 h[4] __attribute__((aligned(16)));", "half4", "h", "[4]"),
        ("threadgroup __attribute__((aligned(16))) half4 h[4];", "half4", "h", "[4]"),
        ("if (c) { threadgroup float s[4]; }", "float", "s", "[4]"),
        ("threadgroup\n float // comment\n s\n [4];", "float", "s", "[4]"),
    ],
)
def test_storage(metal, kind, name, extents):
    declared = f"{kind} (&{name}){extents}" if extents else f"{kind}& {name}"
    assert f'{declared} = zmlx_group.slot<{kind}{extents}>(__COUNTER__, "{name}")' in body(metal)
    shared = f"__shared__ zmlx_storage<{kind}{extents}> zmlx_{name}; {declared} = zmlx_{name}.value()"
    assert shared in body(metal, "cuda")


def test_several_variables_in_one_declaration():
    text = body("threadgroup float a[4], b, c[2][3];")
    assert text.count("zmlx_group.slot<") == 3
    assert "float& b = zmlx_group.slot<float>" in text
    assert "float (&c)[2][3] = zmlx_group.slot<float[2][3]>" in text


def test_storage_in_macros():
    assert '(&n) [8] = zmlx_group.slot<T[8]>(__COUNTER__, "n")' in header(
        "#define TILE(T, n) threadgroup T n[8]\n"
    ).replace(")[8]", ") [8]")
    pasted = header("#define TILE(n) threadgroup float tile_##n[4]\n")
    assert "float (&tile_##n)[4] = zmlx_group.slot<float[4]>" in pasted
    assert "zmlx_storage<float[4]> zmlx_tile_##n;" in header(
        "#define TILE(n) threadgroup float tile_##n[4]\n", "cuda"
    )
    two = header("#define TILE(n) threadgroup float n[4]\n", "cuda")
    assert "zmlx_storage<float[4]> zmlx_##n; float (&n)[4] = zmlx_##n.value()" in two
    two_lines = header("#define S(n) threadgroup float n[8]; \\\n  n[0] = 1.0;\nint after;")
    assert "slot<float[8]>" in two_lines
    assert "n[0] ->* zmlx_into = 1.0f; int after;" in two_lines


def test_a_size_may_be_a_macro_with_a_comparison():
    text = body("threadgroup float a[SIZE], b[2];", header="#define SIZE 128 >> 2\n")
    assert "slot<float[(SIZE)]>" in text
    assert "slot<float[2]>" in text


def test_a_macro_may_be_another_name_of_an_address_space():
    text = body(
        "TG float s[4]; GLOBAL float* p; TG float* q = s;",
        header="#define TG threadgroup\n#define GLOBAL device\n",
    )
    assert "float (&s)[4] = zmlx_group.slot<float[4]>" in text
    assert text.endswith("GLOBAL float* p; float* q = s;")


def test_parameters_are_no_storage():
    assert header("void f(threadgroup float s[32], threadgroup float* p, uint n);") == (
        "void f( float s[32], float* p, uint n);"
    )


def test_lines_stay_where_they_are():
    source = "threadgroup\n  float s[\n  32];\n\nint last = 1;"
    for target in ("host", "cuda"):
        assert (
            translate(KernelSource("k", ("x",), ("out",), source), target).body.split("\n")[4]
            == "int last = 1;"
        )


@pytest.mark.parametrize(
    ("source", "what"),
    [
        (
            "threadgroup float s[2] = {0, 0};",
            "`threadgroup` variable `s` cannot have an initialiser in Metal",
        ),
        ("threadgroup float s[2], *p;", "`*` in a threadgroup declaration: declare pointers separately"),
        ("float threadgroup s[32];", "`threadgroup` here is neither a pointer nor a variable with its type"),
        (
            "threadgroup struct { float a; } s;",
            "`threadgroup` here is neither a pointer nor a variable with its type",
        ),
        (
            "threadgroup float s(1.0f);",
            "`threadgroup` here is neither a pointer nor a variable with its type",
        ),
    ],
)
def test_what_is_not_understood_is_refused(source, what):
    with pytest.raises(TranslationError) as error:
        body("\n" + source)
    assert str(error.value).startswith(f"[metal_kernel] 'k', source line 2: {what}")


@pytest.mark.parametrize(
    ("macro", "use", "what"),
    [
        ("#define SMEM threadgroup float\n", "SMEM s[4];", "header line 1: `threadgroup` here is neither"),
        (
            "#define DECLARE(x) x\n",
            "DECLARE(threadgroup float s[4]);",
            "source line 1: `threadgroup` in the arguments of the macro `DECLARE`: write it into the macro",
        ),
    ],
)
def test_macros_that_would_hide_storage_are_refused(macro, use, what):
    with pytest.raises(TranslationError) as error:
        body(use, header=macro)
    assert what in str(error.value)
