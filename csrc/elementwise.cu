// The kernels of elementwise.cpp's operators for CUDA.

#include "elementwise.h"

#include "gpu.h"

namespace opproof {
namespace {

// As many values as one 16-byte access holds.
template <class T>
struct alignas(16) Pack {
  static constexpr int kSize = 16 / sizeof(T);
  T at[kSize];
};

template <class Op, class T, class... In>
__global__ void __launch_bounds__(kThreads) map_packs(int64_t count, Pack<T>* out, const In*... in) {
  for (int64_t i = first_index(); i < count; i += index_step()) {
    auto apply = [](const auto&... loaded) {
      Pack<T> result;
#pragma unroll
      for (int j = 0; j < Pack<T>::kSize; ++j) {
        result.at[j] = narrow<T>(Op{}(widen(loaded.at[j])...));
      }
      return result;
    };
    out[i] = apply(Pack<T>(in[i])...);
  }
}

template <class Op, class T, class... In>
__global__ void __launch_bounds__(kThreads)
    map_values(int64_t begin, int64_t count, T* out, const In*... in) {
  for (int64_t i = begin + first_index(); i < count; i += index_step()) {
    out[i] = narrow<T>(Op{}(widen(in[i])...));
  }
}

// out[i] = op(in[i]...): in packs as far as they go, if all tensors allow them; else one by one.
template <class Op, class T, class... In>
void map(cudaStream_t stream, int64_t count, T* out, const In*... in) {
  bool aligned = is_aligned(out, 16) && (is_aligned(in, 16) && ...);
  int64_t packs = aligned ? count / Pack<T>::kSize : 0;
  if (packs > 0) {
    map_packs<Op, T><<<blocks_for(packs), kThreads, 0, stream>>>(
        packs, reinterpret_cast<Pack<T>*>(out), reinterpret_cast<const Pack<T>*>(in)...);
    check_launch();
  }
  int64_t done = packs * Pack<T>::kSize;
  if (done < count) {
    map_values<Op, T><<<blocks_for(count - done), kThreads, 0, stream>>>(done, count, out, in...);
    check_launch();
  }
}

// All tensors are dense and of one layout: it does not matter which element is where.
template <class Op, class... In>
void map_tensors(const Tensor& out, const In&... in) {
  torch::stable::accelerator::DeviceGuard guard(out.get_device_index());
  dispatch(out.scalar_type(), [&](auto type) {
    using T = decltype(type);
    map<Op>(current_stream(out), out.numel(), static_cast<T*>(out.mutable_data_ptr()),
            static_cast<const T*>(in.const_data_ptr())...);
  });
}

}  // namespace
}  // namespace opproof

#include "elementwise_operators.h"

OPPROOF_REGISTER(CUDA, library) { opproof::implement(library); }
