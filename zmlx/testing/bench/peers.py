"""Other libraries' kernels of the same formula, timed in turn with ours where they are installed: `Rivals.peers`.

They are PyTorch's world, which zmlx does not depend on: nothing of it is imported unless a benchmark runs on CUDA.
"""

from __future__ import annotations

import importlib
import itertools
import math
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from zmlx import _compat
from zmlx.testing.bench.measurement import LEAD_BYTES
from zmlx.testing.bench.timing import Stopwatch
from zmlx.testing.opinfo import as_tuple
from zmlx.testing.rivals import Peer

#: The column of the table.
PEERS = "peers"

#: Where they are timed: Triton's kernels run nowhere else.
BACKEND = "cuda"

#: How many times as long a lead becomes, at most, as it is asked for.
LONGEST_LEAD = 16

INSTALL = "`pip install --group peers`, or nox -s bench -- --peers"


@dataclass(frozen=True)
class Loaded:
    """A peer whose packages are here: PyTorch's module, and its function of tensors."""

    name: str
    torch: Any
    call: Callable[..., Any]


def load_peers(peers: Iterable[Peer]) -> tuple[list[Loaded], list[str]]:
    """Those whose packages import, and a line on each of the others."""
    found, missing = [], []
    for peer in peers:
        try:
            modules = [importlib.import_module(package) for package in peer.packages]
        except (ImportError, OSError) as error:  # OSError: a library of theirs is missing or broken
            missing.append(f"{peer.name} was not timed: {error}. {INSTALL} installs it.")
        else:
            found.append(Loaded(peer.name, importlib.import_module("torch"), peer.make(*modules)))
    return found, missing


def peer_notes(peers: Iterable[Peer], backend: str) -> tuple[str, ...]:
    """What a table says of the peers that it has not: a line each, or one for all on another back end."""
    every = {peer.name: peer for peer in peers}
    if not every:
        return ()
    if backend != BACKEND:
        return (f"{', '.join(every)}: timed on CUDA only, not on {backend}.",)
    return tuple(load_peers(every.values())[1])


class PeerRun:
    """A peer with tensors of its own, which hold the numbers of MLX arrays.

    Parameters
    ----------
    peer : Loaded
        From `load_peers`.
    arguments : sequence of mlx.core.array
        What it is called with.
    positions : sequence of int
        Of those that gradients are taken of; none: the function itself is timed.
    cotangent : mlx.core.array, or tuple of them, optional
        Of the results that are floats, for gradients.
    device : str
        PyTorch's name of where to run.
    """

    def __init__(
        self,
        peer: Loaded,
        arguments: Sequence[Any],
        positions: Sequence[int] = (),
        cotangent: Any = None,
        device: str = "cuda",
    ) -> None:
        self.name = peer.name
        self._torch, self._call, self._device = peer.torch, peer.call, device
        self._positions = tuple(positions)
        self._tensors = [self._tensor(a) for a in arguments]
        self._cotangents = [] if cotangent is None else self._tensors_of(cotangent)
        # Backward passes run again and again here: compiled ones must keep what they need.
        if positions:
            functorch: Any = importlib.import_module("torch._functorch.config")
            functorch.donated_buffer = False

    def _tensor(self, array: Any) -> Any:
        mx = _compat.import_mx()
        if not mx.issubdtype(array.dtype, mx.floating):
            wide = np.asarray(array) if array.dtype == mx.bool_ else np.asarray(array).astype(np.int64)
            return self._torch.from_numpy(wide).to(self._device)  # PyTorch's labels and indices have 64 bits
        dtype = getattr(self._torch, str(array.dtype).rpartition(".")[2])
        # By float32, which NumPy has and which holds every 16-bit number.
        return self._torch.from_numpy(np.array(array.astype(mx.float32))).to(self._device, dtype)

    def _tensors_of(self, cotangent: Any) -> list[Any]:
        return [self._tensor(c) for c in as_tuple(cotangent)]

    def results(self, step: int) -> list[Any]:
        """Every `step`-th row of the function's results, as float64."""
        with self._torch.no_grad():
            return [_numbers(r[::step]) for r in as_tuple(self._call(*self._tensors))]

    def gradients(self, cotangent: Any) -> list[Any]:
        """The gradients for another cotangent, an MLX array or a tuple of them, as float64."""
        return [_numbers(g) for g in self._backward(*self._forward(), self._tensors_of(cotangent))]

    def _forward(self) -> tuple[Any, list[Any]]:
        """The result, with what its gradients need, and the tensors that they are taken of."""
        tensors = [t.clone() for t in self._tensors]
        varied = [tensors[i].requires_grad_() for i in self._positions]
        return self._call(*tensors), varied

    def _backward(self, result: Any, varied: list[Any], cotangent: list[Any]) -> tuple[Any, ...]:
        several = as_tuple(result)
        followed = [r for r in several if len(several) == 1 or r.is_floating_point()]
        gradients: tuple[Any, ...]
        gradients = self._torch.autograd.grad(followed, varied, cotangent, retain_graph=True)
        return gradients

    def stopwatch(self, copies: int, batch: int, lead: int = 0) -> Stopwatch:
        """The seconds of one call, of `batch` that are waited for together, on `copies` sets of tensors in turn.

        Of gradients only the backward pass is timed. Launches are not captured beforehand: PyTorch puts them in a queue
        while the GPU works on the `lead` bytes that it is given to move immediately before. With a lead the GPU's own
        clock is read, before the first call and after the last: what the host takes to begin and to notice the end is
        not in it, as it is not in `zmlx.testing.bench.timing.marginal`, by which MLX's calls are timed. A lead that was
        over before the last call was in the queue is doubled, and the calls are made again: the GPU may have waited for
        one of them.

        As there, each call has results of its own until all are done, and each set of tensors its own cotangent: memory
        that the call before has just written, or read, is faster.
        """
        torch = self._torch
        on_a_gpu = self._device == "cuda"
        source = torch.zeros(LEAD_BYTES // 4, device=self._device) if lead and on_a_gpu else None

        if self._positions:
            given = [(*self._forward(), [c.clone() for c in self._cotangents]) for _ in range(copies)]
            ring = itertools.cycle(given)

            def once() -> Any:
                return self._backward(*next(ring))

        else:
            sets = itertools.cycle([[t.clone() for t in self._tensors] for _ in range(copies)])

            def once() -> Any:
                return self._call(*next(sets))

        def calls() -> list[Any]:
            with torch.set_grad_enabled(bool(self._positions)):
                return [once() for _ in range(batch)]

        def by_the_host() -> float:
            self._wait()
            begin = time.perf_counter()
            results = calls()
            self._wait()
            taken = time.perf_counter() - begin
            del results
            return taken / batch

        moves = math.ceil(lead / (2 * LEAD_BYTES))
        most = moves * LONGEST_LEAD

        def by_the_gpu() -> float:
            nonlocal moves
            begin, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
            while True:
                self._wait()
                for _ in range(moves):
                    torch.neg(source)
                begin.record()
                results = calls()
                waited = begin.query()
                end.record()
                self._wait()
                del results
                if not waited or moves >= most:
                    break
                moves *= 2
            milliseconds: float = begin.elapsed_time(end)
            return milliseconds / 1000 / batch

        return by_the_gpu if source is not None else by_the_host

    def _wait(self) -> None:
        if self._device == "cuda":
            self._torch.cuda.synchronize()


def _numbers(tensor: Any) -> Any:
    return tensor.detach().double().cpu().numpy()
