// The sizes of a pooling, [..., height, width] to [..., height / 2, width / 2], and its checks.

#pragma once

#include <vector>

#include "scalar.h"
#include "tensor.h"

namespace opproof {

struct Planes {
  int64_t count, height, width;  // of the input

  OPPROOF_INLINE int64_t rows() const { return height / 2; }     // of a plane of the output
  OPPROOF_INLINE int64_t columns() const { return width / 2; }   // of its rows
  int64_t outputs() const { return count * rows() * columns(); }
  bool leaves_none_over() const { return height % 2 == 0 && width % 2 == 0; }
};

inline Planes planes_of(const Tensor& x) {
  int64_t dims = x.dim();
  STD_TORCH_CHECK(dims >= 2 && x.size(dims - 2) >= 2 && x.size(dims - 1) >= 2,
                  "x must be of shape [..., height, width], both at least 2");
  Planes planes{1, x.size(dims - 2), x.size(dims - 1)};
  for (int64_t dim = 0; dim < dims - 2; ++dim) planes.count *= x.size(dim);
  return planes;
}

inline std::vector<int64_t> pooled_sizes(const Tensor& x) {
  auto sizes = x.sizes();
  std::vector<int64_t> result(sizes.begin(), sizes.end());
  result[result.size() - 2] /= 2;
  result[result.size() - 1] /= 2;
  return result;
}

inline void check_pooled(const Tensor& grad, const Tensor& x) {
  check_kind(grad, x, "grad");
  std::vector<int64_t> expected = pooled_sizes(x);
  auto sizes = grad.sizes();
  STD_TORCH_CHECK(std::equal(expected.begin(), expected.end(), sizes.begin(), sizes.end()),
                  "grad must be of shape [..., height / 2, width / 2]");
}

}  // namespace opproof
