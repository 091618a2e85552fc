"""The matrix of nox sessions: one suite on every back end, each in an environment with the right MLX wheel.

In: a noxfile, this machine. Out: sessions. `host` chooses wheel and workers and knows no nox; `environment` installs
and proves the back end; `matrix` has what sessions run; `project` defines them for anyone's noxfile. Works where nox
alone is installed: zmlx's own noxfile.py puts its checkout on the path. Must not know: MLX, NumPy, other folders.
"""
