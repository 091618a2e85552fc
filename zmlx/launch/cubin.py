"""What a CUBIN, which is an ELF file, says of its kernel."""

from __future__ import annotations

import struct

#: Offsets in the header of a 64-bit ELF file: where the section headers are, how long one is, how many there are, and
#: which one holds their names.
_SECTIONS, _SIZES = 0x28, 0x3A
#: In a section header: its name, and its size.
_NAME, _SIZE, _OFFSET = 0x00, 0x20, 0x18


#: Of shared memory the system has this for itself, from compute capability 9.0 on, and NVRTC counts it in.
_RESERVED, _RESERVED_SINCE = 1024, 90


def shared_bytes(code: bytes, entry: str, capability: int) -> int:
    """The bytes of shared memory that the kernel ``entry`` declares; 0 for PTX, which does not say.

    ``capability`` is the number of the architecture that it is compiled for, 90 for ``"sm_90"``.
    """
    size = _section_size(code, f".nv.shared.{entry}")
    return max(size - _RESERVED, 0) if capability >= _RESERVED_SINCE else size


def _section_size(code: bytes, section: str) -> int:
    if code[:4] != b"\x7fELF":
        return 0
    (start,) = struct.unpack_from("<Q", code, _SECTIONS)
    length, count, names = struct.unpack_from("<HHH", code, _SIZES)
    headers = [start + index * length for index in range(count)]
    (names_at,) = struct.unpack_from("<Q", code, headers[names] + _OFFSET)
    wanted = section.encode() + b"\0"
    for header in headers:
        (name,) = struct.unpack_from("<I", code, header + _NAME)
        if code.startswith(wanted, names_at + name):
            size: int = struct.unpack_from("<Q", code, header + _SIZE)[0]
            return size
    return 0
