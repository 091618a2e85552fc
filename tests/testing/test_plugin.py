"""The pytest plugin, run by pytester: what it selects, what it shows, and that it fails when it should."""

import os
import shlex
import subprocess
import sys
import textwrap
from pathlib import Path

import mlx.core as mx
import pytest

from zmlx import _compat, launch
from zmlx.testing import ledger, markers, plugin, reproduce, session
from zmlx.testing.golden import file as golden_file
from zmlx.testing.golden import registry
from zmlx.testing.golden.file import GoldenError

ROOT = Path(__file__).parents[2]
# A host that cannot install has MLX there too.
PYTHONPATH = os.pathsep.join(filter(None, (str(ROOT), os.environ.get("PYTHONPATH"))))

# pytester drops the modules that an inner session was the first to import; these must not load twice.
LOADED = (golden_file, launch, markers, mx, registry, reproduce, session)

# At least one of the two is missing on every machine; both are on most.
MISSING = next(b for b in ("cuda", "metal") if not _compat.availability()[b].available)
MISSING_REASON = _compat.availability()[MISSING].reason.replace("[", "[[]")

WITHOUT_MLX = """
import sys
sys.modules["mlx"] = None
sys.modules["mlx.core"] = None
"""


@pytest.fixture(autouse=True)
def no_settings_of_the_outer_session(monkeypatch):
    """What the session that runs these tests was told is not for the sessions they start."""
    monkeypatch.delenv("ZMLX_TEST_BACKEND", raising=False)
    monkeypatch.delenv("ZMLX_REQUIRE_BACKEND", raising=False)


@pytest.fixture
def run(pytester, monkeypatch):
    """Run pytest with the plugin in a session of its own, inside this process.

    Other people's plugins stay out: Hypothesis alone would take a second to load anew in each session.
    """
    monkeypatch.setenv("PYTEST_DISABLE_PLUGIN_AUTOLOAD", "1")

    def run_pytest(*args, source="", how="inprocess"):
        if source:
            pytester.makepyfile(source)
        plugins = ["-p", "zmlx.testing.plugin", "-p", "no:cacheprovider"]
        if how == "inprocess":
            return pytester.runpytest_inprocess(*plugins, *args)
        monkeypatch.setenv("PYTHONPATH", PYTHONPATH)
        return pytester.runpytest_subprocess(*plugins, *args)

    return run_pytest


def python(code, *args):
    environment = {**os.environ, "PYTHONPATH": PYTHONPATH}
    return subprocess.run(
        [sys.executable, "-c", code, *args], capture_output=True, text=True, env=environment, check=False
    )


# Loading


def test_loading_imports_neither_mlx_nor_numpy():
    heavy = "('mlx', 'mlx.core', 'numpy', 'zmlx.launch', 'zmlx.kernels')"
    done = python(f"import sys, zmlx.testing.plugin; print([m for m in {heavy} if m in sys.modules])")
    assert done.stdout.strip() == "[]", done.stderr


def test_a_pure_python_session_imports_neither_mlx_nor_numpy(pytester, monkeypatch):
    monkeypatch.setenv("PYTEST_DISABLE_PLUGIN_AUTOLOAD", "1")
    pytester.makepyfile("""
        import sys, pytest
        @pytest.mark.cpu
        def test_pure():
            assert not {"mlx", "mlx.core", "numpy"} & set(sys.modules)
    """)
    command = "import pytest, sys; sys.exit(pytest.main(sys.argv[1:]))"
    done = python(command, "-q", "-p", "zmlx.testing.plugin")
    assert done.returncode == 0, done.stdout


def test_markers_are_registered_with_help(run):
    result = run("--markers")
    for name in ("metal", "cuda", "gpu", "cpu", "golden", "slow"):
        result.stdout.fnmatch_lines([f"@pytest.mark.{name}: *"])


def test_strict_markers_know_them(run):
    source = """
        import pytest
        @pytest.mark.slow
        @pytest.mark.golden
        @pytest.mark.cpu
        def test_one(): pass
    """
    run("--strict-markers", source=source).assert_outcomes(passed=1)


# Header


def test_the_header_names_versions_back_end_and_device(run):
    result = run("--backend", "cpu", source="def test_one(): pass")
    device = mx.device_info(mx.Device(mx.cpu))["device_name"].replace("[", "[[]")
    result.stdout.fnmatch_lines([f"zmlx: *, MLX {mx.__version__}, back end cpu (--backend cpu), {device}"])


def test_the_header_names_mlxs_default(run):
    run(source="def test_one(): pass").stdout.fnmatch_lines(["zmlx: *back end * (MLX's default device), *"])


