// Mish: x tanh(ln(1 + e^x)). With e = e^x, n = e (e + 2) and d = 1 / (n + 2), nothing cancels:
//
//   f(x)   = x n d                 since tanh(ln(1 + e)) = n / (n + 2)
//   f'(x)  = n d + x g             with g = 4 e (1 + e) d^2, the derivative of n d
//   f''(x) = 2 g + x g'            with g' = 4 e d^2 (1 + 2 e - 4 e (1 + e)^2 d)

#pragma once

#include "scalar.h"

struct Activation {
  template <class T>
  static OPPROOF_INLINE T value(T x) {
    Powers<T> at = powers(x);
    return x * (at.n * at.d);
  }

  template <class T>
  static OPPROOF_INLINE T derivative(T x) {
    Powers<T> at = powers(x);
    return at.n * at.d + at.x * slope(at);
  }

  // They share the exponential and the division.
  template <class T>
  static OPPROOF_INLINE opproof::ValueAndDerivative<T> value_and_derivative(T x) {
    Powers<T> at = powers(x);
    T share = at.n * at.d;
    return {x * share, share + at.x * slope(at)};
  }

  template <class T>
  static OPPROOF_INLINE T second_derivative(T x) {
    Powers<T> at = powers(x);
    T one = T(1) + at.e;
    T bend = T(4) * at.e * at.d * at.d * (T(1) + T(2) * at.e - T(4) * at.e * one * one * at.d);
    return T(2) * slope(at) + at.x * bend;
  }

 private:
  template <class T>
  struct Powers {
    T x, e, n, d;
  };

  // Of x up to 20: from there on n d is 1 in every dtype, and powers of e^x would leave float.
  template <class T>
  static OPPROOF_INLINE Powers<T> powers(T x) {
    T limited = opproof::at_most(T(20), x);
    T e = opproof::exp(limited);
    T n = e * (e + T(2));
    return {limited, e, n, opproof::divide(T(1), n + T(2))};
  }

  template <class T>
  static OPPROOF_INLINE T slope(Powers<T> at) {
    return T(4) * (at.e * at.d) * ((T(1) + at.e) * at.d);
  }
};
