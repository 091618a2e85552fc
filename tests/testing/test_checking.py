"""``pytest --zmlx-check``: what it watches, and that what it found or did not check is no pass."""

import os
import textwrap
from pathlib import Path

import pytest

import zmlx

pytestmark = pytest.mark.cpu

KERNEL = textwrap.dedent(
    """
    import mlx.core as mx, pytest, unittest, zmlx
    K = zmlx.metal_kernel(name="oob", input_names=["a"], output_names=["out"],
                          source="uint i = thread_position_in_grid.x; out[i] = a[i + OFFSET];")
    def bad():
        return K(inputs=[mx.ones(8)], grid=(8, 1, 1), threadgroup=(8, 1, 1), output_shapes=[(8,)],
                 output_dtypes=[mx.float32], stream=mx.cpu)[0]
    """
)


@pytest.fixture
def check(pytester, monkeypatch):
    path = [str(Path(zmlx.__file__).parents[1]), *filter(None, [os.environ.get("PYTHONPATH")])]
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(path))
    monkeypatch.setenv("PYTEST_DISABLE_PLUGIN_AUTOLOAD", "1")

    def run(tests, *options, offset=1, conftest=""):
        kernel = KERNEL.replace("OFFSET", str(offset))
        pytester.makepyfile(kernel + textwrap.dedent(tests))
        if conftest:
            pytester.makeconftest(kernel + conftest)
        plugins = ["-p", "no:cacheprovider", "-p", "zmlx.testing.plugin"]
        return pytester.runpytest_subprocess(*plugins, "--zmlx-check", *options)

    return run


FIXTURES = """
    @pytest.fixture
    def function(): return bad()
    @pytest.fixture(scope="module")
    def module(): return bad()
    @pytest.fixture(scope="session")
    def session(): return bad()
    @pytest.fixture
    def teardown():
        yield
        bad()
    def test_function(function): pass
    def test_module(module): pass
    def test_session(session): pass
    def test_teardown(teardown): pass
    class TestSetup:
        def setup_method(self): bad()
        def test_setup_method(self): pass
    class TestUnit(unittest.TestCase):
        def setUp(self): bad()
        def test_unit(self): pass
    def test_body(): bad()
"""


def test_fixtures_of_every_scope_setup_and_teardown_are_watched(check):
    result = check(FIXTURES)
    result.assert_outcomes(passed=1, failed=2, errors=5)
    result.stdout.fnmatch_lines(["7 launches and * checked: 7 findings"])


def test_right_kernels_in_the_same_places_pass(check):
    result = check(FIXTURES, offset=0)
    result.assert_outcomes(passed=7)
    assert result.ret == 0


def test_import_is_watched(check):
    result = check("bad()\ndef test_one(): pass")
    result.assert_outcomes(errors=1)
    result.stdout.fnmatch_lines(["out-of-bounds in kernel 'oob'*"])


def test_import_of_a_conftest_is_watched(check):
    result = check("def test_one(): pass", conftest="bad()\n")
    assert result.ret == pytest.ExitCode.TESTS_FAILED
    result.stdout.fnmatch_lines(["ERROR: while a conftest was imported:*", "*out-of-bounds in kernel 'oob'*"])


def test_a_test_that_fails_keeps_its_findings(check):
    result = check("def test_value():\n    assert bad()[0].item() == 5")
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(["*assert*== 5*", "*zmlx check*", "out-of-bounds in kernel 'oob'*"])


@pytest.mark.parametrize("why", ["pytest.skip('not today')", "pytest.xfail('one day')"])
def test_findings_before_a_skip_or_xfail_fail_the_session(check, why):
    result = check(f"def test_one():\n    bad()\n    {why}")
    assert result.ret == pytest.ExitCode.TESTS_FAILED
    result.stdout.fnmatch_lines(["ERROR: findings in 1 tests *::test_one*--zmlx-check-allow-xfail"])


XFAIL = "@pytest.mark.xfail(STRICT)\ndef test_one(): bad()"


@pytest.mark.parametrize("option", ["", "--zmlx-check-allow-xfail"])
def test_a_finding_inside_an_expected_failure_is_no_pass(check, option):
    result = check(XFAIL.replace("STRICT", ""), *filter(None, [option]))
    result.assert_outcomes(xfailed=1)
    assert result.ret == (0 if option else 1)


def test_a_strict_expected_failure_may_have_findings(check):
    assert check(XFAIL.replace("STRICT", "strict=True")).ret == 0


def test_nothing_checked_is_no_pass(check):
    result = check("def test_one(): pass")
    assert result.ret == pytest.ExitCode.TESTS_FAILED
    result.stdout.fnmatch_lines(["ERROR: nothing was checked: *--zmlx-check-allow-nothing"])
    assert check("def test_one(): pass", "--zmlx-check-allow-nothing").ret == 0
    assert check("def test_one(): pass", "--collect-only").ret == 0


def test_findings_come_from_all_workers(check):
    pytest.importorskip("xdist")
    tests = XFAIL.replace("STRICT", "") + "\ndef test_two(): bad()"
    result = check(tests, "-p", "xdist", "-n", "2")
    result.assert_outcomes(xfailed=1, failed=1)
    result.stdout.fnmatch_lines(["2 launches and * 2 findings", "ERROR: findings in 1 tests*::test_one*"])


BY_REFERENCE = """
    R = zmlx.metal_kernel(name="squared", input_names=["a"], output_names=["out"],
                          source="uint i = thread_position_in_grid.x; out[i] = a[i] * a[i];",
                          reference=lambda inputs, template: [inputs[0] * inputs[0]])
    def call(a):
        return R(inputs=[a], grid=(8, 1, 1), threadgroup=(8, 1, 1), output_shapes=[(8,)],
                 output_dtypes=[mx.float32], stream=mx.cpu)[0]
    def test_traced():
        assert mx.vmap(call)(mx.full((2, 8), 3.0)).tolist() == [[9.0] * 8] * 2
"""


def test_a_session_in_which_only_a_reference_ran_is_no_pass(check):
    result = check(BY_REFERENCE)
    result.assert_outcomes(passed=1)
    assert result.ret == pytest.ExitCode.TESTS_FAILED
    result.stdout.fnmatch_lines(
        [
            "0 launches and 0 memory accesses checked: 0 findings",
            "ERROR: nothing was checked: *a kernel that runs by its reference only is not checked*allow-nothing",
        ]
    )
    assert check(BY_REFERENCE + "    def test_launched(): call(mx.ones(8))").ret == 0


SAME_VALUE = """
    S = zmlx.metal_kernel(name="shared", input_names=["a"], output_names=["out"], source="out[0] = int(a[0]);")
    def test_one():
        S(inputs=[mx.arange(8)], grid=(64, 1, 1), threadgroup=(64, 1, 1), output_shapes=[(1,)],
          output_dtypes=[mx.int32], stream=mx.cpu)
    def test_two(): test_one()
"""


@pytest.mark.parametrize("workers", ["0", "2"])
def test_notes_are_printed_once_in_the_summary(check, workers):
    pytest.importorskip("xdist")
    result = check(SAME_VALUE, "-p", "xdist", "-n", workers)
    result.assert_outcomes(passed=2)
    assert result.ret == 0
    notes = [line for line in result.outlines if line.startswith("shared: threads write the same value")]
    assert len(notes) == 1
    assert notes[0].endswith("this is not reported as a race.")
    assert result.outlines.index(notes[0]) > next(
        i for i, line in enumerate(result.outlines) if line.startswith("2 launches and ")
    )
