from __future__ import annotations

import pytest

from zmlx.launch import metal_kernel, poisoned_outputs, recording, watch
from zmlx.launch.kernel import current_backend
from zmlx.launch.records import LaunchKey, launch_counts, launches_in_all, reset_launch_counts

pytestmark = pytest.mark.cpu

COPY = metal_kernel("records_copy", ["x"], ["out"], "uint i = thread_position_in_grid.x; out[i] = x[i];")


def launch(x, **options):
    return COPY(
        inputs=[x],
        output_shapes=[x.shape],
        output_dtypes=[x.dtype],
        grid=(x.size, 1, 1),
        threadgroup=(32, 1, 1),
        **options,
    )[0]


@pytest.mark.parametrize("backend", ["metal", "cuda", "cpu"])
def test_recording_runs_nothing(backend):
    import mlx.core as mx

    before = launch_counts()
    with recording(backend) as calls:
        assert current_backend() == backend
        out = launch(mx.ones((5,)))
    assert out.tolist() == [0.0] * 5
    assert [(c.kernel.name, c.backend, c.path, c.grid) for c in calls] == [
        ("records_copy", backend, "", (5, 1, 1))
    ]
    assert launch_counts() == before


def test_recording_ends_with_an_error():
    with pytest.raises(KeyError), recording("metal"):
        raise KeyError
    import mlx.core as mx

    assert launch(mx.ones((2,)), stream=mx.cpu).tolist() == [1.0, 1.0]


def test_watch_and_counts():
    import mlx.core as mx

    reset_launch_counts()
    with watch() as outer:
        launch(mx.ones((4,)), stream=mx.cpu)
        with watch() as inner:
            launch(mx.ones((4,)), stream=mx.cpu)
    launch(mx.ones((4,)), stream=mx.cpu)
    assert (len(outer), len(inner)) == (2, 1)
    assert inner[0].kernel is COPY.source
    counts = launch_counts()
    assert counts == {LaunchKey("records_copy", "cpu", "loop"): 3}
    assert [key.path for key in counts] == ["loop"]


def test_counts_that_are_forgotten_stay_in_the_sum_of_all():
    import mlx.core as mx

    key, before = LaunchKey("records_copy", "cpu", "loop"), launches_in_all()
    launch(mx.ones((4,)), stream=mx.cpu)
    reset_launch_counts()
    launch(mx.ones((4,)), stream=mx.cpu)
    assert launch_counts() == {key: 1}
    assert launches_in_all() - before == {key: 2}


def test_poison_shows_what_is_not_written():
    import mlx.core as mx

    first = metal_kernel(
        "records_first", ["x"], ["out"], "if (thread_position_in_grid.x == 0) out[0] = x[0];"
    )
    call = {
        "inputs": [mx.ones((3,))],
        "output_shapes": [(3,)],
        "grid": (3, 1, 1),
        "threadgroup": (3, 1, 1),
        "stream": mx.cpu,
    }
    with poisoned_outputs():
        (out,) = first(output_dtypes=[mx.float32], **call)
        (filled,) = first(output_dtypes=[mx.float32], init_value=7.0, **call)
    assert out[0].item() == 1.0
    assert mx.isnan(out[1:]).all()
    assert filled.tolist() == [1.0, 7.0, 7.0]
