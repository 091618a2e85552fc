"""Outputs of the host's kernels inside transformations: no silent zeros, and nothing in the way outside of them."""

from __future__ import annotations

import threading
from functools import partial

import pytest

import zmlx
from zmlx.launch import gradient, host, primitive, primitive_library, watch

pytestmark = pytest.mark.cpu

COPY = "uint i = thread_position_in_grid.x; out[i] = x[i];"
NO_GRADIENT = r"'gradient_copy' has no gradient\. Wrap the call in mx\.custom_function and give it a vjp"


def launch(kernel, x):
    """The output of a kernel with a thread for each element."""
    import mlx.core as mx

    return kernel(
        inputs=[x],
        output_shapes=[x.shape],
        output_dtypes=[x.dtype],
        grid=(x.size, 1, 1),
        threadgroup=(4, 1, 1),
        stream=mx.cpu,
    )[0]


def take_the_library_away(patch):
    patch.setattr(primitive, "unavailable", lambda: "the test says so")
    patch.setattr(primitive_library, "loaded", None)


@pytest.fixture(params=["graph", "called"])
def way(request, monkeypatch):
    """Launches that a transformation follows are part of MLX's graph, or run when they are called."""
    if request.param == "called":
        take_the_library_away(monkeypatch)
    elif primitive.unavailable():
        pytest.skip(f"launches cannot be part of MLX's graph here: {primitive.unavailable()}")
    return request.param


@pytest.fixture
def on_the_cpu():
    """MLX's default device, of which launches of the catalogue are, is the CPU."""
    import mlx.core as mx

    before = mx.default_device()
    mx.set_default_device(mx.cpu)
    yield
    mx.set_default_device(before)


@pytest.fixture
def copy(way):
    """Launches a kernel that this process may not have launched before."""
    host.forget_programs()
    kernel = zmlx.metal_kernel("gradient_copy", ["x"], ["out"], COPY)

    yield partial(launch, kernel)
    host.forget_programs()


@pytest.fixture
def guarded(monkeypatch):
    """The names of kernels whose outputs went through the operation that has no gradient."""
    names, original = [], gradient.guarded

    def note(name, inputs, outputs):
        names.append(name)
        return original(name, inputs, outputs)

    monkeypatch.setattr(gradient, "guarded", note)
    return names


def test_mlx_says_whether_an_array_is_followed():
    assert gradient._mlx_answers()


@pytest.mark.parametrize("way", ["graph"], indirect=True)
def test_what_only_the_gradient_is_asked_of_does_not_run(way):
    """The forward pass would write outside of its output."""
    import mlx.core as mx

    kernel = zmlx.metal_kernel("gradient_outside", ["x"], ["out"], "out[-1] = x[0]; out[0] = x[0];")

    @mx.custom_function
    def outside(x):
        return launch(kernel, x)

    @outside.vjp
    def outside_vjp(primal, cotangent, output):
        return 2 * cotangent

    x = mx.ones((1,))
    with watch() as launches:
        (output,), (slope,) = mx.vjp(outside, [x], [mx.array([3.0])])
    assert [record.path for record in launches] == [primitive.PATH]
    assert slope.tolist() == [6.0]
    assert mx.grad(lambda x: outside(x).sum())(x).tolist() == [2.0]
    with pytest.raises(
        RuntimeError, match="'gradient_outside' wrote up to 4 bytes in front of its output 'out'"
    ):
        mx.eval(output)
    with pytest.raises(zmlx.launch.KernelRuntimeError):  # nothing follows this one
        outside(x)


def test_values_beside_gradients_are_those_of_the_kernel(copy, way):
    import mlx.core as mx

    @mx.custom_function
    def thrice(x):
        return 3 * copy(x)

    @thrice.vjp
    def thrice_vjp(primal, cotangent, output):
        return 3 * cotangent

    value, slope = mx.value_and_grad(lambda x: (x * thrice(x)).sum())(mx.arange(4.0))
    assert value.item() == 3 * 14.0
    assert slope.tolist() == [0.0, 6.0, 12.0, 18.0]
    nested = mx.grad(lambda x: mx.grad(lambda y: (y * thrice(y)).sum())(x).sum())
    assert nested(mx.arange(4.0)).tolist() == [6.0] * 4


@pytest.mark.parametrize("way", ["graph"], indirect=True)
def test_a_reference_gives_no_gradient_to_a_launch_that_is_called(way):
    """As on a GPU: what works there and here is a custom function."""
    import mlx.core as mx

    kernel = zmlx.metal_kernel("gradient_copy", ["x"], ["out"], COPY, reference=lambda i, t: [i[0] * 1])

    call = partial(launch, kernel)
    with pytest.raises(ValueError, match=NO_GRADIENT):
        mx.grad(lambda x: call(x).sum())(mx.ones((5,)))


