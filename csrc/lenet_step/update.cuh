// The kernel that sums the gradients over a batch and takes NAdam's step.

#pragma once

#include <cstddef>

#include "lenet_step/layout.cuh"

namespace opproof::gpu {

// NAdam's scalars of a step: the factors of gradient and first moment, and 1 / sqrt(1 - beta2^t).
struct Schedule {
  float of_gradient, of_moment, of_root;
};

// A parameter and its moments, as they are in memory.
struct State {
  float *parameter, *first_moment, *second_moment;

  __device__ __forceinline__ State at(int64_t index) const {
    return {parameter + index, first_moment + index, second_moment + index};
  }
};

__device__ __forceinline__ void step(float gradient, Schedule schedule, float& parameter,
                                     float& first_moment, float& second_moment) {
  constexpr float kOneMinusBeta1 = 0.1f, kBeta2 = 0.999f, kOneMinusBeta2 = 0.001f, kEpsilon = 1e-8f;
  first_moment = fma(gradient - first_moment, kOneMinusBeta1, first_moment);
  second_moment = fma(kOneMinusBeta2 * gradient, gradient, kBeta2 * second_moment);
  float denominator = fma(sqrtf(second_moment), schedule.of_root, kEpsilon);
  float numerator = fma(schedule.of_gradient, gradient, schedule.of_moment * first_moment);
  parameter += divide(numerator, denominator);
}

__device__ __forceinline__ void step(float gradient, Schedule schedule, State state) {
  step(gradient, schedule, *state.parameter, *state.first_moment, *state.second_moment);
}

constexpr int kUpdateThreads = 256;

// A block of a linear layer has 64 x 64 weights, outputs by inputs, and 64 images at a time.
constexpr int kUpdateTile = 64;
constexpr int kUpdateStride = kUpdateTile + 8;

struct UpdateShared {
  float errors[kUpdateTile][kUpdateStride];  // image, output
  float inputs[kUpdateTile][kUpdateStride];  // image, input
};

// A linear layer in the parameters, and in the records from which its gradient is made.
struct Linear {
  int weights, biases, inputs, outputs;
  int recorded_inputs, recorded_errors;  // in floats

  __host__ __device__ constexpr int rows() const {
    return (outputs + kUpdateTile - 1) / kUpdateTile;
  }
  __host__ __device__ constexpr int columns() const {
    return (inputs + kUpdateTile - 1) / kUpdateTile;
  }
  __host__ __device__ constexpr int blocks() const { return rows() * columns(); }
};

__host__ __device__ constexpr int in_floats(size_t bytes) {
  return static_cast<int>(bytes / sizeof(float));
}

template <int kLayer>
__host__ __device__ constexpr Linear linear() {
  if constexpr (kLayer == 1) {
    return {kWeight3, kBias3, kFeatures, kHidden1,
            in_floats(offsetof(Record, features)), in_floats(offsetof(Record, error1))};
  } else if constexpr (kLayer == 2) {
    return {kWeight4, kBias4, kHidden1, kHidden2,
            in_floats(offsetof(Record, hidden1)), in_floats(offsetof(Record, error2))};
  } else {
    return {kWeight5, kBias5, kHidden2, kClasses,
            in_floats(offsetof(Record, hidden2)), in_floats(offsetof(Record, classes))};
  }
}

// A block of convolutions' parameters has 64, each with four threads, which sum every fourth group.
constexpr int kSummers = 4;
constexpr int kParametersPerBlock = kUpdateThreads / kSummers;
constexpr int kConvolutionBlocks =
    (kConvolutionParameters + kParametersPerBlock - 1) / kParametersPerBlock;

// The blocks of a seed: those of the linear layers, of the convolutions, and one for the loss.
constexpr int kLinearBlocks = linear<1>().blocks() + linear<2>().blocks() + linear<3>().blocks();
constexpr int kUpdateBlocks = kLinearBlocks + kConvolutionBlocks + 1;

// Columns from `first` on of `count` records' array, which has `width` of them; zero beyond.
__device__ __forceinline__ void load_tile(const Record* records, int count, int array, int first,
                                          int width, float (&to)[kUpdateTile][kUpdateStride]) {
  constexpr int kAcross = kUpdateTile / 4, kDown = kUpdateThreads / kAcross;
  int column = threadIdx.x % kAcross * 4;
#pragma unroll
  for (int row = threadIdx.x / kAcross; row < kUpdateTile; row += kDown) {
    float4 values = make_float4(0.0f, 0.0f, 0.0f, 0.0f);
    if (row < count && first + column < width) {
      const float* from = reinterpret_cast<const float*>(records + row) + array;
      values = *reinterpret_cast<const float4*>(from + first + column);
    }
    *reinterpret_cast<float4*>(&to[row][column]) = values;
  }
}

// Two neighbours of a row of weights and their moments, in registers.
struct Pair {
  float2 parameters, first_moments, second_moments;

