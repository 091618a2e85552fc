"""The agreement report as text, Markdown, JSON and HTML.

In: a `Comparison`. Out: tables and pages. Must not know: MLX, or how the values were had; it runs on a machine that has
neither a GPU nor MLX.
"""
