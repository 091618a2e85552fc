"""``python -m zmlx check``, ``pytest --zmlx-check`` and SARIF."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

import zmlx
from zmlx.__main__ import main

pytestmark = pytest.mark.cpu

SCRIPT = textwrap.dedent(
    '''\
    import sys
    import mlx.core as mx

    SOURCE = """
        uint i = thread_position_in_threadgroup.x;
        threadgroup float s[64];
        s[i] = x[i];
        threadgroup_barrier(mem_flags::FLAG);
        out[i] = s[63 - i];
    """
    kernel = mx.fast.metal_kernel(name="turn", input_names=["x"], output_names=["out"], source=SOURCE)

    def turned():
        return kernel(inputs=[mx.arange(64).astype(mx.float32)], output_shapes=[(64,)], output_dtypes=[mx.float32],
                      grid=(64, 1, 1), threadgroup=(64, 1, 1), stream=mx.cpu)[0]
    '''
)
MAIN = "print(sys.argv[1:], turned()[0].item())\n"


@pytest.fixture
def script(tmp_path):
    def write(flag, main=MAIN):
        path = tmp_path / "turn.py"
        path.write_text(SCRIPT.replace("FLAG", flag) + main)
        return path

    return write


def test_a_script_runs_with_its_arguments_and_is_reported(script, capsys):
    path = script("mem_none")
    assert main(["check", str(path), "--steps", "2"]) == 1
    out = capsys.readouterr().out
    assert out.startswith("['--steps', '2'] 63.0\n")
    assert f"source line 5 ({path}:8): threadgroup_barrier(mem_flags::mem_none);" in out
    assert out.endswith("zmlx checked 1 launches, 256 memory accesses: 1 finding: 1 memory-order\n")


def test_a_right_script_is_0(script, capsys):
    assert main(["check", str(script("mem_threadgroup"))]) == 0
    assert capsys.readouterr().out.endswith("no finding\n")


def test_the_status_of_a_script_that_fails_is_kept(script, capsys):
    assert main(["check", str(script("mem_threadgroup", "sys.exit(7)\n"))]) == 7
    assert main(["check", str(script("mem_threadgroup", "sys.exit('no data')\n"))]) == 1
    assert "no data" in capsys.readouterr().err


def test_a_missing_script_is_an_error(capsys):
    assert main(["check", "nowhere.py"]) == 2
    assert "There is no script 'nowhere.py'" in capsys.readouterr().err


def test_suppressions_and_unneeded_ones(script, tmp_path, capsys):
    known = tmp_path / "known.ini"
    known.write_text("[a]\nkernel = turn\nkind = memory-order\nreason = known\n")
    assert main(["check", "--suppressions", str(known), str(script("mem_none"))]) == 0
    assert main(["check", "--suppressions", str(known), str(script("mem_threadgroup"))]) == 1
    assert "the entry [a] suppressed nothing" in capsys.readouterr().out


def test_sarif_points_at_the_lines_of_the_file(script, tmp_path, monkeypatch):
    path = script("mem_none")
    monkeypatch.chdir(tmp_path)
    assert main(["check", "--sarif", "out.sarif", "--json", "out.json", str(path)]) == 1
    log = json.loads((tmp_path / "out.sarif").read_text())
    assert log["version"] == "2.1.0"
    (run,) = log["runs"]
    assert [rule["id"] for rule in run["tool"]["driver"]["rules"]] == ["memory-order"]
    (result,) = run["results"]
    assert (result["ruleId"], result["ruleIndex"], result["level"]) == ("memory-order", 0, "error")
    (location,) = result["locations"]
    assert location["physicalLocation"]["artifactLocation"]["uri"] == "turn.py"
    lines = [
        place["physicalLocation"]["region"]["startLine"] for place in [location, *result["relatedLocations"]]
    ]
    assert lines == [8, 9, 7]
    assert len(json.loads((tmp_path / "out.json").read_text())["findings"]) == 1


TESTS = textwrap.dedent(
    """\
    import turn

    def test_turned():
        assert turn.turned()[0].item() == 63

    def test_nothing():
        assert True
    """
)


@pytest.fixture
def suite(pytester, monkeypatch):
    # A checkout that is not installed is found through the path.
    path = [str(Path(zmlx.__file__).parents[1]), *filter(None, [os.environ.get("PYTHONPATH")])]
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(path))
    # Hypothesis alone would take a second to load in each session.
    monkeypatch.setenv("PYTEST_DISABLE_PLUGIN_AUTOLOAD", "1")

    def write(flag):
        source = SCRIPT.replace("FLAG", flag).replace(
            "import mlx.core as mx", "import mlx.core as mx\nimport zmlx\nzmlx.install()"
        )
        pytester.makepyfile(turn=source, test_turn=TESTS)
        pytester.makeini("[pytest]\nfilterwarnings = ignore\npythonpath = .")
        return pytester

    return write


def test_a_finding_fails_its_test(suite):
    result = suite("mem_none").runpytest_subprocess("--zmlx-check", "-p", "zmlx.testing.plugin")
    result.assert_outcomes(failed=1, passed=1)
    result.stdout.fnmatch_lines(
        [
            "memory-order in kernel 'turn': s[[]0[]] is exchanged*",
            "1 launches and 256 memory accesses checked: 1 findings",
        ]
    )


def test_without_the_option_nothing_is_checked(suite):
    suite("mem_none").runpytest_subprocess("-p", "zmlx.testing.plugin").assert_outcomes(passed=2)


@pytest.mark.parametrize("workers", ["0", "2"])
def test_suppressions_of_a_suite(suite, workers):
    pytest.importorskip("xdist")
    pytester = suite("mem_none")
    pytester.makefile(".ini", known="[a]\nkernel = turn\nkind = memory-order\nreason = known\n")
    options = [
        "--zmlx-check",
        "--zmlx-check-suppressions=known.ini",
        "-p",
        "zmlx.testing.plugin",
        "-p",
        "xdist",
        "-n",
        workers,
    ]
    pytester.runpytest_subprocess(*options).assert_outcomes(passed=2)
    unneeded = pytester.runpytest_subprocess(*options, "-k", "nothing")
    assert unneeded.ret == pytest.ExitCode.TESTS_FAILED
    unneeded.stdout.fnmatch_lines(["ERROR: known.ini: the entry [[]a[]] suppressed nothing*"])


WRONG_ENDS = {
    "exit 256": "sys.exit(256)\n",
    "an exception": "raise RuntimeError('oops')\n",
}


@pytest.mark.parametrize("end", ["exit 256", "an exception"])
def test_a_script_that_ends_badly_is_not_0(script, capsys, end):
    assert main(["check", str(script("mem_threadgroup", "turned()\n" + WRONG_ENDS[end]))]) == 1
    assert capsys.readouterr().out.endswith("no finding\n")


def test_a_script_that_swallows_the_error_of_a_block_of_its_own_is_1(script, capsys):
    swallow = "import zmlx\ntry:\n    with zmlx.checked():\n        turned()\nexcept Exception: pass\n"
    assert main(["check", str(script("mem_none", swallow))]) == 1
    assert "1 launches, 256 memory accesses: 1 finding: 1 memory-order" in capsys.readouterr().out


def test_a_launch_whose_error_is_swallowed_was_not_checked(script, capsys):
    swallow = "turned()\ntry:\n    turned_wrong()\nexcept Exception: pass\n"
    wrong = (
        "SOURCE = 'out[0] = no_such_name;'\nother = mx.fast.metal_kernel(name='wrong', input_names=['x'], "
    )
    wrong += (
        "output_names=['out'], source=SOURCE)\ndef turned_wrong():\n    return other(inputs=[mx.ones(64)], "
    )
    wrong += "output_shapes=[(64,)], output_dtypes=[mx.float32], grid=(64, 1, 1), threadgroup=(64, 1, 1))\n"
    assert main(["check", str(script("mem_threadgroup", wrong + swallow))]) == 1
    assert "1 launches raised an error and were not checked: wrong: " in capsys.readouterr().out


def test_a_script_without_a_launch_is_1_unless_allowed(script, capsys):
    path = str(script("mem_none", "print('nothing')\n"))
    assert main(["check", path]) == 1
    assert "nothing was checked: the script launched no Metal kernel" in capsys.readouterr().out
    assert main(["check", "--allow-nothing", path]) == 0


@pytest.mark.parametrize(("flag", "status"), [("mem_none", 1), ("mem_threadgroup", 0)])
def test_a_script_that_leaves_by_os_exit_is_reported_on(script, flag, status):
    path = script(flag, "import os\nturned()\nos._exit(0)\n")
    path_of = os.pathsep.join([str(Path(zmlx.__file__).parents[1]), os.environ.get("PYTHONPATH", "")])
    env = {**os.environ, "PYTHONPATH": path_of}
    command = [sys.executable, "-m", "zmlx", "check", str(path)]
    done = subprocess.run(command, capture_output=True, text=True, env=env, check=False)
    assert done.returncode == status, done.stderr
    assert "zmlx checked 1 launches" in done.stdout


def test_arithmetic_of_a_script(script, capsys):
    path = script("mem_threadgroup")
    path.write_text(path.read_text().replace("out[i] =", "out[i] = 0 * (1u << (i + 1)) +"))
    assert main(["check", str(path)]) == 0
    capsys.readouterr()
    assert main(["check", "--arithmetic", str(path)]) == 1
    assert "arithmetic in kernel 'turn': shifts an integer by 64, as many bits" in capsys.readouterr().out


SIGINT_IGNORED = """
import os, signal, threading, time
assert signal.getsignal(signal.SIGINT) is signal.SIG_IGN
def interrupt():
    while True:
        os.kill(os.getpid(), signal.SIGINT)
        time.sleep(0.05)
