"""`opinfo_tests` in a project of one's own: what it writes, and that each subject notices what it is there for."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from zmlx.testing import opinfo_tests
from zmlx.testing.generated import profiles
from zmlx.testing.op_db import op_db

pytestmark = pytest.mark.cpu

#: A table of one kernel, and of faults that can be planted into it by the name of a function.
TABLE = '''
import mlx.core as mx
import numpy as np
import zmlx
from zmlx.testing import ErrorInput, OpInfo, SampleInput

SOURCE = "uint i = thread_position_in_grid.x; out[i] = x[i] * x[i];"
BACKWARD = "uint i = thread_position_in_grid.x; dx[i] = 2 * x[i] * dy[i];"
ONE_WRONG = BACKWARD.replace("2 *", "3 *")


def run(name, inputs, source):
    x = inputs[0]
    if x.size == 0:
        return mx.zeros_like(x)
    kernel = zmlx.metal_kernel(name, ["x", "dy"][: len(inputs)], ["dx" if len(inputs) > 1 else "out"], source)
    return kernel(
        inputs=inputs, grid=(x.size, 1, 1), threadgroup=(64, 1, 1), output_shapes=[x.shape], output_dtypes=[x.dtype]
    )[0]


def square(x, source=SOURCE, backward=BACKWARD, check=True, scale=1.0):
    if check and x.dtype not in (mx.float32, mx.float16, mx.bfloat16):
        raise TypeError(f"square takes floats, got {x.dtype}")

    @mx.custom_function
    def call(x):
        return run("square", [x], source) * scale

    @call.vjp
    def call_vjp(primals, cotangent, _):
        return run("square_vjp", [primals, cotangent], backward)

    return call(x)


def in_memory_order(x):
    # A fault: strides are not looked at.
    return mx.array(np.asarray(x.astype(mx.float32)).ravel("K").reshape(x.shape)).astype(x.dtype)


def by_operations(x):
    # A fault: the forward is the kernel, the gradient is MLX's.
    @mx.custom_function
    def call(x):
        return run("square", [x], SOURCE)

    @call.vjp
    def call_vjp(primals, cotangent, _):
        return 2 * primals * cotangent

    return call(x)


MEAN = """
    uint row = thread_position_in_grid.x, length = x_shape[1];
    float sum = 0;
    for (uint j = 0; j < length; ++j) sum += x[row * length + j];
    out[row] = sum / length;
