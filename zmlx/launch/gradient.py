"""Gradients of what the host computed: an error, where mx.grad and mx.jvp would silently take it for a constant.

The host's kernels run when they are called, so that MLX's graph knows nothing of where their outputs came from.
Inside mx.grad and mx.jvp a launch is an operation of the graph instead (primitive.py), or, where that cannot be, its
outputs go through one whose gradient, or tangent, is the error that it is on a GPU. To whoever asks for neither, that
is one more operation to evaluate, which costs more than the whole launch: outputs of inputs that no transformation
follows are left as they are.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from functools import cache, cached_property
from typing import TYPE_CHECKING, Any

from zmlx.launch import primitive_library

if TYPE_CHECKING:
    import mlx.core as mx

MSG_NO_GRADIENT = (
    "[metal_kernel] {name!r} has no gradient. Wrap the call in mx.custom_function and give it a vjp, as for any "
    "custom kernel."
)
MSG_NO_TANGENT = (
    "[metal_kernel] {name!r} has no tangent. Wrap the call in mx.custom_function, give it a jvp, and hand the kernel "
    "mx.stop_gradient(x) of each input x: mx.jvp follows what is inside of a custom function, too."
)


def guarded(name: str, inputs: list[mx.array], outputs: list[mx.array]) -> list[mx.array]:
    """The outputs of the kernel ``name``, so that asking for their gradient or tangent is an error."""
    return list(_guard(name, len(outputs))(*inputs, *outputs)) if inputs else outputs


@cache
def _guard(name: str, count: int) -> Any:
    import mlx.core as mx

    @mx.custom_function
    def result(*arrays: mx.array) -> list[mx.array]:
        return list(arrays[-count:])

    @result.vjp
    def no_vjp(*_: Any) -> Any:
        raise ValueError(MSG_NO_GRADIENT.format(name=name))

    # Also inside of a custom function that has a jvp: MLX asks for the tangents of all that its inputs lead to.
    @result.jvp
    def no_jvp(*_: Any) -> Any:
        raise ValueError(MSG_NO_TANGENT.format(name=name))

    return result


def tracing_test() -> Callable[[list[mx.array]], bool]:
    """A function that tells whether a transformation such as mx.grad follows any of some arrays.

    MLX's Python has no name for this question. Where the library that makes launches part of MLX's graph is loaded, it
    asks MLX's arrays. Elsewhere mx.compile answers: a compiled function that is given arrays which a transformation
    follows is run as the Python function that it is. That answer is kept for arrays of one sequence of dtypes and
    ranks: there is a test for each signature. It is true for all arrays where mx.compile is switched off, or does not
    behave like this.
    """
    return _Test().is_traced


class _Test:
    def is_traced(self, arrays: list[mx.array]) -> bool:
        answer = primitive_library.followed(arrays)
        return self._by_mlx(arrays) if answer is None else answer

    @cached_property
    def _by_mlx(self) -> Callable[[list[mx.array]], bool]:
        return _ByCompile().is_traced if _mlx_answers() else _always


class _ByCompile:
    def __init__(self) -> None:
        # By thread: several may launch a kernel at once. Adding and discarding are atomic.
        self._called: set[int] = set()
        import mlx.core as mx

        self._compiled = mx.compile(self._note, shapeless=True)

    def _note(self, *_: mx.array) -> list[mx.array]:
        self._called.add(threading.get_ident())
        return []

    def is_traced(self, arrays: list[mx.array]) -> bool:
        # The first call of a thread compiles, which runs the function too.
        return bool(arrays) and self._calls(arrays) and self._calls(arrays)

    def _calls(self, arrays: list[mx.array]) -> bool:
        self._compiled(*arrays)
        if not self._called:
            return False
        thread = threading.get_ident()
        called = thread in self._called
        self._called.discard(thread)
        return called


def _always(arrays: list[mx.array]) -> bool:
    return True


@cache
def _mlx_answers() -> bool:
    """Whether this MLX treats compiled functions as `tracing_test` says."""
    import mlx.core as mx

    test, answers = _ByCompile(), []

    def followed(x: mx.array) -> mx.array:
        answers.append(test.is_traced([x, one]))
        double = 2 * x
        mx.eval(double)
        answers.append(test.is_traced([one, double]))
        return x

    one = mx.array(1.0)
    mx.eval(one)
    mx.vjp(followed, [one], [one])
    mx.jvp(followed, [one], [one])
    return all(answers)
