"""`install` and `pretend_metal`: what they replace, for how long, for whom, and that MLX gets its own back."""

from __future__ import annotations

import subprocess
import sys
import types

import pytest

import zmlx
from zmlx.launch import current_backend, watch
from zmlx.launch.replacement import native_metal_kernel

pytestmark = pytest.mark.cpu

#: A library that makes its kernel as libraries do, when it is imported.
LIBRARY = """
import mlx.core as mx
from mlx.core import fast

twice = fast.metal_kernel(
    name="twice", input_names=["x"], output_names=["out"],
    source="uint i = thread_position_in_grid.x; out[i] = 2 * x[i];",
)

def call(x):
    return twice(inputs=[x], output_shapes=[x.shape], output_dtypes=[x.dtype], grid=(x.size, 1, 1),
                 threadgroup=(32, 1, 1))[0]
"""

#: A library that asks first, when it is imported and when it is called.
CAREFUL = """
import mlx.core as mx

def on_metal():
    return mx.default_device() == mx.gpu and mx.metal.is_available()

kernel = mx.fast.metal_kernel(
    name="careful", input_names=["x"], output_names=["out"],
    source="uint i = thread_position_in_grid.x; out[i] = x[i] + 1;",
) if on_metal() else None

def call(x):
    if kernel is None or not on_metal():
        return x + 1
    return kernel(inputs=[x], output_shapes=[x.shape], output_dtypes=[x.dtype], grid=(x.size, 1, 1),
                  threadgroup=(32, 1, 1))[0]
"""


def imported(source, name="library"):
    module = types.ModuleType(name)
    exec(source, vars(module))
    return module


def kernels_run(function, *arguments):
    """The names of the kernels that a call runs, and its result."""
    with watch() as seen:
        result = function(*arguments)
    return [record.kernel.name for record in seen], result


@pytest.fixture
def mlx_functions():
    """The functions that may be replaced; they must be MLX's before and after every test."""
    import mlx.core as mx

    def now():
        return mx.fast.metal_kernel, mx.metal.is_available, mx.default_device

    before = now()
    assert not any(hasattr(function, "__code__") for function in before)  # MLX's are not written in Python
    yield now
    assert now() == before


def test_a_library_runs_unmodified(mlx_functions, backend):
    import mlx.core as mx

    with zmlx.install(), watch() as seen:
        library = imported(LIBRARY)
        assert library.call(mx.arange(5)).tolist() == [0, 2, 4, 6, 8]
    assert [(record.kernel.name, record.backend) for record in seen] == [("twice", backend)]
    # Its kernels are its own from then on.
    assert kernels_run(library.call, mx.ones(2))[0] == ["twice"]


def test_it_lasts_until_it_is_undone(mlx_functions):
    import mlx.core as mx

    installed = zmlx.install()
    try:
        assert mx.fast.metal_kernel is zmlx.metal_kernel
        assert native_metal_kernel() is not zmlx.metal_kernel
    finally:
        installed.undo()
    assert mx.fast.metal_kernel is native_metal_kernel()
    installed.undo()  # again: nothing happens, also not to somebody else's installation
    with zmlx.install():
        installed.undo()
        assert mx.fast.metal_kernel is zmlx.metal_kernel


def test_it_is_undone_after_an_error(mlx_functions):
    with pytest.raises(KeyError, match="from the block"), zmlx.install():
        raise KeyError("from the block")


@pytest.mark.parametrize("first", ["inner", "outer"])
def test_nested_installations_end_in_any_order(mlx_functions, first):
    import mlx.core as mx

    outer, inner = zmlx.install(), zmlx.install()
    one, other = (inner, outer) if first == "inner" else (outer, inner)
    one.undo()
    assert mx.fast.metal_kernel is zmlx.metal_kernel
    other.undo()
    assert mx.fast.metal_kernel is native_metal_kernel()


def test_what_somebody_else_put_in_its_place_stays(mlx_functions):
    import mlx.core as mx

    native, theirs = mx.fast.metal_kernel, object()
    try:
        with zmlx.install():
            mx.fast.metal_kernel = theirs
        assert mx.fast.metal_kernel is theirs
        with zmlx.install():  # and is what the next installation gives back
            assert mx.fast.metal_kernel is zmlx.metal_kernel
        assert mx.fast.metal_kernel is theirs
    finally:
        mx.fast.metal_kernel = native
    with zmlx.install():
        assert native_metal_kernel() is native


def test_metal_gets_the_call_as_it_came(mlx_functions, monkeypatch):
    """Without a Mac: what would be handed to MLX, while our function stands in MLX's place."""
    import mlx.core as mx

    from zmlx.launch import kernel as launcher
    from zmlx.launch import metal

    made, called = [], []

    def native(**creation):
        made.append(creation)
        return lambda **call: called.append(call) or ["out"]

    monkeypatch.setattr(metal, "native_metal_kernel", lambda: native)
    monkeypatch.setattr(launcher, "current_backend", lambda stream=None: "metal")
    monkeypatch.setattr(
        launcher.records, "note_launch", lambda *launch: None
    )  # nothing ran on Metal: nothing to count
    x = mx.ones(3)
    with zmlx.install():
        library = imported(LIBRARY)
        library.call(x)
    assert made[0]["name"] == "twice"
    assert made[0]["source"] == "uint i = thread_position_in_grid.x; out[i] = 2 * x[i];"
    assert (called[0]["inputs"], called[0]["grid"], called[0]["threadgroup"]) == ([x], (3, 1, 1), (32, 1, 1))


