"""Files from templates: a project of one's own, a kernel with its OpInfo, and the tables of the documentation.

In: names. Out: files, none of which replaces one that is there. Must not know: MLX, or how anything of it is run.
"""
