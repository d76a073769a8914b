// The textbook GELU in C++, composed of ATen calls: one kernel and one temporary a call.
//
//   gelu(x)   = x Phi(x)           = 0.5 x (1 + erf(x / sqrt 2))
//   gelu'(x)  = Phi(x) + x phi(x)
//   gelu''(x) = phi(x) (2 - x^2)
//
// Phi and phi are distribution and density of the standard normal. Being composed of ATen calls, it
// runs on every device and dtype that ATen has, which is why it is an ordinary extension, bound to
// the torch that it was compiled for: the stable ABI offers few of these calls.

#include <ATen/ATen.h>
#include <torch/library.h>

#include <cmath>

namespace {

using at::Tensor;

const double kInverseSqrt2 = std::sqrt(0.5);
const double kInverseSqrt2Pi = std::sqrt(0.5 / std::acos(-1.0));

Tensor distribution(const Tensor& x) {
  return 0.5 * (1.0 + at::erf(x * kInverseSqrt2));
}

Tensor density(const Tensor& x) {
  return kInverseSqrt2Pi * at::exp(-0.5 * x * x);
}

Tensor forward(const Tensor& x) {
  return x * distribution(x);
}

Tensor backward(const Tensor& grad, const Tensor& x) {
  return grad * (distribution(x) + x * density(x));
}

// The gradient of backward with respect to x; the one with respect to grad is backward itself.
Tensor double_backward(const Tensor& grad_grad, const Tensor& grad, const Tensor& x) {
  return grad_grad * grad * density(x) * (2.0 - x * x);
}

}  // namespace

TORCH_LIBRARY(opproof_aten_gelu, library) {
  library.def("forward(Tensor x) -> Tensor");
  library.def("backward(Tensor grad, Tensor x) -> Tensor");
  library.def("double_backward(Tensor grad_grad, Tensor grad, Tensor x) -> Tensor");
}

// One implementation for every device; not Implicit, since autograd has rules of its own (operators.py).
TORCH_LIBRARY_IMPL(opproof_aten_gelu, CompositeExplicitAutograd, library) {
  library.impl("forward", forward);
  library.impl("backward", backward);
  library.impl("double_backward", double_backward);
}