def test_without_mlx_the_session_runs_and_the_header_says_why(pytester, monkeypatch):
    monkeypatch.setenv("PYTEST_DISABLE_PLUGIN_AUTOLOAD", "1")
    pytester.makepyfile("""
        import pytest
        def test_plain(backend, has_gpu, is_metal, is_cuda, is_cpu):
            assert (backend, has_gpu, is_metal, is_cuda, is_cpu) == ("none", False, False, False, False)
        def test_device(mx_device): assert False
        @pytest.mark.gpu
        def test_gpu(): assert False
    """)
    command = WITHOUT_MLX + "import pytest; sys.exit(pytest.main(sys.argv[1:]))"
    done = python(command, "-rs", "-p", "zmlx.testing.plugin")
    assert "1 passed, 2 skipped" in done.stdout
    assert "no back end (MLX's default device): MLX does not import here" in done.stdout
    assert "mx_device: no back end: MLX does not import here" in done.stdout
    required = python(command, "-p", "zmlx.testing.plugin", "--backend", "cpu", "--require-backend")
    assert required.returncode == pytest.ExitCode.USAGE_ERROR
    assert "--backend cpu: cpu is not available here: MLX does not import here" in required.stderr


# Which test runs where


@pytest.mark.parametrize(
    ("names", "expected"),
    [
        (set(), ()),
        ({"cpu"}, ()),
        ({"golden", "slow"}, ()),
        ({"gpu"}, ("metal", "cuda")),
        ({"gpu", "cpu"}, ("metal", "cuda")),
        ({"metal"}, ("metal",)),
        ({"metal", "cpu"}, ("metal",)),
        ({"gpu", "cuda"}, ("cuda",)),
        ({"metal", "cuda"}, ("metal", "cuda")),
    ],
)
def test_needed_backends(names, expected):
    assert markers.needed_backends(names) == expected


@pytest.mark.parametrize(
    ("on", "needs", "missing", "expected"),
    [
        ("cpu", ("metal",), {"metal": "this is Linux"}, "needs the Metal back end: this is Linux"),
        ("cuda", ("cuda",), {"metal": "this is Linux"}, None),
        ("metal", ("metal", "cuda"), {"cuda": "no NVIDIA"}, None),
        (
            "cpu",
            ("metal", "cuda"),
            {"metal": "this is Linux", "cuda": "no NVIDIA GPU"},
            "needs the Metal or CUDA back end: this is Linux; no NVIDIA GPU",
        ),
        (
            "cpu",
            ("cuda",),
            {"metal": "this is Linux"},
            "needs the CUDA back end: CUDA is there, but this session is on cpu (--backend cpu)",
        ),
    ],
)
def test_missing_reason(on, needs, missing, expected):
    here = markers.SessionBackend(on, f"--backend {on}")
    assert markers.missing_reason(needs, here, missing) == expected


def test_a_hardware_marker_wins_over_cpu_at_every_level(run):
    source = """
        import pytest
        pytestmark = pytest.mark.cpu
        def test_everywhere(): pass
        @pytest.mark.gpu
        def test_function(): assert False
        @pytest.mark.cpu
        class TestClass:
            @pytest.mark.metal
            def test_method(self): assert False
        @pytest.mark.cuda
        class TestHardwareClass:
            @pytest.mark.cpu
            def test_method(self): assert False
    """
    result = run("--backend", "cpu", "-rs", "-m", "cpu or not (metal or cuda or gpu)", source=source)
    result.assert_outcomes(passed=1, skipped=3)
    result.stdout.fnmatch_lines_random(
        [
            "SKIPPED * needs the Metal or CUDA back end: *",
            "SKIPPED * needs the Metal back end: *",
            "SKIPPED * needs the CUDA back end: *",
        ]
    )


def test_the_reason_says_why_the_back_end_is_missing(run):
    source = f"import pytest\n@pytest.mark.{MISSING}\ndef test_one(): assert False\ndef test_two(): pass"
    result = run("-rs", source=source)
    result.assert_outcomes(passed=1, skipped=1)
    result.stdout.fnmatch_lines([f"SKIPPED * needs the {markers.TITLES[MISSING]} back end: {MISSING_REASON}"])


# --backend and --require-backend

ONE_TEST = "def test_one(): pass"


def test_an_unknown_back_end_is_a_usage_error(run, monkeypatch):
    result = run("--backend", "rocm", source=ONE_TEST)
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines(["ERROR: --backend: expected one of metal, cuda, cpu; got 'rocm'."])
    monkeypatch.setenv("ZMLX_TEST_BACKEND", "gpu")
    result = run()
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines(["ERROR: ZMLX_TEST_BACKEND: expected one of metal, cuda, cpu; got 'gpu'."])


def test_a_missing_back_end_skips_all_and_the_session_fails(run):
    result = run("--backend", MISSING, "-rs", source=ONE_TEST)
    result.assert_outcomes(skipped=1)
    assert result.ret == pytest.ExitCode.TESTS_FAILED
    result.stdout.fnmatch_lines(
        [
            f"zmlx: *, no back end (--backend {MISSING}): {MISSING_REASON}",
            f"ERROR: no test executed (--backend {MISSING}): everything was skipped, *",
            f"SKIPPED * --backend {MISSING}: {MISSING} is not available here: {MISSING_REASON}",
        ]
    )


@pytest.mark.parametrize("by", ["option", "environment"])
def test_require_backend_makes_a_missing_one_a_usage_error(run, monkeypatch, by):
    args = ["--require-backend"] if by == "option" else []
    if by == "environment":
        monkeypatch.setenv("ZMLX_REQUIRE_BACKEND", "1")
    result = run("--backend", MISSING, *args, source=ONE_TEST)
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines(
        [
            f"ERROR: --backend {MISSING}: {MISSING} is not available here: {MISSING_REASON}",
            "This is an error because of --require-backend *",
        ]
    )


