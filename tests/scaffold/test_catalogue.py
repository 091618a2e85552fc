"""The catalogue of docs/kernels.md: what its rows and its summary are computed from."""

from __future__ import annotations

from pathlib import Path

import pytest

from zmlx.scaffold import catalogue
from zmlx.scaffold.markdown import first_sentence
from zmlx.testing.op_db import op_db

pytestmark = pytest.mark.cpu

ROOT = Path(__file__).parents[2]
OPS = {op.name: op for op in op_db}


@pytest.fixture
def checkout(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """One with a single kernel, and no golden values."""
    folder = tmp_path / "zmlx" / "kernels"
    folder.mkdir(parents=True)
    (folder / "norms.py").write_text('''"""Norms, of rows. More."""

from zmlx.kernels._own import thing


def rmsnorm(x, weight, eps=1e-3, *, count, ddof=0):
    """The ``x`` over | its size: a + ... + b. More.

    Parameters
    ----------
    x
        Shape (..., 2 * D), any.
    weight
        Shape (k * D,).

    Returns
    -------
    Of x's shape.
    """
    # A comment.
    return thing  # and code
''')
    (folder / "_own.py").write_text("thing = 1\n")
    monkeypatch.setattr("zmlx.testing.op_db.op_db", (OPS["norms.rmsnorm"],))
    return tmp_path


def test_a_row_comes_from_signature_docstring_and_entry(checkout: Path) -> None:
    text = catalogue.kernels(checkout)
    assert (
        "\n### norms\n\nNorms, of rows.\n\n| kernel | shapes | computes | dtypes | gradient | built of | from |"
        in text
    )
    row = text.splitlines()[-1]
    assert row.startswith(
        "| `norms.rmsnorm(x, weight, eps=1e-3, *, count, ddof=0)` | (…, 2D), (k·D) → (…, 2D) | "
        "The `x` over \\| its size: a + ... + b | floats | `x`, `weight` | own source | Zhang and "
    )
    assert "[arXiv:1910.07467](https://arxiv.org/abs/1910.07467)" in row


def test_the_summary_counts(checkout: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def summary() -> str:
        return catalogue.kernels(checkout).splitlines()[1]

    # One import, one def, one return; and the other module's line.
    said = "The catalogue has 4 lines of code a kernel, these blocks among them"
    assert summary() == (
        "1 kernels, of which 0 (0%) are built of `zmlx.elementwise` or `zmlx.row_kernel` alone, gradients included. "
        f"{said}."
    )
    monkeypatch.setattr(catalogue, "built_of", lambda op: catalogue.ROW_KERNEL)
    assert "of which 1 (100%) are built" in summary()
    assert summary().endswith(
        f"{said}; families that are built of blocks throughout (norms) have 4, without."
    )


def test_errors_are_those_of_the_recorded_values(checkout: Path) -> None:
    (checkout / "golden_values").symlink_to(ROOT / "golden_values")
    head, _, row = catalogue.kernels(checkout).splitlines()[-3:]
    columns = dict(zip(head.split(" | "), row.split(" | "), strict=True))
    for backend in ("cpu", "cuda"):
        share = columns[backend]
        assert share.endswith(" %")
        assert 1 <= int(share.removesuffix(" %")) <= 100


@pytest.mark.parametrize(
    ("name", "block"),
    [
        ("fused.add", catalogue.ELEMENTWISE),  # its sums are the block's own
        ("norms.gated_rmsnorm", catalogue.ROW_KERNEL),
        ("norms.rmsnorm", catalogue.OWN),
        ("reductions.sum_lastdim", catalogue.OWN),
        ("bits.pack_bits", catalogue.OWN),
    ],
)
def test_what_kernels_are_built_of(name: str, block: str) -> None:
    assert catalogue.built_of(OPS[name]) == block


@pytest.mark.parametrize(
    ("text", "lines"),
    [
        ("", 0),
        ("x = 1\n\n# no\ny = 2  # yes\n", 2),
        ('"""Of\n\ntwo."""\nclass A:\n    """Of one."""\n\n    x = 1\n', 2),
        ('MSL = """\n#define A\n\nfloat x;\n"""\n', 4),  # no comment of Python's
    ],
)
def test_lines_of_code(text: str, lines: int) -> None:
    assert catalogue.code_lines(text) == lines


def test_modules_that_nothing_else_imports() -> None:
    texts = {
        "one": "from zmlx.kernels import _mine, _ours\nfrom zmlx.kernels._row_kernel import row_kernel",
        "_mine": "from zmlx.kernels._deep import x",
        "_deep": "",
        "two": "from zmlx.kernels._ours import y",
        "_ours": "",
        "_row_kernel": "",
    }
    assert catalogue.modules_of(["one"], texts) == {"one", "_mine", "_deep"}
    assert catalogue.modules_of(["one", "two"], texts) == {"one", "two", "_mine", "_deep", "_ours"}


def test_an_ellipsis_ends_no_sentence() -> None:
    assert first_sentence("``a + ... + b`` of | it. More.") == "`a + ... + b` of \\| it"
    assert first_sentence("call(x)\n\nWhat it is.\n") == "What it is"
