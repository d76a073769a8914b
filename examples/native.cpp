// GELU as an operator of one's own, composed of ATen calls: x erfc(-x / sqrt 2) / 2, which, unlike the
// form with 1 + erf, keeps its digits where x is far below zero.

#include <ATen/ATen.h>
#include <torch/library.h>

#include <cmath>

namespace {

using at::Tensor;

const double kInverseSqrt2 = std::sqrt(0.5);
const double kInverseSqrt2Pi = std::sqrt(0.5 / std::acos(-1.0));

Tensor distribution(const Tensor& x) { return 0.5 * at::erfc(x * -kInverseSqrt2); }

Tensor density(const Tensor& x) { return kInverseSqrt2Pi * at::exp(-0.5 * x * x); }

Tensor forward(const Tensor& x) { return x * distribution(x); }

Tensor backward(const Tensor& grad, const Tensor& x) {
  return grad * (distribution(x) + x * density(x));
}

// The gradient of backward with respect to x; the one with respect to grad is backward itself.
Tensor double_backward(const Tensor& grad_grad, const Tensor& grad, const Tensor& x) {
  return grad_grad * grad * density(x) * (2.0 - x * x);
}

}  // namespace

TORCH_LIBRARY(native, library) {
  library.def("forward(Tensor x) -> Tensor");
  library.def("backward(Tensor grad, Tensor x) -> Tensor");
  library.def("double_backward(Tensor grad_grad, Tensor grad, Tensor x) -> Tensor");
}

TORCH_LIBRARY_IMPL(native, CompositeExplicitAutograd, library) {
  library.impl("forward", forward);
  library.impl("backward", backward);
  library.impl("double_backward", double_backward);
}
