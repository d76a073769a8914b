// The kernels of pooled.cpp's operators for CUDA: a thread takes a window at a time.

#include "pooled.h"

#include "gpu.h"
#include "planes.h"

namespace opproof {
namespace {

// Two neighbours of a row, as one access where the row's length and the tensor's address allow it.
template <class T>
struct alignas(2 * sizeof(T)) Two {
  T left, right;
};

// Where a window's rows begin.
template <class Index>
struct Place {
  Index upper, lower;
};

template <class Index>
__device__ __forceinline__ Place<Index> place_of(const Planes& planes, Index window) {
  Index columns = static_cast<Index>(planes.columns()), rows = static_cast<Index>(planes.rows());
  Index row = window / columns, column = window % columns;
  Index plane = row / rows, of_plane = row % rows;
  Index height = static_cast<Index>(planes.height), width = static_cast<Index>(planes.width);
  Index upper = (plane * height + 2 * of_plane) * width + 2 * column;
  return {upper, upper + width};
}

template <bool kPairs, class T, class Index>
__device__ __forceinline__ auto load(const T* x, Place<Index> place) {
  Window<decltype(widen(T{}))> window;
  Two<T> upper, lower;
  if constexpr (kPairs) {
    upper = *reinterpret_cast<const Two<T>*>(x + place.upper);
    lower = *reinterpret_cast<const Two<T>*>(x + place.lower);
  } else {
    upper = {x[place.upper], x[place.upper + 1]};
    lower = {x[place.lower], x[place.lower + 1]};
  }
  window.at[0] = widen(upper.left);
  window.at[1] = widen(upper.right);
  window.at[2] = widen(lower.left);
  window.at[3] = widen(lower.right);
  return window;
}

template <bool kPairs, class T, class F, class Index>
__device__ __forceinline__ void store(const Window<F>& window, T* to, Place<Index> place) {
  Two<T> upper{narrow<T>(window.at[0]), narrow<T>(window.at[1])};
  Two<T> lower{narrow<T>(window.at[2]), narrow<T>(window.at[3])};
  if constexpr (kPairs) {
    *reinterpret_cast<Two<T>*>(to + place.upper) = upper;
    *reinterpret_cast<Two<T>*>(to + place.lower) = lower;
  } else {
    to[place.upper] = upper.left;
    to[place.upper + 1] = upper.right;
    to[place.lower] = lower.left;
    to[place.lower + 1] = lower.right;
  }
}

template <bool kPairs, class Index>
struct Forward {
  template <class T>
  __device__ void operator()(const Planes& planes, Index i, const T* x, T* y) const {
    y[i] = narrow<T>(pooled_forward(load<kPairs>(x, place_of(planes, i))));
  }
};

template <bool kPairs, class Index>
struct Backward {
  template <class T>
  __device__ void operator()(const Planes& planes, Index i, const T* grad, const T* x, T* out) const {
    Place<Index> place = place_of(planes, i);
    store<kPairs>(pooled_backward(widen(grad[i]), load<kPairs>(x, place)), out, place);
  }
};

template <bool kPairs, class Index>
struct DoubleBackward {
  template <class T>
  __device__ void operator()(const Planes& planes, Index i, const T* grad_grad, const T* grad,
                             const T* x, T* out_grad, T* out_x) const {
    Place<Index> place = place_of(planes, i);
    auto result = pooled_double_backward(load<kPairs>(grad_grad, place), widen(grad[i]),
                                         load<kPairs>(x, place));
    out_grad[i] = narrow<T>(result.grad);
    store<kPairs>(result.x, out_x, place);
  }
};

template <class Op, class Index, class... Pointers>
__global__ void __launch_bounds__(kThreads)
    for_each_window(Planes planes, int64_t count, Pointers... pointers) {
  for (int64_t i = first_index(); i < count; i += index_step()) {
    Op{}(planes, static_cast<Index>(i), pointers...);
  }
}

template <class Op, class Index, class... Pointers>
void launch_indexed(const Tensor& x, const Planes& planes, Pointers... pointers) {
  torch::stable::accelerator::DeviceGuard guard(x.get_device_index());
  int64_t count = planes.outputs();
  if (count == 0) return;
  for_each_window<Op, Index><<<blocks_for(count), kThreads, 0, current_stream(x)>>>(
      planes, count, pointers...);
  check_launch();
}

// Divisions of 64 bits cost more than all else, so they are left to tensors that need them.
template <template <bool, class> class Op, class... Pointers>
void launch(const Tensor& x, const Planes& planes, Pointers... pointers) {
  bool small = planes.count * planes.height * planes.width <= INT32_MAX;
  bool pairs = planes.width % 2 == 0 && (is_aligned(pointers, 2 * sizeof(*pointers)) && ...);
  if (small && pairs) return launch_indexed<Op<true, uint32_t>, uint32_t>(x, planes, pointers...);
  if (small) return launch_indexed<Op<false, uint32_t>, uint32_t>(x, planes, pointers...);
  launch_indexed<Op<false, int64_t>, int64_t>(x, planes, pointers...);
}

template <class T>
void forward_kernel(const Tensor& tensor, const Planes& planes, const T* x, T* y) {
  launch<Forward>(tensor, planes, x, y);
}

template <class T>
void backward_kernel(const Tensor& tensor, const Planes& planes, const T* grad, const T* x, T* out) {
  launch<Backward>(tensor, planes, grad, x, out);
}

template <class T>
void double_backward_kernel(const Tensor& tensor, const Planes& planes, const T* grad_grad,
                            const T* grad, const T* x, T* out_grad, T* out_x) {
  launch<DoubleBackward>(tensor, planes, grad_grad, grad, x, out_grad, out_x);
}

}  // namespace
}  // namespace opproof

#include "pooled_operators.h"

OPPROOF_REGISTER(CUDA, library) { opproof::implement(library); }
