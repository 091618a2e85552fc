"""What an operation must refuse: its error inputs, and every dtype that its entry does not claim."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator

import pytest

from zmlx.testing.generated.case import Ops, first_case, kernels_of
from zmlx.testing.opinfo import DEFAULT_DTYPES, ErrorInput, OpInfo

#: What kernels refuse: everything that an entry does not claim.
OTHER_DTYPES = ("bool_", "int8", "int32", "uint8", "int64", "complex64", *DEFAULT_DTYPES)


def check_error(op: OpInfo, error: ErrorInput) -> None:
    """Fail unless the call raises what the entry says, before anything is launched."""
    __tracebackhide__ = True
    from zmlx.launch import watch

    pattern = error.match if error.regex else f"{re.escape(error.match)}$"
    arguments = error.make()
    with watch() as launches, pytest.raises(error.exception, match=pattern) as caught:
        op.op(*arguments, **error.kwargs)
    assert type(caught.value) is error.exception
    assert not launches, f"{op.name}, {error.name}: a kernel was launched before the input was refused"


def check_other_dtypes(op: OpInfo, backend: str) -> None:
    """Fail unless every dtype that the entry does not claim raises TypeError or ValueError, as that of the first
    argument that has the tested one."""
    __tracebackhide__ = True
    import mlx.core as mx

    case = first_case(op)
    arguments, place = case.arguments(), case.first
    claimed = op.dtypes_on(backend)
    refused = [dtype for dtype in OTHER_DTYPES if dtype.rstrip("_") not in claimed]
    assert refused
    for dtype in refused:
        try:
            other = arguments[place].astype(getattr(mx, dtype))
            mx.eval(case.call(*arguments[:place], other, *arguments[place + 1 :]))
        except (TypeError, ValueError):
            continue
        pytest.fail(
            f"{op.name} takes {dtype}, which its entry does not claim on {backend}: raise TypeError for it, claim it, "
            "or say refuses_other_dtypes=False",
            pytrace=False,
        )


def tests(ops: Ops) -> Iterator[Callable[..., None]]:
    """test_errors for every error input, test_other_dtypes_are_refused for kernels that promise it."""
    errors = [
        pytest.param(op, error, id=f"{op.name}-{error.name}") for op in ops for error in op.error_inputs
    ]
    if errors:

        @pytest.mark.parametrize(("op", "error"), errors)
        def test_errors(op: OpInfo, error: ErrorInput) -> None:
            """Bad input is refused with the exact message, before anything is launched."""
            check_error(op, error)

        yield test_errors

    strict = tuple(op for op in kernels_of(ops) if op.refuses_other_dtypes)
    if strict:

        @pytest.mark.parametrize("op", strict, ids=str)
        def test_other_dtypes_are_refused(op: OpInfo, backend: str) -> None:
            """A dtype that is not claimed raises: the claim in the table is the whole truth."""
            check_other_dtypes(op, backend)

        yield test_other_dtypes_are_refused
