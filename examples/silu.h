// SiLU, or swish: x s(x) with s(x) = 1 / (1 + e^-x).
//
//   f'(x)  = s + x s t,            t = s(-x) = 1 - s without its cancellation
//   f''(x) = s t (2 + x (t - s))

#pragma once

#include "scalar.h"

struct Activation {
  template <class T>
  static OPPROOF_INLINE T value(T x) {
    return x * sigmoid(x);
  }

  template <class T>
  static OPPROOF_INLINE T derivative(T x) {
    T s = sigmoid(x), t = sigmoid(-x);
    return s + x * s * t;
  }

  template <class T>
  static OPPROOF_INLINE T second_derivative(T x) {
    T s = sigmoid(x), t = sigmoid(-x);
    return s * t * (T(2) + x * (t - s));
  }

 private:
  template <class T>
  static OPPROOF_INLINE T sigmoid(T x) {
    return opproof::divide(T(1), T(1) + opproof::exp(-x));
  }
};
