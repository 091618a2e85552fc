"""The gradients of the golden cases on this machine, judged by the oracle. They are not recorded."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np

from zmlx.testing._formats import is_float
from zmlx.testing.golden.checks import Checker, result_of
from zmlx.testing.golden.comparison import LIVE, ORACLE
from zmlx.testing.golden.detail import argument_names, details
from zmlx.testing.gradients import run_gradients
from zmlx.testing.opinfo import case_name
from zmlx.testing.tolerance import as_float64, compare, dtype_name


def check_gradients(checker: Checker, backend: str) -> None:
    """Run the gradient of every golden case that has one and add a result for each argument, in ULPs at the RMS of the
    gradient or more."""
    for one in checker.catalogue.on(backend).values():
        op = one.op
        if not op.differentiable or one.result:  # once a call, however many results it has
            continue
        name = case_name(op, one.dtype, one.sample)
        expected = replace(one, name=name)
        ran = run_gradients(op, expected.sample, expected.dtype, backend)
        if ran.absent:
            checker.fail(
                "fallback",
                f"{name}: {', '.join(ran.absent)} was not launched on {backend} for the gradient; something else "
                "took its place.",
                LIVE,
                name,
            )
            continue
        names = argument_names(op, len(expected.sample.args))
        for gradient in ran.each:
            dtype = dtype_name(gradient.value) or "float64"
            part = f"gradient of {names[gradient.position]}"
            tolerance = op.tolerance(expected.dtype, grad=True)
            values: Any = as_float64(gradient.value) if is_float(dtype) else np.asarray(gradient.value)
            truth = np.asarray(gradient.truth)
            verdict = compare(values, truth, dtype, tolerance, name=f"live against oracle: {name}, {part}")
            if verdict.stats is None:
                checker.fail("shape", verdict.message, LIVE, name)
                continue
            result = result_of((LIVE, ORACLE), expected, dtype, verdict, values, truth)
            # A sum of many terms that cancels to nearly zero is not as far off as its own ULPs say.
            max_ulp, rms = verdict.stats.typical
            at_rms = replace(tolerance, rms_floor=max(1.0, tolerance.rms_floor))
            known = details(values, truth, dtype, at_rms, op, expected.sample)
            checker.results.append(replace(result, part=part, max_ulp=max_ulp, rms=rms, **known))
            if not verdict.ok:
                checker.fail("values", verdict.message, LIVE, name)
