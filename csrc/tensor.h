// What the operators share: checks, and the layouts that they compute in. Of torch only the stable
// ABI, so that one library serves every torch from 2.11 on.

#pragma once

#include <torch/csrc/stable/library.h>
#include <torch/csrc/stable/ops.h>
#include <torch/csrc/stable/tensor.h>
#include <torch/headeronly/core/ScalarType.h>
#include <torch/headeronly/util/Exception.h>

#include <algorithm>
#include <vector>

namespace opproof {

using torch::headeronly::ScalarType;
using torch::stable::Tensor;

// The library's operators are registered in a namespace of its own, so that several can be loaded.
#define OPPROOF_REGISTER_(library, key, m) STABLE_TORCH_LIBRARY_IMPL(library, key, m)
#define OPPROOF_REGISTER(key, m) OPPROOF_REGISTER_(OPPROOF_LIBRARY, key, m)
#define OPPROOF_DEFINE_(library, m) STABLE_TORCH_LIBRARY_FRAGMENT(library, m)
#define OPPROOF_DEFINE(m) OPPROOF_DEFINE_(OPPROOF_LIBRARY, m)

inline void check_kind(const Tensor& tensor, const Tensor& x, const char* name) {
  STD_TORCH_CHECK(tensor.scalar_type() == x.scalar_type(), name, " must be of x's dtype");
  STD_TORCH_CHECK(tensor.is_cuda() == x.is_cuda() && tensor.get_device_index() == x.get_device_index(),
                  name, " must be on x's device");
}

inline void check_like(const Tensor& tensor, const Tensor& x, const char* name) {
  check_kind(tensor, x, name);
  bool same = tensor.dim() == x.dim();
  for (int64_t dim = 0; same && dim < x.dim(); ++dim) same = tensor.size(dim) == x.size(dim);
  STD_TORCH_CHECK(same, name, " must be of x's shape");
}

// Whether the elements fill a piece of memory without gaps or overlaps, in whatever order.
inline bool is_dense(const Tensor& x) {
  if (x.is_contiguous()) return true;
  std::vector<int64_t> order;
  for (int64_t dim = 0; dim < x.dim(); ++dim) {
    if (x.size(dim) == 0) return true;
    if (x.size(dim) > 1) order.push_back(dim);
  }
  std::sort(order.begin(), order.end(),
            [&](int64_t left, int64_t right) { return x.stride(left) < x.stride(right); });
  int64_t expected = 1;
  for (int64_t dim : order) {
    if (x.stride(dim) != expected) return false;
    expected *= x.size(dim);
  }
  return true;
}

inline bool same_strides(const Tensor& left, const Tensor& right) {
  for (int64_t dim = 0; dim < left.dim(); ++dim) {
    if (left.size(dim) > 1 && left.stride(dim) != right.stride(dim)) return false;
  }
  return true;
}

// The tensor itself, or a copy of its values in the layout of `like`, which is of the same shape.
inline Tensor in_layout_of(const Tensor& like, const Tensor& tensor) {
  if (same_strides(like, tensor)) return tensor;
  Tensor copy = torch::stable::empty_like(like);
  torch::stable::copy_(copy, tensor);
  return copy;
}

// The tensor itself if it is dense, else a copy in the layout that torch gives a result for it.
inline Tensor dense(const Tensor& x) {
  return is_dense(x) ? x : in_layout_of(torch::stable::empty_like(x), x);
}

inline void check_out(const Tensor& out, const Tensor& x) {
  check_like(out, x, "out");
  STD_TORCH_CHECK(is_dense(x) && same_strides(out, x), "x and out must be dense and of one layout");
}

}  // namespace opproof