def test_require_backend_fails_tests_whose_back_end_is_missing(run):
    source = f"import pytest\n@pytest.mark.{MISSING}\ndef test_one(): pass\ndef test_two(): pass"
    result = run("--require-backend", source=source)
    result.assert_outcomes(passed=1, errors=1)
    result.stdout.fnmatch_lines(
        [f"needs the * back end: {MISSING_REASON} (an error because of --require-backend)"]
    )


def test_require_backend_lets_tests_of_other_sessions_skip(run):
    # The matrix runs the whole suite once on each back end: a Metal test in the CPU session is no failure.
    source = "import pytest\n@pytest.mark.gpu\ndef test_one(): assert False\ndef test_two(): pass"
    result = run("--require-backend", "--backend", "cpu", source=source)
    result.assert_outcomes(passed=1, skipped=1)
    assert result.ret == 0


def test_zero_does_not_require(run, monkeypatch):
    monkeypatch.setenv("ZMLX_REQUIRE_BACKEND", "0")
    result = run("--backend", MISSING, source=ONE_TEST)
    assert result.ret == pytest.ExitCode.TESTS_FAILED


# A session in which no test executed

ALL_SKIPPED = "import pytest\n@pytest.mark.skip(reason='why')\ndef test_one(): pass"


def test_all_skipped_fails_where_a_back_end_was_named(run, monkeypatch):
    assert run(source=ALL_SKIPPED).ret == pytest.ExitCode.OK
    assert run("--backend", "cpu").ret == pytest.ExitCode.TESTS_FAILED
    monkeypatch.setenv("ZMLX_TEST_BACKEND", "cpu")
    result = run()
    assert result.ret == pytest.ExitCode.TESTS_FAILED
    result.stdout.fnmatch_lines(["ERROR: no test executed (ZMLX_TEST_BACKEND=cpu): *"])
    monkeypatch.delenv("ZMLX_TEST_BACKEND")
    result = run("--require-backend")
    assert result.ret == pytest.ExitCode.TESTS_FAILED
    result.stdout.fnmatch_lines(["ERROR: no test executed (--require-backend): *"])


def test_nothing_selected_fails_and_says_so(run):
    result = run("--backend", "cpu", "-k", "nothing_matches", source=ONE_TEST)
    assert result.ret == pytest.ExitCode.NO_TESTS_COLLECTED
    result.stdout.fnmatch_lines(["ERROR: no test executed (--backend cpu): *"])


@pytest.mark.parametrize("option", ["--collect-only", "--setup-plan", "--fixtures"])
def test_showing_is_not_running(run, option):
    assert run("--backend", "cpu", option, source=ALL_SKIPPED).ret == pytest.ExitCode.OK


def test_an_expected_failure_has_executed(run):
    source = "import pytest\n@pytest.mark.xfail(strict=True)\ndef test_one(): assert False"
    result = run("--backend", "cpu", source=source)
    result.assert_outcomes(xfailed=1)
    assert result.ret == pytest.ExitCode.OK


# Device and environment


def test_backend_selects_the_device_for_every_test(run):
    source = """
        import os
        import mlx.core as mx
        from zmlx._compat import detect_backend
        def test_one(backend, mx_device):
            assert backend == detect_backend() == os.environ["ZMLX_TEST_BACKEND"] == "cpu"
            assert mx_device == mx.default_device() == mx.cpu
            mx.set_default_device(mx.Device(mx.cpu, 0) if not mx.metal.is_available() else mx.gpu)
        def test_two():
            assert mx.default_device() == mx.cpu
    """
    before = mx.default_device()
    run("--backend", "cpu", source=source).assert_outcomes(passed=2)
    assert mx.default_device() == before
    assert os.environ.get("ZMLX_TEST_BACKEND") is None


def test_select_device_undoes_what_a_test_changed(monkeypatch):
    chosen = []
    fake = type("mx", (), {"default_device": lambda: "gpu", "set_default_device": chosen.append})
    monkeypatch.setattr(_compat, "import_mx", lambda: fake)
    monkeypatch.setattr(_compat, "device_for", lambda name: f"device of {name}")
    monkeypatch.setattr(_compat, "availability", lambda: {"cpu": _compat.Availability(True, "")})
    state = session.Session("cpu", "--backend cpu", False, Path(), False)
    state.select_device()
    state.select_device()
    state.close()
    assert chosen == ["device of cpu", "device of cpu", "gpu"]


def test_back_end_fixtures_agree(run):
    source = """
        def test_one(backend, is_metal, is_cuda, is_cpu, has_gpu):
            assert [is_metal, is_cuda, is_cpu] == [backend == b for b in ("metal", "cuda", "cpu")]
            assert has_gpu == (is_metal or is_cuda)
    """
    run(source=source).assert_outcomes(passed=1)
    run("--backend", "cpu").assert_outcomes(passed=1)


def test_mx_device_restores_the_default(run):
    source = """
        import mlx.core as mx
        def test_one(mx_device):
            assert mx.default_device() == mx_device
    """
    before = mx.default_device()
    run(source=source).assert_outcomes(passed=1)
    assert mx.default_device() == before


