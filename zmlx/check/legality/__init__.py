"""What Metal's compiler refuses: a type check by a front end that knows address spaces (libclang, an extra).

`text` writes a kernel as C++ for OpenCL, whose address spaces are Metal's; `front_end` has libclang parse it;
`rules` says which of its complaints are Metal's too, with the paragraph that says so (`sections`), those of implicit
conversions by `conversions`; `judge` puts them together with what the front end cannot see (`zmlx.metal.words`).
"""
