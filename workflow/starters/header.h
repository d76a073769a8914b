// OPERATOR_NAME: here SiLU, x s(x) with s(x) = 1 / (1 + e^-x). Put your own functions in its place.
//
// From these alone come kernels for every element of a tensor, for activation, 2x2 average pool and
// activation in one, and for whole training steps: on CPUs and GPUs, in float32, float64, float16 and
// bfloat16. Written with the functions of scalar.h they give the same bits everywhere; 16-bit numbers
// are computed in float.

#pragma once

#include "scalar.h"

struct Activation {
  template <class T>
  static OPPROOF_INLINE T value(T x) {
    return x * sigmoid(x);
  }

  template <class T>
  static OPPROOF_INLINE T derivative(T x) {
    T s = sigmoid(x);
    return s + x * s * sigmoid(-x);
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