"""


def mean(x, source=MEAN):
    kernel = zmlx.metal_kernel("mean", ["x"], ["out"], source)
    rows = x.shape[0]
    return kernel(
        inputs=[x], grid=(rows, 1, 1), threadgroup=(64, 1, 1), output_shapes=[(rows,)], output_dtypes=[x.dtype]
    )[0]


def table_of_mean(source=MEAN, most=4200):
    def up_to(x):
        if x.shape[1] > most > 4200:
            raise ValueError(f"mean takes rows of up to {most} elements, got {x.shape[1]}")
        return mean(x, source)

    full = lambda rng: [SampleInput("small", (rng("small").uniform((4, 8), 1, 2),))]
    more = dict(oracle=lambda x: x.mean(-1), oracle_vjp=None, differentiable=(), samples=full, error_inputs=())
    return table(up_to, refuses_other_dtypes=False, extents=(1, most), **more)


def samples(rng):
    yield SampleInput("small", (rng("small").normal((4, 8)),))
    yield SampleInput("special", (np.array([[np.nan, np.inf], [-0.0, 1.0]]),))
    yield SampleInput("empty", (np.zeros((0, 8)),))


def table(op=square, **more):
    return (
        OpInfo(
            **{
                **dict(
                    name="mine.square",
                    op=op,
                    oracle=np.square,
                    oracle_vjp=lambda x, dy: (2 * x * dy,),
                    differentiable=(0,),
                    samples=samples,
                    source="the definition",
                    error_inputs=(
                        ErrorInput("integer", lambda: (mx.ones(3, mx.int32),), TypeError,
                                   "square takes floats, got mlx.core.int32"),
                    ),
                    supports_vmap=False,
                    supports_compile=False,
                ),
                **more,
            }
        ),
    )


OPS = table()
MORE = table(name="mine.cube")
'''

EVERYTHING = {
    *(
        "test_forward",
        "test_gradient",
        "test_layouts",
        "test_runs_repeat",
        "test_joint_evaluation",
        "test_vmap",
    ),
    *("test_compile", "test_errors", "test_other_dtypes_are_refused", "test_large", "test_properties"),
}


@pytest.fixture
def project(pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], pytest.RunResult]:
    """``project("table(...)")`` runs the tests of that table, with as many examples on a CI machine as elsewhere."""
    monkeypatch.setenv(profiles.VARIABLE, "dev")

    def run(table: str, only: str = "mine") -> pytest.RunResult:
        pytester.makepyfile(mine=TABLE)
        pytester.makepyfile(
            f"from mine import *\nfrom zmlx.testing import opinfo_tests\nopinfo_tests({table})\n"
        )
        options = (
            "-p",
            "zmlx.testing.plugin",
            "-p",
            "no:cacheprovider",
            "-p",
            "no:xdist",
            "--backend=cpu",
            "-rA",
        )
        # Not in this process: the launchers would be imported a second time beside the first.
        return pytester.runpytest_subprocess(*options, "-k", only)

    return run


def test_everything_is_generated_for_a_table_of_ones_own(project: Callable[..., pytest.RunResult]) -> None:
    found = project("table()")
    # What depends on where values lie has float32 and bfloat16, as large as float16: four layouts, repeats. Joint
    # evaluation has one dtype.
    found.assert_outcomes(passed=9 + 9 + 8 + 2 + 1 + 1 + 1 + 1 + 2 + 1)
    assert "::test_layouts[mine.square-bfloat16-sliced]" in found.stdout.str()
    assert "::test_layouts[mine.square-float16-" not in found.stdout.str()
    assert "property-based examples (profile dev): 8" in found.stdout.str()
    for name in EVERYTHING - {"test_vmap"}:
        assert f"::{name}[mine.square" in found.stdout.str()
    assert "test_vmap" not in found.stdout.str()


def test_names_are_those_that_ops_db_has() -> None:
    namespace: dict[str, object] = {}
    opinfo_tests(op_db, namespace)
    assert set(namespace) == {*EVERYTHING, "zmlx_claimed", "zmlx_ops"}


def test_a_second_call_is_refused() -> None:
    namespace: dict[str, object] = {}
    opinfo_tests(op_db, namespace)
    with pytest.raises(
        ValueError, match=r"^opinfo_tests: the module has a test_forward already\. .*\(\*OPS, \*MORE\)"
    ):
        opinfo_tests(op_db, namespace)


def test_an_empty_table_is_refused() -> None:
    with pytest.raises(ValueError, match=r"expected at least one OpInfo, got an empty table"):
        opinfo_tests((), {})


@pytest.mark.parametrize(
    ("table", "failed", "complaint"),
    [
        pytest.param(
            "table(lambda x: square(x, scale=1.01))", "test_forward", "outside the tolerance", id="value"
        ),
        pytest.param(
            "table(lambda x: mx.square(x))", "test_forward", "no kernel was launched", id="fallback"
        ),
        pytest.param(
            "table(lambda x: square(x, SOURCE.replace('out[i]', 'if (i % 2) out[i]')))",
            "test_forward",
            "got nan",
            id="unwritten",
        ),
        pytest.param(
            "table(lambda x: square(x).astype(mx.float32))",
            "test_forward",
            "the entry promises float16",
            id="dtype",
        ),
        pytest.param(
            "table(lambda x: square(x, backward=ONE_WRONG))",
            "test_gradient",
            "are outside the tolerance",
            id="gradient",
        ),
        pytest.param(
            "table(kernels=('cube',))",
            "test_forward",
            "mine.square/float32/small: cube was not launched",
            id="kernel",
        ),
        pytest.param(
            "table(kernels=('square_*',))", "test_forward", "square_* was not launched", id="pattern"
        ),
        pytest.param(
            "table(by_operations, grad_kernels=('square_vjp',))",
            "test_gradient",
            "square_vjp was not launched for the gradient",
            id="backward",
        ),
        pytest.param(
            "table(lambda x: square(x, check=False))",
            "test_other_dtypes_are_refused",
            "raise TypeError for it, claim it, or say refuses_other_dtypes=False",
            id="claim",
        ),
        pytest.param("table(supports_compile=True)", "test_compile", "reference", id="compile"),
        pytest.param("table(supports_vmap=True)", "test_vmap", "reference", id="vmap"),
        pytest.param(
            "table(lambda x: square(x) + mx.random.uniform(0, 1e-6))",
            "test_runs_repeat",
            "two runs",
            id="repeat",
        ),
        pytest.param(
            "table(lambda x: square(in_memory_order(x)), differentiable=(), oracle_vjp=None)",
            "test_layouts",
            "against row",
            id="layout",
        ),
        pytest.param(
            "table(lambda x: square(x, SOURCE.replace('uint i', 'ushort i')))",
            "test_large",
            "mine.square-rows]",
            id="index of 16 bits",
        ),
        pytest.param(
            "table(lambda x: square(x, backward=BACKWARD.replace('uint i', 'ushort i')))",
            "test_large",
            "gradient of argument 0",
            id="index of 16 bits in a gradient",
        ),
        pytest.param(
            "table_of_mean(MEAN.replace('/ length', '/ ushort(length)'))",
            "test_large",
            "mine.square-columns]",
            id="count of 16 bits",
        ),
        pytest.param(
            "table_of_mean(MEAN.replace('uint row = ', 'uint row = ushort').replace('grid.x,', 'grid.x),')"
            ".replace('ushortthread', 'ushort(thread'))",
            "test_large",
            "mine.square-rows]",
            id="row of 16 bits",
        ),
        pytest.param(
            "table_of_mean(MEAN.replace('row * length + j', 'ushort(row * length + j)'), most=512)",
            "test_large",
            "mine.square-elements]",
            id="index of 16 bits where extents are bounded",
        ),
    ],
)
def test_a_fault_is_noticed(
    table: str,
    failed: str,
    complaint: str,
    project: Callable[..., pytest.RunResult],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    if complaint == "reference":
        monkeypatch.setenv("ZMLX_EAGER", "1")  # else no kernel needs one
    found = project(table, failed)
    text = found.stdout.str()
    assert f"FAILED test_a_fault_is_noticed.py::{failed}[mine.square" in text
    assert complaint in text


def test_a_plain_sum_of_a_long_row_is_good_enough(project: Callable[..., pytest.RunResult]) -> None:
    project("table_of_mean()", "test_large").assert_outcomes(passed=2)
    project("table_of_mean(most=512)", "test_large").assert_outcomes(passed=1)


def test_an_entry_may_give_large_samples_of_its_own(project: Callable[..., pytest.RunResult]) -> None:
    """All of them are checked, and must be taken."""
    shapes = "lambda rng: [SampleInput(f'n{n}', (rng('x').normal((n, 1)),)) for n in (65537, 70000)]"
    given = f"strategy=lambda dtype: None, large={shapes}"
    project(f"table({given})", "test_large").assert_outcomes(passed=1)
    wrong = "table(lambda x: square(x, SOURCE.replace('x[i] * x[i]', 'i < 69000 ? x[i] * x[i] : 0')), "
    found = project(f"{wrong}{given})", "test_large").stdout.str()
    assert "mine.square/float32/n70000: " in found
    assert "::test_large[mine.square-given]" in found


def test_under_the_checker_large_sizes_are_left_out(
    project: Callable[..., pytest.RunResult], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PYTEST_ADDOPTS", "--zmlx-check --zmlx-check-allow-nothing")
    found = project("table_of_mean()", "test_large")
    found.assert_outcomes(skipped=2)
    assert "takes long under the checker, which finds as much in small samples" in found.stdout.str()


def test_a_long_row_that_the_operation_refuses_is_skipped_with_its_words(
    project: Callable[..., pytest.RunResult],
) -> None:
    found = project("table_of_mean(most=5000)", "test_large")
    found.assert_outcomes(passed=1, skipped=1)
    assert (
        "mine.square takes no variation of its samples with more than 65536 columns: mean takes rows of up to 5000 "
        "elements, got 65544"
    ) in found.stdout.str()


def test_a_dtype_that_is_not_claimed_here_is_skipped_with_the_reason(
    project: Callable[..., pytest.RunResult],
) -> None:
    found = project(
        "table(dtypes={'cpu': ('float32',), 'metal': ('float32', 'float16')}, refuses_other_dtypes=False)"
    )
    assert "mine.square does not claim float16 on cpu" in found.stdout.str()
    assert found.ret == 0


def test_an_oracle_of_mlx_operations(project: Callable[..., pytest.RunResult]) -> None:
    """Its gradient is MLX's own, and a wrong one is noticed."""
    oracle = "oracle_vjp=None, oracle_precision='float32'"
    project(f"table(oracle=mx.square, {oracle})").assert_outcomes(passed=35)
    found = project(f"table(oracle=lambda x: x * mx.abs(x), {oracle})")
    assert "::test_gradient[mine.square-float32-small]" in found.stdout.str()
    assert found.parseoutcomes()["failed"] >= 6


