"""Property-based tests find planted faults, shrink them, and print a program that shows them again."""

from __future__ import annotations

import contextlib
import io
import re
import runpy
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from zmlx.testing import OpInfo, SampleInput
from zmlx.testing.generated import profiles, properties
from zmlx.testing.generated.example import Refused, Unfit, Within, check_example, snippet
from zmlx.testing.generated.properties import Setting, run_properties
from zmlx.testing.ledger import Ledger
from zmlx.testing.op_db import op_db

pytestmark = [
    pytest.mark.cpu,
    pytest.mark.usefixtures("mx_device"),
    pytest.mark.skipif(not profiles.available(), reason=properties.MISSING),
]

#: A module of a project: a kernel, into which faults can be planted, and its table.
MODULE = '''
import mlx.core as mx
import numpy as np
import zmlx
from zmlx.testing import OpInfo, SampleInput

RIGHT = """
    uint columns = x_shape[1];
    uint row = thread_position_in_grid.y, column = thread_position_in_grid.x;
    float value = x[row * columns + column];
    out[row * columns + column] = T(FORMULA);
"""

def square(x, formula="value * value"):
    if x.size == 0:
        return mx.zeros_like(x)
    rows = x.reshape(-1, x.shape[-1])
    kernel = zmlx.metal_kernel("square", ["x"], ["out"], RIGHT.replace("FORMULA", formula))
    made = kernel(
        inputs=[rows],
        template=[("T", x.dtype)],
        grid=(rows.shape[1], rows.shape[0], 1),
        threadgroup=(32, 1, 1),
        output_shapes=[rows.shape],
        output_dtypes=[x.dtype],
    )
    return made[0].reshape(x.shape)

def samples(rng):
    yield SampleInput("small", (rng("small").normal((3, 8)),))
    yield SampleInput("special", (np.array([[1.5, np.nan, np.inf, -2.0]]),))

def wrong(formula):
    return lambda x: square(x, formula)

def strided(x):
    # A fault: strides are not looked at.
    memory = np.asarray(x.astype(mx.float32)).ravel("K")
    return square(mx.array(memory.reshape(x.shape)).astype(x.dtype))

zmlx_ops = (
    OpInfo(
        name="mine.square", op=OP, oracle=np.square, samples=samples, source="the definition", EXTRA
    ),
)
'''

WRONG = {
    "long rows": ("wrong('columns > 20 ? value : value * value')", "float32", lambda x: x.shape[-1] == 21),
    "NaN": ("wrong('isnan(value) ? 0 : value * value')", "float32", lambda x: np.isnan(x).any()),
    "a dtype": ("wrong('sizeof(T) == 2 ? value : value * value')", "float16", lambda x: x.size == 1),
    "strides": ("strided", "float32", lambda x: x.size <= 9),
}


@pytest.fixture
def project(tmp_path: Path) -> Callable[..., tuple[OpInfo, Path]]:
    def make(op: str = "square", extra: str = "") -> tuple[OpInfo, Path]:
        module = tmp_path / "test_mine.py"
        module.write_text(MODULE.replace("OP,", f"{op},").replace("EXTRA", extra), encoding="utf-8")
        (made,) = runpy.run_path(str(module))["zmlx_ops"]
        return made, module

    return make


def search(
    op: OpInfo, module: Path, settings: tuple[Setting, ...] = (Setting(),), examples: int = 200
) -> Counter[str]:
    profiles.register()
    return run_properties(op, "cpu", "dev", module, settings, examples=examples)


def failing(op: OpInfo, module: Path, **more: Any) -> tuple[str, str]:
    """The message of a failure, and the program in it."""
    with pytest.raises(pytest.fail.Exception) as caught:
        search(op, module, **more)
    message, program = str(caught.value).split(
        "The smallest example that was found; this program runs it again:\n"
    )
    return message, program


def run(program: str) -> str:
    """What a program prints; it fails as the test did."""
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed):
        exec(compile(program, "program", "exec"), {})
    return printed.getvalue()


@pytest.mark.parametrize("fault", WRONG)
def test_a_planted_fault_is_found_shrunk_and_shown_again(
    fault: str, project: Callable[..., tuple[OpInfo, Path]]
) -> None:
    wrong, dtype, is_small = WRONG[fault]
    message, program = failing(*project(wrong))
    assert f"mine.square/{dtype}/" in message
    assert "outside the tolerance" in message
    with pytest.raises(pytest.fail.Exception) as again:
        run(program)
    assert str(again.value).strip() == message.strip()
    names: dict[str, Any] = {}
    exec(program.partition("result = ")[0], names)
    assert is_small(names["sample"].args[0]), program


def test_a_large_example_is_written_as_what_makes_it(
    project: Callable[..., tuple[OpInfo, Path]],
) -> None:
    message, program = failing(*project("wrong('columns > 500 ? value : value * value')"))
    columns = re.search(r"sample = Variation\(sample='\w+', extents=\{.*?\b(5\d\d)\}, seed=", program)
    assert columns is not None, program
    assert 500 < int(columns[1]) <= 515
    with pytest.raises(pytest.fail.Exception) as again:
        run(program)
    assert str(again.value).strip() == message.strip()


