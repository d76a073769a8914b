// Training LeNet-5 over an axis of seeds: the operators' schemas, and their kernels for the CPU.
//
// A thread trains one seed after the other in memory of its own. A step takes 16 images at a time
// through the network and back, side by side in vectors, weights broadcast: no product needs its
// operands rearranged, and what one group leaves for its way back stays in the second-level cache.
// Weight gradients of the convolutions are summed by lane; those of the linear layers wait for the
// whole batch.

#include <cmath>
#include <cstring>
#include <memory>
#include <utility>

#include "activation.h"
#include "cpu.h"
#include "lenet_step.h"
#include "lenet_step/workspace.h"

#if defined(__x86_64__)
#include <immintrin.h>
#endif

// Before a loop over sums that are to stand in registers.
#define OPPROOF_UNROLL _Pragma("GCC unroll 32")

// How vectors are passed depends on the instruction set; but none is passed out of its own.
#pragma GCC diagnostic ignored "-Wpsabi"

namespace opproof::lenet {
namespace {

typedef uint8_t Bytes __attribute__((vector_size(kLanes)));

// Where images and labels lie.
struct Data {
  const uint8_t* images;
  const uint8_t* labels;
};

namespace baseline {

constexpr int kWidth = 4;
typedef float Vector __attribute__((vector_size(16), may_alias));

OPPROOF_INLINE Vector fma(Vector a, Vector b, Vector c) {
  return Vector{opproof::fma(a[0], b[0], c[0]), opproof::fma(a[1], b[1], c[1]),
                opproof::fma(a[2], b[2], c[2]), opproof::fma(a[3], b[3], c[3])};
}

struct Blocks {
  static constexpr int forward1 = 3, forward2 = 2, rows1 = 6, gradient1 = 2, gradient2 = 2;
  static constexpr int linear = 12, rows = 6, vectors = 2;
};

#include "lenet_step/kernels.h"

}  // namespace baseline

#if defined(__x86_64__)
#pragma GCC push_options
#pragma GCC target("arch=x86-64-v3")
namespace avx2 {

constexpr int kWidth = 8;
using Vector = __m256;

OPPROOF_INLINE Vector fma(Vector a, Vector b, Vector c) { return _mm256_fmadd_ps(a, b, c); }

struct Blocks {  // for 16 registers
  static constexpr int forward1 = 3, forward2 = 2, rows1 = 6, gradient1 = 2, gradient2 = 2;
  static constexpr int linear = 12, rows = 6, vectors = 2;
};

#include "lenet_step/kernels.h"

}  // namespace avx2
#pragma GCC pop_options

#pragma GCC push_options
#pragma GCC target("arch=x86-64-v4,prefer-vector-width=512")
namespace avx512 {

constexpr int kWidth = 16;
using Vector = __m512;

OPPROOF_INLINE Vector fma(Vector a, Vector b, Vector c) { return _mm512_fmadd_ps(a, b, c); }

struct Blocks {  // for 32 registers
  static constexpr int forward1 = 6, forward2 = 4, rows1 = 12, gradient1 = 3, gradient2 = 4;
  static constexpr int linear = 24, rows = 6, vectors = 4;
};

#include "lenet_step/kernels.h"

}  // namespace avx512
#pragma GCC pop_options
#endif

// What differs by instruction set.
struct Kernels {
  decltype(&baseline::step) step;
  decltype(&baseline::predict_group) predict_group;
};

Kernels kernels() {
  switch (isa().load(std::memory_order_relaxed)) {
#if defined(__x86_64__)
    case Isa::avx512: return {avx512::step, avx512::predict_group};
    case Isa::avx2: return {avx2::step, avx2::predict_group};
#endif
    default: return {baseline::step, baseline::predict_group};
  }
}

// A seed's row of each tensor.
struct Seed {
  const int32_t* order;
  float *parameters, *first_moments, *second_moments, *losses;
};

void train_seed(const Training& training, const Data& data, const float* schedule, const Seed& seed,
                const Kernels& kernels, Workspace& work) {
  constexpr size_t kBytes = kParameters * sizeof(float);
  memcpy(work.parameters, seed.parameters, kBytes);
  memcpy(work.first_moments, seed.first_moments, kBytes);
  memcpy(work.second_moments, seed.second_moments, kBytes);
  for (int64_t step = 0; step < training.steps; ++step) {
    int64_t first = step * training.batch_size;
    int64_t count = std::min(training.batch_size, training.samples - first);
    seed.losses[step] =
        kernels.step(data, seed.order + first, count, schedule + 3 * step, work);
  }
  memcpy(seed.parameters, work.parameters, kBytes);
  memcpy(seed.first_moments, work.first_moments, kBytes);
  memcpy(seed.second_moments, work.second_moments, kBytes);
}

}  // namespace
}  // namespace opproof::lenet

