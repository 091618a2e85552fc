"""From a Metal kernel to C++: one flat list of passes a target, and what runs them.

====================  =============================================================================================
pipeline              its C++ is
====================  =============================================================================================
``host-loop``         run for one thread after the other; the compiler vectorises (threads never meet)
``host-regions``      a function of the whole threadgroup: loops over the threads from one meeting point to the next
``host-fibers``       run for threads that wait for each other, each on a stack of its own
``checked``           the same, instrumented by the compiler and watched by the checker
``cuda``              a kernel for NVRTC
====================  =============================================================================================

``ZMLX_DUMP=<folder>`` writes what each pass makes of a kernel; see dump.py. Tests prove between passes what every pass
promises; see verify.py.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Literal

from zmlx.metal.signature import KernelSource, Signature
from zmlx.metal.tokens import code_names
from zmlx.translate import dump, verify
from zmlx.translate.convergence import uses_lanes
from zmlx.translate.passes import (
    ADDRESS_SPACES,
    ATTRIBUTES,
    BRANCHES,
    CONDITIONALS,
    CONSTANTS,
    CONVERGENCE,
    CONVERSIONS,
    ENTRIES,
    EXPAND_MACROS,
    INCLUDES,
    INLINE_FUNCTIONS,
    LIBRARY,
    LITERALS,
    OVERLOADS,
    PRAGMAS,
    REFUSE,
    REGIONS,
    SHIFTS,
    SWIZZLES,
    Pass,
)
from zmlx.translate.regions import GROUP_BARRIER
from zmlx.translate.unit import KnownTypes, Translation, Unit, known_types, may_use_small_floats

Target = Literal["host", "cuda"]
Pipeline = Literal["host-loop", "host-regions", "host-fibers", "checked", "cuda"]

HOST_LOOP = (
    BRANCHES,
    ENTRIES,
    REFUSE,
    LIBRARY,
    PRAGMAS,
    ATTRIBUTES,
    CONSTANTS,
    ADDRESS_SPACES,
    SHIFTS,
    LITERALS,
    SWIZZLES,
    CONDITIONALS,
    OVERLOADS,
    CONVERSIONS,
    INCLUDES,
)
HOST_REGIONS = (
    BRANCHES,
    ENTRIES,
    EXPAND_MACROS,
    INLINE_FUNCTIONS,
    REFUSE,
    LIBRARY,
    PRAGMAS,
    ATTRIBUTES,
    CONSTANTS,
    ADDRESS_SPACES,
    SHIFTS,
    LITERALS,
    SWIZZLES,
    CONDITIONALS,
    OVERLOADS,
    CONVERSIONS,
    INCLUDES,
    REGIONS,
)
HOST_FIBERS = (
    BRANCHES,
    ENTRIES,
    REFUSE,
    LIBRARY,
    PRAGMAS,
    ATTRIBUTES,
    CONSTANTS,
    ADDRESS_SPACES,
    SHIFTS,
    LITERALS,
    SWIZZLES,
    CONDITIONALS,
    OVERLOADS,
    CONVERSIONS,
    INCLUDES,
    CONVERGENCE,
)
CHECKED = (
    BRANCHES,
    ENTRIES,
    REFUSE,
    LIBRARY,
    PRAGMAS,
    ATTRIBUTES,
    CONSTANTS,
    ADDRESS_SPACES,
    SHIFTS,
    LITERALS,
    SWIZZLES,
    CONDITIONALS,
    OVERLOADS,
    CONVERSIONS,
    INCLUDES,
    CONVERGENCE,
)
CUDA = (
    BRANCHES,
    ENTRIES,
    REFUSE,
    LIBRARY,
    PRAGMAS,
    ATTRIBUTES,
    CONSTANTS,
    ADDRESS_SPACES,
    SHIFTS,
    LITERALS,
    SWIZZLES,
    CONDITIONALS,
    OVERLOADS,
    INCLUDES,
)

PIPELINES: dict[Pipeline, tuple[Pass, ...]] = {
    "host-loop": HOST_LOOP,
    "host-regions": HOST_REGIONS,
    "host-fibers": HOST_FIBERS,
    "checked": CHECKED,
    "cuda": CUDA,
}


@lru_cache(maxsize=4096)
def run(
    kernel: KernelSource, pipeline: Pipeline, small_floats: bool = True, known: KnownTypes = ()
) -> Translation:
    """Translate a kernel by the passes of a pipeline.

    Parameters
    ----------
    kernel, pipeline
        What to translate, and by which of `PIPELINES`.
    small_floats
        Whether half or bfloat may occur. Kernels without them keep their conditionals as they are.
    known
        What is known of the body's template arguments and outputs; see `zmlx.translate.unit.known_types`.

    Raises
    ------
    zmlx.metal.statements.Unclear
        ``host-regions`` only: the kernel cannot be taken apart; as fibers it may run all the same.
    TranslationError
        The source uses something that exists only on Metal.
    """
    unit = Unit(kernel, "cuda" if pipeline == "cuda" else "host", small_floats, known)
    writer = dump.writer(unit, pipeline)
    writer("metal", unit)
    promised = verify.promises(unit)
    for step in PIPELINES[pipeline]:
        step.run(unit)
        promised = verify.check(promised, unit, step.name, step.moves_lines, step.moves_brackets)
        writer(step.name, unit)
    return unit.finish()


#: One of these is in every name that threads meet by, or `##` makes it.
_SIGNS_OF_MEETING = (GROUP_BARRIER, "simd", "quad_", "##")


def may_meet(kernel: KernelSource) -> bool:
    """Whether `meeting` has to look; quickly told, and rightly where it is False."""
    return any(sign in text for text in (kernel.source, kernel.header) for sign in _SIGNS_OF_MEETING)


def meeting(kernel: KernelSource) -> tuple[bool, bool]:
    """Whether a kernel has threadgroup barriers, and simd operations or barriers, that it reaches."""
    if not may_meet(kernel):
        return False, False
    texts = (kernel.header, kernel.source)
    # Most have none, and that is quickly seen; macros may paste names together.
    named = (name == GROUP_BARRIER or uses_lanes(name) for text in texts for name in code_names(text))
    if not any("##" in text for text in texts) and not any(named):
        return False, False
    unit = Unit(kernel, "host", True)
    BRANCHES.run(unit)
    return unit.uses_barrier, unit.uses_lanes


def run_signature(signature: Signature, pipeline: Pipeline) -> Translation:
    """Translate the kernel of a signature by all that the signature tells of it; errors are those of `run`."""
    return run(signature.kernel, pipeline, may_use_small_floats(signature), known_types(signature))


def translate(kernel: KernelSource, target: Target, small_floats: bool = True) -> Translation:
    """Rewrite a kernel for the host's C++ compiler (thread by thread) or for NVRTC.

    Arguments and errors are those of `run`; ``"host"`` is ``host-fibers``, which makes of a kernel whose threads never
    meet what ``host-loop`` does.
    """
    return run(kernel, "host-fibers" if target == "host" else "cuda", small_floats)