def test_the_right_kernel_passes_and_is_counted(project: Callable[..., tuple[OpInfo, Path]]) -> None:
    assert search(*project(), examples=15) == {"examples": 15, "ill-conditioned": 0}


def test_an_exception_of_the_operation_is_a_failure(project: Callable[..., tuple[OpInfo, Path]]) -> None:
    op, module = project()
    message, _ = failing(replace(op, op=lambda x: 1 / (max(x.shape) < 20) * op.op(x)), module)
    assert message.startswith("ZeroDivisionError('division by zero')")


def test_a_missing_launch_is_a_failure(
    project: Callable[..., tuple[OpInfo, Path]],
) -> None:
    op, module = project()
    message, _ = failing(replace(op, op=lambda x: x * x), module)
    assert message.splitlines()[0].endswith("no kernel was launched")


def test_a_program_runs_in_the_setting(project: Callable[..., tuple[OpInfo, Path]]) -> None:
    inside = Within("import decimal", "decimal.localcontext(prec=7)")
    setting = Setting("seven", lambda: __import__("decimal").localcontext(prec=7), inside)
    wrong = "lambda x: square(x) if __import__('decimal').getcontext().prec != 7 else x"
    op, module = project(wrong)
    assert search(op, module, examples=5)["examples"] == 5
    _, program = failing(op, module, settings=(setting,))
    assert "import decimal\n" in program
    assert "\nwith decimal.localcontext(prec=7):\n    result = op.op(" in program
    with pytest.raises((AssertionError, pytest.fail.Exception)):
        run(program)
    outside = program.replace("decimal.localcontext(prec=7)", "decimal.localcontext(prec=8)")
    assert run(outside).endswith("agrees\n")


def test_a_program_takes_the_table_of_the_project() -> None:
    op = next(op for op in op_db if op.name == "norms.rmsnorm")
    sample = SampleInput("mine", (np.array([[1.0, np.nan], [-0.0, np.inf]]), np.ones(2)), {"eps": 0.5})
    program = snippet(op, sample, "float32", "cpu", Path(__file__))
    assert "from zmlx.testing.project import find_project\n" in program
    assert "np.array([[1.0, nan], [-0.0, inf]])" in program
    assert "{'eps': 0.5}" in program
    assert run(program).endswith("agrees\n")
    empty = SampleInput("mine", (np.zeros((0, 2)), np.ones(2)))
    assert run(snippet(op, empty, "bfloat16", "cpu", Path(__file__))).endswith("agrees\n")


def test_refused_examples_are_counted(project: Callable[..., tuple[OpInfo, Path]]) -> None:
    op, module = project()

    def picky(x: Any) -> Any:
        if x.shape[-1] % 2:
            raise ValueError("even, please")
        return op.op(x)

    counts = search(replace(op, op=picky), module, examples=30)
    assert counts["refused"] > 0
    assert counts["examples"] == 30


@pytest.mark.parametrize(("which", "refused"), [("op", r"refused \d\d+"), ("oracle", r"the oracle \d\d+")])
def test_an_operation_that_takes_nearly_nothing_is_a_failure(
    which: str, refused: str, project: Callable[..., tuple[OpInfo, Path]]
) -> None:
    op, module = project()
    right = getattr(op, which)

    def picky(x: Any) -> Any:
        if x.shape[-1] != 5:
            raise ValueError("five, please")
        return right(x)

    changes: dict[str, Any] = {which: picky}
    with pytest.raises(
        pytest.fail.Exception,
        match=rf"^mine\.square: \d+ examples were checked, the operation .*{refused}.* Bound the OpInfo's `extents`, "
        "or give it a `strategy` that draws SampleInputs",
    ):
        search(replace(op, **changes), module, examples=10)


def test_arguments_that_do_not_fit_are_told_from_refused_ones(
    project: Callable[..., tuple[OpInfo, Path]],
) -> None:
    def refuses(*_: Any) -> Any:
        raise ValueError("shapes")

    op, _ = project()
    sample = SampleInput("one", (np.ones((2, 3)),))
    with pytest.raises(Unfit, match="shapes"):
        check_example(replace(op, oracle=refuses), sample, "float32")
    with pytest.raises(Refused, match="shapes"):
        check_example(replace(op, op=refuses), sample, "float32")

    def late(x: Any) -> Any:
        op.op(x)
        raise ValueError("after a launch")

    with pytest.raises(ValueError, match="after a launch"):
        check_example(replace(op, op=late), sample, "float32")


