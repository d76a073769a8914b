// Who computes what, and where it lies: the plan of a block, its shared memory, and what kernels
// leave to each other in global memory.

#pragma once

#include <cstdint>

#include "lenet.h"
#include "lenet_step/matrix.cuh"

namespace opproof::gpu {

using namespace lenet;

constexpr int kConvolutionParameters = kWeight3;  // the two convolutions' weights and biases

// Pixels count from 0 to 255 here, exact in TF32; the first weights carry the scale.
constexpr float kPixelScale = 1.0f / 255.0f;

// Gradients of convolutions are summed over groups of so many images, then over the groups: the
// order is the same whether a block has one image or two groups of them.
constexpr int kGroup = 4;

// Strides of arrays in shared memory, in floats: as small as they can be where lanes of a warp meet
// in no bank. Lanes that differ in `group` read rows, or columns, that are a stride apart.
constexpr int kImageStride = kImage;                   // bytes
constexpr int kWeight2Stride = 156;                    // of a channel's weights
constexpr int kPlane1Stride = kPool1 * kPool1 + 8;     // of a channel, in the first layer's output
constexpr int kPlane2Stride = kConv2 * kConv2 + 8;     // of a channel, in the second convolution
constexpr int kRowStride1 = kConv1;                    // of a row, in the first convolution
constexpr int kFeatureStride = kFeatures + 8;
constexpr int kHidden1Stride = kHidden1 + 16;
constexpr int kHidden2Stride = kHidden2 + 20;
constexpr int kError1Stride = kHidden1 + 4;
constexpr int kError2Stride = kHidden2 + 16;
constexpr int kClassStride = 16;

// How a block is divided into teams, one for each of its images:
//
//   one image      16 warps, all on it; its partial sums are left to the next kernel. The step
//                  takes least time, which counts while the images do not fill the GPU.
//   eight images   8 warps, each on its own; in the linear layers all warps share the work, so
//                  that eight images read each weight once. The GPU's time for an image is least.
//
// Both compute every number in the same way, from the same numbers, in the same order.
//
// A block with one image may first have the weights of the large linear layers copied to its shared
// memory (`staged`), where the GPU has so much of it.
template <int kImages_, bool kStaged_ = false>
struct Plan {
  static_assert(kImages_ == 1 || (kImages_ % kGroup == 0 && !kStaged_));
  static constexpr bool kStaged = kStaged_;
  static constexpr int kImages = kImages_;
  static constexpr bool kAlone = kImages == 1;
  static constexpr int kWarps = kAlone ? 16 : kImages;
  static constexpr int kThreads = 32 * kWarps;
  static constexpr int kTeamWarps = kWarps / kImages;
  static constexpr int kTeamThreads = 32 * kTeamWarps;
  static constexpr int kBlocksPerProcessor = kAlone ? 1 : 2;  // which bounds registers

  // Partial sums of convolutions' gradients that a block leaves.
  static constexpr int kPartials = kAlone ? 1 : kImages / kGroup;
  static constexpr int kImagesPerPartial = kAlone ? 1 : kGroup;

