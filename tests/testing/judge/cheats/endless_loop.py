"""It never answers."""

import mlx.core as mx

import zmlx


def signed_square(x):
    while True:
        pass
