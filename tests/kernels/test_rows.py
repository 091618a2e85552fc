"""Launch shapes: what they promise for every row count, row length and back end."""

from __future__ import annotations

import itertools

import pytest

from zmlx.testing.opinfo import DEFAULT_DTYPES

pytestmark = pytest.mark.usefixtures("mx_device")

ROWS = (1, 2, 31, 33, 1000, 2**20 + 1, 2**30)
LENGTHS = (1, 3, 4, 31, 64, 257, 4096, 100_003, 2**24)
BACKENDS = ("cpu", "cuda", "metal")


@pytest.fixture(params=BACKENDS)
def planned(request):
    """The plans of one back end, without needing it."""
    from zmlx.kernels import _rows
    from zmlx.launch import recording

    with recording(request.param):
        yield request.param, _rows


def _total(extent):
    return extent[0] * extent[1] * extent[2]


def _legal(launch):
    """What every back end can launch: CUDA has 65535 blocks along y, MLX counts threads in 32 bits."""
    assert 1 <= _total(launch.threadgroup) <= 1024
    assert all(0 < n < 2**31 for n in launch.grid)
    assert -(-launch.grid[1] // launch.threadgroup[1]) <= 65535


@pytest.mark.parametrize("rows", ROWS)
def test_launches_are_legal(planned, rows):
    _, plans = planned
    for length, itemsize in itertools.product(LENGTHS, (2, 4)):
        _legal(plans.row_launch(rows, length, itemsize))
        _legal(plans.block_launch(rows, length, itemsize))
        held = plans.run_launch(rows, length, itemsize)
        if held is not None:
            _legal(held)
        _legal(plans.span_launch(rows, length, itemsize))
        _legal(plans.column_launch(length))


@pytest.mark.parametrize("rows", ROWS)
def test_row_threadgroups_are_whole_teams(planned, rows):
    """Shuffles and barriers need all threads of a team, so the grid is a whole number of threadgroups."""
    backend, plans = planned
    for plan, length, itemsize in itertools.product((plans.row_launch, plans.block_launch), LENGTHS, (2, 4)):
        launch = plan(rows, length, itemsize)
        template = dict(launch.template)
        threads, width = launch.threadgroup[0], template["W"]
        assert launch.grid[0] % threads == 0
        assert threads % width == 0
        assert width & (width - 1) == 0
        # Wider teams meet in threadgroup memory, of which a threadgroup has one set.
        assert width <= 32 or threads == width
        assert (width == 1) == (backend == "cpu")


def test_no_partial_sum_is_empty():
    """Each threadgroup of a weight gradient has a row at least: an empty one would write nothing."""
    from zmlx.kernels._rows import MAX_PARTIALS, MAX_RUNS, partials

    for length, most in ((24, MAX_RUNS), (4096, 512), (10**5, MAX_PARTIALS)):
        for rows in (*range(1, 3000), 10**6, 2**30):
            count = partials(rows, length, 4)
            run = -(-rows // count)  # as the kernels compute it
            assert 1 <= count <= most
            assert (count - 1) * run < rows <= count * run


def test_threads_of_a_gradient_hold_the_row(planned):
    """Rows that registers hold are held whole, evenly where the row's length allows it; longer ones are not."""
    backend, plans = planned
    for length, itemsize in itertools.product((*LENGTHS, 3072, 5120, 16384, 2**17), (2, 4)):
        launch = plans.run_launch(100, length, itemsize)
        if backend == "cpu" or length > 512 * plans.RUN_VALUES:
            assert launch is None
            continue
        template = dict(launch.template)
        held = template["W"] * template["K"] * template["N"]
        assert held >= length
        assert template["K"] * template["N"] <= plans.RUN_VALUES
        assert held == length or length not in (3072, 5120, 16384)


def test_spans_cover_every_element(planned):
    _, plans = planned
    for length in LENGTHS:
        launch = plans.span_launch(7, length, 4)
        template = dict(launch.template)
        assert (launch.grid[0] - 1) * template["N"] * template["S"] < length
        assert launch.grid[0] * template["N"] * template["S"] >= length


def test_chunks_are_16_bytes_on_a_gpu():
    from zmlx.kernels import _rows
    from zmlx.launch import recording

    for backend, packed in (("cuda", True), ("metal", False)):
        with recording(backend):
            for itemsize, values in ((4, 4), (2, 8)):
                template = dict(_rows.row_launch(16, 4096, itemsize).template)
                assert (template["N"], template["PACKED"]) == (values, packed)


@pytest.mark.parametrize("backend", ["cuda", "metal"])
@pytest.mark.parametrize("itemsize", [2, 4])
@pytest.mark.parametrize("arrays", [1, 2])
def test_teams_hold_rows(backend, itemsize, arrays):
    """Rows are held whole up to what the largest team holds, by the first team that does, and no thread holds more
    than 32 values."""
    from zmlx.kernels import _rows
    from zmlx.launch import recording

    teams = [(width, max(held // arrays, 1)) for width, held in _rows.TEAMS[itemsize]]
    capacities = [width * held for width, held in teams]
    assert capacities == sorted(capacities)
    with recording(backend):
        for length in LENGTHS:
            template = dict(_rows.row_launch(1000, length, itemsize, arrays=arrays).template)
            chunks = -(-length // template["N"])
            fitting = [team for team in teams if team[0] * team[1] >= chunks] or teams[-1:]
            assert (template["W"], template["K"]) == fitting[0]
            assert template["N"] * template["K"] * arrays <= 32


def test_the_cpu_holds_nothing():
    """There a row is read from the cache in each pass, by loops that the compiler vectorises."""
    from zmlx.kernels import _rows
    from zmlx.launch import recording

    with recording("cpu"):
        for length in LENGTHS:
            assert dict(_rows.row_launch(1000, length, 4).template)["K"] == 0


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize("held", [0, 1, 2, 4])
@pytest.mark.parametrize("length", [64, 67, 128, 256, 300])
def test_what_is_held_changes_nothing(dtype, held, length):
    """Rows shorter and longer than what threads hold, and of as many values, come out as with nothing held."""
    import mlx.core as mx

    from zmlx.kernels import _rows, norms, reductions, softmax

    values = mx.sin(mx.arange(3 * length)).reshape(3, length)
    x = (1 + values).astype(getattr(mx, dtype))
    weight, shift = x[0], x[1]
    calls = (
        lambda: norms.rmsnorm(x, weight),
        lambda: norms.layernorm(x, weight, shift),
        lambda: softmax.softmax_lastdim(x),
        lambda: mx.vjp(softmax.softmax_lastdim, [x], [values.astype(x.dtype)])[1][0],
        lambda: reductions.sum_lastdim(x),
    )
    rounding = {"float32": 1e-6, "bfloat16": 8e-3}[dtype]
    for call in calls:
        with _rows.override(8, held):
            given = call().astype(mx.float32)
        assert mx.allclose(given, call().astype(mx.float32), rtol=2 * rounding, atol=rounding)


def test_override_is_undone():
    from zmlx.kernels import _rows

    def widest():
        with _rows.override(128):
            assert dict(_rows.row_launch(4, 100, 4).template)["W"] == 128
            raise RuntimeError("inside")

    before = _rows.row_launch(4, 100, 4)
    with pytest.raises(RuntimeError, match="inside"):
        widest()
    assert _rows.row_launch(4, 100, 4) == before


@pytest.mark.parametrize("width", [0, 3, 48, 2048, -1])
def test_override_wants_a_power_of_two(width):
    from zmlx.kernels import _rows

    with (
        pytest.raises(ValueError, match=rf"power of two from 1 to 1024, got {width}\."),
        _rows.override(width),
    ):
        pass


@pytest.mark.parametrize("dtype", DEFAULT_DTYPES)
def test_views_that_begin_anywhere(dtype):
    """CUDA moves 16 bytes at a time, where the address allows it; a view's address need not."""
    import mlx.core as mx

    from zmlx.kernels import norms, transformer

    flat = mx.arange(1 + 3 * 64).astype(getattr(mx, dtype)) / 64
    weight = mx.arange(65).astype(mx.float32)[1:]
    view = flat[1:].reshape(3, 64)
    copy = mx.array(view.tolist(), dtype=view.dtype)
    assert mx.array_equal(transformer.swiglu(view), transformer.swiglu(copy))
    assert mx.array_equal(norms.rmsnorm(view, weight), norms.rmsnorm(copy, mx.array(weight.tolist())))


@pytest.mark.parametrize("dtype", DEFAULT_DTYPES)
def test_gradients_of_whole_rows_that_begin_anywhere(dtype):
    """Where threads hold whole rows, those that are not aligned are read another way."""
    import mlx.core as mx

    from zmlx.kernels import norms

    flat = mx.sin(mx.arange(1 + 3 * 1024)).astype(getattr(mx, dtype))
    view = flat[1:].reshape(3, 1024)
    copy = mx.array(view.tolist(), dtype=view.dtype)
    for function, weights in ((norms.rmsnorm, [copy[0]]), (norms.layer_norm_no_weight, [])):
        (ours, theirs) = (mx.vjp(function, [x, *weights], [copy[::-1]])[1] for x in (view, copy))
        assert all(map(mx.array_equal, ours, theirs))
