"""The hook by which another package takes launches over."""

from __future__ import annotations

import threading

import pytest

import zmlx
from zmlx.launch import hook, watch

pytestmark = pytest.mark.cpu


class Zeros:
    """Takes launches over, and computes nothing."""

    path = "nothing"

    def __init__(self):
        self.names = []

    def launch(self, signature, call, origin):
        import mlx.core as mx

        self.names.append((signature.kernel.name, origin.file))
        return [mx.zeros(shape) for shape in call.output_shapes]


@pytest.fixture
def launch():
    import mlx.core as mx

    kernel = zmlx.metal_kernel(
        "one", [], ["out"], "out[thread_position_in_grid.x] = 1;", reference=lambda inputs, template: []
    )

    def run():
        (out,) = kernel(
            inputs=[],
            output_shapes=[(3,)],
            output_dtypes=[mx.float32],
            grid=(3, 1, 1),
            threadgroup=(3, 1, 1),
            stream=mx.cpu,
        )
        return out.tolist()

    return run


@pytest.fixture(autouse=True)
def _nobody_else(monkeypatch):
    """Also where these tests run under the checker."""
    monkeypatch.setattr(hook, "_open", [])
    monkeypatch.setattr(hook, "_of_process", None)
    token = hook._own.set(None)
    yield
    hook._own.reset(token)


def in_thread(function):
    found = []
    thread = threading.Thread(target=lambda: found.append(function()))
    thread.start()
    thread.join()
    return found[0]


def test_launches_of_a_block_are_handed_over_and_recorded(launch):
    taken = Zeros()
    with hook.intercepting(taken), watch() as seen:
        assert launch() == [0, 0, 0]
    assert taken.names == [("one", __file__)]
    assert [(record.backend, record.path) for record in seen] == [("cpu", "nothing")]
    assert launch() == [1, 1, 1]


def test_of_blocks_within_each_other_the_innermost_gets_them(launch):
    outer, inner = Zeros(), Zeros()
    with hook.intercepting(outer):
        with hook.intercepting(inner):
            launch()
        launch()
    assert (len(outer.names), len(inner.names)) == (1, 1)


def test_a_thread_with_a_block_of_its_own_keeps_to_it(launch):
    mine, theirs = Zeros(), Zeros()

    def other():
        with hook.intercepting(theirs):
            launch()
            return hook.current() is theirs

    with hook.intercepting(mine):
        assert in_thread(other)
        launch()
    assert (len(mine.names), len(theirs.names)) == (1, 1)


def test_a_block_opened_meanwhile_in_another_thread_takes_nothing_from_this_one(launch):
    mine, theirs = Zeros(), Zeros()
    opened, done = threading.Event(), threading.Event()

    def other():
        with hook.intercepting(theirs):
            opened.set()
            done.wait(60)

    thread = threading.Thread(target=other)
    with hook.intercepting(mine):
        thread.start()
        opened.wait(60)
        launch()
    done.set()
    thread.join()
    assert (len(mine.names), len(theirs.names)) == (1, 0)


def test_a_thread_that_a_block_starts_is_part_of_it(launch):
    taken = Zeros()
    with hook.intercepting(taken):
        assert in_thread(launch) == [0, 0, 0]
    assert in_thread(launch) == [1, 1, 1]


def test_the_process_may_have_one_for_launches_outside_of_blocks(launch):
    always, taken = Zeros(), Zeros()
    hook.set_process_interceptor(lambda: always)
    launch()
    with hook.intercepting(taken):
        launch()
    hook.set_process_interceptor(None)
    assert launch() == [1, 1, 1]
    assert (len(always.names), len(taken.names)) == (1, 1)


def test_one_interceptor_may_be_opened_twice(launch):
    taken = Zeros()
    with hook.intercepting(taken), hook.intercepting(taken):
        launch()
    assert len(taken.names) == 1
    assert hook.current() is None
