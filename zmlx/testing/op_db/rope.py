"""Rotary position embedding."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from zmlx.testing.op_db._peers import torch_compiled
from zmlx.testing.op_db._shared import (
    CANCELLING,
    ITEMSIZE,
    SPECIAL,
    Float64Array,
    as_on_a_gpu,
    kernel,
    ones,
    quiet,
    rejected_arrays,
    values,
)
from zmlx.testing.opinfo import ErrorInput, OpInfo, SampleInput, SampleRng
from zmlx.testing.rivals import Rivals

Integers = NDArray[np.int64]

_ROFORMER = "Su et al. 2021, RoFormer (arXiv:2104.09864), equation 34"


def _angles(positions: Any, dims: int, base: float, scale: float) -> Float64Array:
    """Positions of any shape times the frequencies, which are a further axis."""
    frequencies = base ** (-2 * np.arange(dims // 2) / dims)
    return np.asarray(np.asarray(positions, np.float64)[..., None] * scale * frequencies)


def _turned(x: Float64Array, angles: Float64Array, interleaved: bool) -> Float64Array:
    """Equation 34: pairs of the leading elements of rows, rotated; angles have as many axes as x, or fewer."""
    pairs = angles.shape[-1]
    first, second = (
        (slice(0, 2 * pairs, 2), slice(1, 2 * pairs, 2))
        if interleaved
        else (slice(0, pairs), slice(pairs, 2 * pairs))
    )
    a, b = x[..., first], x[..., second]
    y = np.array(x, dtype=np.float64)
    with quiet():
        y[..., first] = a * np.cos(angles) - b * np.sin(angles)
        y[..., second] = b * np.cos(angles) + a * np.sin(angles)
    return y


def _of_tokens(x: Float64Array, positions: Integers | None, offset: int) -> Integers:
    """The position of every token, in as many axes as x has but for the last."""
    if positions is None:
        return np.asarray(offset + np.arange(x.shape[-2], dtype=np.int64))
    if positions.ndim < 2:
        return positions
    return positions.reshape(positions.shape[0], *(1,) * (x.ndim - 3), positions.shape[1])


def _rope(
    x: Float64Array,
    positions: Integers | None = None,
    *,
    offset: int = 0,
    dims: int | None = None,
    interleaved: bool = False,
    base: float = 10000.0,
    scale: float = 1.0,
    sign: int = 1,
) -> Float64Array:
    places = _of_tokens(x, positions, offset)
    angles = sign * _angles(places, x.shape[-1] if dims is None else dims, base, scale)
    return _turned(x, angles, interleaved)


def _rope_vjp(x: Float64Array, *positions_and_cotangent: Any, **kwargs: Any) -> tuple[Float64Array]:
    """A rotation's transpose is the rotation by the opposite angle."""
    *positions, cotangent = positions_and_cotangent
    return (_rope(cotangent, *positions, sign=-1, **kwargs),)


def _special(rng: SampleRng) -> Float64Array:
    """Tokens of ordinary numbers with one special one each."""
    x = rng.normal((2, SPECIAL.size, 6))
    x[0, :, 1] = SPECIAL
    x[1, :, 4] = SPECIAL
    return x


def _in_one(
    function: str,
    oracle: Callable[..., tuple[Float64Array, ...]],
    vjp: Callable[..., tuple[Float64Array, ...]],
) -> dict[str, Any]:
    """Of an OpInfo: a function that returns several arrays as one that returns them side by side, along their heads.

    ``vjp(*args, cotangents, **kwargs)`` takes a tuple of cotangents.
    """
    several = kernel("rope", function)

    def call(*args: Any, **kwargs: Any) -> Any:
        import mlx.core as mx

        return mx.concatenate(list(several(*args, **kwargs)), axis=-3)

    def joined_vjp(*args_and_cotangent: Any, **kwargs: Any) -> tuple[Float64Array, ...]:
        *args, cotangent = args_and_cotangent
        sizes = [result.shape[-3] for result in oracle(*args, **kwargs)]
        return vjp(*args, tuple(np.split(cotangent, np.cumsum(sizes)[:-1], axis=-3)), **kwargs)

    call.__module__, call.__name__ = several.__module__, several.__name__
    return {
        "op": call,
        "oracle": lambda *args, **kwargs: np.concatenate(oracle(*args, **kwargs), axis=-3),
        "oracle_vjp": joined_vjp,
    }


