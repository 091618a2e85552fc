"""Peers of the kernels: the formula compiled by PyTorch, and Liger's kernels for Triton."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from zmlx.testing.rivals import Peer


def torch_compiled(formula: Callable[..., Any]) -> Peer:
    """``formula(torch, *tensors)`` under `torch.compile`."""

    def make(torch: Any) -> Callable[..., Any]:
        # All formulas are one function to the compiler, which gives up after some variants of one.
        torch.compiler.reset()
        compiled: Callable[..., Any]
        compiled = torch.compile(lambda *tensors: formula(torch, *tensors), fullgraph=True, dynamic=False)
        return compiled

    return Peer("torch.compile", ("torch",), make)


def liger(module: str, function: str, *fixed: Any) -> Peer:
    """``liger_kernel.ops.<module>.<function>``, an autograd function, with `fixed` after its tensors."""

    def make(ops: Any) -> Callable[..., Any]:
        apply = getattr(ops, function).apply
        return lambda *tensors: apply(*tensors, *fixed)

    return Peer("Liger", (f"liger_kernel.ops.{module}",), make)
