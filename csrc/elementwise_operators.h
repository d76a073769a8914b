// The operators over a device's `map_tensors`, which is defined before this is included.

#pragma once

#include "tensor.h"

namespace opproof {
namespace {

Tensor forward(const Tensor& x) {
  Tensor input = dense(x);
  Tensor out = torch::stable::empty_like(input);
  map_tensors<Forward>(out, input);
  return out;
}

Tensor backward(const Tensor& grad, const Tensor& x) {
  check_like(grad, x, "grad");
  Tensor input = dense(x);
  Tensor out = torch::stable::empty_like(input);
  map_tensors<Backward>(out, in_layout_of(input, grad), input);
  return out;
}

Tensor double_backward(const Tensor& grad_grad, const Tensor& grad, const Tensor& x) {
  check_like(grad_grad, x, "grad_grad");
  check_like(grad, x, "grad");
  Tensor input = dense(x);
  Tensor out = torch::stable::empty_like(input);
  map_tensors<DoubleBackward>(out, in_layout_of(input, grad_grad), in_layout_of(input, grad), input);
  return out;
}

void forward_out(const Tensor& x, Tensor& out) {
  check_out(out, x);
  map_tensors<Forward>(out, x);
}

void backward_out(const Tensor& grad, const Tensor& x, Tensor& out) {
  check_like(grad, x, "grad");
  check_out(out, x);
  map_tensors<Backward>(out, in_layout_of(x, grad), x);
}

inline void implement(torch::stable::detail::StableLibrary& library) {
  library.impl("forward", TORCH_BOX(&forward));
  library.impl("backward", TORCH_BOX(&backward));
  library.impl("double_backward", TORCH_BOX(&double_backward));
  library.impl("forward_out", TORCH_BOX(&forward_out));
  library.impl("backward_out", TORCH_BOX(&backward_out));
}

}  // namespace
}  // namespace opproof