def _integers(*rows: Any) -> Integers:
    return np.array(rows, np.int32)


def _rope_samples(rng: Callable[[str], SampleRng]) -> Iterator[SampleInput]:
    def x(name: str, *shape: int) -> Float64Array:
        return rng(name).normal(shape)

    yield SampleInput("small", (x("small", 2, 3, 5, 16),))
    yield SampleInput("interleaved", (x("interleaved", 2, 6, 5, 16),), {"interleaved": True, "offset": 3})
    yield SampleInput("single", (np.array([[0.75, -0.5]]),), {"offset": 2})
    yield SampleInput("part_of_a_row", (x("part_of_a_row", 3, 5, 7, 20),), {"dims": 10, "scale": 0.25})
    yield SampleInput(
        "odd_rows", (x("odd_rows", 2, 3, 4, 7),), {"dims": 4, "interleaved": True, "base": 500.0}
    )
    yield SampleInput("long_rows", (x("long_rows", 2, 3, 2100),), {"offset": -7})
    yield SampleInput("many_tokens", (x("many_tokens", 700, 6),), {"base": 100.0})
    # What a product in float32 gets wrong in the second digit.
    far = _integers([2**20, 0, 2**20 - 1, 12345, -(2**20)], [2**22 + 1, 5, -(2**22), 777777, 1])
    yield SampleInput("far", (x("far", 2, 4, 5, 32), far))
    yield SampleInput("far_interleaved", (x("far_interleaved", 4, 5, 12), far[0]), {"interleaved": True})
    yield SampleInput("special", (_special(rng("special")),))
    yield SampleInput("no_tokens", (np.zeros((2, 0, 8)),))


def _rope_qk(
    q: Float64Array, k: Float64Array, *positions: Integers, **kwargs: Any
) -> tuple[Float64Array, ...]:
    return _rope(q, *positions, **kwargs), _rope(k, *positions, **kwargs)


def _rope_qk_vjp(
    q: Float64Array, k: Float64Array, *positions_and_cotangents: Any, **kwargs: Any
) -> tuple[Any, ...]:
    *positions, (dq, dk) = positions_and_cotangents
    return _rope_qk(dq, dk, *positions, sign=-1, **kwargs)


def _rope_qk_samples(rng: Callable[[str], SampleRng]) -> Iterator[SampleInput]:
    def sample(name: str, q_heads: int, k_heads: int, *shape: int, **kwargs: Any) -> SampleInput:
        batch, tokens, length = shape
        sizes = ((batch, heads, tokens, length) for heads in (q_heads, k_heads))
        q, k = (rng(f"{name}/{array}").normal(size) for array, size in zip("qk", sizes, strict=True))
        return SampleInput(name, (q, k), kwargs)

    yield sample("small", 6, 2, 2, 5, 16)
    yield sample("interleaved", 4, 1, 2, 3, 16, interleaved=True, offset=3)
    yield sample("single", 1, 1, 1, 1, 2, offset=2)
    yield sample("odd_heads", 7, 5, 1, 3, 20, dims=10, scale=0.25)
    yield sample("odd_rows", 9, 3, 2, 4, 7, dims=6, interleaved=True, base=500.0)
    yield sample("long_rows", 2, 1, 1, 3, 1030, offset=-7)
    far = sample("far", 2, 1, 2, 3, 32)
    yield SampleInput("far", (*far.args, _integers([2**20, 5, 2**20 - 1], [12345, 0, -(2**20)])))
    yield SampleInput(
        "special", (_special(rng("special"))[:, None], rng("special/k").normal((2, 3, SPECIAL.size, 6)))
    )
    yield sample("no_tokens", 4, 2, 2, 0, 8)
    yield sample("no_keys", 4, 0, 2, 3, 8)