@pytest.mark.parametrize(("chosen", "expected"), [(None, "0"), ("1", "1")])
def test_tf32_is_off_unless_the_user_chose(run, monkeypatch, chosen, expected):
    monkeypatch.delenv("MLX_ENABLE_TF32", raising=False)
    if chosen is not None:
        monkeypatch.setenv("MLX_ENABLE_TF32", chosen)
    run(
        source=f"import os\ndef test_one(): assert os.environ['MLX_ENABLE_TF32'] == '{expected}'"
    ).assert_outcomes(passed=1)
    assert os.environ.get("MLX_ENABLE_TF32") == chosen


# assert_allclose_cross_backend


def test_close_arrays_pass(run):
    source = """
        import mlx.core as mx, numpy as np, pytest
        @pytest.mark.parametrize("dtype", [mx.float32, mx.float16, mx.bfloat16])
        def test_dtypes(assert_allclose_cross_backend, dtype):
            x = mx.array([1.0, 2.0, 3.0]).astype(dtype)
            assert_allclose_cross_backend(mx.exp(x), [2.718282, 7.389056, 20.085537], rtol=1e-4, atol=1e-4)
        def test_kinds(assert_allclose_cross_backend):
            check = assert_allclose_cross_backend
            check(np.array([1.0, np.nan, np.inf]), [1.0, np.nan, np.inf])
            check(mx.zeros((2, 3)), 0.0)
            check(1.00001, 1)
            check(mx.array([1, 2]), np.array([1, 2], dtype=np.int32), rtol=0, atol=0)
            check(mx.zeros((0, 3)), np.zeros((0, 3)))
    """
    run(source=source).assert_outcomes(passed=4)


def test_distant_arrays_fail_and_say_where(run):
    source = """
        import mlx.core as mx, math, pytest
        def test_message(assert_allclose_cross_backend):
            x = mx.array([[1.0, 2.0], [3.0, 4.0]]).astype(mx.bfloat16)
            assert_allclose_cross_backend(x, [[1.0, 2.0], [3.0, 4.25]])
        @pytest.mark.parametrize("actual, desired, options", [
            (1.001, 1.0, {}), (math.nan, 1.0, {}), (math.inf, -math.inf, {}), ([1.0], [[1.0]], {}),
            (mx.array(1.0) + 2**-23, 1.0, {"rtol": 0, "atol": 0}),
            (mx.array(1.0) + 3 * 2**-23, 1.0, {"max_ulp": 2}),
        ])
        def test_others(assert_allclose_cross_backend, actual, desired, options):
            with pytest.raises(AssertionError):
                assert_allclose_cross_backend(actual, desired, **options)
    """
    result = run(source=source)
    result.assert_outcomes(passed=6, failed=1)
    result.stdout.fnmatch_lines(
        [
            "E * arrays are not close: 1 of 4 elements (25.0 %) are outside the tolerance",
            "E * worst element [[]1, 1]: got 4, expected 4.25, 8 ULP of bfloat16 apart (|difference| 0.25)",
            "E * tolerance: rtol 0.016, atol 0.0001",
        ]
    )


def test_failures_show_how_to_reproduce_them(run, pytester):
    command = "python -m pytest test_failures_show_how_to_reproduce_them.py::test_one --backend cpu"
    golden = run("--backend", "cpu", "--golden-dir", ".", source="def test_one(backend): assert False")
    golden.stdout.fnmatch_lines([f"{command} --golden-dir ."])
    result = run("--backend", "cpu", source="def test_one(backend): assert backend == 'abc'")
    result.stdout.fnmatch_lines(["* to reproduce *", command])
    words = [sys.executable, *shlex.split(command)[1:], "-p", "zmlx.testing.plugin"]
    environment = {**os.environ, "PYTHONPATH": PYTHONPATH}
    again = subprocess.run(
        words, cwd=pytester.path, env=environment, capture_output=True, text=True, check=False
    )
    assert again.returncode == 1
    assert "assert 'cpu' == 'abc'" in again.stdout


def test_failures_of_others_are_left_alone(run):
    run(source="def test_one(): assert False").stdout.no_fnmatch_line("*to reproduce*")


def test_reproduce_command_quotes_for_the_shell():
    command = reproduce.reproduce_command("tests/test_ops.py::test_forward[swiglu float16]", "cuda", ["-x"])
    assert command == "python -m pytest 'tests/test_ops.py::test_forward[swiglu float16]' --backend cuda -x"


def test_reproduce_command_keeps_what_changes_the_tests(pytester):
    profile = ["--hypothesis-profile", "thorough"]
    config = pytester.parseconfig("-p", "zmlx.testing.plugin", *profile, "--golden-dir", ".")
    assert reproduce.session_options(config) == ["--golden-dir", ".", *profile]
    assert reproduce.session_options(pytester.parseconfig("-p", "zmlx.testing.plugin")) == []


# Summary

