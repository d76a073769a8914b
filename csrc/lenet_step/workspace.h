// The memory in which the CPU trains one LeNet-5: of one thread alone. Sixteen images lie side by side,
// whatever the instruction set, so that sums are taken in one order on all of them.

#pragma once

#include <vector>

#include "lenet_step/transform.h"

namespace opproof::lenet {

constexpr int kLanes = 16;

// One number of each of 16 images.
struct alignas(64) Lanes {
  float at[kLanes];
};

constexpr int kRows2 = kChannels2 * kChannels1 * kKernel;  // of conv2's weights: [out][in][row]
constexpr int kTiles2 = kConv2 / kTile;                    // of a row of its outputs
constexpr int kWindows1 = kPool1 * kChannels1;             // of a row of conv1's pool
constexpr int kWindows2 = kPool2 * kChannels2;

// The first row of those from a channel of the input to one of the output.
constexpr int row2(int out, int in) { return (out * kChannels1 + in) * kKernel; }

// Rows of images, one below the other, are padded to whole vectors.
constexpr int padded(int columns) { return (columns + kLanes - 1) / kLanes * kLanes; }

// What backward needs of 16 images. A pooled layer keeps the derivatives of both its activations; the
// inner one's, of a window's four values, lie together: [row][column][channel][four].
struct Group {
  Lanes pixels[kPixels];
  Lanes inner1[kPool1][4 * kWindows1];
  Lanes outer1[kPool1][kWindows1];
  // At each point: what conv2 takes, or its errors; what it gives, or its errors.
  Lanes input2[kPoints][kPool1][kTiles2][kChannels1];
  Lanes output2[kPoints][kConv2][kTiles2][kChannels2];
  Lanes inner2[kPool2][4 * kWindows2];
  Lanes outer2[kPool2][kWindows2];
  Lanes features[kFeatures];  // as torch flattens them: [channel][row][column]
  Lanes hidden1[kHidden1], derivative1[kHidden1];
  Lanes hidden2[kHidden2], derivative2[kHidden2];
  Lanes logits[kClasses];
  Lanes error_features[kFeatures], error_hidden1[kHidden1], error_hidden2[kHidden2];
  Lanes error_logits[kClasses];
};

// The sums of each lane of the gradients of the convolutions' parameters.
struct ConvolutionGradients {
  Lanes weight1[kChannels1][kTaps];
  Lanes bias1[kChannels1];
  Lanes bias2[kChannels2];
  Lanes weight2[kPoints][kRows2];  // of the transformed ones
};

// Conv2's weights, transformed, or the gradients of these.
struct Weights2 {
  float at[kPoints][kRows2];
};

// What the gradients of a linear layer are made of, of the images of a batch. Rows are padded to whole
// vectors, and such that those below each other do not meet in the same few sets of the first-level
// cache.
template <int kOutputs, int kInputs>
struct LinearBatch {
  explicit LinearBatch(int64_t images)
      : groups((images + kLanes - 1) / kLanes), inputs(groups * kLanes), errors(groups * kOutputs) {}

  struct Row {
    alignas(64) float at[padded(kInputs) + kLanes];
  };

  int64_t groups;
  std::vector<Row> inputs;    // [image]
  std::vector<Lanes> errors;  // [output][group]
};

struct Batch {
  explicit Batch(int64_t images) : first(images), second(images), third(images) {}

  LinearBatch<kHidden1, kFeatures> first;
  LinearBatch<kHidden2, kHidden1> second;
  LinearBatch<kClasses, kHidden2> third;
};

struct alignas(64) Workspace {
  explicit Workspace(int64_t images) : batch(images) {}

  alignas(64) float parameters[padded(kParameters)];
  alignas(64) float first_moments[padded(kParameters)];
  alignas(64) float second_moments[padded(kParameters)];
  alignas(64) float gradients[padded(kParameters)];
  Weights2 weights2;
  ConvolutionGradients convolutions;
  Group group;
  Batch batch;
};

}  // namespace opproof::lenet
