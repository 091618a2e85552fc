"""What is made of one case: results against the oracle, and against the launches that the judge ran itself.

What the candidate's process says counts in one direction only. That its results are right and come from kernels is
found here, from the judge's own launches; that it changed inputs or its environment is believed if it says so.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from zmlx.testing._formats import is_float
from zmlx.testing.judge.arrays import Raw, raw_of_numpy
from zmlx.testing.judge.launches import Replay
from zmlx.testing.judge.plan import Case, Question
from zmlx.testing.judge.provenance import come_alike, comes_from
from zmlx.testing.judge.verdict import Verdict
from zmlx.testing.opinfo import OpInfo, part_name
from zmlx.testing.tolerance import compare

#: A result, and what was expected.
Earlier: TypeAlias = tuple[Raw, NDArray[Any]]


@dataclass(frozen=True)
class Answer:
    """What a candidate's process sent for one question, and the launches that the judge ran meanwhile."""

    results: tuple[Raw, ...]
    inputs: tuple[Raw, ...]
    fields: Mapping[str, Any]
    launches: tuple[Replay, ...]


def weigh(
    verdict: Verdict, op: OpInfo, case: Case, answers: Sequence[Answer], earlier: Sequence[Earlier] = ()
) -> None:
    """Refuse what is wrong with the answers of one case.

    Parameters
    ----------
    verdict : Verdict
        Gets the reasons.
    op : OpInfo
        For its tolerances.
    case : Case
        The questions.
    answers : sequence of Answer
        One for each question, in order.
    earlier : sequence of Earlier
        Results of cases before, and what was expected of them.
    """
    known = list(earlier)
    for question, answer in zip(case.questions, answers, strict=True):
        _weigh_values(verdict, op, case, question, answer, known)
        _weigh_conduct(verdict, case, question, answer)
        known += zip(answer.results, question.expected, strict=False)
    if case.has_elements:
        _weigh_launches(verdict, case, answers)


def _weigh_values(
    verdict: Verdict, op: OpInfo, case: Case, question: Question, answer: Answer, earlier: Sequence[Earlier]
) -> None:
    wanted = [tuple(e.shape) for e in question.expected]
    got = [r.shape for r in answer.results]
    if wanted != got:
        verdict.refuse("wrong-shape", case.name, f"expected {wanted}, got {got}")
        return
    dtypes = tuple(r.dtype for r in answer.results)
    if dtypes != question.dtypes:
        verdict.refuse("wrong-dtype", case.name, f"expected {question.dtypes}, got {dtypes}")
        return
    for place, (result, expected) in enumerate(zip(answer.results, question.expected, strict=True)):
        tolerance = op.tolerance(case.dtype, result=place)
        name = f"{op.name}{part_name(place, len(wanted))}"
        agreement = compare(result.values, expected, result.dtype, tolerance, name=name)
        if agreement:
            continue
        unwritten = _unwritten(result, expected, answer.launches)
        if unwritten:
            verdict.refuse(
                "unwritten",
                case.name,
                f"{unwritten} of {expected.size} elements hold what the output was filled with before the launch",
            )
            continue
        # Where the same was expected, the same mistake is no cache.
        if result.bits.size > 1 and any(
            old == result and not np.array_equal(truth, expected, equal_nan=True) for old, truth in earlier
        ):
            verdict.refuse(
                "stale",
                case.name,
                f"the result is, bit for bit, that of an earlier call\n{agreement.message}",
            )
        verdict.refuse("wrong-values", case.name, agreement.message)


def _unwritten(result: Raw, expected: np.ndarray[Any, Any], launches: Sequence[Replay]) -> int:
    """How many elements are still poison; 0 where another element is wrong, or no kernel wrote the result."""
    if not comes_from(result, [o for launch in launches for o in launch.outputs]):
        return 0
    poison: Any = np.isnan(result.values) if is_float(result.dtype) else None
    if poison is None:
        info = np.iinfo(result.dtype) if result.dtype != "bool" else None
        poison = result.bits == (True if info is None else info.max)
        return int(np.count_nonzero(poison & (result.bits != expected)))
    return int(np.count_nonzero(poison & ~np.isnan(expected)))


