"""It never answers."""


def signed_square(x):
    while True:
        pass
