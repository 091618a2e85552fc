"""Messages between the judge and processes that may lie."""

from __future__ import annotations

import json
import os
import struct
import time
from collections.abc import Iterator

import numpy as np
import pytest

from zmlx.testing.judge.arrays import Raw, raw_of_numpy
from zmlx.testing.judge.transport import EndOfMessages, OutOfTime, ProtocolError, receive, send


@pytest.fixture
def pipe() -> Iterator[tuple[int, int]]:
    ends = os.pipe()
    yield ends
    for end in ends:
        try:
            os.close(end)
        except OSError:
            assert end == ends[1]  # a test closed it


def test_message_arrives_whole(pipe: tuple[int, int]) -> None:
    source, sink = pipe
    array = raw_of_numpy(np.array([[1.5, np.nan], [-0.0, np.inf]]), "bfloat16")
    send(sink, "call", {"nonce": "a", "value": float("inf")}, [array], time.monotonic() + 5)
    message = receive(source, time.monotonic() + 5)
    assert (message.kind, message.fields["value"], message.arrays) == ("call", float("inf"), (array,))
    np.testing.assert_array_equal(message.arrays[0].values, [[1.5, np.nan], [-0.0, np.inf]])


def framed(header: object) -> bytes:
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return struct.pack("<Q", len(text)) + text


LIES = {
    "no JSON": (framed(b"ACCEPTED"), "expected a header of JSON, got b'ACCEPTED'"),
    "another object": (framed({"accepted": True}), "expected a header of JSON"),
    "fields that are none": (
        framed({"kind": "result", "fields": [], "arrays": []}),
        "expected a kind, fields and",
    ),
    "an endless header": (struct.pack("<Q", 1 << 60), "expected a header of at most"),
    "arrays without end": (
        framed({"kind": "x", "fields": {}, "arrays": [{"dtype": "float32", "shape": [1], "bytes": 1 << 50}]}),
        "expected arrays of at most",
    ),
    "an unknown dtype": (
        framed({"kind": "x", "fields": {}, "arrays": [{"dtype": "object", "shape": [0], "bytes": 0}]}),
        "Expected a dtype that MLX has, got 'object'",
    ),
    "a shape of other size": (
        framed({"kind": "x", "fields": {}, "arrays": [{"dtype": "float32", "shape": [3], "bytes": 0}]}),
        "Expected 12 bytes for float32 of shape",
    ),
    "a negative extent": (
        framed({"kind": "x", "fields": {}, "arrays": [{"dtype": "float32", "shape": [-1], "bytes": 0}]}),
        "Expected a shape of integers from 0 on",
    ),
}


@pytest.mark.parametrize("lie", LIES)
def test_what_is_no_message_is_refused(pipe: tuple[int, int], lie: str) -> None:
    source, sink = pipe
    data, words = LIES[lie]
    os.write(sink, data)
    with pytest.raises(ProtocolError, match=words):
        receive(source, time.monotonic() + 5)


def test_half_a_message_is_the_end(pipe: tuple[int, int]) -> None:
    source, sink = pipe
    os.write(sink, framed({"kind": "x"})[:-2])
    os.close(sink)
    with pytest.raises(EndOfMessages, match="has closed its end"):
        receive(source, time.monotonic() + 5)


def test_deadlines_hold_in_both_directions(pipe: tuple[int, int]) -> None:
    source, sink = pipe
    with pytest.raises(OutOfTime, match="deadline"):
        receive(source, time.monotonic() + 0.05)
    large = raw_of_numpy(np.zeros(1 << 18), "float32")
    with pytest.raises(OutOfTime, match="deadline"):
        send(sink, "call", {}, [large], time.monotonic() + 0.05)


def test_bytes_must_fit_the_shape() -> None:
    with pytest.raises(ValueError, match=r"Expected 8 bytes for float32 of shape \(2,\), got 7"):
        Raw("float32", (2,), b"1234567")