MEASURING = """
    import pytest, mlx.core as mx
    from zmlx.launch import metal_kernel, reset_launch_counts
    from zmlx.testing.tolerance import error_stats

    double = metal_kernel(name="plugin_double", input_names=["x"], output_names=["out"],
        source="uint i = thread_position_in_grid.x; out[i] = 2 * x[i];")

    def launch():
        return double(inputs=[mx.ones(4)], output_shapes=[(4,)], output_dtypes=[mx.float32],
                      grid=(4, 1, 1), threadgroup=(4, 1, 1))[0]

    @pytest.mark.parametrize("steps", [1, 4, 2])
    def test_error(record_error, steps):
        record_error("norms.rmsnorm", "float32", error_stats([1 + steps * 2**-23], [1.0], "float32"))

    def test_other_dtype(record_error):
        record_error("norms.rmsnorm", "bfloat16", error_stats([1 + 2 * 2**-7], [1.0], "bfloat16"), "by name")

    def test_launch_twice():
        assert launch().tolist() == [2, 2, 2, 2]
        launch()

    def test_launch_and_forget(golden_registry, backend):
        reset_launch_counts()
        golden_registry["register"]("double", launch(), backend)
        golden_registry["register"]("elsewhere", [1.0], "metal" if backend != "metal" else "cuda")
"""

SUMMARY = [
    "worst error against the oracle, max / RMS in ULPs of the output dtype at the RMS of the result:",
    "  kernel         back end  float32  bfloat16  cases  worst case",
    "  norms.rmsnorm  cpu         4 / 4     2 / 2      4  test_error[[]4]",
    "kernel launches: cpu/loop 3 (1 kernels)",
    "registered-cpu.json: 1 of 1 golden values new or changed",
    "1 golden values registered for metal were not recorded: this session is on cpu",
]


@pytest.mark.parametrize("workers", ["0", "2"])
def test_summary_and_recording_with_and_without_xdist(run, pytester, workers):
    options = ["-p", "xdist.plugin", "-n", workers] if workers != "0" else []
    how = "subprocess" if options else "inprocess"
    result = run("--backend", "cpu", "--golden-record", *options, source=MEASURING, how=how)
    result.assert_outcomes(passed=6)
    result.stdout.fnmatch_lines(SUMMARY)
    recorded = golden_file.load(pytester.path / "golden_values" / "registered-cpu.json", backend="cpu")
    assert recorded.cases["double"].array().tolist() == [2.0, 2.0, 2.0, 2.0]
    assert "elsewhere" not in recorded.cases


def test_xdist_controller_sees_that_nothing_executed(run):
    result = run("--backend", "cpu", "-p", "xdist.plugin", "-n", "1", source=ALL_SKIPPED, how="subprocess")
    assert result.ret == pytest.ExitCode.TESTS_FAILED
    result.stdout.fnmatch_lines(["ERROR: no test executed (--backend cpu): *"])


def test_a_crashed_worker_is_named(pytestconfig):
    state = session.Session("cpu", "--backend cpu", False, Path(), False)
    hooks = plugin.SessionHooks(pytestconfig, state)
    gateway = type("Gateway", (), {"id": "gw7"})
    hooks.pytest_testnodedown(type("Node", (), {"gateway": gateway}))
    assert hooks.failures == ["worker gw7 did not finish: its figures are missing here"]


def test_two_workers_with_different_values_of_one_name_conflict():
    one, other = ledger.Ledger(), ledger.Ledger()
    one.record_golden("cpu", "a", registry.encode([1.0]).to_json())
    other.record_golden("cpu", "a", registry.encode([2.0]).to_json())
    one.merge_wire(other.to_wire())
    assert one.conflicts == ["golden value 'a' was registered twice for cpu with different values"]


def test_a_session_without_zmlx_has_no_summary(run):
    run(source=ONE_TEST).stdout.no_fnmatch_line("*= zmlx =*")


# golden_registry


def registered(path, backend="cpu", **values):
    registry.persist(
        path,
        backend,
        {name: registry.encode(value).to_json() for name, value in values.items()},
        {"device": "test"},
    )


CHECKING = """
    def test_one(golden_registry):
        golden_registry["check"]("softmax", {value}, rtol=1e-3)
"""


def test_check_compares_with_every_back_end_that_has_the_value(run, pytester):
    directory = pytester.path / "golden_values"
    registered(directory, softmax=[0.25, 0.75])
    registered(directory, "cuda", softmax=[0.25, 0.75])
    result = run("--backend", "cpu", source=CHECKING.format(value="[0.25, 0.75]"))
    result.assert_outcomes(passed=1)
    registered(directory, "cuda", softmax=[0.25, 0.5])
    result = run("--backend", "cpu", source=CHECKING.format(value="[0.25, 0.75]"))
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(["golden value 'softmax', cpu against cuda's: *"])
    result = run("--backend", "cpu", source=CHECKING.format(value="[0.3, 0.5]"))
    result.stdout.fnmatch_lines(["golden value 'softmax', cpu against cpu's: *"])


def test_check_fails_for_a_misspelt_name(run, pytester):
    registered(pytester.path / "golden_values", softmax_basic=[0.25, 0.75])
    registered(pytester.path / "golden_values", "cuda", softmax=[0.25, 0.75])
    result = run("--backend", "cpu", source=CHECKING.format(value="[0.25, 0.75]"))
    result.assert_outcomes(failed=1)
    expected = (
        "golden value 'softmax': nothing is recorded for it on cpu; 1 other names are. Did you mean "
        "'softmax_basic'? If the name is right, record it: python -m pytest --golden-record --backend cpu"
    )
    result.stdout.fnmatch_lines([expected])