  __device__ __forceinline__ void load(State from) {
    parameters = *reinterpret_cast<const float2*>(from.parameter);
    first_moments = *reinterpret_cast<const float2*>(from.first_moment);
    second_moments = *reinterpret_cast<const float2*>(from.second_moment);
  }

  __device__ __forceinline__ void step_and_store(float left, float right, Schedule schedule,
                                                 State to) {
    step(left, schedule, parameters.x, first_moments.x, second_moments.x);
    step(right, schedule, parameters.y, first_moments.y, second_moments.y);
    *reinterpret_cast<float2*>(to.parameter) = parameters;
    *reinterpret_cast<float2*>(to.first_moment) = first_moments;
    *reinterpret_cast<float2*>(to.second_moment) = second_moments;
  }
};

// A warp has 16 outputs and 32 inputs of the block's, in four products; the sum runs over the
// images. Of each product a lane has two neighbouring inputs of the outputs `group` and group + 8.
template <Precision kPrecision>
__device__ __forceinline__ void update_linear(const Linear layer, int tile, const Record* records,
                                              int batch, Schedule schedule, State state) {
  constexpr int kProducts = 4, kWarpsDown = kUpdateTile / 16;
  UpdateShared& shared = shared_memory<UpdateShared>();
  const Lane lane = lane_of(threadIdx.x);
  const int warp = threadIdx.x / 32;
  const int first_output = tile / layer.columns() * kUpdateTile;
  const int first_input = tile % layer.columns() * kUpdateTile;
  const int output = warp % kWarpsDown * 16 + lane.group;
  const int input = warp / kWarpsDown * 8 * kProducts;

  auto for_each_pair = [&](auto&& body) {
#pragma unroll
    for (int i = 0; i < kProducts; ++i) {
#pragma unroll
      for (int half = 0; half < 2; ++half) {
        int row = first_output + output + 8 * half;
        int column = first_input + input + 8 * i + 2 * lane.member;
        if (row < layer.outputs && column < layer.inputs) {
          body(i, half, state.at(layer.weights + row * layer.inputs + column));
        }
      }
    }
  };

  Pair pairs[kProducts][2];  // fetched early: memory is far
  for_each_pair([&](int i, int half, State at) { pairs[i][half].load(at); });
  Sums d[kProducts];
  float bias = 0.0f;
#pragma unroll 1
  for (int first = 0; first < batch; first += kUpdateTile) {
    int count = min(batch - first, kUpdateTile);
    sync_block();  // the images before are done with
    load_tile(records + first, count, layer.recorded_errors, first_output, layer.outputs,
              shared.errors);
    load_tile(records + first, count, layer.recorded_inputs, first_input, layer.inputs,
              shared.inputs);
    sync_block();
#pragma unroll 1
    for (int n = 0; n < count; n += 8) {
      const float* e = &shared.errors[n + lane.member][output];
      const float* x = &shared.inputs[n + lane.member][input + lane.group];
      float a[4] = {operand<kPrecision>(e[0]), operand<kPrecision>(e[8]),
                    operand<kPrecision>(e[4 * kUpdateStride]),
                    operand<kPrecision>(e[4 * kUpdateStride + 8])};
#pragma unroll
      for (int i = 0; i < kProducts; ++i) {
        float b[2] = {x[8 * i], x[4 * kUpdateStride + 8 * i]};
        multiply_add<kPrecision>(d[i], a, b);
      }
    }
    if (first_input == 0 && threadIdx.x < kUpdateTile) {
      for (int n = 0; n < count; ++n) bias += shared.errors[n][threadIdx.x];
    }
  }
  for_each_pair([&](int i, int half, State at) {
    pairs[i][half].step_and_store(d[i].at[2 * half], d[i].at[2 * half + 1], schedule, at);
  });
  int neuron = first_output + threadIdx.x;
  if (first_input == 0 && threadIdx.x < kUpdateTile && neuron < layer.outputs) {
    step(bias, schedule, state.at(layer.biases + neuron));
  }
}

// Sums a parameter's partial gradients over the groups of images: four threads every fourth group,
// then these four. A group is one partial sum, or those of its images.
__device__ __forceinline__ void update_convolutions(int block, const float* partials, int batch,
                                                    int images_per_partial, Schedule schedule,
                                                    State state) {
  auto& sums = shared_memory<float[kSummers][kParametersPerBlock]>();
  int summer = threadIdx.x / kParametersPerBlock, column = threadIdx.x % kParametersPerBlock;
  int parameter = block * kParametersPerBlock + column;
  bool there = parameter < kConvolutionParameters;
  float sum = 0.0f;
  if (there) {
    int per_group = kGroup / images_per_partial;
    int count = (batch + images_per_partial - 1) / images_per_partial;
#pragma unroll 4
    for (int first = summer * per_group; first < count; first += kSummers * per_group) {
      float of_group = 0.0f;
      for (int i = first; i < min(first + per_group, count); ++i) {
        of_group += partials[static_cast<int64_t>(i) * kConvolutionParameters + parameter];
      }
      sum += of_group;
    }
  }
  sums[summer][column] = sum;
  sync_block();
  if (there && summer == 0) {
    float gradient = (sums[0][column] + sums[1][column]) + (sums[2][column] + sums[3][column]);
    bool of_pixels = parameter < kBias1;
    step(of_pixels ? gradient * kPixelScale : gradient, schedule, state.at(parameter));
  }
}

// The mean of the images' losses, by a warp.
__device__ __forceinline__ void mean_loss(const Record* records, int batch, float* loss) {
  if (threadIdx.x >= 32) return;
  float sum = 0.0f;
  for (int n = threadIdx.x; n < batch; n += 32) sum += records[n].loss;
#pragma unroll
  for (int mask = 16; mask > 0; mask /= 2) sum += exchange(sum, mask);
  if (threadIdx.x == 0) *loss = sum / static_cast<float>(batch);
}

// All parameters of a seed and its loss. grid.x: blocks of a seed, grid.y: seeds.
template <Precision kPrecision>
__global__ void __launch_bounds__(kUpdateThreads, 2)
    update(Workspace workspace, int batch, int images_per_partial, const float* schedules,
           State states, float* losses, int64_t step, int64_t steps) {
  const int seed = blockIdx.y;
  const Record* records = workspace.records_of(seed);
  const float* scalars = schedules + 3 * step;
  const Schedule schedule = {scalars[0], scalars[1], scalars[2]};
  const State state = states.at(static_cast<int64_t>(seed) * kParameters);
  wait_for_kernel_before();
  int block = blockIdx.x;
  if (block < linear<1>().blocks()) {
    return update_linear<kPrecision>(linear<1>(), block, records, batch, schedule, state);
  }
  block -= linear<1>().blocks();
  if (block < linear<2>().blocks()) {
    return update_linear<kPrecision>(linear<2>(), block, records, batch, schedule, state);
  }
  block -= linear<2>().blocks();
  if (block < linear<3>().blocks()) {
    return update_linear<kPrecision>(linear<3>(), block, records, batch, schedule, state);
  }
  block -= linear<3>().blocks();
  if (block < kConvolutionBlocks) {
    return update_convolutions(block, workspace.partials_of(seed), batch, images_per_partial,
                               schedule, state);
  }
  mean_loss(records, batch, losses + seed * steps + step);
}

}  // namespace opproof::gpu
