// The operators of lenet_step.cpp for CUDA: two launches a step. What is in csrc/lenet_step/:
//
//   launches.cuh   which kernels make a call
//   network.cuh    the kernel that takes images forward and back, and the one that predicts
//   layer1.cuh, layer2.cuh, linear.cuh, window.cuh   its parts
//   update.cuh     the kernel that sums over the batch and takes NAdam's step
//   staging.cuh    weights copied to shared memory ahead of their use
//   layout.cuh     who computes what, and where it lies
//   matrix.cuh     products on the tensor cores
//   warp.cuh       what depends on CUDA's compiler
//
// The results are the same bits in every run, for a seed alone or among others: each sum has one
// order. What only the device could tell is not checked: order must be below the number of images;
// a label above 9 gives a loss of NaN.

#include "lenet_step/launches.cuh"

#include "gpu.h"
#include "lenet_step.h"

namespace opproof {
namespace {

// A block for each image while they are so few that eight images a block would leave the GPU idle:
// the number of blocks for each of its processors up to which that takes less time.
constexpr int64_t kBlocksAlone = 4;

constexpr int64_t kMostSeeds = 65535;  // of a grid

int attribute(const Tensor& tensor, cudaDeviceAttr name) {
  int value = 0;
  cudaError_t error = cudaDeviceGetAttribute(&value, name, tensor.get_device_index());
  STD_TORCH_CHECK(error == cudaSuccess, "CUDA: ", cudaGetErrorString(error));
  return value;
}

// Whether kernels may start before the one before them ends, and copy to shared memory in bulk.
bool is_hopper_or_later(const Tensor& tensor) {
  return attribute(tensor, cudaDevAttrComputeCapabilityMajor) >= 9;
}

// Launches as launches.cuh says, on torch's current stream.
struct Launcher {
  cudaStream_t stream;
  bool may_be_early;

  explicit Launcher(const Tensor& tensor)
      : stream(current_stream(tensor)), may_be_early(is_hopper_or_later(tensor)) {}

  template <class... Parameters, class... Arguments>
  void operator()(void (*kernel)(Parameters...), bool early, int64_t columns, int64_t rows,
                  int threads, size_t shared_bytes, Arguments... arguments) const {
    cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize,
                         static_cast<int>(shared_bytes));
    cudaLaunchAttribute start = {};
    start.id = cudaLaunchAttributeProgrammaticStreamSerialization;
    start.val.programmaticStreamSerializationAllowed = 1;
    cudaLaunchConfig_t config = {};
    config.gridDim = dim3(static_cast<unsigned>(columns), static_cast<unsigned>(rows));
    config.blockDim = dim3(threads);
    config.dynamicSmemBytes = shared_bytes;
    config.stream = stream;
    config.attrs = &start;
    config.numAttrs = early && may_be_early;
    cudaLaunchKernelEx(&config, kernel, static_cast<Parameters>(arguments)...);
    check_launch();
  }
};

Tensor floats(const Tensor& like, int64_t count) {
  return torch::stable::new_empty(like, std::vector<int64_t>{count}, ScalarType::Float);
}

using Alone = gpu::Plan<1>;
using Staged = gpu::Plan<1, true>;
using Eight = gpu::Plan<8>;

template <class Plan>
bool fits(const Tensor& tensor) {
  int largest = attribute(tensor, cudaDevAttrMaxSharedMemoryPerBlockOptin);
  return sizeof(gpu::Shared<Plan>) <= static_cast<size_t>(largest);
}

void check_for_gpu(const Tensor& images, const Tensor& parameters) {
  STD_TORCH_CHECK(parameters.size(0) <= kMostSeeds, "at most 65535 seeds, on a GPU");
  STD_TORCH_CHECK(is_aligned(images.const_data_ptr(), 4), "images must be aligned to 4 bytes");
}

void check_aligned(const Tensor& state, const char* name) {
  STD_TORCH_CHECK(is_aligned(state.const_data_ptr(), 8), name, " must be aligned to 8 bytes");
}

template <class Plan>
void train_by(const Tensor& tensor, const gpu::TrainingArrays& training, bool tf32) {
  int64_t images = training.seeds * training.batch_size;
  int64_t partials = gpu::partials_per_seed<Plan>(training.batch_size);
  constexpr int64_t kRecord = sizeof(gpu::Record) / sizeof(float);
  Tensor records = floats(tensor, images * kRecord);
  Tensor sums = floats(tensor, training.seeds * partials * gpu::kConvolutionParameters);
  Tensor slopes = floats(tensor, Plan::kAlone ? 0 : images * gpu::kWindows1 * 4);
  gpu::Workspace workspace = {data<gpu::Record>(records), data<float>(sums), data<float4>(slopes),
                              training.batch_size, partials};
  Launcher launch(tensor);
  if (tf32) {
    gpu::train_by<Plan, gpu::Precision::kTf32>(launch, training, workspace);
  } else {
    gpu::train_by<Plan, gpu::Precision::kFp32>(launch, training, workspace);
  }
}

void train_kernel(const Training& training, const Tensor& images, const Tensor& labels,
                  const Tensor& order, const Tensor& schedule, const Tensor& parameters,
                  const Tensor& first_moments, const Tensor& second_moments, const Tensor& losses,
                  bool tf32) {
  check_for_gpu(images, parameters);
  check_aligned(parameters, "parameters");
  check_aligned(first_moments, "first_moments");
  check_aligned(second_moments, "second_moments");
  torch::stable::accelerator::DeviceGuard guard(images.get_device_index());
  gpu::TrainingArrays arrays = {
      {data<const uint8_t>(images), data<const uint8_t>(labels), data<const int>(order),
       training.samples},
      data<const float>(schedule),
      {data<float>(parameters), data<float>(first_moments), data<float>(second_moments)},
      data<float>(losses),
      training.seeds,
      std::min(training.batch_size, training.samples)};
  int64_t processors = attribute(images, cudaDevAttrMultiProcessorCount);
  bool few = arrays.seeds * arrays.batch_size <= kBlocksAlone * processors;
  if (!few && fits<Eight>(images)) {
    train_by<Eight>(parameters, arrays, tf32);
  } else if (is_hopper_or_later(images) && fits<Staged>(images)) {
    train_by<Staged>(parameters, arrays, tf32);
  } else {
    train_by<Alone>(parameters, arrays, tf32);
  }
}

void predict_kernel(const Tensor& images, const Tensor& parameters, const Tensor& classes) {
  check_for_gpu(images, parameters);
  check_aligned(parameters, "parameters");
  torch::stable::accelerator::DeviceGuard guard(images.get_device_index());
  auto predict = [&](auto plan) {
    gpu::predict_by<decltype(plan)>(Launcher(images), data<const uint8_t>(images), images.size(0),
                                    parameters.size(0), data<const float>(parameters),
                                    data<uint8_t>(classes));
  };
  if (fits<Eight>(images)) {
    predict(Eight{});
  } else {
    predict(Alone{});
  }
}

}  // namespace
}  // namespace opproof

#include "lenet_step_operators.h"

OPPROOF_REGISTER(CUDA, library) { opproof::implement(library); }
