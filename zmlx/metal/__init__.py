"""Metal text as data.

In: a kernel's header and body, as their author wrote them. Out: tokens, brackets, statements, macros, declarations
(`Program`), and the function that MLX generates around a body (`Signature`). Everything that is read stays: joined
again, the tokens give the text back. Must not know: C++, compilers, MLX; it never runs anything.
"""