namespace opproof {
namespace {

void train_kernel(const Training& training, const Tensor& images, const Tensor& labels,
                  const Tensor& order, const Tensor& schedule, const Tensor& parameters,
                  const Tensor& first_moments, const Tensor& second_moments, const Tensor& losses,
                  bool tf32) {
  using namespace lenet;
  STD_TORCH_CHECK(!tf32, "tf32 is for GPUs: a CPU has none");
  Data data{opproof::data<const uint8_t>(images), opproof::data<const uint8_t>(labels)};
  const int32_t* indices = opproof::data<const int32_t>(order);
  bool in_range = std::all_of(indices, indices + order.numel(), [&](int32_t index) {
    return index >= 0 && index < training.images;
  });
  STD_TORCH_CHECK(in_range, "order must be of indices into images");
  bool are_classes = std::all_of(data.labels, data.labels + training.images,
                                 [](uint8_t label) { return label < kClasses; });
  STD_TORCH_CHECK(are_classes, "labels must be below 10");
  int64_t largest = std::min(training.batch_size, training.samples);
  torch::stable::parallel_for(0, training.seeds, 1, [&](int64_t begin, int64_t end) {
    auto work = std::make_unique<Workspace>(largest);
    for (int64_t i = begin; i < end; ++i) {
      Seed seed{indices + i * training.samples,
                opproof::data<float>(parameters) + i * kParameters,
                opproof::data<float>(first_moments) + i * kParameters,
                opproof::data<float>(second_moments) + i * kParameters,
                opproof::data<float>(losses) + i * training.steps};
      train_seed(training, data, opproof::data<const float>(schedule), seed, kernels(), *work);
    }
  });
}

void predict_kernel(const Tensor& images, const Tensor& parameters, const Tensor& classes) {
  using namespace lenet;
  int64_t count = images.size(0), groups = (count + kLanes - 1) / kLanes;
  // Counted over all seeds: one of them, too, is work for all threads.
  torch::stable::parallel_for(0, parameters.size(0) * groups, 1, [&](int64_t begin, int64_t end) {
    auto group = std::make_unique<Group>();
    for (int64_t i = begin; i < end; ++i) {
      int64_t seed = i / groups, first = i % groups * kLanes;
      kernels().predict_group(data<const uint8_t>(images) + first * kPixels,
                              static_cast<int>(std::min<int64_t>(kLanes, count - first)),
                              data<const float>(parameters) + seed * kParameters, *group,
                              data<uint8_t>(classes) + seed * count + first);
    }
  });
}

}  // namespace
}  // namespace opproof

#include "lenet_step_operators.h"

OPPROOF_DEFINE(library) {
  // Trains LeNet-5 by torch.optim.NAdam: parameters and moments are [seeds, 44426], order is which
  // images each seed sees, int32 [seeds, samples], and schedule, [steps, 3], has for each step the
  // factors of the gradient, of the first moment, and of the second moment's root:
  //
  //   -lr (1 - mu_t) / (1 - prod mu),  -lr mu_t+1 / (1 - mu_t+1 prod mu),  1 / sqrt(1 - 0.999^t)
  //
  // Writes the mean cross entropy of each batch to losses, [seeds, steps].
  library.def(
      "train(Tensor images, Tensor labels, Tensor order, Tensor schedule, Tensor(a!) parameters, "
      "Tensor(b!) first_moments, Tensor(c!) second_moments, Tensor(d!) losses, int batch_size, "
      "bool tf32) -> ()");
  // The classes that each seed's network finds most likely: uint8 [seeds, n].
  library.def("predict(Tensor images, Tensor parameters) -> Tensor");
  // As elementwise.cpp's.
  library.def("use_isa(int level) -> int");
}

OPPROOF_REGISTER(CPU, library) { opproof::implement(library); }

OPPROOF_REGISTER(CompositeExplicitAutograd, library) {
  library.impl("use_isa", TORCH_BOX(&opproof::use_isa));
}