def test_a_strategy_takes_the_place_of_variations(project: Callable[..., tuple[OpInfo, Path]]) -> None:
    from hypothesis import strategies

    def strategy(dtype: str) -> Any:
        sizes = strategies.integers(1, 5)
        return sizes.map(lambda n: SampleInput(f"of_{dtype}", (np.full((7, n), 3.0),)))

    op, module = project()
    shapes: set[tuple[int, ...]] = set()

    def watched(x: Any) -> Any:
        shapes.add(x.shape)
        return op.op(x)

    drawn = replace(op, op=watched, strategy=strategy)
    assert search(drawn, module, examples=30)["examples"] >= 15
    assert shapes == {(7, n) for n in range(1, 6)}
    layouts: set[str] = set()
    two = replace(op, strategy=strategy, layouts=("row", "strided"))
    run_properties(two, "cpu", "dev", module, seen=lambda d, _: layouts.add(d.sample.layout))
    assert layouts == {"row", "strided"}
    message, program = failing(replace(drawn, oracle=lambda x: x), module)
    assert "mine.square/float32/of_float32" in message
    assert "np.array([[3.0], [3.0]" in program


def test_what_cancels_is_ill_conditioned_and_what_is_wrong_is_not(
    project: Callable[..., tuple[OpInfo, Path]],
) -> None:
    """1000.1 squared less 1000.0 squared, from float32 inputs: rounding moves it by more than the tolerance."""
    import mlx.core as mx

    op, _ = project()
    far = replace(op, op=lambda x: op.op(x) - mx.array(1e6), oracle=lambda x: np.square(x) - 1e6)
    sample = SampleInput("near", (np.array([[1000.1, 999.9]]),)).cast("float32")
    assert check_example(far, sample, "float32") is False
    assert check_example(op, sample, "float32") is True
    worse = replace(far, op=lambda x: op.op(x) - mx.array(1e6 - 2))
    with pytest.raises(pytest.fail.Exception, match="outside the tolerance"):
        check_example(worse, sample, "float32")


# ---- profiles, and the generated test ----


class Config:
    """Stands for pytest's, with what --hypothesis-profile gave."""

    def __init__(self, option: str | None = None) -> None:
        self.option = option

    def getoption(self, name: str, default: Any) -> Any:
        assert name == "--hypothesis-profile"
        return self.option or default


@pytest.fixture
def loaded(monkeypatch: pytest.MonkeyPatch) -> Callable[[str], None]:
    """``loaded("ci")``: as if Hypothesis had loaded that profile."""
    from hypothesis import settings

    monkeypatch.delenv(profiles.VARIABLE, raising=False)

    def load(name: str) -> None:
        monkeypatch.setattr(settings, "_current_profile", name)

    load("default")
    return load


def chosen(option: str | None = None) -> str:
    config: Any = Config(option)
    return profiles.chosen(config)


def test_the_profile_is_dev_unless_somebody_says_otherwise(
    loaded: Callable[[str], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert chosen() == "dev"
    loaded("ci")  # as Hypothesis does where CI is set
    assert chosen() == "ci"
    monkeypatch.setenv(profiles.VARIABLE, "thorough")
    assert chosen() == "thorough"
    loaded("dev-with-verbose-verbosity")
    assert chosen("dev") == "dev-with-verbose-verbosity"


def test_an_unknown_profile_is_an_error(
    loaded: Callable[[str], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(profiles.VARIABLE, "throrough")
    with pytest.raises(
        pytest.UsageError,
        match=r"^ZMLX_HYPOTHESIS_PROFILE: expected dev, ci, thorough, or a profile .*, got 'throrough'\.$",
    ):
        chosen()
    config: Any = Config()
    with pytest.raises(pytest.UsageError):
        profiles.configure(config)


def test_profiles_differ_in_examples_and_a_known_one_stays() -> None:
    from hypothesis import settings

    profiles.register()
    counts = [profiles.examples(name) for name in profiles.PROFILES]
    assert counts == sorted(counts)
    assert counts[0] <= 15
    assert counts[-1] >= 1000
    before = settings.get_profile("ci")
    profiles.register()
    assert settings.get_profile("ci") is before


def test_without_hypothesis_the_reason_says_how_to_install_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(profiles, "available", lambda: False)
    (generated,) = properties.tests(op_db)
    with pytest.raises(pytest.skip.Exception, match=r"python -m pip install 'hypothesis>=6\.130'"):
        generated(op_db[0], "cpu", None)


def test_an_operation_without_a_dtype_here_is_skipped() -> None:
    (generated,) = properties.tests(op_db)
    op = replace(op_db[0], dtypes={"metal": ("float32",)})
    with pytest.raises(pytest.skip.Exception, match="claims no dtype on cpu"):
        generated(op, "cpu", None)


def test_counts_are_merged_and_shown() -> None:
    one, other = Ledger(), Ledger()
    one.record_examples("norms.rmsnorm", "dev", {"examples": 12, "ill-conditioned": 1, "refused": 0})
    other.record_examples("norms.rmsnorm", "dev", {"examples": 3})
    other.record_examples("mine.square", "dev", {"examples": 5, "refused": 2})
    other.record_paths({"row: held whole": 4})
    one.record_paths({"row: held whole": 1, "row: packed": 2})
    one.merge_wire(other.to_wire())
    assert one.summary_lines() == [
        "property-based examples (profile dev): 20",
        "  mine.square 5 (2 refused), norms.rmsnorm 15 (1 ill-conditioned)",
        "their launches, by the path through the kernel:",
        "  row: held whole 5, row: packed 2",
    ]
    assert Ledger().summary_lines() == []
