// What Metal's compiler defines by itself (Metal Shading Language Specification, section 1.6.2), for kernels that ask.
// Included last: the runtime's own headers and the compiler's must not see these names.
//
// The version is Metal 3.2, for which MLX compiles on macOS 15. From Metal 3 on there is `__METAL__`, and no
// `__METAL_MACOS__`. Of the `__HAVE_...__` of Metal's headers those are here whose features are: textures, ray tracing
// and tensors count as absent. `__FAST_MATH__` depends on the kernel's math_mode and stands in front of its text.
#pragma once

#define __METAL__ 1
#define __METAL_VERSION__ 320
#define __AIR64__ 1
#define __HAVE_BFLOAT__ 1
#define __HAVE_COHERENT__ 1
#define __HAVE_QUADGROUP__ 1
#define __HAVE_QUADGROUP_BALLOT__ 1
#define __HAVE_QUADGROUP_REDUCTION__ 1
#define __HAVE_SIMDGROUP__ 1
#define __HAVE_SIMDGROUP_BALLOT__ 1
#define __HAVE_SIMDGROUP_MATRIX__ 1
#define __HAVE_SIMDGROUP_REDUCTION__ 1

// Metal's compiler is a clang. Conditions that ask for features are answered by the translation (metal/conditions.py);
// these are for macros that do. Some releases of NVRTC have them already, and refuse them again.
#if !defined(__clang__)
#define __clang__ 1
#endif
#if !defined(__has_feature)
#define __has_feature(feature) 0
#endif
#if !defined(__has_extension)
#define __has_extension(extension) 0
#endif
