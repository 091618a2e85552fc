"""Which tests are of tools, and that those said to be of texts launch no kernel."""

from __future__ import annotations

import gc
import re
from pathlib import Path
from types import ModuleType

import mlx.core as mx
import pytest

from zmlx import launch

# pytester drops the modules that an inner session was the first to import; these must not load twice.
LOADED = (launch, mx)

TESTS = Path(__file__).parent

LAUNCHES = """
import mlx.core as mx
import pytest
import zmlx
from zmlx.launch import recording

def launch():
    kernel = zmlx.metal_kernel("twice", ["x"], ["out"], "out[thread_position_in_grid.x] = x[0] * 2.0f;")
    return kernel(
        inputs=[mx.ones(8)], output_shapes=[(8,)], output_dtypes=[mx.float32],
        grid=(8, 1, 1), threadgroup=(8, 1, 1), stream=mx.cpu,
    )

def test_launches():
    assert launch()

@pytest.mark.tools
def test_is_marked():
    assert launch()

@pytest.mark.tools
def test_is_text():
    with recording("metal") as calls:
        launch()
    assert calls[0].signature.metal_text()

@pytest.mark.tools
def test_is_checked():
    with zmlx.checked():
        launch()

@pytest.mark.tools
def test_fails_by_itself():
    raise ZeroDivisionError
"""


@pytest.fixture
def conftest(request: pytest.FixtureRequest) -> ModuleType:
    plugin = request.config.pluginmanager.get_plugin(str(TESTS / "conftest.py"))
    assert isinstance(plugin, ModuleType)
    return plugin


@pytest.fixture
def suite(pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> pytest.Pytester:
    """A suite with this one's conftest.py, and the same tests in a folder of each kind."""
    monkeypatch.setenv("PYTEST_DISABLE_PLUGIN_AUTOLOAD", "1")
    monkeypatch.setenv("COLUMNS", "300")
    pytester.makeconftest((TESTS / "conftest.py").read_text(encoding="utf-8"))
    pytester.makeini("[pytest]\nmarkers = tools: the same on all back ends\n")
    for folder in ("metal", "launch", "testing"):
        (pytester.mkdir(folder) / f"test_in_{folder}.py").write_text(LAUNCHES)
    return pytester


def test_the_table_names_what_is_there(conftest: ModuleType) -> None:
    for name in (*conftest.OF_KERNELS, *conftest.OF_TOOLS, *conftest.OF_TEXTS):
        assert (TESTS / name).exists(), f"{name} is in a table of tests/conftest.py, and is gone"
    for table in (conftest.OF_TOOLS, conftest.OF_TEXTS):
        for name in table:
            assert Path(name).parts[0] in conftest.OF_KERNELS, f"{name} is of tools without a table"
        assert list(table) == sorted(table)


def test_what_a_gpu_alone_can_run_is_not_of_tools(conftest: ModuleType) -> None:
    """`tools` works on the CPU, and would skip it everywhere."""
    marked = re.compile(r"^(@|pytestmark = )pytest\.mark\.(gpu|metal|cuda)\b", re.M)
    files = [path for path in TESTS.rglob("test_*.py") if marked.search(path.read_text(encoding="utf-8"))]
    assert files
    assert [path.name for path in files if conftest._what_is_tested_in(path) != "kernels"] == []


def test_what_is_of_texts_launches_nothing(suite: pytest.Pytester) -> None:
    result = suite.runpytest_inprocess("-p", "no:cacheprovider", "-rA", "--backend", "cpu")
    outcomes = {line for line in result.outlines if line.startswith(("PASSED ", "FAILED "))}
    launched = "Failed: expected a test of texts, which launches no kernel; it launched twice."
    assert {line.partition(" - ")[0] for line in outcomes if launched in line} == {
        "FAILED launch/test_in_launch.py::test_is_marked",
        "FAILED metal/test_in_metal.py::test_is_marked",
        "FAILED metal/test_in_metal.py::test_launches",
    }
    assert {line for line in outcomes if launched not in line} == {
        "FAILED launch/test_in_launch.py::test_fails_by_itself - ZeroDivisionError",
        "FAILED metal/test_in_metal.py::test_fails_by_itself - ZeroDivisionError",
        "FAILED testing/test_in_testing.py::test_fails_by_itself - ZeroDivisionError",
        "PASSED launch/test_in_launch.py::test_is_checked",
        "PASSED launch/test_in_launch.py::test_is_text",
        "PASSED launch/test_in_launch.py::test_launches",
        "PASSED metal/test_in_metal.py::test_is_checked",
        "PASSED metal/test_in_metal.py::test_is_text",
        "PASSED testing/test_in_testing.py::test_is_marked",
        "PASSED testing/test_in_testing.py::test_is_checked",
        "PASSED testing/test_in_testing.py::test_is_text",
        "PASSED testing/test_in_testing.py::test_launches",
    }
    result.stdout.fnmatch_lines(
        ["*Take it out of OF_TEXTS in tests/conftest.py, or its marker `tools` away: *"]
    )


def test_a_back_ends_session_leaves_them_out(suite: pytest.Pytester) -> None:
    result = suite.runpytest_inprocess("-p", "no:cacheprovider", "-rA", "-m", "not tools")
    assert [line for line in result.outlines if line.startswith("PASSED ")] == [
        "PASSED launch/test_in_launch.py::test_launches"
    ]
    # The other two files are not even imported.
    result.assert_outcomes(passed=1, deselected=4)


@pytest.mark.parametrize(
    ("expression", "leaves_out"),
    [
        ("", False),
        ("tools", False),
        ("not tools", True),
        ("(cpu or not (metal or cuda or gpu)) and (not tools)", True),
        ("cpu and not tools or cuda", False),
        ("not tools or not slow", False),
        ("not (tools or slow)", True),
        ("a and b and c and d and e and f and g and h and i and not tools", False),  # too many to try
    ],
)
def test_an_expression_that_leaves_out_tools_is_known(
    conftest: ModuleType, expression: str, leaves_out: bool
) -> None:
    assert conftest._leaves_out_tools(expression) is leaves_out


def test_what_was_collected_is_no_work_for_the_garbage_collector() -> None:
    assert gc.get_freeze_count() > 1000
