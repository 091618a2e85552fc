// What Metal's compiler defines by itself (Metal Shading Language Specification, section 1.5), for kernels that ask.
// Included last: the runtime's own headers and the compiler's must not see these names.
//
// The version is Metal 3.2, for which MLX compiles on macOS 15. `__FAST_MATH__` depends on the kernel's math_mode and
// stands in front of its text.
#pragma once

#define __METAL__ 1
#define __METAL_VERSION__ 320
#define __METAL_MACOS__ 1
#define __HAVE_BFLOAT__ 1
