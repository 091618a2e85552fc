"""What a kernel is measured against, as an entry of op_db says it: data that `zmlx.testing.bench` reads."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from zmlx.testing._formats import is_float

#: ``call(mx, *arguments)``; `mx` is `mlx.core`, handed over so that op_db imports no MLX.
Call = Callable[..., Any]


@dataclass(frozen=True)
class Peer:
    """Another library's kernel of the same formula, timed on CUDA where it is installed.

    Parameters
    ----------
    name : str
        What tables call it, such as "torch.compile".
    packages : tuple of str
        The modules that it needs.
    make : callable
        ``make(*modules)`` returns a function of PyTorch tensors that autograd can follow.
    """

    name: str
    packages: tuple[str, ...]
    make: Callable[..., Call]


@dataclass(frozen=True)
class Argument:
    """One argument of a benchmark that is more than a shape.

    Parameters
    ----------
    shape : tuple of int
        Its shape.
    dtype : str
        MLX's name of its dtype; "" for that of the benchmark.
    within : tuple of (float, float), optional
        Uniform numbers from the first to below the second; normal ones unless given. Integers and booleans need it.
    per_row : bool
        Of one dimension, with one number for each row: labels, sinks. Others of one dimension are weights.
    whole : bool
        Of several dimensions, and weights: all rows are made of all of it.
    """

    shape: tuple[int, ...]
    dtype: str = ""
    within: tuple[float, float] | tuple[()] = ()
    per_row: bool = False
    whole: bool = False

    def __post_init__(self) -> None:
        if self.dtype and not is_float(self.dtype) and not self.within:
            raise ValueError(
                f"Argument: expected `within` for {self.dtype}, such as (0, 10) for the integers from 0 to 9; got none."
            )

    @property
    def has_rows(self) -> bool:
        """Whether its first axis counts rows."""
        return self.per_row or (len(self.shape) > 1 and not self.whole)


@dataclass(frozen=True)
class Rivals:
    """The benchmark of one kernel.

    Parameters
    ----------
    shapes : callable
        ``shapes(rows, columns)`` gives the shape of each argument, or an `Argument`, for a result of `rows` rows made
        of rows of `columns` numbers. Shapes of one dimension are those of weights.
    formula : callable
        ``formula(mx, *arguments)``: the kernel's results in plain MLX operations, in the arguments' dtype.
    own_name : str
        What MLX's own operation is called, such as "mx.fast.rms_norm"; "" if MLX has none.
    own : callable, optional
        ``own(mx, *arguments)``: that operation.
    peers : tuple of Peer
        Kernels of other libraries: one for each that has the formula as a kernel, or can compile it. None where no
        library does; the table then has a dash.
    kwargs : mapping
        Keyword arguments of the kernel and of its oracle.
    by_rows : bool
        Whether each row of the results is made of that row of the arguments, and of weights, so that some rows show
        whether all are right. If not, all rows are compared.
    """

    shapes: Callable[[int, int], Sequence[tuple[int, ...] | Argument]]
    formula: Call
    own_name: str = ""
    own: Call | None = None
    peers: tuple[Peer, ...] = ()
    kwargs: Mapping[str, Any] = field(default_factory=dict)
    by_rows: bool = True

    def __post_init__(self) -> None:
        if bool(self.own_name) != (self.own is not None):
            raise ValueError(
                f"Rivals: give `own` and `own_name` together, or neither; got {self.own_name!r}."
            )
