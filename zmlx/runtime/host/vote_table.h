// The functions by which lanes vote: what each answers lane `l`, from the active lanes and those that said yes. Who
// includes this says how they are defined: ZMLX_ASK takes a bool, ZMLX_COUNT counts who is there.

ZMLX_ASK(simd_ballot, simd_vote, simd_vote(yes))
ZMLX_ASK(simd_all, bool, yes == active)
ZMLX_ASK(simd_any, bool, yes != 0)
ZMLX_ASK(quad_ballot, quad_vote, quad_vote(yes >> (l & ~3u) & 0xfu))
ZMLX_ASK(quad_all, bool, zmlx_detail::quad_mask(l, yes) == zmlx_detail::quad_mask(l, active))
ZMLX_ASK(quad_any, bool, zmlx_detail::quad_mask(l, yes) != 0)
#undef ZMLX_ASK

ZMLX_COUNT(simd_active_threads_mask, simd_vote, simd_vote(active))
ZMLX_COUNT(simd_is_first, bool, zmlx::lowest(active) == l)
ZMLX_COUNT(quad_active_threads_mask, quad_vote, quad_vote(active >> (l & ~3u) & 0xfu))
ZMLX_COUNT(quad_is_first, bool, zmlx::lowest(zmlx_detail::quad_mask(l, active)) == l)
#undef ZMLX_COUNT