threading.Thread(target=interrupt, daemon=True).start()
"""


@pytest.mark.skipif(os.name != "posix", reason="nohup is of POSIX")
@pytest.mark.parametrize("command", ["script", "suite"])
def test_where_sigint_is_ignored_a_checked_launch_goes_on(suite, script, command):
    # As under nohup: a child ignores what its parent does. Signals come all the time, in the launch too.
    busy = "volatile int n = 0; for (int k = 0; k < 20000000; ++k) n = k;\n        out[i] ="
    if command == "script":
        path = script("mem_threadgroup", SIGINT_IGNORED + MAIN)
        arguments = ["zmlx", "check", str(path)]
    else:
        path = suite("mem_threadgroup").path / "turn.py"
        path.write_text(path.read_text() + SIGINT_IGNORED)
        arguments = ["pytest", "--zmlx-check", "-p", "zmlx.testing.plugin", "-p", "no:cacheprovider"]
    path.write_text(path.read_text().replace("out[i] =", f"if (i == 0) {{ {busy} 0; }}\n        out[i] =", 1))
    path_of = os.pathsep.join([str(Path(zmlx.__file__).parents[1]), os.environ.get("PYTHONPATH", "")])
    done = subprocess.run(
        ["/bin/sh", "-c", 'trap "" INT; exec "$@"', "sh", sys.executable, "-m", *arguments],
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONPATH": path_of},
        cwd=path.parent,
        check=False,
        timeout=120,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "1 launches" in done.stdout
    assert "KeyboardInterrupt" not in done.stdout + done.stderr


def test_arithmetic_of_a_suite(suite):
    pytester = suite("mem_threadgroup")
    module = pytester.path / "turn.py"
    module.write_text(module.read_text().replace("out[i] =", "out[i] = 0 * (1u << (i + 1)) +"))
    plain = pytester.runpytest_subprocess("--zmlx-check", "-p", "zmlx.testing.plugin")
    plain.assert_outcomes(passed=2)
    asked = pytester.runpytest_subprocess(
        "--zmlx-check", "--zmlx-check-arithmetic", "-p", "zmlx.testing.plugin"
    )
    asked.assert_outcomes(failed=1, passed=1)
    asked.stdout.fnmatch_lines(
        ["arithmetic in kernel 'turn': shifts an integer by 64, as many bits as it has or more: Metal takes*"]
    )
