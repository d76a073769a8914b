// The first layer: convolution of the pixels, activation, pool, activation; and its gradient.

#pragma once

#include "lenet_step/layout.cuh"
#include "lenet_step/window.cuh"

namespace opproof::gpu {

// The convolution's weights as operand a of four products, for two rows of the convolution, which
// is a pooled row. Row `group` of a is the channel in the upper row of the two, group + 8 in the
// lower. Together they see six rows of pixels: products 0 to 2 take two of these each, columns 0 to
// 3 of the kernel: `member` of the one, member + 4 of the other. Product 3 takes column 4 of all
// six rows.
struct Weights1 {
  float at[4][4];
  float bias;
};

template <Precision kPrecision>
__device__ __forceinline__ Weights1 load_weights1(const float* parameters, Lane lane) {
  auto weight = [&](int row, int column) {
    bool there = lane.group < kChannels1 && row >= 0 && row < kKernel;
    int index = lane.group * kTaps + row * kKernel + column;
    return there ? operand<kPrecision>(parameters[kWeight1 + index] * kPixelScale) : 0.0f;
  };
  int member = lane.member;
  Weights1 weights;
#pragma unroll
  for (int i = 0; i < 3; ++i) {
    weights.at[i][0] = weight(2 * i, member);
    weights.at[i][1] = weight(2 * i - 1, member);
    weights.at[i][2] = weight(2 * i + 1, member);
    weights.at[i][3] = weight(2 * i, member);
  }
  bool more = member < 2;  // rows 4 and 5
  weights.at[3][0] = weight(member, 4);
  weights.at[3][1] = weight(member - 1, 4);
  weights.at[3][2] = more ? weight(member + 4, 4) : 0.0f;
  weights.at[3][3] = more ? weight(member + 3, 4) : 0.0f;
  weights.bias = lane.group < kChannels1 ? parameters[kBias1 + lane.group] : 0.0f;
  return weights;
}

// A warp computes 8 columns of the convolution, and kRows pooled rows, which are twice as many of
// its own. `pixels` and `out` are where these begin, `out` in the first channel.
template <class Plan, Precision kPrecision>
__device__ __forceinline__ void convolve1(const uint8_t* pixels, const Weights1& weights, Lane lane,
                                          float* out) {
  auto pixel = [&](int row, int column) {
    return static_cast<float>(pixels[row * kImageStride + column]);
  };
#pragma unroll
  for (int row = 0; row < 2 * Plan::kWarpRows1; row += 2) {
    Sums d;
#pragma unroll
    for (float& sum : d.at) sum = weights.bias;
    int later = lane.member < 2 ? lane.member + 4 : 0;  // where the weights are zero, any row
    float b[2] = {pixel(row + lane.member, lane.group + 4), pixel(row + later, lane.group + 4)};
    multiply_add<kPrecision, Operand::kExact>(d, weights.at[3], b);
#pragma unroll
    for (int i = 0; i < 3; ++i) {
      b[0] = pixel(row + 2 * i, lane.group + lane.member);
      b[1] = pixel(row + 2 * i + 1, lane.group + lane.member);
      multiply_add<kPrecision, Operand::kExact>(d, weights.at[i], b);
    }
    if (lane.group < kChannels1) {
      float* to = out + lane.group * Plan::kConv1Stride + row * kRowStride1 + 2 * lane.member;
      store_window(to, kRowStride1, make_float4(d.at[0], d.at[1], d.at[2], d.at[3]));
    }
  }
}

// A team computes the layer of its image, some pooled rows at a time: first its warps the
// convolution, then each thread a window at a time.
template <class Plan, Precision kPrecision, bool kTrain>
__device__ __forceinline__ void forward1(const Place<Plan>& place, const float* parameters,
                                         ImageShared<Plan>& image, float4* slopes) {
  constexpr int kRows = Plan::kRows1, kStrips = kConv1 / 8;
  constexpr int kJobs = kRows / Plan::kWarpRows1 * kStrips;
  Weights1 weights = load_weights1<kPrecision>(parameters, place.lane);
#pragma unroll 1
  for (int first = 0; first < kPool1; first += kRows) {
#pragma unroll 1
    for (int job = place.warp; job < kJobs; job += Plan::kTeamWarps) {
      int row = job / kStrips * Plan::kWarpRows1, column = job % kStrips * 8;
      convolve1<Plan, kPrecision>(image.pixels + 2 * (first + row) * kImageStride + column, weights,
                                  place.lane, image.conv + 2 * row * kRowStride1 + column);
    }
    Place<Plan>::sync_team();
#pragma unroll 1
    for (int i = place.thread; i < kChannels1 * kRows * kPool1; i += Plan::kTeamThreads) {
      int channel = i / (kRows * kPool1), row = i / kPool1 % kRows, column = i % kPool1;
      const float* at = image.conv + channel * Plan::kConv1Stride + 2 * row * kRowStride1;
      float4 window = load_window(at + 2 * column, kRowStride1);
      int of_channel = (first + row) * kPool1 + column;
      float& output = image.output1[channel * kPlane1Stride + of_channel];
      if constexpr (kTrain) {
        Pooled pooled = pooled_value_and_slopes(window);
        output = operand<kPrecision>(pooled.value);
        slopes[channel * kPool1 * kPool1 + of_channel] = pooled.slopes;
      } else {
        output = operand<kPrecision>(pooled_value(window));
      }
    }
    Place<Plan>::sync_team();
  }
}

// The error of the layer's output, which is in one plane or in the sum of several.
template <int kPlanes>
__device__ __forceinline__ float error1_at(const Plane1* planes, int index) {
  float error = planes[0][index];
#pragma unroll
  for (int i = 1; i < kPlanes; ++i) error += planes[i][index];
  return error;
}

// A lane's part of the gradient of the weights: of channel `group` all rows of the kernel, columns
// 2 member and 2 member + 1, where there are. And of the bias, in every member.
struct Gradient1 {
  float weights[kKernel][2] = {};
  float bias = 0.0f;

