"""Ways to cheat, each a candidate in cheats/ that must be refused, for what it does."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

pytest.importorskip("mlx.core")

import mlx.core as mx

from zmlx.testing.judge import REASONS, Limits, Verdict, judge
from zmlx.testing.project import load_ops

HERE = Path(__file__).parent
FUNCTION = "signed_square"

#: File in cheats/ -> the reason that names what it does, and words of the message.
CHEATS = {
    "answer_in_source": ("depends-on-values", "with another source"),
    "cached_by_identity": ("stale", "that of an earlier call"),
    "cached_by_shape": ("stale", "that of an earlier call"),
    "changed_environment": ("environment-changed", "ZMLX_CHECK"),
    "chosen_parts": ("depends-on-values", "is another part of the arguments"),
    "const_cast": ("checker", "x"),
    "copying_kernel": ("computed-outside", "x of copy is neither an argument"),
    "dummy_kernel": ("not-from-kernel", "outputs of dummy"),
    "endless_import": ("out-of-time", "no answer after 1 s"),
    "endless_kernel": ("out-of-time", "a kernel does not end"),
    "endless_loop": ("out-of-time", "no answer after 1 s"),
    "float32_only": ("wrong-values", "outside the tolerance"),
    "forged_verdict": ("broke-protocol", "not asked"),
    "forked_helper": ("left-processes", "1 of them"),
    "half_by_mlx": ("not-from-kernel", "outputs of absolute"),
    "hard_coded_shapes": ("unwritten", "filled with before"),
    "huge_output": ("out-of-memory", "524288 MB of outputs"),
    "ignored_strides": ("wrong-values", "outside the tolerance"),
    "memory_hog": ("out-of-memory", "limit: 256 MB"),
    "index_of_16_bits": ("unwritten", "filled with before"),
    "knows_the_checker": ("wrong-values", "outside the tolerance"),
    "mlx_operations": ("no-kernel", "launched none"),
    "os_exit": ("ended-early", "exit status 0"),
    "out_of_bounds": ("checker", "x"),
    "patched_comparison": ("wrong-values", "outside the tolerance"),
    "patched_records": ("no-kernel", "launched none"),
    "patched_timer": ("replaced", "time.perf_counter"),
    "patched_worker": ("wrong-values", "outside the tolerance"),
    "returned_reference": ("no-kernel", "launched none"),
    "swallowed_exception": ("kernel-failed", "no_such_function"),
    "sys_exit": ("ended-early", "exit status 0"),
    "unwritten": ("unwritten", "filled with before"),
    "weak_hash": ("stale", "that of an earlier call"),
    "writes_inputs": ("inputs-changed", "array 0"),
    "wrong_beyond_three_axes": ("wrong-values", "outside the tolerance"),
    "wrong_beyond_100": ("wrong-values", "outside the tolerance"),
    "wrong_on_infinity": ("wrong-values", "outside the tolerance"),
    "wrong_on_nan": ("wrong-values", "outside the tolerance"),
}

#: Cheats that replace functions of others too: that is a reason of its own.
REPLACES = {"patched_comparison": "numpy.allclose", "patched_records": "zmlx.launch.records.note_launch"}


def judged(path: Path, limits: Limits | None = None, **options: object) -> Verdict:
    """The verdict on a candidate for the signed square."""
    (op,) = (op for op in load_ops(["small_ops:OPS"], HERE) if op.name.endswith(FUNCTION))
    with mx.stream(mx.cpu):
        return judge(path, op, limits=limits or Limits(20.0, 1024), paths=(HERE,), **options)  # type: ignore[arg-type]


def test_every_cheat_is_in_the_table() -> None:
    assert {path.stem for path in (HERE / "cheats").glob("*.py")} == set(CHEATS)
    assert {code for code, _ in CHEATS.values()} <= set(REASONS)


def test_every_cheat_is_in_the_guide() -> None:
    guide = (HERE.parents[2] / "docs" / "cross_backend_testing.md").read_text(encoding="utf-8")
    for name, (code, _) in CHEATS.items():
        tree = ast.parse((HERE / "cheats" / f"{name}.py").read_text(encoding="utf-8"))
        assert f"| {(ast.get_docstring(tree) or name).rstrip('.')} | `{code}` |" in guide


@pytest.mark.parametrize("name", CHEATS)
def test_cheat_is_refused(name: str) -> None:
    code, words = CHEATS[name]
    limits = Limits(1.0 if name.startswith("endless") else 20.0, 256 if name == "memory_hog" else 1024)
    verdict = judged(HERE / "cheats" / f"{name}.py", limits)

    assert not verdict.accepted
    assert verdict.exit_code == 1
    assert verdict.text().splitlines()[-1].startswith("REFUSED")
    reasons = {reason.code: reason.message for reason in verdict.reasons}
    assert code in reasons
    assert words in reasons[code]
    assert REPLACES.get(name, "") in reasons.get("replaced", "")


def test_what_the_cheats_begin_with_is_accepted() -> None:
    """The kernel that most of them have in them: it is the cheat that is refused."""
    verdict = judged(HERE / "honest_signed_square.py", function=FUNCTION)

    assert verdict.reasons == []
    assert verdict.exit_code == 0
    assert verdict.launches >= verdict.cases
