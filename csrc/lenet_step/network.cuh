// The kernels that take images through the network: forward and back for training, forward alone to
// predict. A block has one seed's parameters and the images of its plan.

#pragma once

#include "lenet_step/layer1.cuh"
#include "lenet_step/layer2.cuh"
#include "lenet_step/linear.cuh"

namespace opproof::gpu {

// The pixels of the team's image.
template <class Plan>
__device__ __forceinline__ void load_pixels(const Place<Plan>& place, const uint8_t* from,
                                            uint8_t* to) {
  constexpr int kWords = kPixels / sizeof(uint32_t);
  for (int i = place.thread; i < kWords; i += Plan::kTeamThreads) {
    reinterpret_cast<uint32_t*>(to)[i] = reinterpret_cast<const uint32_t*>(from)[i];
  }
  if (place.thread == 0) reinterpret_cast<uint32_t*>(to)[kWords] = 0;
}

// From pixels to logits, in shared memory.
template <class Plan, Precision kPrecision, bool kTrain>
__device__ __forceinline__ void forward(const Place<Plan>& place, const float* parameters,
                                        const Weights& weights, Shared<Plan>& shared,
                                        float4* slopes1, Record* records) {
  LinearShared<Plan>& linear = shared.before.linear;
  load_weights2<Plan, kPrecision>(parameters, shared.weight2);
  sync_block();
  if (place.has_image()) {
    ImageShared<Plan>& image = shared.image[place.team];
    forward1<Plan, kPrecision, kTrain>(place, parameters, image, slopes1);
    forward2<Plan, kPrecision, kTrain>(place, parameters, shared.weight2, image,
                                       linear.features[place.team], records + place.team);
  }
  sync_block();
  forward_linear<Plan, kPrecision, kTrain>(place, parameters, weights, shared, records);
}

// The gradients of the convolutions, of an image alone: all warps have a part of it.
template <class Plan, Precision kPrecision>
__device__ __forceinline__ void backward_convolutions_alone(const Place<Plan>& place,
                                                            Shared<Plan>& shared) {
  ImageShared<Plan>& image = shared.image[0];
  Plane1* errors = shared.after.error1;
  float* all_errors = errors[0];
  constexpr int kCount = sizeof(shared.after.error1) / sizeof(float);
  for (int i = threadIdx.x; i < kCount; i += Plan::kThreads) all_errors[i] = 0.0f;
  sync_block();
  if (place.warp < kGradient2Warps) {
    gradient2_of_image<kPrecision>(place.warp, image, place.lane, shared.after.gradient2[0]);
  } else {
    int job = place.warp - kGradient2Warps;
    add_input_error2<kPrecision>(job / kHalves, job % kHalves, image.conv, shared.weight2,
                                 place.lane, errors[job / kHalves]);
  }
  sync_block();
  if (place.warp < kParts) {
    backward1<Plan, kPrecision>(place, image.pixels, errors, shared.alone.slopes1)
        .store(place.lane, shared.after.gradient1[place.warp]);
  }
  sync_block();
}

// The same, of groups of images: first four warps have a group, then each warp an image.
template <class Plan, Precision kPrecision>
__device__ __forceinline__ void backward_convolutions_in_groups(const Place<Plan>& place,
                                                                Shared<Plan>& shared,
                                                                const float4* slopes1) {
  int group = place.team / kGroup, images = min(place.count - group * kGroup, kGroup);
  if (images > 0) {
    gradient2_of_group<kPrecision>(place.team % kGroup, shared.image + group * kGroup, images,
                                   place.lane, shared.after.gradient2[group]);
  }
  sync_block();
  if (place.has_image()) {
    ImageShared<Plan>& image = shared.image[place.team];
    Plane1* error = &image.output1;  // the output itself is not needed any more
    for (int i = place.thread; i < kChannels1 * kPlane1Stride; i += 32) (*error)[i] = 0.0f;
    sync_warp();
#pragma unroll 1
    for (int job = 0; job < kInputErrorJobs; ++job) {
      add_input_error2<kPrecision>(job / kHalves, job % kHalves, image.conv, shared.weight2,
                                   place.lane, *error);
      sync_warp();
    }
    backward1<Plan, kPrecision>(place, image.pixels, error, slopes1)
        .store(place.lane, shared.after.gradient1[place.team]);
  }
  sync_block();
}

// Writes the block's partial sums of the convolutions' gradients, the first one's as of pixels that
// count to 255.
template <class Plan>
__device__ __forceinline__ void store_partials(const Place<Plan>& place, const Shared<Plan>& shared,
                                               float* partials) {
  constexpr int kImages = Plan::kImagesPerPartial;
  for (int partial = 0; partial < Plan::kPartials; ++partial) {
    int first = partial * kImages, images = min(place.count - first, kImages);
    if (images <= 0) return;
    float* to = partials + (blockIdx.x * Plan::kPartials + partial) * kConvolutionParameters;
    for (int i = threadIdx.x; i < kConvolutionParameters; i += Plan::kThreads) {
      float sum = 0.0f;
      if (i < kWeights1) {
        int parts = Plan::kAlone ? kParts : images;
        for (int n = 0; n < parts; ++n) sum += shared.after.gradient1[first + n][i];
      } else if (i < kBias2) {
        sum = shared.after.gradient2[partial][i - kWeight2];
      } else {
        for (int n = 0; n < images; ++n) sum += shared.bias2[first + n][i - kBias2];
      }
      to[i] = sum;
    }
  }
}

// Forward, loss and back for the batch from `first` on of each seed's order. grid.x: images,
// grid.y: seeds.
template <class Plan, Precision kPrecision>
__global__ void __launch_bounds__(Plan::kThreads, Plan::kBlocksPerProcessor)
    differentiate(Images images, int64_t first, int batch, const float* all_parameters,
                  Workspace workspace) {
  Shared<Plan>& shared = shared_memory<Shared<Plan>>();
  const Place<Plan> place(batch);
  const int* numbers = images.order + place.seed * images.samples + first + place.first;
  if (place.has_image()) {
    load_pixels(place, images.pixels + static_cast<int64_t>(numbers[place.team]) * kPixels,
                shared.image[place.team].pixels);
  }
  wait_for_kernel_before();
  const float* parameters = all_parameters + static_cast<int64_t>(place.seed) * kParameters;
  Record* records = workspace.records_of(place.seed) + place.first;
  float4* slopes1;
  if constexpr (Plan::kAlone) {
    slopes1 = shared.alone.slopes1;
  } else {
    slopes1 = workspace.slopes1_of(place.seed, place.image());
  }
  const Weights weights = linear_weights<Plan>(parameters, shared);

  forward<Plan, kPrecision, true>(place, parameters, weights, shared, slopes1, records);
  cross_entropy(place, numbers, images.labels, batch, shared.before.linear, records);
  sync_block();
  backward_linear<Plan, kPrecision>(place, parameters, weights, shared.before.linear, records);
  if (place.has_image()) {
    error_of_convolution2<Plan, kPrecision>(place, shared.before.linear.features[place.team],
                                            shared.image[place.team], shared.bias2[place.team]);
  }
  sync_block();
  if constexpr (Plan::kAlone) {
    backward_convolutions_alone<Plan, kPrecision>(place, shared);
  } else {
    backward_convolutions_in_groups<Plan, kPrecision>(place, shared, slopes1);
  }
  store_partials(place, shared, workspace.partials_of(place.seed));
}

// Classes [seeds, n] of the images as they come. grid.x: images, grid.y: seeds.
template <class Plan>
__global__ void __launch_bounds__(Plan::kThreads, Plan::kBlocksPerProcessor)
    classify(const uint8_t* images, int count, const float* all_parameters, uint8_t* classes) {
  Shared<Plan>& shared = shared_memory<Shared<Plan>>();
  const Place<Plan> place(count);
  if (place.has_image()) {
    load_pixels(place, images + static_cast<int64_t>(place.image()) * kPixels,
                shared.image[place.team].pixels);
  }
  const float* parameters = all_parameters + static_cast<int64_t>(place.seed) * kParameters;
  const Weights weights = linear_weights<Plan>(parameters, shared);
  forward<Plan, Precision::kFp32, false>(place, parameters, weights, shared, nullptr, nullptr);
  if (int image = threadIdx.x; image < place.count) {
    const float* logits = shared.before.linear.classes[image];
    int best = 0;
    for (int i = 1; i < kClasses; ++i) best = logits[i] > logits[best] ? i : best;
    classes[static_cast<int64_t>(place.seed) * count + place.first + image] = best;
  }
}

}  // namespace opproof::gpu
