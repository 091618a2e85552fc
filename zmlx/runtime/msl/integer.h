// <metal_integer>: for the integer types, scalars and vectors. abs, min, max, clamp and their kin are in
// msl/math.h.
//
// Metal leaves x / 0 and x % 0 open and takes shift amounts modulo the width of the type. Vectors do so here;
// the shift of a scalar is the C++ compiler's own.
#pragma once

#include "msl/math.h"

namespace metal {
namespace detail {

template <class T>
constexpr int bit_width() {
  return static_cast<int>(sizeof(T) * 8);
}
template <class T>
using wide_t = conditional_t<has_sign<T>(), long, ulong>;

template <class J, class V = vector_of_t<J>>
struct to_integer : enable_if<is_integer<element_t<V>>(), V> {};
template <class J>
struct to_integer<J, void> : enable_if<is_integer<J>(), J> {};
template <class... A>
using integer_t = typename to_integer<joined_t<A...>>::type;

template <class R, class V = vector_of_t<R>>
struct to_unsigned {
  using type = vec<make_unsigned_t<element_t<V>>, V::zmlx_lanes()>;
};
template <class R>
struct to_unsigned<R, void> {
  using type = make_unsigned_t<R>;
};

struct popcount_op {
  template <class T>
  static ZMLX_FN T call(T x) {
    const ulong bits = static_cast<make_unsigned_t<T>>(x);
#if defined(ZMLX_CUDA)
    return static_cast<T>(sizeof(T) == 8 ? ::__popcll(bits) : ::__popc(static_cast<uint>(bits)));
#else
    return static_cast<T>(sizeof(T) == 8 ? __builtin_popcountl(bits)
                                         : __builtin_popcount(static_cast<uint>(bits)));
#endif
  }
};

// Both count the whole width for 0.
struct clz_op {
  template <class T>
  static ZMLX_FN T call(T x) {
    const ulong bits = static_cast<make_unsigned_t<T>>(x);
#if defined(ZMLX_CUDA)
    const int zeros = ::__clzll(static_cast<long long>(bits));
#else
    const int zeros = bits == 0 ? 64 : __builtin_clzl(bits);
#endif
    return static_cast<T>(zeros - (64 - bit_width<T>()));
  }
};
struct ctz_op {
  template <class T>
  static ZMLX_FN T call(T x) {
    const ulong bits = static_cast<make_unsigned_t<T>>(x);
#if defined(ZMLX_CUDA)
    return static_cast<T>(bits == 0 ? bit_width<T>() : ::__ffsll(static_cast<long long>(bits)) - 1);
#else
    return static_cast<T>(bits == 0 ? bit_width<T>() : __builtin_ctzl(bits));
#endif
  }
};

struct reverse_bits_op {
  template <class T>
  static ZMLX_FN T call(T x) {
    using U = make_unsigned_t<T>;
#if defined(ZMLX_CUDA)
    const ulong reversed = ::__brevll(static_cast<U>(x));
    return static_cast<T>(reversed >> (64 - bit_width<T>()));
#else
    U v = static_cast<U>(x);
    v = static_cast<U>((v >> 1 & static_cast<U>(0x5555555555555555ul)) |
                       (v & static_cast<U>(0x5555555555555555ul)) << 1);
    v = static_cast<U>((v >> 2 & static_cast<U>(0x3333333333333333ul)) |
                       (v & static_cast<U>(0x3333333333333333ul)) << 2);
    v = static_cast<U>((v >> 4 & static_cast<U>(0x0f0f0f0f0f0f0f0ful)) |
                       (v & static_cast<U>(0x0f0f0f0f0f0f0f0ful)) << 4);
    if constexpr (sizeof(T) == 2) {
      v = static_cast<U>(v >> 8 | v << 8);
    } else if constexpr (sizeof(T) == 4) {
      v = __builtin_bswap32(v);
    } else if constexpr (sizeof(T) == 8) {
      v = __builtin_bswap64(v);
    }
    return static_cast<T>(v);
#endif
  }
};

// The upper half of the product.
struct mulhi_op {
  template <class T>
  static ZMLX_FN T call(T x, T y) {
    if constexpr (sizeof(T) < 8) {
      return static_cast<T>(static_cast<wide_t<T>>(x) * static_cast<wide_t<T>>(y) >> bit_width<T>());
    } else {
#if defined(ZMLX_CUDA)
      if constexpr (has_sign<T>()) {
        return ::__mul64hi(x, y);
      } else {
        return ::__umul64hi(x, y);
      }
#else
      using W = conditional_t<has_sign<T>(), __int128, unsigned __int128>;
      return static_cast<T>(static_cast<W>(x) * static_cast<W>(y) >> 64);
#endif
    }
  }
};
struct madhi_op {
  template <class T>
  static ZMLX_FN T call(T x, T y, T z) {
    using U = make_unsigned_t<T>;
    return static_cast<T>(static_cast<U>(static_cast<U>(mulhi_op::call(x, y)) + static_cast<U>(z)));
  }
};

// Metal reads the low 24 bits of each factor.
struct mul24_op {
  template <class T>
  static ZMLX_FN T call(T x, T y) {
    static_assert(same<T, int>() || same<T, uint>(), "mul24 and mad24 exist for int and uint");
    if constexpr (has_sign<T>()) {
      const uint product = static_cast<uint>(static_cast<int>(static_cast<uint>(x) << 8) >> 8) *
                           static_cast<uint>(static_cast<int>(static_cast<uint>(y) << 8) >> 8);
      return static_cast<int>(product);
    } else {
      return (x & 0xffffffu) * (y & 0xffffffu);
    }
  }
};
struct mad24_op {
  template <class T>
  static ZMLX_FN T call(T x, T y, T z) {
    return static_cast<T>(static_cast<uint>(mul24_op::call(x, y)) + static_cast<uint>(z));
  }
};

template <class T>
ZMLX_FN constexpr T largest() {
  return numeric_limits<T>::max();
}
template <class T>
ZMLX_FN constexpr T least() {
  return numeric_limits<T>::min();
}

struct addsat_op {
  template <class T>
  static ZMLX_FN T call(T x, T y) {
    using U = make_unsigned_t<T>;
    const T sum = static_cast<T>(static_cast<U>(static_cast<U>(x) + static_cast<U>(y)));
    if constexpr (has_sign<T>()) {
      const bool overflow = ((x ^ sum) & (y ^ sum)) < 0;
      return overflow ? (x < 0 ? least<T>() : largest<T>()) : sum;
    } else {
      return sum < x ? largest<T>() : sum;
    }
  }
};
struct subsat_op {
  template <class T>
  static ZMLX_FN T call(T x, T y) {
    using U = make_unsigned_t<T>;
    const T difference = static_cast<T>(static_cast<U>(static_cast<U>(x) - static_cast<U>(y)));
    if constexpr (has_sign<T>()) {
      const bool overflow = ((x ^ y) & (x ^ difference)) < 0;
      return overflow ? (x < 0 ? least<T>() : largest<T>()) : difference;
    } else {
      return x < y ? T(0) : difference;
    }
  }
};
struct madsat_op {
  template <class T>
  static ZMLX_FN T call(T x, T y, T z) {
    if constexpr (sizeof(T) < 8) {
      // |x y + z| < 2^63 for 32 bits; the unsigned sum is at most 2^64 - 2^32.
      const wide_t<T> exact =
          static_cast<wide_t<T>>(x) * static_cast<wide_t<T>>(y) + static_cast<wide_t<T>>(z);
      const wide_t<T> high =
          exact > static_cast<wide_t<T>>(largest<T>()) ? static_cast<wide_t<T>>(largest<T>()) : exact;
      return static_cast<T>(high < static_cast<wide_t<T>>(least<T>()) ? static_cast<wide_t<T>>(least<T>())
                                                                      : high);
    } else {
      const T high = mulhi_op::call(x, y);
      const ulong low = static_cast<ulong>(x) * static_cast<ulong>(y);
      const ulong sum = low + static_cast<ulong>(z);
      const bool carry = sum < low;
      if constexpr (has_sign<T>()) {
        // The exact result is top 2^64 + sum; it fits if top repeats the sign of sum.
        const long top = high + (carry ? 1 : 0) + (z < 0 ? -1 : 0);
        const long result = static_cast<long>(sum);
        return top == (result < 0 ? -1 : 0) ? result : (top < 0 ? least<T>() : largest<T>());
      } else {
        return high != 0 || carry ? largest<T>() : sum;
      }
    }
  }
};

struct absdiff_op {
  template <class T>
  static ZMLX_FN make_unsigned_t<T> call(T x, T y) {
    using U = make_unsigned_t<T>;
    return static_cast<U>(x > y ? static_cast<U>(x) - static_cast<U>(y)
                                : static_cast<U>(y) - static_cast<U>(x));
  }
};
// (x + y) / 2 rounded down, and up, without overflow
struct hadd_op {
  template <class T>
  static ZMLX_FN T call(T x, T y) {
    return static_cast<T>((x & y) + ((x ^ y) >> 1));
  }
};
struct rhadd_op {
  template <class T>
  static ZMLX_FN T call(T x, T y) {
    return static_cast<T>((x | y) - ((x ^ y) >> 1));
  }
};

struct rotate_op {
  template <class T>
  static ZMLX_FN T call(T x, T by) {
    using U = make_unsigned_t<T>;
    const U v = static_cast<U>(x);
    const int left = static_cast<int>(by) & (bit_width<T>() - 1);
    const int right = -left & (bit_width<T>() - 1);
    return static_cast<T>(static_cast<U>(v << left | v >> right));
  }
};

// `bits` ones; all of them for the whole width.
template <class U>
ZMLX_FN U low_mask(uint bits) {
  return bits >= static_cast<uint>(bit_width<U>()) ? static_cast<U>(~U(0))
                                                 : static_cast<U>((U(1) << bits) - U(1));
}

template <class T>
ZMLX_FN T extract(T x, uint offset, uint bits) {
  using U = make_unsigned_t<T>;
  const U field = static_cast<U>(static_cast<U>(x) >> (offset & (bit_width<T>() - 1))) & low_mask<U>(bits);
  if constexpr (has_sign<T>()) {
    const U sign = bits == 0 ? U(0) : static_cast<U>(U(1) << ((bits - 1) & (bit_width<T>() - 1)));
    return static_cast<T>(static_cast<U>((field ^ sign) - sign));
  } else {
    return field;
  }
}
template <class T>
ZMLX_FN T insert(T base, T field, uint offset, uint bits) {
  using U = make_unsigned_t<T>;
  const uint shift = offset & (bit_width<T>() - 1);
  const U mask = static_cast<U>(low_mask<U>(bits) << shift);
  return static_cast<T>((static_cast<U>(base) & static_cast<U>(~mask)) |
                        (static_cast<U>(static_cast<U>(field) << shift) & mask));
}

}  // namespace detail

#define ZMLX_INTEGER_1(name)                           \
  template <class A, class R = detail::integer_t<A>>   \
  ZMLX_FN R name(A x) {                                \
    return detail::map_exact<R, detail::name##_op>(x); \
  }
#define ZMLX_INTEGER_2(name)                                     \
  template <class A, class B, class R = detail::integer_t<A, B>> \
  ZMLX_FN R name(A x, B y) {                                     \
    return detail::map_exact<R, detail::name##_op>(x, y);        \
  }
#define ZMLX_INTEGER_3(name)                                                 \
  template <class A, class B, class C, class R = detail::integer_t<A, B, C>> \
  ZMLX_FN R name(A x, B y, C z) {                                            \
    return detail::map_exact<R, detail::name##_op>(x, y, z);                 \
  }
ZMLX_INTEGER_1(clz)
ZMLX_INTEGER_1(ctz)
ZMLX_INTEGER_1(popcount)
ZMLX_INTEGER_1(reverse_bits)
ZMLX_INTEGER_2(addsat)
ZMLX_INTEGER_2(hadd)
ZMLX_INTEGER_2(mul24)
ZMLX_INTEGER_2(mulhi)
ZMLX_INTEGER_2(rhadd)
ZMLX_INTEGER_2(subsat)
ZMLX_INTEGER_3(mad24)
ZMLX_INTEGER_3(madhi)
ZMLX_INTEGER_3(madsat)
#undef ZMLX_INTEGER_1
#undef ZMLX_INTEGER_2
#undef ZMLX_INTEGER_3

// |x - y| as the unsigned type, which always holds it.
template <class A, class B, class R = detail::integer_t<A, B>>
ZMLX_FN auto absdiff(A x, B y) {
  static_assert(detail::same_overload<A, B>(), ZMLX_REFUSE);
  if constexpr (detail::is_vector<R>()) {
    using T = detail::element_t<R>;
    return detail::each<typename detail::to_unsigned<R>::type>(
        [](auto a, auto b)
            ZMLX_LAMBDA { return detail::absdiff_op::call(static_cast<T>(a), static_cast<T>(b)); },
        x, y);
  } else {
    return detail::absdiff_op::call(static_cast<R>(x), static_cast<R>(y));
  }
}

// To the left. A count is taken modulo the width, so the type of a literal count does not matter.
template <class A, class B, class R = detail::integer_t<A>>
ZMLX_FN R rotate(A x, B by) {
  if constexpr (detail::is_vector<R>()) {
    using T = detail::element_t<R>;
    return detail::each<R>(
        [](auto a, auto b)
            ZMLX_LAMBDA { return detail::rotate_op::call(static_cast<T>(a), static_cast<T>(b)); },
        x, by);
  } else {
    return detail::rotate_op::call(x, static_cast<R>(by));
  }
}

// `bits` bits from `offset` on; signed types extend the sign.
template <class A, class R = detail::integer_t<A>>
ZMLX_FN R extract_bits(A x, uint offset, uint bits) {
  if constexpr (detail::is_vector<R>()) {
    return detail::each<R>([=](auto a) ZMLX_LAMBDA { return detail::extract(a, offset, bits); }, x);
  } else {
    return detail::extract(x, offset, bits);
  }
}
// base with `bits` bits from `offset` on replaced by the lowest of field
template <class A, class B, class R = detail::integer_t<A, B>>
ZMLX_FN R insert_bits(A base, B field, uint offset, uint bits) {
  if constexpr (detail::is_vector<R>()) {
    using T = detail::element_t<R>;
    return detail::each<R>(
        [=](auto a, auto b)
            ZMLX_LAMBDA { return detail::insert(static_cast<T>(a), static_cast<T>(b), offset, bits); },
        base, field);
  } else {
    return detail::insert(static_cast<R>(base), static_cast<R>(field), offset, bits);
  }
}

}  // namespace metal
