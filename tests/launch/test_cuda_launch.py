"""What the CUDA launcher hands to MLX, and how it lays launches out: all that can be tested without a GPU."""

from __future__ import annotations

import math
import re
from concurrent.futures import ThreadPoolExecutor
from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import zmlx
from zmlx.launch import NvrtcNotFoundError, cuda, poisoned_outputs, recording, watch
from zmlx.launch.cuda import Plan, cuda_text, make_plan
from zmlx.launch.nvrtc import find_nvrtc

pytestmark = pytest.mark.cpu

BODY = "out[thread_position_in_grid.x] = x[thread_position_in_grid.x];"


def kernel(source=BODY, inputs=("x",), outputs=("out",), **creation):
    return zmlx.metal_kernel(creation.pop("name", "copy"), list(inputs), list(outputs), source, **creation)


def arguments(**changes):
    import mlx.core as mx

    call = {
        "inputs": [mx.arange(12, dtype=mx.float32).reshape(3, 4)],
        "output_shapes": [(3, 4)],
        "output_dtypes": [mx.float32],
        "grid": (12, 1, 1),
        "threadgroup": (8, 1, 1),
    }
    return {**call, **changes}


def signature_of(made, **changes):
    with recording("cuda") as records:
        made(**arguments(**changes))
    return records[0].signature


@pytest.fixture
def launches(monkeypatch, mx):
    """A GPU that only writes down what it is asked to run."""
    try:
        find_nvrtc()
    except NvrtcNotFoundError as error:
        pytest.skip(str(error))
    seen = []

    def precompiled_cuda_kernel(**given):
        seen.append(given)
        return [mx.zeros(s, d) for s, d in zip(given["output_shapes"], given["output_dtypes"], strict=True)]

    monkeypatch.setattr(mx.fast, "precompiled_cuda_kernel", precompiled_cuda_kernel)
    monkeypatch.setattr(mx, "device_info", lambda device: {"architecture": "sm_90"})
    monkeypatch.setattr(cuda, "_devices", [])
    monkeypatch.setattr("zmlx.launch.kernel.current_backend", lambda stream=None: "cuda")
    return seen


@pytest.fixture
def mx():
    import mlx.core as mx

    return mx


# --- layouts -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("grid", "threadgroup", "plan"),
    [
        ((1000, 1, 1), (256, 1, 1), Plan("FLAT", 256)),
        ((1000, 7, 3), (257, 1, 1), Plan("FLAT", 512)),
        ((5, 1, 1), (256, 1, 1), Plan("FLAT", 32)),
        ((100, 1, 1), (32, 32, 1), Plan("FLAT", 32)),
        ((64, 64, 1), (32, 32, 1), Plan("BLOCK", 1024)),
        ((1, 4, 64), (1, 1, 64), Plan("BLOCK", 256)),
        ((1, 4, 65), (1, 1, 65), Plan("LINEAR", 256)),
        ((32, 65535, 1), (32, 1, 1), Plan("FLAT", 32)),
        ((32, 65536, 1), (32, 1, 1), Plan("LINEAR", 32)),
        ((32, 1, 65536), (32, 1, 1), Plan("LINEAR", 32)),
        ((2**31 - 2, 1, 1), (1, 1, 1), Plan("FLAT", 32)),
        ((2**31 - 1, 1, 1), (256, 1, 1), Plan("LINEAR", 256)),
        ((2**32 - 1, 1, 1), (1024, 1, 1), Plan("LINEAR", 1024)),
    ],
)
def test_plans(grid, threadgroup, plan):
    assert make_plan(grid, threadgroup) == plan