def test_a_library_that_asks_is_told_inside_the_block_only(mlx_functions, is_metal):
    import mlx.core as mx

    with zmlx.pretend_metal():
        library = imported(CAREFUL)
        inside = kernels_run(library.call, mx.arange(3))
    outside = kernels_run(library.call, mx.arange(3))
    assert library.kernel is not None
    assert inside[0] == ["careful"]
    assert outside[0] == ["careful"] * is_metal
    assert inside[1].tolist() == outside[1].tolist() == [1, 2, 3]


def test_what_is_pretended(mlx_functions):
    import mlx.core as mx

    true_device = mx.default_device()
    with zmlx.pretend_metal():
        device = mx.default_device()
        assert mx.metal.is_available()
        assert device == mx.gpu
        assert device != mx.cpu
        assert mx.gpu != mx.cpu
        assert device.type == mx.DeviceType.gpu
        assert device == mx.Device(mx.gpu, 0)
        assert device != mx.Device(mx.cpu, 0)
        assert str(device) == "Device(gpu, 0)"
        assert len({device, device}) == 1
    assert mx.default_device() == true_device
    # What was kept tells the truth once the block has ended.
    assert device == true_device
    assert device.type == true_device.type
    assert str(device) == str(true_device)


def test_what_is_not_pretended(mlx_functions, backend):
    import mlx.core as mx

    with zmlx.pretend_metal():
        device = mx.default_device()
        # MLX takes the device for what it is.
        assert mx.add(mx.ones(2), 1, stream=device).tolist() == [2, 2]
        with mx.stream(device):
            assert mx.ones(2).tolist() == [1, 1]
        # So does zmlx, whoever hands it over.
        assert current_backend() == current_backend(device) == backend
        assert zmlx.detect_backend() == backend


def test_the_device_that_is_pretended_can_be_set_and_streamed_on():
    import mlx.core as mx

    before = mx.default_device()
    with zmlx.pretend_metal():
        device = mx.default_device()
        mx.set_default_device(device)
        stream = mx.new_stream(device)
    assert mx.default_device() == before
    assert stream.device == before


def has_gpu():
    import mlx.core as mx

    return mx.metal.is_available() or mx.cuda.is_available()


#: A library that asks for the GPU by its name, in the ways that public ones have.
BY_NAME = """
import mlx.core as mx

kernel = mx.fast.metal_kernel(
    name="by_name", input_names=["x"], output_names=["out"],
    source="uint i = thread_position_in_grid.x; out[i] = x[i] + 1;",
)

def call(x, stream):
    return kernel(inputs=[x], output_shapes=[x.shape], output_dtypes=[x.dtype], grid=(x.size, 1, 1),
                  threadgroup=(32, 1, 1), stream=stream)[0]

def calls(x):
    device = mx.Device(mx.gpu, 0)
    yield call(x, mx.gpu)
    yield call(x, device)
    yield call(x, mx.default_stream(mx.gpu))
    yield call(x, mx.new_stream(device))
    yield mx.add(x, 1, stream=mx.gpu)
    yield mx.add(x, mx.random.randint(1, 2, stream=device), stream=mx.default_device())
    with mx.stream(mx.gpu):
        yield x + 1
    mx.set_default_device(mx.gpu)
    yield x + 1
    mx.set_default_device(mx.Device(mx.gpu))
    yield call(x, None)

def asked():
    mx.synchronize(mx.default_stream(mx.gpu))
    return mx.is_available(mx.gpu), mx.device_count(mx.gpu) >= 1, mx.default_device() == mx.gpu
"""


@pytest.fixture
def default_device():
    import mlx.core as mx

    before = mx.default_device()
    yield before
    mx.set_default_device(before)


@pytest.mark.parametrize("told", ["block", "installation"])
def test_the_gpu_is_there_by_name(mlx_functions, default_device, told):
    import mlx.core as mx

    with zmlx.pretend_metal() if told == "block" else zmlx.install(pretend_metal=True):
        library = imported(BY_NAME)
        for number, result in enumerate(library.calls(mx.arange(3))):
            assert result.tolist() == [1, 2, 3], number
        assert library.asked() == (True, True, True)
    assert mx.default_device() == default_device


