"""Messages through pipes: a header of JSON, then arrays as bytes. Nothing that is read is ever executed.

The other side may be a process that lies: a message that is not one is a `ProtocolError`, whatever is wrong with it.
"""

from __future__ import annotations

import json
import os
import select
import struct
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from zmlx.testing.judge.arrays import Raw

_LENGTH = struct.Struct("<Q")
MAX_HEADER = 16 << 20


class ProtocolError(ValueError):
    """What came is no message of this protocol; the text says what was expected."""


class EndOfMessages(EOFError):
    """The other side has closed its end."""


class OutOfTime(TimeoutError):
    """The deadline passed before a whole message came."""


@dataclass(frozen=True)
class Message:
    """One message: what kind it is, its fields, and its arrays."""

    kind: str
    fields: dict[str, Any]
    arrays: tuple[Raw, ...] = ()


def send(
    descriptor: int,
    kind: str,
    fields: dict[str, Any],
    arrays: Sequence[Raw] = (),
    deadline: float | None = None,
) -> None:
    """Write a message to a pipe.

    Raises
    ------
    OutOfTime
        The other side has not read it by `deadline` (of `time.monotonic`).
    OSError
        The other side has closed its end.
    """
    about = [{"dtype": a.dtype, "shape": a.shape, "bytes": len(a.data)} for a in arrays]
    header = json.dumps({"kind": kind, "fields": fields, "arrays": about}).encode()
    left = memoryview(b"".join([_LENGTH.pack(len(header)), header, *(a.data for a in arrays)]))
    while left:
        _wait(descriptor, deadline, writing=True)
        # No more than a pipe takes at once, so that a deadline holds although the pipe blocks.
        left = left[os.write(descriptor, left[:4096] if deadline is not None else left) :]


def receive(descriptor: int, deadline: float | None = None, max_bytes: int = 4 << 30) -> Message:
    """Read the next message from a pipe.

    Raises
    ------
    EndOfMessages
        The other side has closed its end.
    OutOfTime
        It has not come by `deadline` (of `time.monotonic`).
    ProtocolError
        What came is no message, or has more than `max_bytes`.
    """
    (length,) = _LENGTH.unpack(_read(descriptor, _LENGTH.size, deadline))
    if length > MAX_HEADER:
        raise ProtocolError(f"expected a header of at most {MAX_HEADER} bytes, got one of {length}")
    text = _read(descriptor, length, deadline)
    try:
        header = json.loads(text)
        kind, fields, about = header["kind"], header["fields"], header["arrays"]
        sizes = [(str(a["dtype"]), tuple(a["shape"]), int(a["bytes"])) for a in about]
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise ProtocolError(f"expected a header of JSON, got {text[:60]!r} ({error})") from error
    if not isinstance(kind, str) or not isinstance(fields, dict) or any(n < 0 for *_, n in sizes):
        raise ProtocolError(f"expected a kind, fields and arrays, got {text[:60]!r}")
    if sum(n for *_, n in sizes) > max_bytes:
        raise ProtocolError(f"expected arrays of at most {max_bytes} bytes")
    arrays = []
    for dtype, shape, size in sizes:
        data = _read(descriptor, size, deadline)
        try:
            arrays.append(Raw(dtype, shape, data))
        except (ValueError, TypeError, OverflowError) as error:
            raise ProtocolError(str(error)) from error
    return Message(kind, fields, tuple(arrays))


def _read(descriptor: int, count: int, deadline: float | None) -> bytes:
    parts: list[bytes] = []
    while count:
        _wait(descriptor, deadline, writing=False)
        part = os.read(descriptor, min(count, 1 << 20))
        if not part:
            raise EndOfMessages("the other side has closed its end of the pipe")
        parts.append(part)
        count -= len(part)
    return b"".join(parts)


def _wait(descriptor: int, deadline: float | None, *, writing: bool) -> None:
    if deadline is None:
        return
    ready = select.poll()
    ready.register(descriptor, select.POLLOUT if writing else select.POLLIN)
    if not ready.poll(max(0.0, deadline - time.monotonic()) * 1000):
        raise OutOfTime("the deadline has passed")