def test_check_records_where_nothing_is_recorded(run, pytester):
    source = CHECKING.format(value="[0.25, 0.75]")
    result = run("--backend", "cpu", source=source)
    result.assert_outcomes(failed=1)
    expected = (
        "golden value 'softmax': nothing is recorded for it on cpu, nor anything else, in *golden_values. If the "
        "name is right, record it: *"
    )
    result.stdout.fnmatch_lines([expected])
    run("--backend", "cpu", "--golden-record", source=source).assert_outcomes(passed=1)
    run("--backend", "cpu", source=source).assert_outcomes(passed=1)


def test_check_records_a_change_that_was_meant_if_other_back_ends_agree(run, pytester):
    directory = pytester.path / "golden_values"
    registered(directory, softmax=[0.5, 0.5])
    run("--backend", "cpu", "--golden-record", source=CHECKING.format(value="[0.25, 0.75]")).assert_outcomes(
        passed=1
    )
    registered(directory, "cuda", softmax=[0.5, 0.5])
    result = run("--backend", "cpu", "--golden-record", source=CHECKING.format(value="[0.25, 0.75]"))
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(["golden value 'softmax', cpu against cuda's: *"])


def test_the_golden_directory_is_that_of_the_project(run, pytester):
    pytester.makepyprojecttoml('[tool.zmlx]\ngolden-dir = "data"\n')
    registered(pytester.path / "data", softmax=[0.25, 0.75])
    run("--backend", "cpu", source=CHECKING.format(value="[0.25, 0.75]")).assert_outcomes(passed=1)


def test_a_wrong_key_in_pyproject_toml_is_a_usage_error(run, pytester):
    pytester.makepyprojecttoml('[tool.zmlx]\ngolden_dir = "data"\n')
    result = run(source=ONE_TEST)
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines(
        ["ERROR: *pyproject.toml, [[]tool.zmlx]: key 'golden_dir' is not known. Did you mean *"]
    )


def test_registry_reads_recorded_values_and_prefers_them(run, pytester):
    registered(pytester.path / "golden_values", softmax=[0.25, 0.75])
    source = """
        import pytest
        def test_one(golden_registry):
            golden_registry["register"]("softmax", [0.5, 0.5], "cpu")
            assert golden_registry["get"]("softmax", "cpu") == [0.25, 0.75]
            golden_registry["register"]("new", [[1.0, float("inf")]], "metal")
            assert golden_registry["get"]("new", "metal") == [[1.0, float("inf")]]
            assert golden_registry["get"]("unknown", "cpu") is None
            assert golden_registry["all"]() == {
                "cpu": {"softmax": [0.25, 0.75]}, "metal": {"new": [[1.0, float("inf")]]}}
        @pytest.mark.parametrize("error, text, function, arguments", [
            (ValueError, "expected one of metal, cuda, cpu; got 'tpu'", "get", ("softmax", "tpu")),
            (ValueError, "twice for cpu with different values", "register", ("softmax", [0.6, 0.4], "cpu")),
            (TypeError, "a number or nested lists of numbers, got 'text'", "register", ("a", "text", "cpu")),
            (ValueError, "a value needs a name", "register", ("", 1.0, "cpu")),
        ])
        def test_mistakes(golden_registry, error, text, function, arguments):
            golden_registry["register"]("softmax", [0.5, 0.5], "cpu")
            with pytest.raises(error, match=text):
                golden_registry[function](*arguments)
    """
    result = run("--backend", "cpu", source=source)
    result.assert_outcomes(passed=5)
    result.stdout.no_fnmatch_line("*registered-cpu.json*")


REGISTERING = """
    import mlx.core as mx
    def test_one(golden_registry):
        golden_registry["register"]("half", mx.array([0.1, -0.0]).astype(mx.bfloat16), "cpu")
        golden_registry["register"]("count", 3, "cpu")
        assert golden_registry["get"]("half", "cpu")[0] == 0.10009765625
"""


def test_recording_adds_and_never_removes(run, pytester):
    directory = pytester.path / "golden_values"
    registered(directory, kept=[1.0], half=[9.0])
    run("--backend", "cpu", "--golden-record", source=REGISTERING).stdout.fnmatch_lines(
        ["registered-cpu.json: 2 of 2 golden values new or changed"]
    )
    recorded = golden_file.load(directory / "registered-cpu.json", backend="cpu").cases
    assert sorted(recorded) == ["count", "half", "kept"]
    assert recorded["half"].values == (0.1, -0.0)
    text = (directory / "registered-cpu.json").read_bytes()
    run("--backend", "cpu", "--golden-record").stdout.fnmatch_lines(["*0 of 2 golden values new or changed"])
    assert (directory / "registered-cpu.json").read_bytes() == text


def test_nothing_is_recorded_without_the_option(run, pytester):
    run("--backend", "cpu", source=REGISTERING).assert_outcomes(passed=1)
    assert not (pytester.path / "golden_values").exists()