#: Of 8 pairs, as samples of M-RoPE have them.
_SECTIONS = (2, 3, 3)


def _mrope(
    x: Float64Array,
    positions: Integers,
    *,
    sections: tuple[int, int, int],
    dims: int | None = None,
    interleaved: bool = False,
    base: float = 10000.0,
    scale: float = 1.0,
    sign: int = 1,
) -> Float64Array:
    dims = x.shape[-1] if dims is None else dims
    tables = [sign * _angles(_of_tokens(x, axis, 0), dims, base, scale) for axis in positions]
    which = np.repeat(np.arange(3), sections)
    angles = np.stack([tables[axis][..., pair] for pair, axis in enumerate(which)], axis=-1)
    return _turned(x, angles, interleaved)


def _mrope_vjp(
    x: Float64Array, positions: Integers, cotangent: Float64Array, **kwargs: Any
) -> tuple[Float64Array]:
    return (_mrope(cotangent, positions, sign=-1, **kwargs),)


def _mrope_samples(rng: Callable[[str], SampleRng]) -> Iterator[SampleInput]:
    def sample(name: str, shape: tuple[int, ...], places: tuple[int, ...], **kwargs: Any) -> SampleInput:
        positions = rng(f"{name}/positions").integers(places, 0, 200).astype(np.int32)
        return SampleInput(name, (rng(name).normal(shape), positions), {"sections": _SECTIONS, **kwargs})

    yield sample("small", (2, 4, 5, 16), (3, 5))
    yield sample("interleaved", (2, 6, 5, 16), (3, 2, 5), interleaved=True)
    yield sample("single", (1, 2), (3, 1), sections=(0, 1, 0))
    yield sample("odd_rows", (2, 7, 23), (3, 2, 7), dims=16, base=1e6, scale=0.5)
    yield sample("two_sections", (2, 5, 4, 18), (3, 4), sections=(4, 5, 0))
    yield sample("long_rows", (2, 2052), (3, 2), sections=(256, 384, 386))
    yield sample("many_tokens", (300, 16), (3, 300))
    yield SampleInput(
        "far",
        (rng("far").normal((2, 4, 16)), _integers([2**20, 1, 0, 7], [5, 2**20 - 1, 3, 0], [0, 1, 2**20, 4])),
        {"sections": _SECTIONS},
    )
    special = _special(rng("special"))
    places = rng("special/positions").integers((3, SPECIAL.size), 0, 200).astype(np.int32)
    yield SampleInput("special", (special, places), {"sections": (1, 1, 1)})
    yield sample("no_heads", (2, 0, 5, 16), (3, 5))


def _head_scale(x: Float64Array, eps: float) -> Float64Array:
    return np.asarray(1 / np.sqrt(np.sum(x * x, axis=-1, keepdims=True) / x.shape[-1] + eps))


def _qk_norm_rope(*arrays: Any, eps: float = 1e-6, **kwargs: Any) -> tuple[Float64Array, ...]:
    q, k, q_weight, k_weight, *positions = arrays
    with quiet():
        normal = [x * _head_scale(x, eps) * weight for x, weight in ((q, q_weight), (k, k_weight))]
    return tuple(_rope(x, *positions, **kwargs) for x in normal)


def _qk_norm_rope_vjp(*arrays: Any, eps: float = 1e-6, **kwargs: Any) -> tuple[Float64Array, ...]:
    q, k, q_weight, k_weight, *positions, cotangents = arrays
    gradients = []
    with quiet():
        for x, weight, cotangent in zip((q, k), (q_weight, k_weight), cotangents, strict=True):
            back = _rope(cotangent, *positions, sign=-1, **kwargs)
            scale = _head_scale(x, eps)
            normal = x * scale
            mean = np.sum(back * weight * normal, axis=-1, keepdims=True) / x.shape[-1]
            gradients += [scale * (back * weight - normal * mean), np.sum(back * normal, axis=(0, 1, 2))]
    dq, dq_weight, dk, dk_weight = gradients
    return dq, dk, dq_weight, dk_weight


