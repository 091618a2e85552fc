"""What a kernel is measured against, as an entry of op_db says it: data that `zmlx.testing.bench` reads."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

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
class Rivals:
    """The benchmark of one kernel.

    Parameters
    ----------
    shapes : callable
        ``shapes(rows, columns)`` gives the shape of each argument, for a result of `rows` rows made of rows of
        `columns` numbers. Arguments of one dimension are weights.
    formula : callable
        ``formula(mx, *arguments)``: the kernel's result in plain MLX operations, in the arguments' dtype.
    own_name : str
        What MLX's own operation is called, such as "mx.fast.rms_norm"; "" if MLX has none.
    own : callable, optional
        ``own(mx, *arguments)``: that operation.
    peers : tuple of Peer
        Kernels of other libraries.
    """

    shapes: Callable[[int, int], tuple[tuple[int, ...], ...]]
    formula: Call
    own_name: str = ""
    own: Call | None = None
    peers: tuple[Peer, ...] = ()

    def __post_init__(self) -> None:
        if bool(self.own_name) != (self.own is not None):
            raise ValueError(
                f"Rivals: give `own` and `own_name` together, or neither; got {self.own_name!r}."
            )
