"""It takes all the memory it can get."""

import mlx.core as mx

import zmlx


HELD = []


def signed_square(x):
    while True:
        HELD.append(bytearray(64 << 20))
