"""Properties: an operation agrees with its oracle for arguments that Hypothesis draws, not only for its samples."""

from __future__ import annotations

import contextlib
import zlib
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import pytest

from zmlx.testing.generated import profiles
from zmlx.testing.generated.case import Ops
from zmlx.testing.generated.example import Refused, Unfit, Within, check_example, snippet
from zmlx.testing.opinfo import OpInfo, SampleInput
from zmlx.testing.session import KEY
from zmlx.testing.variations import Bounds, Variation, draw_variation, special_values

if TYPE_CHECKING:
    from hypothesis.strategies import DrawFn, SearchStrategy

    from zmlx.launch.records import LaunchRecord

MISSING = "Hypothesis is not installed, which draws the examples: python -m pip install 'hypothesis>=6.130'"

#: Examples in vain for each that could be checked, before no other is tried.
TRIES = 20

FAILURE = """\
{text}

The smallest example that was found; this program runs it again:

{program}
"""

T = TypeVar("T")


@dataclass(frozen=True)
class Setting:
    """How examples are launched.

    Attributes
    ----------
    name : str
        For counts.
    context : callable
        Returns a context manager to run an example in.
    text : Within, optional
        The same, as Python text.
    dtypes : tuple of str
        Those that it is for; empty for all.
    columns, rows, multiple
        Of the extents, as `Bounds` has them.
    row_only : bool
        Arrays are row-contiguous.
    """

    name: str = ""
    context: Callable[[], AbstractContextManager[Any]] = contextlib.nullcontext
    text: Within | None = None
    dtypes: tuple[str, ...] = ()
    columns: tuple[int, int] | None = None
    rows: tuple[int, int] | None = None
    multiple: int = 1
    row_only: bool = False


@dataclass(frozen=True)
class Drawn:
    """What Hypothesis draws: a sample rounded to a dtype, how it was made, and how it is launched."""

    dtype: str
    sample: SampleInput
    made_by: Variation | None
    setting: Setting


class _Draws:
    """Numbers from Hypothesis, which shrinks them to small ones."""

    def __init__(self, draw: DrawFn) -> None:
        self._draw = draw

    def randint(self, a: int, b: int, /) -> int:
        from hypothesis import strategies

        # Hypothesis shrinks towards zero.
        return self._draw(strategies.integers(a, b))

    def choice(self, seq: Sequence[T], /) -> T:
        return seq[self.randint(0, len(seq) - 1)]


def examples_of(op: OpInfo, dtypes: Sequence[str], settings: Sequence[Setting]) -> SearchStrategy[Drawn]:
    """Variations of an operation's samples, or what its own strategy draws."""
    from hypothesis import strategies

    # Simple samples first, for those are what shrinking comes to.
    samples = sorted(op.sample_inputs(), key=lambda s: any(getattr(a, "size", 1) == 0 for a in s.args))
    by_name = {sample.name: sample for sample in samples}
    special = {sample.name: special_values(sample) for sample in samples}

    @strategies.composite
    def drawn(draw: DrawFn) -> Drawn:
        draws = _Draws(draw)
        setting = draws.choice(settings)
        dtype = draws.choice([d for d in dtypes if not setting.dtypes or d in setting.dtypes])
        layouts = ("row",) if setting.row_only else op.layouts
        if op.strategy is not None:
            sample = draw(op.strategy(dtype)).cast(dtype)
            able = [layout for layout in sample.layouts() if layout in layouts]
            return Drawn(dtype, sample.laid_out(draws.choice(able)), None, setting)
        bounds = Bounds(op.extents, op.axis_extents, setting.columns, setting.rows, setting.multiple)
        variation = draw_variation(draws, samples, layouts, bounds, special)
        varied = op.in_range(variation.applied(by_name[variation.sample], dtype))
        return Drawn(dtype, varied, variation, setting)

    return drawn()