def test_tolerances_of_the_project_count(
    project: Callable[..., pytest.RunResult], pytester: pytest.Pytester
) -> None:
    wrong = "table(lambda x: square(x, scale=1.0001), dtypes=('float32',))"
    assert "are outside the tolerance" in project(wrong, "test_forward").stdout.str()
    pytester.makepyprojecttoml(
        '[tool.zmlx.tolerances]\n"mine.*" = { float32 = { rtol = 1e-3, atol = 1e-5, reason = "a fast square" } }\n'
    )
    assert "are outside the tolerance" not in project(wrong, "test_forward").stdout.str()


def test_a_tolerance_of_the_project_for_nothing_is_an_error(
    project: Callable[..., pytest.RunResult], pytester: pytest.Pytester
) -> None:
    """By all tables of the project, of which a module may have one only."""
    settings = '[tool.zmlx]\nops = ["mine:OPS", "mine:MORE"]\n[tool.zmlx.tolerances]\n"{}" = {{ float16 = {{ {} }} }}\n'
    bounds = "rtol = 1e-3, atol = 1e-5"
    pytester.makepyprojecttoml(settings.format("mine.cube", bounds))
    assert project("table()", "test_errors").ret == 0
    pytester.makepyprojecttoml(settings.format("mine.cubes", bounds))
    found = project("table()", "test_errors")
    assert found.ret == 2
    assert "'mine.cubes' matches no operation. Did you mean 'mine.cube'?" in found.stdout.str()
