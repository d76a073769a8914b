// The activation that sources are compiled for: of the header that OPPROOF_ACTIVATION names, in quotes.
//
// That header defines
//
//   struct Activation {
//     static OPPROOF_INLINE float value(float x);               // f(x)
//     static OPPROOF_INLINE float derivative(float x);          // f'(x)
//     static OPPROOF_INLINE float second_derivative(float x);   // f''(x)
//     static OPPROOF_INLINE opproof::ValueAndDerivative<float> value_and_derivative(float x);
//   };
//
// and the same of double; each may be a template. value_and_derivative is for those that share work,
// and may be left out. What is written with the functions of scalar.h alone gives the same bits on
// every CPU and GPU, and its loops are vectorised; 16-bit floats are computed in float.

#pragma once

#include <type_traits>
#include <utility>

#include "scalar.h"

namespace opproof {
namespace detail {

template <class A, class F>
using Value = decltype(A::value(std::declval<F>()));
template <class A, class F>
using Derivative = decltype(A::derivative(std::declval<F>()));
template <class A, class F>
using SecondDerivative = decltype(A::second_derivative(std::declval<F>()));
template <class A, class F>
using Both = decltype(A::value_and_derivative(std::declval<F>()));

template <template <class, class> class Result, class Wanted, class A, class F, class = void>
constexpr bool kReturns = false;
template <template <class, class> class Result, class Wanted, class A, class F>
constexpr bool kReturns<Result, Wanted, A, F, std::void_t<Result<A, F>>> =
    std::is_same_v<Result<A, F>, Wanted>;

}  // namespace detail

// Whether A has the function of F, and it returns F.
template <class A, class F>
constexpr bool kHasValue = detail::kReturns<detail::Value, F, A, F>;
template <class A, class F>
constexpr bool kHasDerivative = detail::kReturns<detail::Derivative, F, A, F>;
template <class A, class F>
constexpr bool kHasSecondDerivative = detail::kReturns<detail::SecondDerivative, F, A, F>;

}  // namespace opproof

#include OPPROOF_ACTIVATION

namespace opproof {

template <class F, class A = Activation>
OPPROOF_INLINE ValueAndDerivative<F> value_and_derivative(F x) {
  if constexpr (detail::kReturns<detail::Both, ValueAndDerivative<F>, A, F>) {
    return A::value_and_derivative(x);
  } else {
    return {A::value(x), A::derivative(x)};
  }
}

}  // namespace opproof