def _qk_norm_rope_samples(rng: Callable[[str], SampleRng]) -> Iterator[SampleInput]:
    def weights(name: str, length: int) -> tuple[Float64Array, ...]:
        return tuple(rng(f"{name}/{w}").normal(length, scale=0.3, loc=1.0) for w in ("q_weight", "k_weight"))

    for sample in _rope_qk_samples(rng):
        q, k, *positions = sample.args
        if sample.name == "special":
            moderate = np.abs(SPECIAL) != 1e30  # its square is beyond float32, as the kernel's docs say
            q, k = q[:, :, moderate], k[:, :, moderate]
        # A row of two numbers has no gradient but rounding errors without eps.
        eps = {"eps": 0.25} if sample.name == "single" else {}
        args = (q, k, *weights(sample.name, q.shape[-1]), *positions)
        yield SampleInput(sample.name, args, {**sample.kwargs, **eps})


def _moved(sample: SampleInput, dtype: str) -> int:
    """What is rotated is read and written; positions and frequencies are a few bytes beside it."""
    return 2 * values(sample) * ITEMSIZE[dtype]


def _bench_heads(rows: int, columns: int) -> tuple[int, int, int, int]:
    """(sequences, heads, tokens, elements): a row is what the heads of a token have."""
    length = min(columns, 128)
    heads = max(columns // length, 1)
    return 1, heads, rows, length


def _formula_turned(mx: Any, x: Any) -> Any:
    half = x.shape[-1] // 2
    frequency = mx.exp(mx.arange(half) * (-np.log(10000.0) / half))
    angle = mx.arange(x.shape[-2])[:, None] * frequency
    c, s = mx.cos(angle), mx.sin(angle)
    a, b = x[..., :half], x[..., half:]
    return mx.concatenate([a * c - b * s, b * c + a * s], axis=-1).astype(x.dtype)


def _torch_turned(torch: Any, x: Any) -> Any:
    half = x.shape[-1] // 2
    frequency = 10000.0 ** (-torch.arange(half, device=x.device) / half)
    angle = torch.arange(x.shape[-2], device=x.device)[:, None] * frequency
    c, s = torch.cos(angle), torch.sin(angle)
    a, b = x[..., :half], x[..., half:]
    return torch.cat([a * c - b * s, b * c + a * s], dim=-1).to(x.dtype)


def _own_turned(mx: Any, x: Any) -> Any:
    return mx.fast.rope(x, x.shape[-1], traditional=False, base=10000.0, scale=1.0, offset=0)


def _call(
    make: Callable[[], tuple[Any, ...]], name: str, error: type[Exception], text: str, **kwargs: Any
) -> Any:
    return ErrorInput(name, make, error, text, kwargs=kwargs)


def _rejected_beside(
    function: str, make: Callable[[Any, Any], tuple[Any, ...]], names: tuple[str, str] = ("q", "k")
) -> tuple[ErrorInput, ...]:
    """Calls with two arrays of heads of which one does not fit; ``make`` gives all arguments."""
    first, second = names

    def call(
        case: str, error: type[Exception], text: str, shapes: tuple[Any, Any], dtype: str = "float32"
    ) -> ErrorInput:
        return _call(
            lambda: make(ones(*shapes[0]), ones(*shapes[1], dtype=dtype)), case, error, f"[{function}] {text}"
        )

    heads = (
        "Expected `{}` to have shape (B, H, T, D), got (3, 4, 8). "
        "Reshape it: sequences, heads, tokens, elements of a head."
    )
    beside = (
        f"Expected `{second}` to have shape (2, 2, 4, 8) beside `{first}` of shape (2, 3, 4, 8), got {{}}. "
        "Only the number of heads may differ."
    )
    fits = (2, 3, 4, 8)
    return (
        call(f"{first}_3d", ValueError, heads.format(first), ((3, 4, 8), fits)),
        call(f"{second}_3d", ValueError, heads.format(second), (fits, (3, 4, 8))),
        call(f"{second}_tokens", ValueError, beside.format((2, 2, 5, 8)), (fits, (2, 2, 5, 8))),
        call(f"{second}_sequences", ValueError, beside.format((1, 2, 4, 8)), (fits, (1, 2, 4, 8))),
        call(
            f"{second}_dtype",
            TypeError,
            f"Expected `{second}` to be of `{first}`'s dtype, float32, got float16. "
            f"Convert it first: {second}.astype({first}.dtype).",
            (fits, fits),
            "float16",
        ),
    )


_WEIGHTED: tuple[ErrorInput, ...] = (
    *(
        _call(
            lambda place=place: (  # type: ignore[misc]
                *(ones(2, 3, 4, 8), ones(2, 1, 4, 8)),
                *(ones(7 if i == place else 8) for i in range(2)),
            ),
            f"{name}_short",
            ValueError,
            f"[qk_norm_rope] Expected `{name}` to have shape (8,), one number for each element of a head, got (7,).",
        )
        for place, name in enumerate(("q_weight", "k_weight"))
    ),
    _call(
        lambda: (ones(2, 3, 4, 8), ones(2, 1, 4, 8), ones(8, dtype="int32"), ones(8)),
        "weight_integer",
        TypeError,
        "[qk_norm_rope] Expected `q_weight` to be float32, float16 or bfloat16, got int32. "
        "Convert it first: q_weight.astype(mx.float32).",
    ),
    _call(
        lambda: (ones(2, 3, 4, 8), ones(2, 1, 4, 8), ones(8), ones(8)),
        "eps_negative",
        ValueError,
        "[qk_norm_rope] Expected `eps` to be finite and not negative, got -1e-06.",
        eps=-1e-6,
    ),
)


def _rejected_angles(
    function: str, make: Callable[[], tuple[Any, ...]], name: str = "x", **valid: Any
) -> tuple[ErrorInput, ...]:
    """Calls on tokens of shape (2, 3, 4, 8), the first argument, with keywords that make no sense beside valid ones."""

    def call(case: str, error: type[Exception], text: str, **kwargs: Any) -> ErrorInput:
        return _call(make, f"{function}_{case}", error, f"[{function}] {text}", **valid, **kwargs)

    even = (
        f"Expected `dims` to be an even number from 2 to the last extent of `{name}` (shape (2, 3, 4, 8)), got {{}}. "
        "Give `dims`, how many leading elements of a row are rotated: an even number."
    )
    return (
        call("dims_odd", ValueError, even.format(3), dims=3),
        call("dims_large", ValueError, even.format(10), dims=10),
        call("dims_zero", ValueError, even.format(0), dims=0),
        call("dims_text", TypeError, "Expected `dims` to be an integer, got str.", dims="8"),
        call("base_zero", ValueError, "Expected `base` to be positive, got 0.0.", base=0),
        call("base_text", TypeError, "Expected `base` to be a number, got str. Pass a float.", base="e"),
        call("scale_nan", ValueError, "Expected `scale` to be finite, got nan.", scale=float("nan")),
        call(
            "freqs_list",
            TypeError,
            "Expected `freqs` to be an mlx.core.array of float32, float16 or bfloat16, got list. "
            "Convert it first: mx.array(freqs, mx.float32).",
            freqs=[1.0] * 4,
        ),
    )


def _rejected_places(function: str, make: Callable[[], tuple[Any, ...]]) -> tuple[ErrorInput, ...]:
    """The same for where tokens are."""

    def call(case: str, error: type[Exception], text: str, **kwargs: Any) -> ErrorInput:
        return _call(make, f"{function}_{case}", error, f"[{function}] {text}", **kwargs)

    return (
        call(
            "offset_float",
            TypeError,
            "Expected `offset` to be an integer or an mlx.core.array of integers, got float.",
            offset=1.0,
        ),
        call(
            "offset_large",
            ValueError,
            "Expected positions to be between -2**31 and 2**31, got 4 from 2147483645 on.",
            offset=2**31 - 3,
        ),
        call(
            "positions_list",
            TypeError,
            "Expected `positions` to be an mlx.core.array of integers, got list. "
            "Convert it first: mx.array(positions).",
            positions=[0, 1, 2, 3],
        ),
        call(
            "offset_and_positions",
            ValueError,
            "Expected one of `offset` and `positions`, got both. Add the offset to the positions.",
            offset=1,
            positions=[0, 1, 2, 3],
        ),
    )


def _x() -> tuple[Any]:
    return (ones(2, 3, 4, 8),)


def _x_and(*shape: int, dtype: str = "int32") -> Callable[[], tuple[Any, ...]]:
    return lambda: (*_x(), ones(*shape, dtype=dtype))


_ROPE_ERRORS = (
    *rejected_arrays("rope"),
    ErrorInput(
        "one_d",
        lambda: (ones(8),),
        ValueError,
        "[rope] Expected `x` to have shape (B, ..., T, D) or (T, D), got (8,). For a single token pass x[None].",
    ),
    ErrorInput(
        "odd",
        lambda: (ones(2, 7),),
        ValueError,
        "[rope] Expected the last dimension of `x` (shape (2, 7)) to be even, since pairs are rotated, got 7. "
        "Give `dims`, how many leading elements of a row are rotated: an even number.",
    ),
    ErrorInput(
        "positions_shape",
        _x_and(3),
        ValueError,
        "[rope] Expected `positions` to have shape (4,) or (2, 4), one for each token, got (3,). "
        "For the first position of each sequence give `offset`.",
    ),
    ErrorInput(
        "positions_float",
        _x_and(4, dtype="float32"),
        TypeError,
        "[rope] Expected `positions` to be integers, got float32. Convert it first: positions.astype(mx.int32).",
    ),
    *_rejected_angles("rope", _x),
    *_rejected_places("rope", _x),
)


_SECTION_ERRORS = tuple(
    _call(
        _x_and(*places),
        f"mrope_{case}",
        ValueError,
        f"[mrope] {text}",
        sections=sections,
    )
    for case, places, sections, text in (
        (
            "sections_sum",
            (3, 4),
            (1, 1, 1),
            "Expected `sections` to be three numbers of pairs, 4 together (half of what is rotated), got (1, 1, 1).",
        ),
        (
            "sections_two",
            (3, 4),
            (2, 2),
            "Expected `sections` to be three numbers of pairs, 4 together (half of what is rotated), got (2, 2).",
        ),
        (
            "positions_2",
            (2, 4),
            (2, 1, 1),
            (
                "Expected `positions` to have shape (3, 4) or (3, 2, 4): temporal, height and width of each token, "
                "got (2, 4)."
            ),
        ),
    )
)


OPS = (
    OpInfo(
        name="rope.rope",
        op=kernel("rope", "rope"),
        kernels=("zmlx_rope",),
        grad_kernels=("zmlx_rope",),
        gpu_shape=as_on_a_gpu,
        oracle=_rope,
        oracle_vjp=_rope_vjp,
        differentiable=(0,),
        samples=_rope_samples,
        axis_extents={(0, -1): (2, 300)},
        source=_ROFORMER,
        tolerances=CANCELLING,
        grad_tolerances=CANCELLING,
        golden_samples=("small", "interleaved", "part_of_a_row", "far_interleaved"),
        error_inputs=_ROPE_ERRORS,
        bytes_moved=_moved,
        flops=lambda sample, dtype: 3 * int(sample.args[0].size),
        rivals=Rivals(
            shapes=lambda rows, columns: (_bench_heads(rows, columns),),
            formula=_formula_turned,
            own_name="mx.fast.rope",
            own=_own_turned,
            peers=(torch_compiled(_torch_turned),),
        ),
    ),
    OpInfo(
        name="rope.rope_qk",
        **_in_one("rope_qk", _rope_qk, _rope_qk_vjp),
        kernels=("zmlx_rope_qk",),
        grad_kernels=("zmlx_rope_qk",),
        gpu_shape=as_on_a_gpu,
        differentiable=(0, 1),
        samples=_rope_qk_samples,
        axis_extents={(0, -1): (2, 300)},
        source=f"{_ROFORMER}; Ainslie et al. 2023, GQA (arXiv:2305.13245)",
        tolerances=CANCELLING,
        grad_tolerances=CANCELLING,
        golden_samples=("small", "interleaved", "odd_heads"),
        error_inputs=(
            *_rejected_beside("rope_qk", lambda q, k: (q, k)),
            *_rejected_angles("rope_qk", lambda: (ones(2, 3, 4, 8), ones(2, 1, 4, 8)), "q"),
            *_rejected_places("rope_qk", lambda: (ones(2, 3, 4, 8), ones(2, 1, 4, 8))),
        ),
        bytes_moved=_moved,
        flops=lambda sample, dtype: 3 * values(sample),
    ),
    OpInfo(
        name="rope.mrope",
        op=kernel("rope", "mrope"),
        kernels=("zmlx_rope",),
        grad_kernels=("zmlx_rope",),
        gpu_shape=as_on_a_gpu,
        oracle=_mrope,
        oracle_vjp=_mrope_vjp,
        differentiable=(0,),
        samples=_mrope_samples,
        # Sections are of 8 pairs, and there are three of them.
        axis_extents={(0, -1): (16, 16), (1, 0): (3, 3)},
        source="Wang et al. 2024, Qwen2-VL (arXiv:2409.12191), section 2.1: M-RoPE, in sections of the pairs as in its "
        "published code",
        tolerances=CANCELLING,
        grad_tolerances=CANCELLING,
        golden_samples=("small", "interleaved", "odd_rows"),
        error_inputs=(
            *_SECTION_ERRORS,
            *_rejected_angles("mrope", lambda: (*_x(), ones(3, 4, dtype="int32")), sections=(1, 1, 2)),
        ),
        bytes_moved=_moved,
        flops=lambda sample, dtype: 3 * int(sample.args[0].size),
    ),
    OpInfo(
        name="rope.qk_norm_rope",
        **_in_one("qk_norm_rope", _qk_norm_rope, _qk_norm_rope_vjp),
        kernels=("zmlx_qk_norm_rope",),
        grad_kernels=("zmlx_qk_norm_rope_vjp", "zmlx_column_sum"),
        gpu_shape=as_on_a_gpu,
        differentiable=(0, 1, 2, 3),
        samples=_qk_norm_rope_samples,
        # As for the sample "single": with eps as it is, the gradient of a short row is what rounding leaves.
        axis_extents={(0, -1): (6, 300)},
        source=f"Henry et al. 2020, Query-Key Normalization (arXiv:2010.04245), with Zhang and Sennrich 2019, RMSNorm "
        f"(arXiv:1910.07467), equation 4; {_ROFORMER}",
        tolerances=CANCELLING,
        grad_tolerances=CANCELLING,
        golden_samples=("small", "interleaved", "odd_heads"),
        error_inputs=(
            *_rejected_beside("qk_norm_rope", lambda q, k: (q, k, ones(8), ones(8))),
            *_WEIGHTED,
            *_rejected_angles(
                "qk_norm_rope", lambda: (ones(2, 3, 4, 8), ones(2, 1, 4, 8), ones(8), ones(8)), "q"
            ),
        ),
        bytes_moved=_moved,
        flops=lambda sample, dtype: 7 * values(sample),
    ),
)
