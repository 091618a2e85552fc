"""Calls of the rotary position embeddings that must fail."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from zmlx.testing.op_db._shared import ones, rejected_arrays
from zmlx.testing.opinfo import ErrorInput


def _call(
    make: Callable[[], tuple[Any, ...]], name: str, error: type[Exception], text: str, **kwargs: Any
) -> ErrorInput:
    """A call that must fail, from its arguments on."""
    return ErrorInput(name, make, error, text, kwargs=kwargs)


def tokens() -> tuple[Any]:
    """Arguments: an x of 2 sequences, 3 heads, 4 tokens of 8 numbers."""
    return (ones(2, 3, 4, 8),)


def tokens_and(*shape: int, dtype: str = "int32") -> Callable[[], tuple[Any, ...]]:
    """The same with a second array."""
    return lambda: (*tokens(), ones(*shape, dtype=dtype))


def rejected_beside(
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
        f"Expected `{second}` to have shape (2, 2, 4, 8) beside `{first}` of shape (2, 3, 4, 8), got {{}}."
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


REJECTED_WEIGHTS: tuple[ErrorInput, ...] = (
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


def rejected_angles(
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
        call("dims_text", TypeError, "Expected `dims` to be an integer, got str. Pass an int.", dims="8"),
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


def rejected_places(function: str, make: Callable[[], tuple[Any, ...]]) -> tuple[ErrorInput, ...]:
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


ROPE_ERRORS = (
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
        tokens_and(3),
        ValueError,
        "[rope] Expected `positions` to have shape (4,) or (2, 4), one for each token, got (3,). "
        "For the first position of each sequence give `offset`.",
    ),
    ErrorInput(
        "positions_float",
        tokens_and(4, dtype="float32"),
        TypeError,
        "[rope] Expected `positions` to be integers, got float32. Convert it first: positions.astype(mx.int32).",
    ),
    ErrorInput(
        "freqs_shape",
        lambda: (*tokens(), None, ones(3)),
        ValueError,
        "[rope] Expected `freqs` to have shape (4,), one number for each pair that is rotated, got (3,).",
    ),
    ErrorInput(
        "base_and_freqs",
        lambda: (*tokens(), None, ones(4)),
        ValueError,
        "[rope] Expected one of `base` and `freqs`, got both. Leave `base` out: `freqs` tells all frequencies.",
        kwargs={"base": 100.0},
    ),
    *rejected_angles("rope", tokens),
    *rejected_places("rope", tokens),
)


SECTION_ERRORS = tuple(
    _call(
        tokens_and(*places),
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


def cached() -> tuple[Any, ...]:
    """Keys and values of 4 tokens, and caches of 9."""
    return ones(2, 3, 4, 8), ones(2, 3, 4, 6), ones(2, 3, 9, 8), ones(2, 3, 9, 6)


def _rejected_caches(
    function: str, names: tuple[str, str], *others: Callable[[], Any]
) -> tuple[ErrorInput, ...]:
    """Calls in which one array does not fit."""

    def call(
        case: str, error: type[Exception], text: str, place: int, wrong: Callable[[], Any]
    ) -> ErrorInput:
        def make() -> tuple[Any, ...]:
            made = [*cached(), *(other() for other in others)]
            made[place] = wrong()
            return tuple(made)

        return _call(make, case, error, f"[{function}] {text}")

    keys, vals = names
    return (
        call(
            "k_3d",
            ValueError,
            "Expected `k` to have shape (B, H, T, D), got (3, 4, 8). "
            "Reshape it: sequences, heads, tokens, elements of a head.",
            0,
            lambda: ones(3, 4, 8),
        ),
        call(
            "v_tokens",
            ValueError,
            "Expected `v` to have shape (2, 3, 4, 6) beside `k` of shape (2, 3, 4, 8), got (2, 3, 5, 6).",
            1,
            lambda: ones(2, 3, 5, 6),
        ),
        call(
            "k_cache_length",
            ValueError,
            f"Expected `{keys}` to have shape (2, 3, 9, 8) beside `k` of shape (2, 3, 4, 8), got (2, 3, 9, 6).",
            2,
            lambda: ones(2, 3, 9, 6),
        ),
        call(
            "v_cache_places",
            ValueError,
            f"Expected `{vals}` to have shape (2, 3, 9, 6) beside `v` of shape (2, 3, 4, 6), got (2, 3, 7, 6).",
            3,
            lambda: ones(2, 3, 7, 6),
        ),
        call(
            "v_cache_dtype",
            TypeError,
            f"Expected `{vals}` to be of `k`'s dtype, float32, got float16. Convert it first: {vals}.astype(k.dtype).",
            3,
            lambda: ones(2, 3, 9, 6, dtype="float16"),
        ),
    )


CACHE_ERRORS = (
    *_rejected_caches("rope_cache_update", ("k_cache", "v_cache")),
    _call(
        cached,
        "offset_beyond",
        ValueError,
        "[rope_cache_update] Expected `offset` to be from 0 to 5, so that 4 tokens fit into a cache of 9, got 6.",
        offset=6,
    ),
    _call(
        cached,
        "offset_negative",
        ValueError,
        "[rope_cache_update] Expected `offset` to be from 0 to 5, so that 4 tokens fit into a cache of 9, got -1.",
        offset=-1,
    ),
)

PAGED_ERRORS = (
    *_rejected_caches("rope_paged_cache_update", ("k_pages", "v_pages"), lambda: ones(2, 3, dtype="int32")),
    _call(
        lambda: (*cached(), ones(3, 2, dtype="int32")),
        "block_table_rows",
        ValueError,
        "[rope_paged_cache_update] Expected `block_table` to have shape (2, M), the pages of each sequence in order, "
        "got (3, 2).",
    ),
    _call(
        lambda: (*cached(), ones(2, 2)),
        "block_table_float",
        TypeError,
        "[rope_paged_cache_update] Expected `block_table` to be integers, got float32. "
        "Convert it first: block_table.astype(mx.int32).",
    ),
)