def test_a_failed_session_records_nothing(run, pytester):
    result = run("--backend", "cpu", "--golden-record", source=REGISTERING + "    def test_bad(): assert 0\n")
    result.stdout.fnmatch_lines(["2 golden values were not recorded: the session did not pass"])
    assert not (pytester.path / "golden_values").exists()


def test_a_damaged_file_fails_the_session_and_is_left_alone(run, pytester):
    path = pytester.path / "values" / "registered-cpu.json"
    path.parent.mkdir()
    path.write_text("{")
    source = "def test_one(golden_registry): golden_registry['register']('a', 1.0, 'cpu')"
    result = run("--backend", "cpu", "--golden-record", "--golden-dir", "values", source=source)
    assert result.ret == pytest.ExitCode.TESTS_FAILED
    result.stdout.fnmatch_lines(["ERROR: *registered-cpu.json is truncated: *"])
    assert path.read_text() == "{"


def test_a_damaged_file_fails_the_test_that_reads_it(run, pytester):
    (pytester.path / "golden_values").mkdir()
    (pytester.path / "golden_values" / "cpu.json").write_text("not json")
    result = run(
        "--backend", "cpu", source="def test_one(golden_registry): golden_registry['get']('a', 'cpu')"
    )
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines([f"E *{GoldenError.__name__}: *cpu.json is not JSON: *"])


def test_an_unknown_golden_dir_is_a_usage_error(run):
    result = run("--golden-dir", "nowhere", source=ONE_TEST)
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines(
        ["ERROR: --golden-dir: */nowhere is not a directory. Name the one that holds *"]
    )


PRUNE = """
    import pytest
    @pytest.mark.parametrize("name", NAMES)
    def test_value(golden_registry, name):
        if name == "skip":
            pytest.skip("not here")
        golden_registry["register"](name, -(2**40), "cpu")
"""


@pytest.mark.parametrize("workers", ["0", "2"])
def test_stale_values_are_named_and_pruned(run, pytester, workers):
    pytest.importorskip("xdist")
    path = pytester.path / "golden_values" / "registered-cpu.json"
    options = ["--backend", "cpu", "-p", "xdist.plugin", "-n", workers]

    def session_of(names, *more):
        return run(*options, *more, source=PRUNE.replace("NAMES", repr(names)), how="subprocess")

    assert session_of(["a", "b", "old"], "--golden-record").ret == 0
    named = session_of(["a", "b"], "--golden-record")
    named.stdout.fnmatch_lines(
        ["registered-cpu.json: 1 values that no test registered: old; --golden-prune *"]
    )
    for more, why in ((["-k", "not skip"], "*deselected*"), ([], "*were skipped*")):
        refused = session_of(["a", "b", "skip"], "--golden-prune", *more)
        assert refused.ret == pytest.ExitCode.TESTS_FAILED
        refused.stdout.fnmatch_lines([f"ERROR: --golden-prune: nothing was removed: {why}"])
    assert set(golden_file.load(path, backend="cpu").cases) == {"a", "b", "old"}
    pruned = session_of(["a", "b"], "--golden-prune")
    pruned.stdout.fnmatch_lines(["registered-cpu.json: 1 stale values removed: old"])
    assert set(golden_file.load(path, backend="cpu").cases) == {"a", "b"}


TWO_FILES = {
    "test_first": """
        import pytest
        @pytest.mark.parametrize("name", ["a", "b"])
        def test_value(golden_registry, name):
            golden_registry["register"](name, 1.0, "cpu")
    """,
    "sub/test_second": """
        def test_other(golden_registry):
            golden_registry["register"]("other", 2.0, "cpu")
    """,
}
#: What is given on the command line, and why that says nothing of values which were not registered.
PARTIAL = {
    "test_first.py": "only test_first.py was collected, and all of the root folder belongs to the suite; run *",
    "sub": "only sub was collected, and all of the root folder belongs *",
    "test_first.py::test_value": "test_first.py::test_value names only a part of the suite; name no tests",
    "-k first": "1 tests were deselected*",
    "-m missing": "the session did not pass",
    "--deselect test_first.py::test_value": "2 tests were deselected*",
    "--ignore sub": "--ignore leaves files out",
    "--ignore-glob */sub/*": "--ignore-glob leaves files out",
    "-o testpaths=sub": "--override-ini changes testpaths, and with it the suite",
    "--lf": "--last-failed runs only the tests that failed last",
    "--collect-only": "--collect-only runs no test",
    "--setup-only": "--setup-only runs no test",
}


@pytest.fixture
def recorded(run, pytester):
    """A suite of two files with its three values recorded; gives the names that are recorded."""
    (pytester.path / "sub").mkdir()
    for name, text in TWO_FILES.items():
        (pytester.path / f"{name}.py").write_text(textwrap.dedent(text))
    path = pytester.path / "golden_values" / "registered-cpu.json"
    assert run("--backend", "cpu", "--golden-record").ret == 0

    def names():
        return set(golden_file.load(path, backend="cpu").cases)

    assert names() == {"a", "b", "other"}
    return names


#: Those that are tried with xdist too, whose controller collects nothing itself.
PARTIAL_IN_PARALLEL = ("test_first.py::test_value", "--deselect test_first.py::test_value")


