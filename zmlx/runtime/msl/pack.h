// Pack and unpack functions: normalised numbers of 8 or 16 bits, or of 10 and 2, in a uint. The first component has the
// lowest bits. Numbers out of range are clamped, and NaN becomes 0. Those of sRGB and of 5 and 6 bits are missing.
#pragma once

#include "msl/math.h"

namespace metal {
namespace detail {

// Bits of the component `i` of `N`: of ten, the last has only two.
template <int Bits, int N>
ZMLX_FN constexpr int bits_of_component(int i) {
  return Bits == 10 && i == N - 1 ? 2 : Bits;
}

template <int Bits, int N, bool Signed, class T>
ZMLX_FN vec<T, N> unpacked(uint word) {
  vec<T, N> result;
  for (int i = 0; i < N; ++i) {
    const int bits = bits_of_component<Bits, N>(i);
    const uint raw = word >> (i * Bits) << (32 - bits);
    const float number = Signed ? static_cast<float>(static_cast<int>(raw) >> (32 - bits))
                                : static_cast<float>(raw >> (32 - bits));
    const float most = static_cast<float>((1u << (bits - (Signed ? 1 : 0))) - 1u);
    result[i] = static_cast<T>(fmax(number / most, -1.0f));
  }
  return result;
}

template <int Bits, bool Signed, class T, int N>
ZMLX_FN uint packed(vec<T, N> value) {
  uint word = 0;
  for (int i = 0; i < N; ++i) {
    const int bits = bits_of_component<Bits, N>(i);
    const float given = static_cast<float>(value[i]);
    const float number = isnan(given) ? 0.0f : clamp(given, Signed ? -1.0f : 0.0f, 1.0f);
    const float most = static_cast<float>((1u << (bits - (Signed ? 1 : 0))) - 1u);
    word |= (static_cast<uint>(static_cast<int>(rint(number * most))) & ((1u << bits) - 1u)) << (i * Bits);
  }
  return word;
}

}  // namespace detail

#define ZMLX_PACK_OF(kind, name, bits, lanes, is_signed)                                                \
  ZMLX_FN vec<kind, lanes> unpack_##name##_to_##kind(uint x) {                                          \
    return detail::unpacked<bits, lanes, is_signed, kind>(x);                                           \
  }                                                                                                     \
  ZMLX_FN uint pack_##kind##_to_##name(vec<kind, lanes> x) { return detail::packed<bits, is_signed>(x); }
#define ZMLX_PACK(name, bits, lanes, is_signed)          \
  ZMLX_PACK_OF(float, name, bits, lanes, is_signed)      \
  ZMLX_PACK_OF(half, name, bits, lanes, is_signed)
ZMLX_PACK(unorm4x8, 8, 4, false)
ZMLX_PACK(snorm4x8, 8, 4, true)
ZMLX_PACK(unorm2x16, 16, 2, false)
ZMLX_PACK(snorm2x16, 16, 2, true)
ZMLX_PACK(unorm10a2, 10, 4, false)
#undef ZMLX_PACK
#undef ZMLX_PACK_OF

}  // namespace metal
