// What the translator writes into a kernel where Metal's own syntax means more than C++'s.
#pragma once

#include "msl/vector.h"

#if defined(ZMLX_CHECK_ARITHMETIC)
extern "C" __attribute__((visibility("hidden"))) void zmlx_check_shift(int64_t amount);
#endif

namespace metal {

// ---------------------------------------------------------------------------------------------- shifts
// `a << zmlx_by << n` shifts by n modulo the width of a (after integer promotion), as Metal's `a << n` does.
// The operators are left-associative, so that (a << zmlx_by) comes first, and n may be any sum; the
// compound forms are right-associative, so that (zmlx_by <<= n) does.
namespace detail {

struct shift_tag {};

template <class T>
struct shifted {
  T value;
};
template <class T>
struct shift_amount {
  T value;
};

template <class T>
constexpr bool shifts_as_number() {
  return is_lane<T>() && !is_floating<T>();
}

// Where the checker is asked for arithmetic, it hears of amounts that are taken modulo the width.
#if defined(ZMLX_CHECK_ARITHMETIC)
#define ZMLX_CHECK_SHIFT(amount, mask) \
  if (static_cast<uint64_t>(amount) > static_cast<uint64_t>(mask)) ::zmlx_check_shift(static_cast<int64_t>(amount))
#else
#define ZMLX_CHECK_SHIFT(amount, mask)
#endif

#define ZMLX_SHIFT(op)                                                                  \
  template <class T>                                                                    \
  ZMLX_FN constexpr shifted<T> operator op(T value, shift_tag) {                        \
    return {value};                                                                     \
  }                                                                                     \
  template <class T, class N>                                                           \
  ZMLX_FN constexpr auto operator op(shifted<T> left, N amount) {                       \
    if constexpr (shifts_as_number<T>() && shifts_as_number<N>()) {                     \
      using P = decltype(+left.value);                                                  \
      ZMLX_CHECK_SHIFT(amount, shift_mask<P>());                                        \
      return static_cast<P>(left.value op(static_cast<int>(amount) & shift_mask<P>())); \
    } else {                                                                            \
      return left.value op amount;                                                      \
    }                                                                                   \
  }                                                                                     \
  template <class N>                                                                    \
  ZMLX_FN constexpr shift_amount<N> operator op##=(shift_tag, N amount) {               \
    return {amount};                                                                    \
  }                                                                                     \
  template <class T, class N>                                                           \
  ZMLX_FN constexpr auto operator op(T value, shift_amount<N> amount) {                 \
    return value op shift_tag{} op amount.value;                                        \
  }                                                                                     \
  template <class T, class N, enable_if_t<shifts_as_number<T>(), int> = 0>              \
  ZMLX_FN constexpr T& operator op##=(T& target, shift_amount<N> amount) {              \
    return target = static_cast<T>(target op amount);                                   \
  }
ZMLX_SHIFT(<<)
ZMLX_SHIFT(>>)
#undef ZMLX_SHIFT
#undef ZMLX_CHECK_SHIFT

}  // namespace detail

#define zmlx_by (::metal::detail::shift_tag{})

// ---------------------------------------------------------------------------------------------- conversions
// Where a float may become an integer (convert.h), which a translator sees only in part: what the types are, C++ finds.
//     zmlx_cast<T>(e)            T(e), (T)e, static_cast<T>(e)
//     T n = zmlx_init<T>(e)      T n = e; likewise results and arguments
//     n ->* zmlx_into = e        n = e, n += e, …: binds closer than all but what is written before and behind a name
// Numbers go by value, so that constants need no storage.
namespace detail {

struct into_tag {};

template <class S>
using if_number = enable_if_t<is_number<S>(), int>;
template <class S>
using if_no_number = enable_if_t<!is_number<decay_t<S>>(), int>;

// An integer that is assigned to.
template <class T>
struct integer_place {
  T& place;

  template <class S>
  ZMLX_FN constexpr T& operator=(S value) const {
    if constexpr (truncates<T, S>()) {
      return place = convert<T>(value);
    } else {
      return place = value;
    }
  }
#define ZMLX_COMPOUND_PLACE(op)                        \
  template <class S>                                   \
  ZMLX_FN constexpr T& operator op##=(S value) const { \
    if constexpr (truncates<T, S>()) {                 \
      return place = convert<T>(place op value);       \
    } else {                                           \
      return place op##= value;                        \
    }                                                  \
  }
  ZMLX_COMPOUND_PLACE(+)
  ZMLX_COMPOUND_PLACE(-)
  ZMLX_COMPOUND_PLACE(*)
  ZMLX_COMPOUND_PLACE(/)
#undef ZMLX_COMPOUND_PLACE
};

template <class T>
ZMLX_FN constexpr decltype(auto) operator->*(T&& target, into_tag) {
  using place = remove_reference_t<T>;
  if constexpr (is_integer<place>() && !same<remove_cv_t<place>, bool>() && same<place, remove_const_t<place>>()) {
    return integer_place<place>{target};
  } else {
    return static_cast<T&&>(target);
  }
}

}  // namespace detail

#define zmlx_into (::metal::detail::into_tag{})

template <class T, class S, detail::if_number<S> = 0>
ZMLX_FN constexpr T zmlx_cast(S value) {
  if constexpr (detail::truncates<T, S>()) {
    return detail::convert<T>(value);
  } else {
    return (T)value;
  }
}
template <class T, class S, detail::if_no_number<S> = 0>
ZMLX_FN constexpr T zmlx_cast(S&& value) {
  return (T)static_cast<S&&>(value);
}
template <class T, class S, detail::if_number<S> = 0>
ZMLX_FN constexpr auto zmlx_init(S value) {
  if constexpr (detail::truncates<T, S>()) {
    return detail::convert<T>(value);
  } else {
    return value;
  }
}
template <class T, class S, detail::if_no_number<S> = 0>
ZMLX_FN constexpr S&& zmlx_init(S&& value) {
  return static_cast<S&&>(value);
}

// ---------------------------------------------------------------------------------------------- conditionals
namespace detail {
// The type of `c ? a : b` once both sides are cast to their arm_t; for a conditional that is part of another.
template <class A, class B>
using conditional_type = decltype(true ? declval<arm_t<A, B>>() : declval<arm_t<B, A>>());
}  // namespace detail

// ---------------------------------------------------------------------------------------------- threadgroup storage
#if defined(ZMLX_CUDA)
// Bytes for a threadgroup variable: CUDA's __shared__ takes no type with a constructor, Metal's threadgroup does.
template <class T>
struct zmlx_storage {
  alignas(T) alignas(16) unsigned char bytes[sizeof(T)];
  ZMLX_FN T& value() { return *reinterpret_cast<T*>(bytes); }
};
#endif

}  // namespace metal