def within(total):
    """Makes the product of three extents at most ``total``."""

    def cut(extent):
        x, y, z = extent
        y = min(y, total // x)
        return x, y, min(z, total // (x * y))

    return cut


sizes = st.one_of(st.integers(1, 100), st.integers(1, 2**20), st.integers(1, 2**31 - 1))


@given(
    grid=st.tuples(sizes, sizes, sizes).map(within(2**45)).flatmap(st.permutations).map(tuple),
    threadgroup=st.tuples(*[st.integers(1, 1024)] * 3).map(within(1024)).flatmap(st.permutations).map(tuple),
)
def test_every_launch_is_one_that_cuda_takes(grid, threadgroup):
    plan = make_plan(grid, threadgroup)
    threads, block = cuda._blocks(plan, grid, threadgroup)
    # MLX rounds up in 32-bit integers.
    assert all(t > 0 and t + b - 1 <= 2**31 - 1 for t, b in zip(threads, block, strict=True))
    blocks = [-(-t // b) for t, b in zip(threads, block, strict=True)]
    assert max(blocks[1:]) <= 65535
    assert block[2] <= 64
    assert math.prod(block) <= plan.bound <= 1024
    size = [min(t, g) for t, g in zip(grid, threadgroup, strict=True)]
    assert math.prod(block) == math.prod(size)
    wanted = math.prod(-(-t // s) for t, s in zip(grid, size, strict=True))
    assert wanted <= math.prod(blocks) < wanted + blocks[1]


# --- the text ------------------------------------------------------------------------------------


def parameters(text):
    """The parameters of the entry."""
    listed = re.search(r"ZMLX_ENTRY\(\n(.*?)\) \{", text, re.DOTALL)
    assert listed is not None
    return [re.sub(r"\s+", " ", p).strip() for p in listed[1].split(",")]


def test_parameters_are_in_the_order_of_mlx(mx):
    """Inputs, outputs, scalars: the grid, then what the source asks for of each input's shape."""
    source = "a_shape; b_strides; b_ndim; b_shape; out0[thread_position_in_grid.x] = c;"
    made = kernel(source, ["a", "b", "c"], ["out0", "out1"], atomic_outputs=True)
    signature = signature_of(
        made,
        inputs=[mx.zeros((2, 3)), mx.zeros((9,), mx.float16), 3],
        output_shapes=[(4,), (4,)],
        output_dtypes=[mx.int32, mx.float32],
    )
    assert parameters(cuda_text(signature)) == [
        "const float* __restrict__ zmlx_a",
        "const float16_t* __restrict__ zmlx_b",
        "const int32_t* __restrict__ zmlx_c",
        "atomic<int32_t>* zmlx_out0",
        "atomic<float>* zmlx_out1",
        *("uint zmlx_grid_x", "uint zmlx_grid_y", "uint zmlx_grid_z"),
        *("int zmlx_a_shape_0", "int zmlx_a_shape_1"),
        "int zmlx_b_shape_0",
        *("int zmlx_b_strides_0_low", "int zmlx_b_strides_0_high"),
    ]
    linear = parameters(cuda_text(signature, Plan("LINEAR", 32)))
    assert linear[8:11] == ["uint zmlx_group_x", "uint zmlx_group_y", "uint zmlx_group_z"]


def test_the_text_depends_on_ranks_but_not_on_shapes(mx):
    made = kernel(BODY + " // x_shape x_strides x_ndim")
    texts = {
        shape: cuda_text(signature_of(made, inputs=[mx.zeros(shape)])) for shape in [(3, 4), (30, 40), (9,)]
    }
    assert texts[3, 4] == texts[30, 40] != texts[(9,)]


# --- launches ------------------------------------------------------------------------------------


def test_what_mlx_is_asked_to_run(launches, mx):
    made = kernel(BODY + " // x_shape x_strides", name="odd_name")
    (out,) = made(**arguments(init_value=1.5))
    (asked,) = launches
    assert (out.shape, out.dtype) == ((3, 4), mx.float32)
    assert re.fullmatch(r"zmlx_odd_name_[0-9a-f]{16}", asked["name"])
    assert asked["compiled_source"][:4] == b"\x7fELF"
    assert asked["name"].encode() + b"\0" in asked["compiled_source"]
    assert asked["scalars"] == [12, 1, 1, 3, 4, 4, 0, 1, 0]
    assert (asked["grid"], asked["threadgroup"]) == ((12, 1, 1), (8, 1, 1))
    assert asked["ensure_row_contiguous"] is True
    assert asked["init_value"] == 1.5


def test_as_many_scalars_as_the_entry_takes(launches, mx):
    source = "a_shape; a_strides; a_ndim; b_strides; out[thread_position_in_grid.x] = 0;"
    made = kernel(source, ["a", "b", "c"])
    shapes = [(2, 3, 4), (9, 9), ()]
    for grid, threadgroup in (((4, 1, 1), (4, 1, 1)), ((4, 70000, 1), (2, 1, 1))):
        call = arguments(inputs=[mx.zeros(s) for s in shapes], grid=grid, threadgroup=threadgroup)
        made(**call)
        text = cuda_text(signature_of(made, **call), make_plan(grid, threadgroup))
        assert len(launches[-1]["scalars"]) == len([p for p in parameters(text) if "*" not in p])


def test_large_numbers_arrive_as_their_bits(launches, mx):
    kernel()(**arguments(grid=(2**32 - 1, 1, 1), threadgroup=(1024, 1, 1)))
    assert launches[0]["scalars"][:6] == [-1, 1, 1, 1024, 1, 1]
    assert [cuda._signed(word) for word in (0, 2**31 - 1, 2**31, 2**32 - 1, -1)] == [
        0,
        2**31 - 1,
        -(2**31),
        -1,
        -1,
    ]


def test_launches_stay_lazy(launches, mx):
    """Nothing is evaluated, so a call can be traced."""
    made = kernel(BODY + " // x_shape x_strides x_ndim")
    traced = mx.compile(lambda x: made(**arguments(inputs=[x]))[0] + 1)
    assert traced(mx.ones((3, 4))).tolist() == [[1.0] * 4] * 3


def test_a_launch_that_comes_again_is_an_operation_that_mlx_has(launches, mx):
    made, other = kernel(), kernel(name="other")
    with watch() as records:
        results = [made(**arguments())[0] for _ in range(6)]
    assert len(launches) == 3  # as they came, and once more when it was traced
    assert all(result.shape == (3, 4) for result in results)
    assert len(records) == 6
    assert len({(r.signature, r.backend, r.path, r.grid, r.threadgroup) for r in records}) == 1
    other(**arguments())
    assert len(launches) == 4


@pytest.mark.parametrize(
    "changes",
    [
        {"grid": (11, 1, 1)},
        {"threadgroup": (4, 1, 1)},
        {"output_shapes": [(4, 3)]},
        {"output_dtypes": "float16"},
        {"template": [("N", 3)]},
        {"template": [("N", True)]},
        {"init_value": 1.0},
        {"stream": "default"},
        {"inputs": "shape"},
        {"inputs": "dtype"},
    ],
    ids=str,
)
def test_an_operation_is_of_all_that_a_launch_is_made_of(launches, mx, changes):
    made, before = kernel(), arguments(template=[("N", 1)])
    values = {
        "default": mx.default_device(),
        "shape": [mx.zeros((12,))],
        "dtype": [mx.zeros((3, 4), mx.int32)],
        "float16": [mx.float16],
    }
    for _ in range(3):
        made(**before)
    made(**before)
    assert len(launches) == 3
    made(**{**before, **{name: values.get(v, v) if isinstance(v, str) else v for name, v in changes.items()}})
    assert len(launches) == 4


def test_an_operation_is_of_the_shapes_that_the_kernel_is_told(launches, mx):
    made = kernel("out[thread_position_in_grid.x] = x_shape[0];")
    for columns in (1, 2) * 4:
        made(**arguments(inputs=[mx.zeros((3 * columns, columns))]))
    told = [launch["scalars"][-2:] for launch in launches]
    assert sorted(told) == [[3, 1]] * 3 + [[6, 2]] * 3


@pytest.mark.parametrize(
    ("creation", "changes"),
    [
        ({"ensure_row_contiguous": False, "source": "out[0] = x_strides[0];"}, {}),
        ({}, {"output_shapes": [(0,)]}),
        ({}, {"grid": (0, 1, 1)}),
    ],
    ids=["strides as they are", "no output", "no thread"],
)
def test_some_launches_are_never_the_same_operation(launches, mx, creation, changes):
    made = kernel(**creation)
    for _ in range(4):
        made(**arguments(**changes))
    assert not made._repeated


@pytest.mark.parametrize(
    ("changes", "error"),
    [
        ({"grid": (12, 1)}, "grid"),
        ({"grid": ("12", 1, 1)}, "grid"),
        ({"output_shapes": [(3.5, 4)]}, "output_shapes"),
        ({"inputs": ["text"]}, "inputs"),
        ({"output_dtypes": []}, "output_dtypes"),
        ({"inputs": [], "output_dtypes": "two"}, "inputs"),
        ({"output_shapes": [], "output_dtypes": "shape"}, "output_shapes"),
        ({"output_shapes": "dtype", "output_dtypes": []}, "output_shapes"),
        ({"inputs": "generator"}, "inputs"),
        ({"inputs": "rows"}, "inputs"),
        ({"inputs": "alike"}, "inputs"),
        ({"output_shapes": {(3, 4): 1}}, "output_shapes"),
        ({"template": {}}, "template"),
        ({"template": 0}, "template"),
    ],
    ids=str,
)
def test_what_is_no_launch_is_an_error_as_before(launches, mx, changes, error):
    made, (x,) = kernel(), arguments()["inputs"]
    for _ in range(4):
        made(**arguments())
    values = {
        "two": [mx.float32, ((3, 4), mx.float32)],
        "shape": [(3, 4), mx.float32],
        "dtype": [(3, 4), mx.float32],
        "generator": (array for array in [x]),
        "rows": x.reshape(1, 3, 4),
        "alike": [SimpleNamespace(shape=x.shape, dtype=x.dtype)],
    }
    wrong = {name: values[v] if isinstance(v, str) else v for name, v in changes.items()}
    with pytest.raises(ValueError, match=error):
        made(**arguments(**wrong))


def test_nothing_is_repeated_where_somebody_looks(launches, mx):
    made = kernel()
    for _ in range(4):
        made(**arguments())
    with recording("cuda") as records:
        made(**arguments())
    assert [record.path for record in records] == [""]
    with poisoned_outputs():
        made(**arguments())
    assert math.isnan(launches[-1]["init_value"])


def test_an_operation_is_of_a_device(launches, mx, monkeypatch):
    """Of the one that it came on first: a launch on another is made as if it were new."""
    made = kernel()
    for _ in range(4):
        made(**arguments())
    assert len(launches) == 3
    monkeypatch.setattr(mx, "default_device", lambda: mx.Device(mx.gpu, 1))
    for _ in range(3):
        made(**arguments())
    assert len(launches) == 6


def test_threads_have_operations_of_their_own(launches, mx):
    made = kernel()
    for _ in range(4):
        made(**arguments())
    with ThreadPoolExecutor(1) as pool:
        pool.submit(made, **arguments()).result()
    assert len(launches) == 4


def test_operations_are_forgotten_when_there_are_too_many(launches, mx, monkeypatch):
    monkeypatch.setattr("zmlx.launch.repeated.MOST", 4)
    made = kernel()
    for count in range(1, 11):
        for _ in range(4):
            made(**arguments(grid=(count, 1, 1)))
    assert len(made._repeated._known) <= 4
    assert len(launches) == 30


def test_a_compiled_function_has_the_operation_itself(launches, mx):
    made = kernel()
    for _ in range(4):
        made(**arguments())
    before = len(launches)
    function = mx.compile(lambda x: made(**arguments(inputs=[x]))[0])
    x = arguments()["inputs"][0]
    function(x)
    assert len(launches) == before + 1


def test_strides_of_inputs_that_are_not_copied(launches, mx):
    made = kernel("x_strides; out[0] = x[0];", ensure_row_contiguous=False)
    for view, strides in (
        (lambda x: x, [4, 1]),
        (lambda x: x.T, [1, 4]),
        (lambda x: x[:, ::2], [4, 2]),
        (lambda x: mx.broadcast_to(x[:1], (5, 4)), [0, 1]),
    ):
        made(**arguments(inputs=[view(mx.arange(12, dtype=mx.bfloat16).reshape(3, 4))]))
        assert launches[-1]["scalars"][3::2] == strides
        assert launches[-1]["ensure_row_contiguous"] is False


def test_strides_of_a_traced_input_are_those_of_a_copy(launches, mx):
    made = kernel("x_strides; out[0] = x[0];", ensure_row_contiguous=False)
    traced = mx.compile(lambda x: made(**arguments(inputs=[x.T]))[0])
    mx.eval(traced(mx.zeros((3, 4))))
    assert launches[0]["scalars"][3::2] == [3, 1]


def test_a_new_shape_compiles_nothing(launches, mx, monkeypatch):
    made = kernel(BODY + " // x_shape x_strides")
    made(**arguments())
    compiled = cuda._program.cache_info().misses
    for rows in (1, 5, 100):
        made(**arguments(inputs=[mx.zeros((rows, 8))], grid=(rows * 8, 1, 1)))
    assert cuda._program.cache_info().misses == compiled


def test_what_is_known_of_a_launch_depends_on_all_that_it_is_made_of(launches, mx):
    """Grid, threadgroup, dtype, device; and each call has scalars and arrays of its own."""
    made = kernel(BODY + " // x_shape")
    calls = [
        {},
        {"grid": (13, 1, 1)},
        {"threadgroup": (4, 3, 1)},
        {"grid": (4, 70000, 1), "threadgroup": (2, 1, 1)},
        {"inputs": [mx.zeros((3, 4), mx.float16)]},
        {"inputs": [mx.zeros((4, 3))]},
        {"stream": mx.Device(mx.gpu, 1)},
    ]
    for _ in range(2):
        for changes in calls:
            made(**arguments(**changes))
    first, second = launches[: len(calls)], launches[len(calls) :]
    for key in ("name", "grid", "threadgroup", "scalars"):
        assert [asked[key] for asked in first] == [asked[key] for asked in second]
    told = [(a["name"], a["grid"], a["threadgroup"], tuple(a["scalars"])) for a in first]
    assert len(set(told)) == len(calls)
    assert first[5]["scalars"] == [12, 1, 1, 4, 3]
    assert first[0]["scalars"] is not second[0]["scalars"]
    assert first[4]["inputs"][0].dtype == mx.float16


def test_every_device_has_a_name_of_its_own(launches, mx):
    names = set()
    for stream in (mx.gpu, mx.Device(mx.gpu, 0), mx.Device(mx.gpu, 1), mx.Device(mx.gpu, 12)):
        kernel()(**arguments(stream=stream))
        names.add(launches[-1]["name"])
        assert launches[-1]["stream"] == stream
    assert len(names) == 3


@pytest.mark.parametrize(
    "changes",
    [
        {"grid": (0, 1, 1)},
        {"grid": (4, 1, 0), "init_value": 2.5},
        {"output_shapes": [(0, 4)], "init_value": float("nan")},
    ],
)
@pytest.mark.parametrize("dtype", ["float32", "int32", "bool_"])
def test_nothing_to_do_does_not_reach_the_driver(launches, mx, changes, dtype):
    call = arguments(**changes, output_dtypes=[getattr(mx, dtype)])
    (out,) = kernel()(**call)
    assert launches == []
    assert (out.shape, out.dtype) == (call["output_shapes"][0], getattr(mx, dtype))
    if 0 not in out.shape:
        expected = mx.full(out.shape, changes.get("init_value", 0.0)).astype(out.dtype)
        np.testing.assert_array_equal(np.array(out), np.array(expected))


def test_a_device_newer_than_nvrtc_gets_ptx(launches, mx, monkeypatch):
    monkeypatch.setattr(mx, "device_info", lambda device: {"architecture": "sm_999"})
    kernel()(**arguments())
    newest = max(find_nvrtc().archs)
    assert f".target sm_{newest}".encode() in launches[0]["compiled_source"]
