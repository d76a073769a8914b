// LeNet-5 in numbers: its shapes, and where its parameters lie in the flat array of all of them, which
// has the order of LeNet5().parameters().

#pragma once

#include <cstdint>

#include "scalar.h"

namespace opproof::lenet {

constexpr int kKernel = 5;
constexpr int kTaps = kKernel * kKernel;

constexpr int kImage = 28;  // rows and columns
constexpr int kPixels = kImage * kImage;

constexpr int kChannels1 = 6;
constexpr int kConv1 = kImage - kKernel + 1;  // rows and columns of the convolution
constexpr int kPool1 = kConv1 / 2;            // and of what is pooled from it

constexpr int kChannels2 = 16;
constexpr int kConv2 = kPool1 - kKernel + 1;
constexpr int kPool2 = kConv2 / 2;

constexpr int kFeatures = kChannels2 * kPool2 * kPool2;
constexpr int kHidden1 = 120;
constexpr int kHidden2 = 84;
constexpr int kClasses = 10;

// The first element of each parameter.
constexpr int kWeight1 = 0;
constexpr int kBias1 = kWeight1 + kChannels1 * kTaps;
constexpr int kWeight2 = kBias1 + kChannels1;
constexpr int kBias2 = kWeight2 + kChannels2 * kChannels1 * kTaps;
constexpr int kWeight3 = kBias2 + kChannels2;
constexpr int kBias3 = kWeight3 + kHidden1 * kFeatures;
constexpr int kWeight4 = kBias3 + kHidden1;
constexpr int kBias4 = kWeight4 + kHidden2 * kHidden1;
constexpr int kWeight5 = kBias4 + kHidden2;
constexpr int kBias5 = kWeight5 + kClasses * kHidden2;
constexpr int kParameters = kBias5 + kClasses;
static_assert(kParameters == 44426);

// x / 255, rounded as a division would: the product's rest is put back.
OPPROOF_INLINE float scaled(uint8_t pixel) {
  constexpr float kInverse = 1.0f / 255.0f;
  float x = pixel, quotient = x * kInverse;
  return fma(fma(-255.0f, quotient, x), kInverse, quotient);
}

}  // namespace opproof::lenet
