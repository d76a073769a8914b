// The two large linear layers' weights on their way to shared memory, while a block convolves.

#pragma once

#include "lenet_step/layout.cuh"

namespace opproof::gpu {

// The weights of the linear layers that a block reads, at Plan::kWeight3Stride and kHidden1.
struct Weights {
  const float *third, *fourth;
};

// Floats from the 16-byte boundary before it: parameters of a seed begin at one of 8.
__device__ __forceinline__ int beyond_boundary(const float* address) {
  return static_cast<int>(reinterpret_cast<uintptr_t>(address) / sizeof(float) % 4);
}

// A warp starts to copy rows of kLength floats to rows at kStride, from the boundary before the
// first: what is wanted lies as far from one as it did.
template <int kRows, int kLength, int kStride>
__device__ __forceinline__ void start_copy(const float* from, float* to, Arrival& arrival) {
  int lane = threadIdx.x % 32, beyond = beyond_boundary(from);
  int bytes = sizeof(float) * (beyond > 0 ? kLength + 4 : kLength);
  if (lane == 0) arrival.expect(kRows * bytes);
  sync_warp();
  for (int row = lane; row < kRows; row += 32) {
    arrival.copy(to + row * kStride, from - beyond + row * kLength, bytes);
  }
}

// The weights where a block reads them. In shared memory they are there once the layers' arrivals
// have been waited for, at a block's barrier after this at the earliest.
template <class Plan>
__device__ __forceinline__ Weights linear_weights(const float* parameters, Shared<Plan>& shared) {
  const float *third = parameters + kWeight3, *fourth = parameters + kWeight4;
  if constexpr (Plan::kStaged) {
    StagedWeights<true>& staged = shared.before.staged;
    if (threadIdx.x < 32) {
      if (threadIdx.x == 0) {
        for (Arrival& arrival : shared.alone.arrivals) arrival.init();
      }
      sync_warp();
      start_copy<kHidden1, kFeatures, Plan::kWeight3Stride>(third, staged.third,
                                                            shared.alone.arrivals[0]);
      start_copy<1, kHidden2 * kHidden1, 0>(fourth, staged.fourth, shared.alone.arrivals[1]);
    }
    return {staged.third + beyond_boundary(third), staged.fourth + beyond_boundary(fourth)};
  } else {
    return {third, fourth};
  }
}

// Waits for a layer's weights.
template <class Plan>
__device__ __forceinline__ void wait_for_weights(int layer, Shared<Plan>& shared) {
  if constexpr (Plan::kStaged) shared.alone.arrivals[layer - 3].wait();
}

}  // namespace opproof::gpu
