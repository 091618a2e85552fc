"""It takes all the memory it can get."""

HELD = []


def signed_square(x):
    while True:
        HELD.append(bytearray(64 << 20))
