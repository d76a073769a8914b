// The activation, its derivative and its second derivative over a tensor: the operators' schemas, and
// their kernels for the CPU.

#include "elementwise.h"

#include "cpu.h"
#include "tensor.h"

namespace opproof {
namespace {

// As torch's own elementwise loops: less is not worth waking a thread.
constexpr int64_t kLeastPerThread = 32768;

// out[i] = op(in[i]...), computed in float or double.
template <class Op, class T, class... In>
OPPROOF_INLINE void apply(int64_t count, T* __restrict__ out, const In* __restrict__... in) {
#pragma omp simd
  for (int64_t i = 0; i < count; ++i) out[i] = narrow<T>(Op{}(widen(in[i])...));
}

template <class Op, class T, class... In>
void map(int64_t count, T* out, const In*... in) {
  parallel(count, kLeastPerThread, [=](int64_t begin, int64_t end) __attribute__((always_inline)) {
    in_blocks(begin, end, [=](int64_t i, int64_t size) __attribute__((always_inline)) {
      apply<Op>(size, out + i, in + i...);
    }, in...);
  });
}

// All tensors are dense and of one layout: it does not matter which element is where.
template <class Op, class... In>
void map_tensors(const Tensor& out, const In&... in) {
  dispatch(out.scalar_type(), [&](auto type) {
    using T = decltype(type);
    map<Op>(out.numel(), static_cast<T*>(out.mutable_data_ptr()),
            static_cast<const T*>(in.const_data_ptr())...);
  });
}

}  // namespace
}  // namespace opproof

#include "elementwise_operators.h"

OPPROOF_DEFINE(library) {
  library.def("forward(Tensor x) -> Tensor");
  library.def("backward(Tensor grad, Tensor x) -> Tensor");
  library.def("double_backward(Tensor grad_grad, Tensor grad, Tensor x) -> Tensor");
  // Into memory that is there: x and out dense, of one layout.
  library.def("forward_out(Tensor x, Tensor(a!) out) -> ()");
  library.def("backward_out(Tensor grad, Tensor x, Tensor(a!) out) -> ()");
  // Takes no higher instruction set than 0 (baseline), 1 (AVX2) or 2 (AVX-512); -1: the machine's
  // best. Returns the one in force.
  library.def("use_isa(int level) -> int");
}

OPPROOF_REGISTER(CPU, library) { opproof::implement(library); }

OPPROOF_REGISTER(CompositeExplicitAutograd, library) {
  library.impl("use_isa", TORCH_BOX(&opproof::use_isa));
}
