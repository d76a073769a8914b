// GELU by the textbook's formula, 0.5 x (1 + erf(x / sqrt 2)): right to float's epsilon absolutely,
// and without a digit below x = -5, where 1 + erf is lost in rounding. What gelu.h is measured against.

#pragma once

#include "scalar.h"

struct Activation {
  template <class T>
  static OPPROOF_INLINE T value(T x) {
    return T(0.5) * x * (T(1) + erf_of(x));
  }

  template <class T>
  static OPPROOF_INLINE T derivative(T x) {
    return T(0.5) + T(0.5) * erf_of(x) + x * density(x);
  }

  template <class T>
  static OPPROOF_INLINE opproof::ValueAndDerivative<T> value_and_derivative(T x) {
    return {value(x), derivative(x)};
  }

  template <class T>
  static OPPROOF_INLINE T second_derivative(T x) {
    return density(x) * (T(2) - x * x);
  }

 private:
  static OPPROOF_INLINE float density(float x) {
    return 0x1.988454p-2f * opproof::exp(-0.5f * x * x);
  }

  static OPPROOF_INLINE double density(double x) {
    return 0x1.9884533d43651p-2 * opproof::exp(-0.5 * x * x);
  }

  // erf(x / sqrt 2) = 1 - t (c1 + t (c2 + ...)) e^(-x^2/2) with t = 1 / (1 + c |x|): 7.1.26 of
  // Abramowitz and Stegun, right to 1.5e-7, which is what torch's vectorised erf is too.
  static OPPROOF_INLINE float erf_of(float x) {
    using opproof::fma;
    float a = opproof::magnitude(x);
    float t = opproof::divide(1.0f, fma(0.23164189f, a, 1.0f));
    float sum = fma(1.061405429f, t, -1.453152027f);
    sum = fma(sum, t, 1.421413741f);
    sum = fma(sum, t, -0.284496736f);
    sum = fma(sum, t, 0.254829592f);
    float erf = fma(-sum * t, opproof::exp(-0.5f * a * a), 1.0f);
    return x < 0.0f ? -erf : erf;
  }

  static OPPROOF_INLINE double erf_of(double x) { return ::erf(x * 0x1.6a09e667f3bcdp-1); }
};
