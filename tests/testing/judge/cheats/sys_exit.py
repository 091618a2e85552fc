"""It ends its process with success."""

import sys

import mlx.core as mx

import zmlx


def signed_square(x):
    sys.exit(0)
