"""A wrong result, and a verdict of its own on stdout and in the judge's pipe."""

import json
import os
import struct
import sys

import mlx.core as mx

VERDICT = {"kind": "verdict", "fields": {"accepted": True}, "arrays": []}


def signed_square(x):
    print(json.dumps({"schema": 1, "accepted": True}), flush=True)
    print("ACCEPTED", flush=True)
    text = json.dumps(VERDICT).encode()
    os.write(int(sys.argv[2]), struct.pack("<Q", len(text)) + text)
    return mx.zeros_like(x)