def test_the_gpu_that_was_pretended_is_gone_afterwards(mlx_functions, default_device):
    import mlx.core as mx

    if has_gpu():
        pytest.skip("this machine has a GPU")
    with zmlx.pretend_metal():
        library = imported(BY_NAME)
        kept = imported("from mlx.core import add, new_stream")
    assert not mx.is_available(mx.gpu)
    assert mx.device_count(mx.gpu) == 0
    for call in (
        lambda: mx.set_default_device(mx.gpu),
        lambda: kept.new_stream(mx.gpu),
        lambda: kept.add(mx.ones(2), 1, stream=mx.gpu),
        lambda: library.call(mx.ones(2), mx.gpu),
    ):
        with pytest.raises((ValueError, RuntimeError), match=r"gpu|GPU"):
            call()


def test_the_gpu_is_there_for_the_named_packages_only(mlx_functions, default_device):
    import mlx.core as mx

    if has_gpu():
        pytest.skip("this machine has a GPU")
    with zmlx.pretend_metal("client"):
        assert [r.tolist() for r in imported(BY_NAME, "client.models").calls(mx.arange(1))] == [[1]] * 9
        with pytest.raises(RuntimeError, match="no GPU back end here"):
            next(imported(BY_NAME, "other").calls(mx.arange(1)))
        with pytest.raises(ValueError, match="without gpu backend"):
            mx.new_stream(mx.gpu)


def test_every_function_with_a_stream_is_pretended():
    import mlx.core as mx

    from zmlx.launch import gpu_by_name

    if has_gpu():
        pytest.skip("this machine has a GPU")
    replaced = {(r._module, r._name) for r, _ in gpu_by_name.replacements()}
    assert {("mlx.core", "matmul"), ("mlx.core.fast", "rms_norm"), ("mlx.core.random", "normal")} <= replaced
    assert {("mlx.core.fft", "fft"), ("mlx.core.linalg", "norm"), ("mlx.core", "stream")} <= replaced
    with zmlx.pretend_metal():
        assert mx.matmul.__doc__.startswith("matmul(a: array")
        assert mx.matmul.__name__ == "matmul"


def test_memory_figures_are_those_of_the_machine(mlx_functions):
    import mlx.core as mx

    asking = (
        "import mlx.core as mx\nanswers = mx.device_info(), mx.metal.device_info(), mx.device_info(mx.gpu)"
    )
    with zmlx.pretend_metal():
        answers = imported(asking).answers
        assert mx.device_info(mx.default_device()).keys() == answers[0].keys()
    for answer in answers:
        assert {"architecture", "max_recommended_working_set_size", "max_buffer_length"} <= answer.keys()
        assert 2**28 < answer["max_recommended_working_set_size"] <= answer["memory_size"]
    if not has_gpu():
        assert "memory_size" not in mx.device_info()


@pytest.mark.parametrize(
    "how", ["zmlx.pretend_metal(); kept.__enter__()", "zmlx.install(pretend_metal=True)"]
)
def test_what_stays_open_until_the_process_ends_says_nothing(how):
    program = f"import zmlx, mlx.core as mx\nkept = {how}\ndevice = mx.default_device()\nmx.add(1, 2, stream=mx.gpu)"
    ended = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert (ended.returncode, ended.stdout, ended.stderr) == (0, "", "")


def test_only_the_named_packages_are_told(mlx_functions, is_metal):
    with zmlx.pretend_metal("client.models", "other"):
        told = [imported(CAREFUL, name) for name in ("client.models", "client.models.rwkv", "other")]
        not_told = [imported(CAREFUL, name) for name in ("client", "client.modelsx", "others", __name__)]
        assert all(module.on_metal() for module in told)
        assert [module.on_metal() for module in not_told] == [is_metal] * 4
        with zmlx.pretend_metal("client"):
            assert not_told[0].on_metal()
            assert not not_told[2].on_metal() or is_metal
        assert not_told[0].on_metal() == is_metal


def test_it_ends_with_an_error_too(mlx_functions):
    import mlx.core as mx

    before = mx.metal.is_available()
    with pytest.raises(KeyError, match="from the block"), zmlx.pretend_metal():
        raise KeyError("from the block")
    assert mx.metal.is_available() == before


def test_an_import_that_fails_leaves_nothing_behind(mlx_functions):
    with pytest.raises(ImportError, match="nothing_of_this_name"), zmlx.pretend_metal():
        imported("import nothing_of_this_name")


def test_functions_that_were_kept_tell_the_truth_afterwards(mlx_functions):
    import mlx.core as mx

    before = mx.metal.is_available()
    with zmlx.pretend_metal():
        kept = imported("from mlx.core import default_device\nfrom mlx.core.metal import is_available")
        assert kept.is_available()
    assert kept.is_available() == before
    assert kept.default_device() == mx.default_device()


def test_installing_needs_no_mlx_import_before():
    """In a process of its own: importing zmlx imports no MLX, and installing comes before any other import."""
    script = (
        "import sys, zmlx\n"
        "assert 'mlx' not in sys.modules\n"
        "zmlx.install()\n"
        "from mlx.core.fast import metal_kernel\n"
        "assert metal_kernel is zmlx.metal_kernel\n"
    )
    subprocess.run([sys.executable, "-c", script], check=True)
