// OPERATOR_NAME: here SiLU, composed of ATen calls, which run on CPUs and GPUs. Put your own in its place;
// kernels for CUDA may stand in a .cu file beside it, which config.yaml names too.
//
// An operator called forward gets its gradient from the backward(grad, x) beside it, and that its own
// from double_backward(grad_grad, grad, x). One with another name must register its gradient itself.

#include <torch/library.h>
#include <ATen/ATen.h>

namespace {

at::Tensor forward(const at::Tensor& x) { return x * at::sigmoid(x); }

at::Tensor backward(const at::Tensor& grad, const at::Tensor& x) {
  at::Tensor s = at::sigmoid(x);
  return grad * (s + x * s * at::sigmoid(-x));
}

at::Tensor double_backward(const at::Tensor& grad_grad, const at::Tensor& grad, const at::Tensor& x) {
  at::Tensor s = at::sigmoid(x), t = at::sigmoid(-x);
  return grad_grad * grad * (s * t * (2 + x * (t - s)));
}

}  // namespace

TORCH_LIBRARY(OPERATOR_NAME, library) {
  library.def("forward(Tensor x) -> Tensor");
  library.def("backward(Tensor grad, Tensor x) -> Tensor");
  library.def("double_backward(Tensor grad_grad, Tensor grad, Tensor x) -> Tensor");
}

TORCH_LIBRARY_IMPL(OPERATOR_NAME, CompositeExplicitAutograd, library) {
  library.impl("forward", forward);
  library.impl("backward", backward);
  library.impl("double_backward", double_backward);
}
