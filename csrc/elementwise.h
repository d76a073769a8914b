// The functions that are applied to every element, from those of the activation.

#pragma once

#include "activation.h"
#include "dtype.h"

namespace opproof {

struct Forward {
  template <class F>
  OPPROOF_INLINE F operator()(F x) const {
    return Activation::value(x);
  }
};

struct Backward {
  template <class F>
  OPPROOF_INLINE F operator()(F grad, F x) const {
    return grad * Activation::derivative(x);
  }
};

// The gradient of Backward with respect to x; the one with respect to grad is Backward itself.
struct DoubleBackward {
  template <class F>
  OPPROOF_INLINE F operator()(F grad_grad, F grad, F x) const {
    return grad_grad * grad * Activation::second_derivative(x);
  }
};

}  // namespace opproof
