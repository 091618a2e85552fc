"""It ends its process with success, while it is imported."""

import os

print("ACCEPTED", flush=True)
os._exit(0)