  // Pooled rows of the first layer that a team has in work at a time, and of them a warp.
  static constexpr int kRows1 = kAlone ? kPool1 : 4;
  static constexpr int kWarpRows1 = kAlone ? 1 : 4;
  static constexpr int kConv1Stride = 2 * kRows1 * kRowStride1 + 8;  // of a channel of them
  // Rows of the second convolution that a warp has in work at a time.
  static constexpr int kWarpRows2 = kAlone ? 1 : 4;
  static constexpr int kWeight3Stride = kStaged ? kFeatures + 8 : kFeatures;
  // Copies of the error of the first layer's output: a warp adds to one that is its own.
  static constexpr int kErrorPlanes = kAlone ? 3 : 1;
};

constexpr int largest(int a, int b) { return a > b ? a : b; }

// Windows of the first layer, each with slopes from its four values to the pooled and activated
// one.
constexpr int kWindows1 = kChannels1 * kPool1 * kPool1;

using Plane1 = float[kChannels1 * kPlane1Stride];

// An image on its way through the convolutions.
template <class Plan>
struct ImageShared {
  uint8_t pixels[kPixels + 4];  // four beyond the end, which are read and not used
  alignas(16) Plane1 output1;   // the first layer's output; later, of eight images, its error
  // A convolution's output: some rows of the first; the second; the slopes from there to the
  // layer's output; the error.
  float conv[largest(kChannels1 * Plan::kConv1Stride, kChannels2 * kPlane2Stride)];
};

// The linear layers' inputs and outputs. Errors are at first the activations' derivatives.
template <class Plan>
struct LinearShared {
  float features[Plan::kImages][kFeatureStride];  // later their error
  float hidden1[Plan::kImages][kHidden1Stride];
  float hidden2[Plan::kImages][kHidden2Stride];
  float error1[Plan::kImages][kError1Stride];
  float error2[Plan::kImages][kError2Stride];
  float classes[Plan::kImages][kClassStride];  // logits, then their error
};

// The large linear layers' weights, from up to three floats on.
template <bool kStaged>
struct StagedWeights {
  float third[kHidden1 * (kFeatures + 8)];
  float fourth[kHidden2 * kHidden1 + 4];
};

template <>
struct StagedWeights<false> {};

// What only a block with one image has.
template <bool kAlone>
struct AloneShared {
  float4 slopes1[kWindows1];
  Arrival arrivals[2];  // of staged weights
};

template <>
struct AloneShared<false> {};

// Parts of the gradient of the first convolution: of an image alone, 12 parts of it; else one of
// each image.
constexpr int kParts = 12;
constexpr int kWeights1 = kWeight2;  // the first convolution's weights and biases

// What is needed until the linear layers are done, forward and back.
template <class Plan>
struct BeforeShared {
  alignas(16) StagedWeights<Plan::kStaged> staged;
  LinearShared<Plan> linear;
};

// What is needed after that.
template <class Plan>
struct AfterShared {
  float gradient1[Plan::kAlone ? kParts : Plan::kImages][kWeights1];
  float gradient2[Plan::kPartials][kBias2 - kWeight2];
  Plane1 error1[Plan::kErrorPlanes];  // not used of eight images: theirs is where output1 was
};

template <class Plan>
struct Shared {
  float weight2[kChannels2 * kWeight2Stride];
  ImageShared<Plan> image[Plan::kImages];
  float bias2[Plan::kImages][kChannels2];
  AloneShared<Plan::kAlone> alone;
  union {
    BeforeShared<Plan> before;
    AfterShared<Plan> after;
  };
};

// What the update needs of an image: values that are operands, errors as they are.
struct alignas(16) Record {
  float features[kFeatures];
  float hidden1[kHidden1];
  float hidden2[kHidden2];
  float error1[kHidden1];
  float error2[kHidden2];
  float classes[12];  // the error of the logits
  float loss;
};

// The images and what says which of them make a batch.
struct Images {
  const uint8_t* pixels;  // [n, 784]
  const uint8_t* labels;  // [n]
  const int* order;       // [seeds, samples]
  int64_t samples;
};

// Of every seed, for one batch at a time.
struct Workspace {
  Record* records;  // [seeds, batch_size]
  float* partials;  // [seeds, partials, 2572]: convolutions' gradients, in the parameters' order
  float4* slopes1;  // [seeds, batch_size, 864], where a block has eight images
  int64_t batch_size;
  int64_t partials_per_seed;

  __device__ __forceinline__ Record* records_of(int seed) const {
    return records + seed * batch_size;
  }
  __device__ __forceinline__ float* partials_of(int seed) const {
    return partials + seed * partials_per_seed * kConvolutionParameters;
  }
  __device__ __forceinline__ float4* slopes1_of(int seed, int image) const {
    return slopes1 + (seed * batch_size + image) * kWindows1;
  }
};

// A thread's place among the images of a batch, and in the team of its image.
template <class Plan>
struct Place {
  int seed;
  int first;   // the block's first image in the batch
  int count;   // of the block's images, those that the batch has
  int team;    // this thread's image in the block
  int warp;    // in the team
  int thread;  // in the team
  Lane lane;

  __device__ __forceinline__ explicit Place(int batch) {
    seed = blockIdx.y;
    first = blockIdx.x * Plan::kImages;
    count = batch - first < Plan::kImages ? batch - first : Plan::kImages;
    team = threadIdx.x / Plan::kTeamThreads;
    thread = threadIdx.x % Plan::kTeamThreads;
    warp = thread / 32;
    lane = lane_of(threadIdx.x);
  }

  // The team's image in the batch, and whether there is one.
  __device__ __forceinline__ int image() const { return first + team; }
  __device__ __forceinline__ bool has_image() const { return team < count; }
  __device__ __forceinline__ int warp_of_block() const { return threadIdx.x / 32; }

  __device__ __forceinline__ static void sync_team() {
    if constexpr (Plan::kAlone) {
      sync_block();
    } else {
      sync_warp();
    }
  }
};

}  // namespace opproof::gpu
