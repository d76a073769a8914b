// The square of ReLU: x^2 above 0, 0 below. A comparison with NaN is false, so that NaN stays.

#pragma once

#include "scalar.h"

struct Activation {
  template <class T>
  static OPPROOF_INLINE T value(T x) {
    return positive(x) * positive(x);
  }

  template <class T>
  static OPPROOF_INLINE T derivative(T x) {
    return T(2) * positive(x);
  }

  template <class T>
  static OPPROOF_INLINE T second_derivative(T x) {
    return x > T(0) ? T(2) : T(0);
  }

 private:
  template <class T>
  static OPPROOF_INLINE T positive(T x) {
    return x < T(0) ? T(0) : x;
  }
};