  // Writes it in the parameters' order.
  __device__ __forceinline__ void store(Lane lane, float* to) const {
    if (lane.group >= kChannels1) return;
    float* channel = to + lane.group * kTaps + 2 * lane.member;
#pragma unroll
    for (int row = 0; row < kKernel; ++row) {
      if (2 * lane.member < kKernel) channel[row * kKernel] = weights[row][0];
      if (2 * lane.member + 1 < kKernel) channel[row * kKernel + 1] = weights[row][1];
    }
    if (lane.member == 0) to[kBias1 + lane.group] = bias;
  }
};

// A team computes the gradient of its image, a warp 3 pooled rows of 4 of their columns at a time.
// In the products, a's row `group` is the channel's error in a pooled row's upper row, group + 8 in
// its lower one, and b's column `group` is the kernel's: product i is with row i of the six that
// they see, so that it belongs to the kernel's row i for the upper, i - 1 for the lower.
template <class Plan, Precision kPrecision>
__device__ __forceinline__ Gradient1 backward1(const Place<Plan>& place, const uint8_t* pixels,
                                               const Plane1* errors, const float4* slopes) {
  constexpr int kRows = 3, kStrips = kConv1 / 8, kSeen = kKernel + 1;
  static_assert(kPool1 / kRows * kStrips == kParts);
  const Lane lane = place.lane;
  Gradient1 gradient;
#pragma unroll 1
  for (int job = place.warp; job < kParts; job += Plan::kTeamWarps) {
    int first = job / kStrips * kRows, strip = job % kStrips;
    Sums d[kSeen];
    float bias = 0.0f;
    const uint8_t* seen =
        pixels + 2 * first * kImageStride + 8 * strip + lane.group + 2 * lane.member;
#pragma unroll
    for (int row = 0; row < kRows; ++row) {
      float4 error = make_float4(0.0f, 0.0f, 0.0f, 0.0f);
      if (lane.group < kChannels1) {
        int of_channel = (first + row) * kPool1 + 4 * strip + lane.member;
        error = scaled(slopes[lane.group * kPool1 * kPool1 + of_channel],
                       error1_at<Plan::kErrorPlanes>(
                           errors, lane.group * kPlane1Stride + of_channel));
      }
      bias += (error.x + error.y) + (error.z + error.w);
      float a[4] = {operand<kPrecision>(error.x), operand<kPrecision>(error.z),
                    operand<kPrecision>(error.y), operand<kPrecision>(error.w)};
#pragma unroll
      for (int i = 0; i < kSeen; ++i) {
        const uint8_t* at = seen + (2 * row + i) * kImageStride;
        float b[2] = {static_cast<float>(at[0]), static_cast<float>(at[1])};
        multiply_add<kPrecision, Operand::kExact>(d[i], a, b);
      }
    }
#pragma unroll
    for (int i = 0; i < kKernel; ++i) {
      gradient.weights[i][0] += d[i].at[0] + d[i + 1].at[2];
      gradient.weights[i][1] += d[i].at[1] + d[i + 1].at[3];
    }
    bias += exchange(bias, 1);
    gradient.bias += bias + exchange(bias, 2);
  }
  return gradient;
}

}  // namespace opproof::gpu
