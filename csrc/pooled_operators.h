// The operators over a device's forward_kernel, backward_kernel and double_backward_kernel, which are
// defined before this is included.

#pragma once

#include <tuple>

#include "planes.h"

namespace opproof {
namespace {

template <class T>
T* data(const Tensor& tensor) {
  return static_cast<T*>(tensor.mutable_data_ptr());
}

// An input's gradient, zero where a row or column takes no part.
Tensor gradient_like(const Tensor& x, const Planes& planes) {
  Tensor out = torch::stable::empty_like(x);
  if (!planes.leaves_none_over()) torch::stable::zero_(out);
  return out;
}

Tensor forward(const Tensor& x) {
  Planes planes = planes_of(x);
  Tensor input = torch::stable::contiguous(x);
  Tensor out = torch::stable::new_empty(input, pooled_sizes(x));
  dispatch(x.scalar_type(), [&](auto type) {
    using T = decltype(type);
    forward_kernel(x, planes, data<const T>(input), data<T>(out));
  });
  return out;
}

Tensor backward(const Tensor& grad, const Tensor& x) {
  Planes planes = planes_of(x);
  check_pooled(grad, x);
  Tensor input = torch::stable::contiguous(x), above = torch::stable::contiguous(grad);
  Tensor out = gradient_like(input, planes);
  dispatch(x.scalar_type(), [&](auto type) {
    using T = decltype(type);
    backward_kernel(x, planes, data<const T>(above), data<const T>(input), data<T>(out));
  });
  return out;
}

std::tuple<Tensor, Tensor> double_backward(const Tensor& grad_grad, const Tensor& grad,
                                           const Tensor& x) {
  Planes planes = planes_of(x);
  check_like(grad_grad, x, "grad_grad");
  check_pooled(grad, x);
  Tensor input = torch::stable::contiguous(x), above = torch::stable::contiguous(grad),
         beside = torch::stable::contiguous(grad_grad);
  Tensor out_grad = torch::stable::empty_like(above), out_x = gradient_like(input, planes);
  dispatch(x.scalar_type(), [&](auto type) {
    using T = decltype(type);
    double_backward_kernel(x, planes, data<const T>(beside), data<const T>(above),
                           data<const T>(input), data<T>(out_grad), data<T>(out_x));
  });
  return {out_grad, out_x};
}

inline void implement(torch::stable::detail::StableLibrary& library) {
  library.impl("pooled_forward", TORCH_BOX(&forward));
  library.impl("pooled_backward", TORCH_BOX(&backward));
  library.impl("pooled_double_backward", TORCH_BOX(&double_backward));
}

}  // namespace
}  // namespace opproof