def test_nothing_is_put_around_outputs_that_no_transformation_follows(copy, guarded):
    import mlx.core as mx

    x = mx.ones((5,))
    for _ in range(3):  # the first one compiles the question, too
        assert copy(x).tolist() == [1.0] * 5
    assert guarded == []
    for shape in ((5,), (3, 2), (1000,)):
        assert copy(mx.ones(shape)).tolist() == mx.ones(shape).tolist()
    assert guarded == []


def test_constants_inside_of_a_gradient_stay_constants(copy, guarded):
    import mlx.core as mx

    x, weight = mx.ones((5,)), mx.arange(5.0)
    assert mx.grad(lambda x: (x * copy(weight)).sum())(x).tolist() == [0.0, 1.0, 2.0, 3.0, 4.0]
    assert guarded == []


@pytest.mark.parametrize("launched_before", [False, True])
@pytest.mark.parametrize(
    "function",
    [
        lambda copy, mx, x: copy(x).sum(),
        lambda copy, mx, x: copy(2 * x).sum(),
        lambda copy, mx, x: (mx.eval(y := 2 * x), copy(y).sum())[1],
        lambda copy, mx, x: copy(x[::2]).sum() + x.sum(),
    ],
    ids=["argument", "lazy", "evaluated", "view"],
)
def test_the_gradient_is_an_error_however_the_input_came_about(copy, function, launched_before):
    import mlx.core as mx

    x = mx.ones((6,))
    if launched_before:
        copy(x)
    with pytest.raises(ValueError, match=NO_GRADIENT):
        mx.grad(lambda x: function(copy, mx, x))(x)
    with pytest.raises(ValueError, match=NO_GRADIENT):
        mx.vjp(lambda x: function(copy, mx, x), [x], [mx.array(1.0)])
    assert copy(x).tolist() == [1.0] * 6


NO_TANGENT = (
    r"'gradient_copy' has no tangent\. Wrap the call in mx\.custom_function, give it a jvp, and hand the"
)


def with_vjp_only(copy, mx):
    @mx.custom_function
    def function(x):
        return copy(x)

    @function.vjp
    def function_vjp(primals, cotangents, outputs):
        return cotangents

    return function


@pytest.mark.parametrize("launched_before", [False, True])
@pytest.mark.parametrize(
    "make",
    [
        lambda copy, mx: copy,
        lambda copy, mx: lambda x: copy(x) * x,
        lambda copy, mx: lambda x: copy(2 * x[::2]).sum() + x.sum(),
        lambda copy, mx: lambda x: (mx.eval(y := 2 * x), copy(y))[1],
        with_vjp_only,
        lambda copy, mx: mx.compile(copy),
        lambda copy, mx: lambda x: mx.grad(lambda y: with_vjp_only(copy, mx)(y).sum())(x) * copy(x),
    ],
    ids=["itself", "product", "view", "evaluated", "vjp only", "compiled", "grad"],
)
def test_the_tangent_is_an_error_and_not_zero(copy, make, launched_before):
    import mlx.core as mx

    x = mx.ones((6,))
    if launched_before:
        copy(x)
    with pytest.raises(ValueError, match=NO_TANGENT):
        mx.jvp(make(copy, mx), [x], [mx.ones((6,))])
    assert copy(x).tolist() == [1.0] * 6


@pytest.mark.parametrize("barrier", ["", "threadgroup_barrier(mem_flags::mem_none);"])
def test_a_reference_gives_no_tangent_to_a_kernel_that_ran(barrier):
    import mlx.core as mx

    kernel = zmlx.metal_kernel(
        "gradient_copy", ["x"], ["out"], COPY + barrier, reference=lambda i, t: [i[0] * 1]
    )

    call = partial(launch, kernel)
    x, one = mx.ones((3,)), mx.ones((3,))
    for function in (call, mx.compile(call)):
        with pytest.raises(ValueError, match=NO_TANGENT):
            mx.jvp(function, [x], [one])
    # Traced, the reference is all there is, and its tangent is right.
    assert mx.compile(lambda x: mx.jvp(call, [x], [3 * one])[1][0])(x).tolist() == [3.0] * 3


def test_the_tangent_is_that_of_a_custom_function(copy):
    import mlx.core as mx

    @mx.custom_function
    def function(x):
        return copy(mx.stop_gradient(x))

    @function.jvp
    def function_jvp(primals, tangents):
        return 7 * tangents

    assert mx.jvp(function, [mx.ones((2,))], [mx.ones((2,))])[1][0].tolist() == [7.0, 7.0]


