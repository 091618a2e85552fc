"""The C++ function around a translated kernel."""

from __future__ import annotations

import pytest

from zmlx.metal.conditions import ABSENT
from zmlx.metal.signature import ArrayType, KernelSource, make_signature
from zmlx.translate.function import cpp_function
from zmlx.translate.pipeline import run_signature

pytestmark = pytest.mark.cpu


def test_the_function_around_a_kernel():
    kernel = KernelSource(
        "scale",
        ("x", "by"),
        ("out",),
        "uint i = thread_position_in_grid.x;\nout[i] ->* zmlx_into = x[i] * by + x_ndim;",
        "// header\n",
        atomic_outputs=True,
    )
    signature = make_signature(
        kernel,
        [ArrayType("float32", 2), ArrayType("int32", 0)],
        ["uint32"],
        [("T", "float"), ("N", 3), ("B", True)],
    )
    undefined = "".join(f"#undef {name}\n" for name in ABSENT)
    assert cpp_function(signature, run_signature(signature, "host-fibers"), "run", "zmlx::Group& group") == (
        f"{undefined}"
        "namespace metal { namespace zmlx_kernel { namespace {\n"
        "\n"
        '#line 1 "scale header"\n'
        "// header\n"
        "\n"
        "template <typename T, int N, bool B>\n"
        "ZMLX_KERNEL void run(zmlx::Group& group, const float* x, const int& x_ndim, const int32_t& by, "
        "atomic<uint32_t>* out, uint3 thread_position_in_grid) {\n"
        '#line 1 "scale source"\n'
        "uint i = thread_position_in_grid.x;\nout[i] ->* zmlx_into = x[i] * by + x_ndim;\n"
        "}\n"
        "}}}  // namespace metal::zmlx_kernel\n"
    )