def _weigh_conduct(verdict: Verdict, case: Case, question: Question, answer: Answer) -> None:
    given = question.arrays(case.dtype)
    for index, (before, after) in enumerate(zip(given, answer.inputs, strict=True)):
        if before.shape != after.shape or not np.array_equal(
            before.values, after.values, equal_nan=is_float(before.dtype)
        ):
            verdict.refuse(
                "inputs-changed", case.name, f"array {index} of the arguments has other values after the call"
            )
    for code, key in (("environment-changed", "environment"), ("replaced", "replaced")):
        names = answer.fields.get(key)
        if names:
            verdict.refuse(code, case.name, ", ".join(map(str, names))[:500])


def _weigh_launches(verdict: Verdict, case: Case, answers: Sequence[Answer]) -> None:
    silent = [number for number, answer in enumerate(answers, 1) if not answer.launches]
    if silent:
        verdict.refuse("no-kernel", case.name, f"call {silent[0]} of {len(answers)} launched none")
        return
    if len({tuple(launch.plan for launch in answer.launches) for answer in answers}) > 1:
        verdict.refuse(
            "depends-on-values",
            case.name,
            f"its {len(answers)} calls, of one shape and other values, launched {_plans(answers)}",
        )
        return
    written = [[output for launch in answer.launches for output in launch.outputs] for answer in answers]
    names = ", ".join(dict.fromkeys(str(launch.fields["name"]) for launch in answers[0].launches))
    for answer, outputs in zip(answers, written, strict=True):
        if not all(comes_from(result, outputs) for result in answer.results):
            verdict.refuse(
                "not-from-kernel",
                case.name,
                f"the outputs of {names}, moved, cast or cut, do not give the result: return what a kernel wrote",
            )
            break
    else:
        # Of other shapes in one call than in another, they are refused as that.
        if len({tuple(r.shape for r in answer.results) for answer in answers}) == 1 and not all(
            come_alike(results, written) for results in zip(*(a.results for a in answers), strict=True)
        ):
            verdict.refuse(
                "depends-on-values",
                case.name,
                f"the result is another part of the outputs of {names} in one call than in another of the same shape",
            )
    _weigh_inputs(verdict, case, answers)


def _plans(answers: Sequence[Answer]) -> str:
    counts = [len(answer.launches) for answer in answers]
    if len(set(counts)) > 1:
        return f"{', '.join(map(str, counts))} kernels"
    plans = [[launch.plan for launch in answer.launches] for answer in answers]
    index = next(i for i, step in enumerate(zip(*plans, strict=True)) if len(set(step)) > 1)
    name = answers[0].launches[index].fields["name"]
    changed = [
        key
        for key in answers[0].launches[index].fields
        if len({repr(answer.launches[index].fields[key]) for answer in answers}) > 1
    ]
    return f"{name} with another {', '.join(changed) or 'shape of its inputs'}"


def _weigh_inputs(verdict: Verdict, case: Case, answers: Sequence[Answer]) -> None:
    sources = [_given(case, question) for question in case.questions]
    for number, launch in enumerate(answers[0].launches):
        for index, name in enumerate(launch.fields["input_names"]):
            arrays = [answer.launches[number].inputs[index] for answer in answers]
            if all(array == arrays[0] for array in arrays) or come_alike(arrays, sources):
                continue
            what = f"{name} of {launch.fields['name']}"
            if all(comes_from(*pair) for pair in zip(arrays, sources, strict=True)):
                verdict.refuse(
                    "depends-on-values",
                    case.name,
                    f"{what} is another part of the arguments or of a kernel's output in one call than in another of "
                    "the same shape",
                )
            else:
                verdict.refuse(
                    "computed-outside",
                    case.name,
                    f"{what} is neither an argument of the call nor an output of a kernel (moved, cast or cut), nor "
                    "the same for all values: compute it in a kernel",
                )
        for known, answer in zip(sources, answers, strict=True):
            known += answer.launches[number].outputs


def _given(case: Case, question: Question) -> list[Raw]:
    """The arrays and the numbers among the arguments."""
    numbers = [*question.sample.args, *question.sample.kwargs.values()]
    return question.arrays(case.dtype) + [
        raw_of_numpy(np.asarray(float(v)), "float64")
        for v in numbers
        if isinstance(v, (int, float)) and math.isfinite(v)
    ]