def test_the_checker_has_no_silent_tangent_either(copy):
    import mlx.core as mx

    with zmlx.checked(), pytest.raises(ValueError, match=NO_TANGENT):
        mx.jvp(copy, [mx.ones((5,))], [mx.ones((5,))])


def test_the_gradient_is_an_error_in_every_thread(copy, guarded, way):
    import mlx.core as mx

    copy(mx.ones((5,)))
    messages = []

    def work():
        x = mx.ones((5,))
        try:
            mx.grad(lambda x: copy(2 * x).sum())(x)
        except ValueError as error:
            messages.append(str(error))
        copy(x)

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(timeout=60)
    assert messages == [gradient.MSG_NO_GRADIENT.format(name="gradient_copy")] * 4
    assert len(guarded) == (4 if way == "called" else 0)


def test_the_gradient_is_an_error_where_compiling_is_switched_off(copy):
    import mlx.core as mx

    mx.disable_compile()
    try:
        with pytest.raises(ValueError, match=NO_GRADIENT):
            mx.grad(lambda x: copy(x).sum())(mx.ones((5,)))
        with watch() as launches:
            assert copy(mx.ones((5,))).tolist() == [1.0] * 5
        assert [record.path for record in launches] == ["loop"]
    finally:
        mx.enable_compile()


@pytest.mark.parametrize("way", ["called"], indirect=True)
def test_the_gradient_is_an_error_with_an_mlx_that_does_not_answer(copy, guarded, monkeypatch):
    import mlx.core as mx

    monkeypatch.setattr(gradient, "_mlx_answers", lambda: False)
    with pytest.raises(ValueError, match=NO_GRADIENT):
        mx.grad(lambda x: copy(x).sum())(mx.ones((5,)))
    assert copy(mx.ones((5,))).tolist() == [1.0] * 5
    assert len(guarded) == 2


@pytest.mark.parametrize("transform", ["compile", "vmap", "grad"])
def test_mlx_answers_inside_of_transformations_too(transform):
    import mlx.core as mx

    gradient._mlx_answers.cache_clear()
    answers = []

    def function(x):
        answers.append(gradient._mlx_answers())
        return (x.sum() if transform == "grad" else x) * 1

    getattr(mx, transform)(function)(mx.ones((5,)))
    assert answers == [True]


def _of_the_catalogue(x, weight):
    from zmlx.kernels import norms, transformer

    for _ in range(3):
        x = transformer.swiglu(norms.rmsnorm(x @ weight, weight[0]))
    return (x * x).sum()


@pytest.mark.parametrize("way", ["graph"], indirect=True)
def test_kernels_of_the_catalogue_wait_for_nothing_inside_of_a_gradient(way, on_the_cpu, monkeypatch):
    """Nor do their gradients, and all compute what they do when they wait."""
    import mlx.core as mx

    mx.random.seed(0)
    x, weight = mx.random.normal((5, 8)), mx.random.normal((8, 16)) / 3
    gradients = mx.value_and_grad(_of_the_catalogue, argnums=(0, 1))
    with monkeypatch.context() as patch:
        take_the_library_away(patch)
        wanted, (by_x, by_weight) = gradients(x, weight)
        mx.eval(wanted, by_x, by_weight)
    assert not primitive.unavailable()
    waited = []
    monkeypatch.setattr("zmlx.launch.kernel.evaluate", waited.append)
    with watch() as launches:
        value, found = gradients(x, weight)
    assert {record.path for record in launches} == {primitive.PATH}
    assert waited == []
    assert value.item() == wanted.item()
    assert found[0].tolist() == by_x.tolist()
    assert found[1].tolist() == by_weight.tolist()


@pytest.mark.parametrize("way", ["graph"], indirect=True)
@pytest.mark.parametrize("transform", ["compile", "vmap", "export"])
def test_constants_inside_of_a_trace_are_computed_once(way, on_the_cpu, transform, tmp_path):
    """They are part of no graph, as without the library. An export could not hold them."""
    import mlx.core as mx

    from zmlx.kernels import norms

    assert not primitive.unavailable()
    x, constant, weight = mx.arange(6.0).reshape(2, 3), mx.ones((2, 3)), mx.ones((3,))
    mx.eval(x, constant, weight)

    def function(x):
        return x + norms.rmsnorm(constant, weight)

    with watch() as launches:
        if transform == "export":
            file = str(tmp_path / "function.mlxfn")
            mx.export_function(file, function, x)
            (found,) = mx.import_function(file)(x)
        else:
            found = getattr(mx, transform)(function)(x)
    assert [record.path for record in launches] == ["loop"]
    assert (
        found.tolist()
        == (mx.stack([function(row) for row in x]) if transform == "vmap" else function(x)).tolist()
    )
