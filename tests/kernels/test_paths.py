"""Every way through the row kernels is right for drawn arguments, and every way is taken.

On the CPU `override` makes launches take the shapes that they have on a GPU. Examples of an operation are drawn over
all of them; a path that none has taken fails by its name.
"""

from __future__ import annotations

from collections import Counter
from typing import Any

import pytest

from zmlx.testing.generated import profiles
from zmlx.testing.generated.case import kernels_of
from zmlx.testing.generated.example import Within
from zmlx.testing.generated.properties import MISSING, Drawn, Setting, run_properties
from zmlx.testing.op_db import op_db
from zmlx.testing.opinfo import DEFAULT_DTYPES, OpInfo
from zmlx.testing.row_paths import PATHS, paths_of, unreached
from zmlx.testing.session import KEY

pytestmark = pytest.mark.usefixtures("mx_device")

#: The kinds of kernel that an operation of rows, and its gradient, launch. Others have launches of their own, which
#: tests/test_ops.py tries in the shapes of a GPU.
KINDS = {
    # Positions that are the inverse of an order are not drawn by extents; GPU shapes are tested on samples.
    "moe.combine": (),
    "moe.dispatch": (),
    "moe.expert_order": (),  # its threads have an expert and a block each
    "moe.gather_add": ("span",),
    "moe.router_topk": ("row",),
    "moe.scatter_add": ("span",),
    "moe.sigmoid_router": ("row", "span"),
    "norms.layernorm": ("row", "run", "block", "column"),
    "norms.rmsnorm": ("row", "run", "block", "column"),
    "reductions.sum_lastdim": ("row",),
    "sampling.apply_token_bitmask": ("span",),
    "sampling.categorical": ("row",),
    "sampling.filter_logits": ("row", "span"),
    "selection.topk": ("row", "span"),
    "softmax.softmax_lastdim": ("row",),
    "transformer.geglu": ("span",),
    "transformer.swiglu": ("span",),
}

KERNELS = tuple(op for op in kernels_of(op_db) if op.name in KINDS)

#: Examples of a setting in a round of the profile dev; other profiles divide their own number among the settings.
EXAMPLES = 3
#: So many rounds of other examples have a path to be taken.
ROUNDS = 8


def _override(*arguments: Any, dtypes: tuple[str, ...] = ("float32",), **more: Any) -> Setting:
    """A setting in which rows are launched as `override` says."""
    from zmlx.kernels import _rows

    own = {name: more.pop(name) for name in ("columns", "rows", "multiple", "row_only") if name in more}
    text = ", ".join([*map(repr, arguments), *(f"{name}={value!r}" for name, value in more.items())])
    return Setting(
        text,
        lambda: _rows.override(*arguments, **more),
        Within("from zmlx.kernels import _rows", f"_rows.override({text})"),
        dtypes=dtypes,
        **own,
    )


#: Rows that threads share: more of them only take longer, and arrays of less than 8 values are of another type, with
#: which each kernel would be translated anew. Other tests have them.
ROWS = (1, 40)
#: Their length: any, and, in every second round, longer than what threads hold in some settings, which is seldom drawn.
COLUMNS = ((8, 4200), (2000, 4200))


def _settings(columns: tuple[int, int]) -> tuple[Setting, ...]:
    """The CPU's own launch, then those of a GPU: dtypes and widths that other tests have compiled."""
    shared: dict[str, Any] = {"rows": ROWS, "columns": columns}
    # g++ takes all rows for aligned: as many values as threads hold are whole chunks in both halves of a gated row.
    packed: dict[str, Any] = {**shared, "packed": True, "row_only": True, "multiple": 64}
    return (
        Setting("cpu", dtypes=("float32",)),
        Setting("cpu, many rows", dtypes=("float32",), rows=(16400, 20000), columns=(2, 12)),
        _override(8, **shared),
        _override(64, **shared),
        _override(64, **shared, multiple=512),
        *(_override(8, 2, **packed, dtypes=(dtype,)) for dtype in DEFAULT_DTYPES),
        _override(8, groups=2, rows=(257, 600), columns=(8, 20)),
        _override(64, groups=2, **shared),
    )


def _reach(op: OpInfo, profile: str, request: pytest.FixtureRequest) -> Counter[str]:
    """Check rounds of examples until all paths are taken, at most `ROUNDS`; the paths are counted and shown."""
    reached: Counter[str] = Counter()

    def seen(drawn: Drawn, launches: Any) -> None:
        x = drawn.sample.args[0]
        for record in launches if x.size else ():
            reached.update(paths_of(record, x.shape))

    ledger = request.config.stash[KEY].ledger
    for seed in range(ROUNDS):
        settings = _settings(COLUMNS[seed % len(COLUMNS)])
        share = profiles.examples(profile) // len(settings)
        examples = EXAMPLES if profile == profiles.DEFAULT else share
        for setting in settings:
            if not unreached(KINDS[op.name], reached) and seed > 0:
                break
            counts = run_properties(op, "cpu", profile, request.path, (setting,), seen, examples, seed)
            ledger.record_examples(f"{op.name} (launch paths)", profile, counts)
    ledger.record_paths(reached)
    return reached


@pytest.fixture
def profile(backend: str, request: pytest.FixtureRequest) -> str:
    if backend != "cpu":
        pytest.skip("a GPU has its own launch shapes: those of all back ends are tried on the CPU")
    if not profiles.available():
        pytest.skip(MISSING)
    return profiles.chosen(request.config)


@pytest.mark.parametrize("op", [op for op in KERNELS if KINDS.get(op.name) != ()], ids=str)
def test_every_path_is_reached_and_right(op: OpInfo, profile: str, request: pytest.FixtureRequest) -> None:
    reached = _reach(op, profile, request)
    assert unreached(KINDS[op.name], reached) == [], f"{op.name}: paths that no example took"
    assert {path.partition(":")[0] for path in reached} == set(KINDS[op.name])


def test_every_operation_says_which_kinds_of_kernel_it_has() -> None:
    assert set(KINDS) == {op.name for op in KERNELS}
    assert {kind for kinds in KINDS.values() for kind in kinds} == set(PATHS)
