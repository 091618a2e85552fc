"""It ends its process with success, while it is imported."""

import os

import mlx.core as mx

import zmlx


print("ACCEPTED", flush=True)
os._exit(0)
