// The rest of <metal_type_traits>: what kernels ask more rarely of a type, and traits of Metal's own.
#pragma once

#include "msl/vector.h"

namespace metal {

// <metal_uniform>: a value that is the same in all threads, which only Metal's compiler makes use of.
template <class T>
using uniform = T;
template <class T>
ZMLX_FN constexpr T make_uniform(T value) {
  return value;
}

// Address spaces are one here, so there is nothing to remove.
template <class T>
struct remove_addrspace {
  using type = T;
};
template <class T>
using remove_addrspace_t = T;

// The numbers and vectors of numbers; one component is a scalar.
template <class T>
inline constexpr bool is_vector_v = detail::is_vector<remove_cv_t<T>>();

template <class T>
inline constexpr bool is_class_v = __is_class(T);
template <class T>
inline constexpr bool is_union_v = __is_union(T);
template <class T>
inline constexpr bool is_final_v = __is_final(T);
template <class T>
inline constexpr bool is_trivially_copyable_v = __is_trivially_copyable(T);
template <class T>
inline constexpr bool is_standard_layout_v = __is_standard_layout(T);
template <class T>
inline constexpr bool is_lvalue_reference_v = false;
template <class T>
inline constexpr bool is_lvalue_reference_v<T&> = true;
template <class T>
inline constexpr bool is_rvalue_reference_v = false;
template <class T>
inline constexpr bool is_rvalue_reference_v<T&&> = true;
template <class T>
inline constexpr bool is_reference_v = is_lvalue_reference_v<T> || is_rvalue_reference_v<T>;
template <class T>
inline constexpr bool is_volatile_v = false;
template <class T>
inline constexpr bool is_volatile_v<volatile T> = true;
template <class T>
inline constexpr bool is_array_v = false;
template <class T>
inline constexpr bool is_array_v<T[]> = true;
template <class T, size_t N>
inline constexpr bool is_array_v<T[N]> = true;
template <class T>
inline constexpr bool is_fundamental_v = detail::is_builtin<remove_cv_t<T>>() || is_void_v<T>;
template <class T>
inline constexpr bool is_compound_v = !is_fundamental_v<T>;
template <class Base, class Derived>
inline constexpr bool is_base_of_v = __is_base_of(Base, Derived);
template <class T, class... A>
inline constexpr bool is_constructible_v = __is_constructible(T, A...);

#define ZMLX_TRAIT(name) \
  template <class T>     \
  struct name : bool_constant<name##_v<T>> {};
ZMLX_TRAIT(is_vector)
ZMLX_TRAIT(is_class)
ZMLX_TRAIT(is_union)
ZMLX_TRAIT(is_final)
ZMLX_TRAIT(is_trivially_copyable)
ZMLX_TRAIT(is_standard_layout)
ZMLX_TRAIT(is_lvalue_reference)
ZMLX_TRAIT(is_rvalue_reference)
ZMLX_TRAIT(is_reference)
ZMLX_TRAIT(is_volatile)
ZMLX_TRAIT(is_array)
ZMLX_TRAIT(is_fundamental)
ZMLX_TRAIT(is_compound)
#undef ZMLX_TRAIT
template <class Base, class Derived>
struct is_base_of : bool_constant<is_base_of_v<Base, Derived>> {};
template <class T, class... A>
struct is_constructible : bool_constant<is_constructible_v<T, A...>> {};

#define ZMLX_MAKES(name, ...) \
  template <class T>          \
  struct name {               \
    using type = __VA_ARGS__; \
  };                          \
  template <class T>          \
  using name##_t = typename name<T>::type;
ZMLX_MAKES(add_const, const T)
ZMLX_MAKES(add_volatile, volatile T)
ZMLX_MAKES(add_cv, const volatile T)
ZMLX_MAKES(add_lvalue_reference, T&)
ZMLX_MAKES(add_rvalue_reference, T&&)
ZMLX_MAKES(add_pointer, remove_reference_t<T>*)
ZMLX_MAKES(underlying_type, __underlying_type(T))
#undef ZMLX_MAKES

template <class T>
struct remove_volatile {
  using type = T;
};
template <class T>
struct remove_volatile<volatile T> {
  using type = T;
};
template <class T>
using remove_volatile_t = typename remove_volatile<T>::type;

template <class T>
struct remove_extent {
  using type = T;
};
template <class T, size_t N>
struct remove_extent<T[N]> {
  using type = T;
};
template <class T>
using remove_extent_t = typename remove_extent<T>::type;

template <class T>
struct remove_all_extents {
  using type = T;
};
template <class T, size_t N>
struct remove_all_extents<T[N]> : remove_all_extents<T> {};
template <class T>
using remove_all_extents_t = typename remove_all_extents<T>::type;
template <class T>
inline constexpr size_t rank_v = 0;
template <class T, size_t N>
inline constexpr size_t rank_v<T[N]> = rank_v<T> + 1;
template <class T, unsigned I = 0>
inline constexpr size_t extent_v = 0;
template <class T, size_t N>
inline constexpr size_t extent_v<T[N], 0> = N;
template <class T, size_t N, unsigned I>
inline constexpr size_t extent_v<T[N], I> = extent_v<T, I - 1>;
template <class T>
inline constexpr size_t alignment_of_v = alignof(T);
template <class T>
struct rank : integral_constant<size_t, rank_v<T>> {};
template <class T, unsigned I = 0>
struct extent : integral_constant<size_t, extent_v<T, I>> {};
template <class T>
struct alignment_of : integral_constant<size_t, alignof(T)> {};

// Functions cannot be const: nothing else but references cannot.
template <class T>
inline constexpr bool is_function_v = !is_const_v<const T> && !is_reference_v<T>;
template <class T>
inline constexpr bool is_object_v = is_const_v<const T> && !is_void_v<T> && !is_reference_v<T>;
template <class T>
inline constexpr bool is_null_pointer_v = detail::same<remove_cv_t<T>, decltype(nullptr)>();
template <class T>
inline constexpr bool is_trivial_v = __is_trivial(T);
template <class T>
inline constexpr bool is_pod_v = __is_trivial(T) && __is_standard_layout(T);
template <class T>
inline constexpr bool is_abstract_v = __is_abstract(T);
template <class T>
inline constexpr bool is_polymorphic_v = __is_polymorphic(T);
template <class T>
inline constexpr bool is_default_constructible_v = __is_constructible(T);
template <class T>
inline constexpr bool is_copy_constructible_v = __is_constructible(T, const T&);
template <class T>
inline constexpr bool is_move_constructible_v = __is_constructible(T, T&&);
template <class T, class U>
inline constexpr bool is_assignable_v = __is_assignable(T, U);
template <class T>
inline constexpr bool is_copy_assignable_v = __is_assignable(T&, const T&);
template <class T>
inline constexpr bool is_move_assignable_v = __is_assignable(T&, T&&);
#define ZMLX_TRAIT(name) \
  template <class T>     \
  struct name : bool_constant<name##_v<T>> {};
ZMLX_TRAIT(is_function)
ZMLX_TRAIT(is_object)
ZMLX_TRAIT(is_null_pointer)
ZMLX_TRAIT(is_trivial)
ZMLX_TRAIT(is_pod)
ZMLX_TRAIT(is_abstract)
ZMLX_TRAIT(is_polymorphic)
ZMLX_TRAIT(is_default_constructible)
ZMLX_TRAIT(is_copy_constructible)
ZMLX_TRAIT(is_move_constructible)
ZMLX_TRAIT(is_copy_assignable)
ZMLX_TRAIT(is_move_assignable)
#undef ZMLX_TRAIT
template <class T, class U>
struct is_assignable : bool_constant<is_assignable_v<T, U>> {};

// The type of both results of `?:`, from the left to the right. Of numbers that is the type of their sum; half is a
// class here, of which `?:` cannot tell.
namespace detail {
template <class A, class B>
constexpr auto common_of() {
  if constexpr (same<A, B>()) {
    return declval<A (*)()>();
  } else if constexpr (is_lane<A>() && is_lane<B>()) {
    return declval<decltype(declval<A>() + declval<B>()) (*)()>();
  } else {
    return declval<decay_t<decltype(true ? declval<A>() : declval<B>())> (*)()>();
  }
}
}  // namespace detail
template <class A, class... B>
struct common_type;
template <class A>
struct common_type<A> {
  using type = decay_t<A>;
};
template <class A, class B>
struct common_type<A, B> {
  using type = decltype(detail::common_of<decay_t<A>, decay_t<B>>()());
};
template <class A, class B, class C, class... D>
struct common_type<A, B, C, D...> : common_type<typename common_type<A, B>::type, C, D...> {};
template <class... A>
using common_type_t = typename common_type<A...>::type;

template <class... B>
inline constexpr bool conjunction_v = (static_cast<bool>(B::value) && ...);
template <class... B>
inline constexpr bool disjunction_v = (static_cast<bool>(B::value) || ...);
template <class B>
inline constexpr bool negation_v = !static_cast<bool>(B::value);
template <class... B>
struct conjunction : bool_constant<conjunction_v<B...>> {};
template <class... B>
struct disjunction : bool_constant<disjunction_v<B...>> {};
// The library's own name of it, which MLX's headers use.
template <class... B>
using _disjunction = disjunction<B...>;
template <class B>
struct negation : bool_constant<negation_v<B>> {};

}  // namespace metal