def run_properties(
    op: OpInfo,
    backend: str,
    profile: str,
    module: Path,
    settings: Sequence[Setting] = (Setting(),),
    seen: Callable[[Drawn, list[LaunchRecord]], None] | None = None,
    examples: int | None = None,
    seed: int = 0,
) -> Counter[str]:
    """Draw examples of an operation and check each; the first that fails is shrunk, and fails with a program.

    Parameters
    ----------
    op : OpInfo
        With dtypes on `backend`.
    backend : str
        That of MLX's default device.
    profile : str
        A profile of Hypothesis.
    module : pathlib.Path
        The test module, for the program.
    settings : sequence of Setting
        One is drawn for each example.
    seen : callable, optional
        Gets each example that passed, and what it launched.
    examples : int, optional
        How many, instead of the profile's number.
    seed : int
        Of the examples, where the profile wants the same ones in every run.

    Returns
    -------
    Counter
        Of "examples" that were checked, of those that are "ill-conditioned" (see `check_example`), and of those that
        the operation "refused".
    """
    __tracebackhide__ = True
    import hypothesis

    from zmlx.launch import watch

    counts: Counter[str] = Counter()
    unfit = 0

    def in_vain() -> bool:
        return counts["refused"] + unfit > TRIES * (1 + counts["examples"])

    chosen = hypothesis.settings.get_profile(profile)

    def failed(drawn: Drawn, text: str) -> BaseException:
        makes, within = drawn.made_by, drawn.setting.text
        program = snippet(op, drawn.sample, drawn.dtype, backend, module, made_by=makes, within=within)
        return pytest.fail.Exception(FAILURE.format(text=text, program=program), pytrace=False)

    @hypothesis.settings(
        chosen,
        max_examples=chosen.max_examples if examples is None else examples,
        deadline=None,  # the first example of a variant waits for the compiler
        report_multiple_bugs=False,
        suppress_health_check=list(hypothesis.HealthCheck),
        phases=[phase for phase in chosen.phases if phase is not hypothesis.Phase.explain],  # it takes long
    )
    @hypothesis.given(examples_of(op, op.dtypes_on(backend), settings))
    def example(drawn: Drawn) -> None:
        __tracebackhide__ = True
        try:
            with drawn.setting.context(), watch() as launches:
                decided = check_example(op, drawn.sample, drawn.dtype, backend)
        except (Unfit, Refused) as error:
            nonlocal unfit
            unfit += isinstance(error, Unfit)
            counts["refused"] += isinstance(error, Refused)
            if in_vain():
                return  # Hypothesis would go on trying; what is missing is said below
            hypothesis.reject()
        except AssertionError as error:
            raise failed(drawn, str(error)) from None
        except Exception as error:
            raise failed(drawn, repr(error)) from error
        except pytest.fail.Exception as error:
            raise failed(drawn, str(error)) from None
        counts["examples"] += 1
        counts["ill-conditioned"] += not decided
        if seen is not None:
            seen(drawn, launches)

    with contextlib.suppress(hypothesis.errors.Unsatisfiable):  # which is said below
        if chosen.derandomize:  # else all operations would get the same numbers
            example = hypothesis.seed(zlib.crc32(op.name.encode()) + seed)(example)
        example()
    if not counts["examples"] or counts["refused"] > 3 * counts["examples"] or in_vain():
        pytest.fail(
            f"{op.name}: {counts['examples']} examples were checked, the operation refused {counts['refused']} and the "
            f"oracle {unfit}: variations of the samples are not what they take. Bound the OpInfo's `extents`, or give "
            "it a `strategy` that draws SampleInputs.",
            pytrace=False,
        )
    return counts


def tests(ops: Ops) -> Iterator[Callable[..., None]]:
    """test_properties, for every operation; skipped without Hypothesis."""

    @pytest.mark.parametrize("op", ops, ids=str)
    def test_properties(op: OpInfo, backend: str, request: pytest.FixtureRequest) -> None:
        """Drawn shapes, layouts, dtypes and special values: the oracle's values and gradients, by a kernel launched
        here."""
        __tracebackhide__ = True
        if not profiles.available():
            pytest.skip(MISSING)
        if not op.dtypes_on(backend):
            pytest.skip(f"{op.name} claims no dtype on {backend}")
        profile = profiles.chosen(request.config)
        counts = run_properties(op, backend, profile, request.path)
        request.config.stash[KEY].ledger.record_examples(op.name, profile, counts)

    yield test_properties
