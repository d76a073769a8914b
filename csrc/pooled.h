// Activation, 2x2 average pool and activation in one:
//
//   y = f(m),  m = ((f(x0) + f(x1)) + (f(x2) + f(x3))) / 4
//
// x0 and x1 being neighbours in a row and x2, x3 those below them. The sums are taken in this order,
// on every device; rows and columns that an odd size leaves over take no part.

#pragma once

#include "activation.h"
#include "dtype.h"

namespace opproof {

// The four of one window, or what belongs to each of them.
template <class F>
struct Window {
  F at[4];

  OPPROOF_INLINE F mean() const { return F(0.25) * ((at[0] + at[1]) + (at[2] + at[3])); }
};

template <class F>
OPPROOF_INLINE F pooled_forward(Window<F> x) {
  for (F& each : x.at) each = Activation::value(each);
  return Activation::value(x.mean());
}

// dy/dxi grad = grad f'(m) / 4 f'(xi).
template <class F>
OPPROOF_INLINE Window<F> pooled_backward(F grad, Window<F> x) {
  Window<F> value, derivative;
  for (int i = 0; i < 4; ++i) {
    auto both = value_and_derivative(x.at[i]);
    value.at[i] = both.value;
    derivative.at[i] = both.derivative;
  }
  F factor = F(0.25) * grad * Activation::derivative(value.mean());
  for (F& each : derivative.at) each *= factor;
  return derivative;
}

template <class F>
struct PooledDoubleBackward {
  F grad;
  Window<F> x;
};

// The gradients of pooled_backward, whose results' gradients are grad_grad: with s = sum of
// grad_grad_i f'(xi) / 4,
//
//   with respect to grad:  s f'(m)
//   with respect to xi:    grad (s f''(m) f'(xi) / 4 + grad_grad_i f'(m) f''(xi) / 4)
template <class F>
OPPROOF_INLINE PooledDoubleBackward<F> pooled_double_backward(
    Window<F> grad_grad, F grad, Window<F> x) {
  Window<F> value, derivative, weighted;
  for (int i = 0; i < 4; ++i) {
    auto both = value_and_derivative(x.at[i]);
    value.at[i] = both.value;
    derivative.at[i] = both.derivative;
    weighted.at[i] = grad_grad.at[i] * both.derivative;
  }
  F mean = value.mean(), sum = weighted.mean();
  F first = Activation::derivative(mean), second = Activation::second_derivative(mean);
  PooledDoubleBackward<F> result{sum * first, {}};
  for (int i = 0; i < 4; ++i) {
    F through_mean = sum * second * derivative.at[i];
    F direct = grad_grad.at[i] * first * Activation::second_derivative(x.at[i]);
    result.x.at[i] = F(0.25) * grad * (through_mean + direct);
  }
  return result;
}

}  // namespace opproof