@pytest.fixture(params=["0", "1"])
def run_with(request, run):
    """As `run`, without xdist or with one worker."""
    if request.param == "0":
        return lambda *more: run("--backend", "cpu", *more)
    pytest.importorskip("xdist")
    return lambda *more: run("--backend", "cpu", "-p", "xdist.plugin", "-n", "1", *more, how="subprocess")


def check_partial(run, recorded, given):
    more = ["-p", "cacheprovider"] if given == "--lf" else []
    result = run(*more, "--golden-prune", *given.split())
    assert recorded() == {"a", "b", "other"}
    assert result.ret != 0
    result.stdout.fnmatch_lines([f"ERROR: --golden-prune: nothing was removed: {PARTIAL[given]}"])


@pytest.mark.parametrize("given", PARTIAL)
def test_a_part_of_the_suite_prunes_nothing(run, recorded, given):
    check_partial(lambda *more: run("--backend", "cpu", *more), recorded, given)


@pytest.mark.parametrize("given", PARTIAL_IN_PARALLEL)
def test_a_part_of_the_suite_prunes_nothing_with_workers(run, recorded, given):
    pytest.importorskip("xdist")
    options = ["--backend", "cpu", "-p", "xdist.plugin", "-n", "1"]
    check_partial(lambda *more: run(*options, *more, how="subprocess"), recorded, given)


@pytest.mark.parametrize("option", ["-x", "--maxfail=1"])
def test_a_session_that_ends_early_prunes_nothing(run_with, recorded, pytester, option):
    (pytester.path / "test_bad.py").write_text("def test_bad(): assert 0")
    result = run_with("--golden-prune", option)
    result.stdout.fnmatch_lines(["ERROR: --golden-prune: nothing was removed: the session did not pass"])
    assert recorded() == {"a", "b", "other"}


def test_a_file_that_skips_itself_prunes_nothing(run_with, recorded, pytester):
    second = pytester.path / "sub" / "test_second.py"
    second.write_text("import pytest\npytest.skip('no', allow_module_level=True)\n" + second.read_text())
    result = run_with("--golden-prune")
    result.stdout.fnmatch_lines(
        ["ERROR: *nothing was removed: 1 tests or files * skipped (sub/test_second.py)"]
    )
    assert recorded() == {"a", "b", "other"}


def test_tests_that_a_plugin_drops_prune_nothing(run_with, recorded, pytester):
    pytester.makeconftest("def pytest_collection_modifyitems(items): del items[0]")
    result = run_with("--golden-prune")
    result.stdout.fnmatch_lines(["ERROR: *nothing was removed: 1 of 3 tests that were collected did not run"])
    assert recorded() == {"a", "b", "other"}


def test_paths_that_hold_the_whole_suite_may_prune(run, recorded, pytester):
    (pytester.path / "test_first.py").unlink()
    pytester.makeini("[pytest]\ntestpaths = sub")
    assert run("--backend", "cpu", "--golden-prune", "sub").ret == 0
    assert recorded() == {"other"}


def test_a_worker_that_dies_fails_the_session(run):
    pytest.importorskip("xdist")
    source = "import os\ndef test_one(backend): pass\ndef test_dies(backend): os._exit(0)"
    result = run("--backend", "cpu", "-p", "xdist.plugin", "-n", "1", source=source, how="subprocess")
    assert result.ret != 0
    result.stdout.fnmatch_lines(["ERROR: worker gw0 did not finish: its figures are missing here"])


def test_no_compiler_is_said_once(run, monkeypatch, tmp_path):
    monkeypatch.setenv("CXX", str(tmp_path / "none"))
    monkeypatch.setenv("ZMLX_CACHE_DIR", str(tmp_path / "cache"))
    monkeypatch.setenv("PATH", str(tmp_path))
    source = """
        import mlx.core as mx, pytest, zmlx
        @pytest.mark.parametrize("n", range(20))
        def test_launch(n, backend):
            zmlx.metal_kernel("k", ["x"], ["out"], "out[0] = x;")(
                inputs=[1.0], output_shapes=[(1,)], output_dtypes=[mx.float32], grid=(1, 1, 1),
                threadgroup=(1, 1, 1), stream=mx.cpu)
    """
    result = run("--backend", "cpu", "--tb=line", source=source, how="subprocess")
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(
        ["zmlx: *No C++ compiler*", "*no C++ compiler: see the head of this session*"]
    )


@pytest.mark.parametrize("dtype", ["uint32", "int32", "int64", "int16", "uint64", "uint8"])
def test_whole_numbers_compare_exactly_by_default(dtype, assert_allclose_cross_backend):
    big = 200 if dtype == "uint8" else 20000
    got = mx.array([big + 1], dtype=getattr(mx, dtype))
    for wanted in (mx.array([big], dtype=got.dtype), [big], [float(big)], big, mx.array([float(big)])):
        with pytest.raises(AssertionError, match=f"got {big + 1}.*, expected {big}"):
            assert_allclose_cross_backend(got, wanted)
    assert_allclose_cross_backend(got, [big], atol=1)
    with pytest.raises(AssertionError):
        assert_allclose_cross_backend(mx.array([True]), mx.array([False]))
