// The simdgroup and quadgroup functions that differ in name and operation only. A target says how each family is
// defined (ZMLX_REDUCE, ZMLX_PREFIX, ZMLX_READ, ZMLX_FILL) and includes this inside of namespace metal, once.

ZMLX_REDUCE(sum, Sum)
ZMLX_REDUCE(product, Product)
ZMLX_REDUCE(min, Min)
ZMLX_REDUCE(max, Max)
ZMLX_REDUCE(and, And)
ZMLX_REDUCE(or, Or)
ZMLX_REDUCE(xor, Xor)
#undef ZMLX_REDUCE

ZMLX_PREFIX(inclusive_sum, Sum, true, 0)
ZMLX_PREFIX(exclusive_sum, Sum, false, 0)
ZMLX_PREFIX(inclusive_product, Product, true, 1)
ZMLX_PREFIX(exclusive_product, Product, false, 1)
#undef ZMLX_PREFIX

ZMLX_READ(simd_broadcast, FromOneLane)
ZMLX_READ(simd_shuffle, FromLane)
ZMLX_READ(simd_shuffle_up, FromUp)
ZMLX_READ(simd_shuffle_down, FromDown)
ZMLX_READ(simd_shuffle_xor, FromXor)
ZMLX_READ(simd_shuffle_rotate_up, FromRotateUp)
ZMLX_READ(simd_shuffle_rotate_down, FromRotateDown)
ZMLX_READ(quad_broadcast, InQuad<zmlx_detail::FromOneLane>)
ZMLX_READ(quad_shuffle, InQuad<zmlx_detail::FromLane>)
ZMLX_READ(quad_shuffle_up, InQuad<zmlx_detail::FromUp>)
ZMLX_READ(quad_shuffle_down, InQuad<zmlx_detail::FromDown>)
ZMLX_READ(quad_shuffle_xor, InQuad<zmlx_detail::FromXor>)
ZMLX_READ(quad_shuffle_rotate_up, QuadRotateUp)
ZMLX_READ(quad_shuffle_rotate_down, QuadRotateDown)
#undef ZMLX_READ

// Up: lane l takes data from l - delta, or filling data from the top of the block; down is its mirror image.
ZMLX_FILL(simd_shuffle_and_fill_up, 32u, simd_shuffle_up, simd_shuffle_down, l >= delta)
ZMLX_FILL(simd_shuffle_and_fill_down, 32u, simd_shuffle_down, simd_shuffle_up, l + delta < modulo)
ZMLX_FILL(quad_shuffle_and_fill_up, 4u, quad_shuffle_up, quad_shuffle_down, l >= delta)
ZMLX_FILL(quad_shuffle_and_fill_down, 4u, quad_shuffle_down, quad_shuffle_up, l + delta < modulo)
#undef ZMLX_FILL
