"""From Metal to portable C++, for the host's compiler and for NVRTC.

In: a kernel's two texts (`zmlx.metal`). Out: the same texts as C++, rewritten token by token so that every line stays
where its author put it, and what they need (`Translation`). pipeline.py lists the passes of each target. Must not know:
arrays, launches, or which compiler there is; what C++ cannot say is declared by the headers in ``runtime/``.
"""

from zmlx.translate.pipeline import translate
from zmlx.translate.unit import Translation

__all__ = ["Translation", "translate"]
