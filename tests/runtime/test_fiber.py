"""Switching between fibers: what one of them keeps in registers is its own, whatever the other does with them."""

from __future__ import annotations

import ctypes
from dataclasses import dataclass

import numpy as np
import pytest
from cxx import EXPORT, compile_library, macros

pytestmark = pytest.mark.cpu


@dataclass(frozen=True)
class Registers:
    """A class of registers: how many it has, the macro of machines that have it, the type that it holds, the
    constraint by which inline assembly asks for one, and how a value gets from an integer register and back."""

    count: int
    macro: str
    type: str
    constraint: str
    there: str
    back: str


CLASSES = {
    "x86 integers": Registers(16, "__x86_64__", "long", "r", "mov %1, %0", "mov %1, %0"),
    "x86 vectors": Registers(16, "__AVX__", "double", "x", "vmovq %1, %0", "vmovq %1, %0"),
    "x86 upper vectors": Registers(32, "__AVX512F__", "double", "v", "vmovq %1, %0", "vmovq %1, %0"),
    "x86 masks": Registers(8, "__AVX512BW__", "int", "k", "kmovd %k1, %0", "kmovd %1, %k0"),
    "arm64 integers": Registers(31, "__aarch64__", "long", "r", "mov %0, %1", "mov %0, %1"),
    "arm64 vectors": Registers(32, "__aarch64__", "double", "w", "fmov %d0, %1", "fmov %0, %d1"),
}

TEXT = """
#include "host/fiber.h"
static zmlx::Context here, there;
alignas(64) static char stack[1 << 16];
inline __attribute__((always_inline)) long keep(long first, zmlx::Context& from, zmlx::Context& to) {
FILL
  zmlx::switch_context(from, to);
  long sum = 0, value;
ADD
  return sum;
}
// The other fiber, which has numbers of its own in the same registers.
static void other() {
  for (long i = 0;; ++i) asm volatile("" ::"r"(keep(-1000 * i, there, here)));
}
EXPORT void kept(long n, long* out) {
  zmlx::MainContext scheduler;
  here = scheduler.context();
  there = zmlx::make_context(stack + sizeof(stack), other);
  for (long i = 0; i < n; ++i) out[i] = keep(100 * i, here, there);
}
"""


@pytest.mark.parametrize("name", CLASSES)
def test_a_fiber_keeps_its_registers(name: str) -> None:
    """All registers of a class have a value when the fiber is left, and so have they when it is switched back to."""
    registers = CLASSES[name]
    if registers.macro not in macros():
        pytest.skip(f"the compiler makes no code for {name} here")
    fill = "".join(
        f'  {registers.type} v{i}; asm volatile("{registers.there}" : "={registers.constraint}"(v{i}) '
        f': "r"(first + {i}));\n'
        for i in range(registers.count)
    )
    add = "".join(
        f'  asm volatile("{registers.back}" : "=r"(value) : "{registers.constraint}"(v{i})); sum += int(value);\n'
        for i in range(registers.count)
    )
    text = TEXT.replace("FILL", fill).replace("ADD", add).replace("EXPORT", EXPORT)
    rounds = 5
    out = np.zeros(rounds, np.int64)
    library = ctypes.CDLL(str(compile_library(text)))
    library.kept(ctypes.c_long(rounds), ctypes.c_void_p(out.ctypes.data))
    expected = [sum(100 * i + k for k in range(registers.count)) for i in range(rounds)]
    assert out.tolist() == expected
