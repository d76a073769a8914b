// The second layer: convolution, activation, pool, activation; its gradient, and its input's error.

#pragma once

#include "lenet_step/layout.cuh"
#include "lenet_step/window.cuh"

namespace opproof::gpu {

// The block's copy of the weights, operands, [16][6][5][5], each channel at a stride of its own.
template <class Plan, Precision kPrecision>
__device__ __forceinline__ void load_weights2(const float* parameters, float* to) {
  constexpr int kOfChannel = kChannels1 * kTaps;
  for (int i = threadIdx.x; i < kChannels2 * kOfChannel; i += Plan::kThreads) {
    float weight = operand<kPrecision>(parameters[kWeight2 + i]);
    to[i / kOfChannel * kWeight2Stride + i % kOfChannel] = weight;
  }
}

// Adds the products of kColumns columns of the kernel to kRows rows of the convolution. In a
// product a's row is the output channel, b's column that of the convolution, and the sum runs over
// the input channels, six and two that are zero.
template <int kRows, int kColumns, Precision kPrecision>
__device__ __forceinline__ void convolve2(const float* input, const float* weights, Lane lane,
                                          Sums (&d)[kRows]) {
  const bool more = lane.member < kChannels1 - 4;  // input channels 4 and 5
  const float* in = input + lane.member * kPlane1Stride + lane.group;
  const float* weight = weights + lane.group * kWeight2Stride + lane.member * kTaps;
#pragma unroll 1
  for (int column = 0; column < kColumns; ++column) {
#pragma unroll
    for (int row = 0; row < kKernel; ++row) {
      const float* w = weight + row * kKernel + column;
      float a[4] = {w[0], w[8 * kWeight2Stride], more ? w[4 * kTaps] : 0.0f,
                    more ? w[8 * kWeight2Stride + 4 * kTaps] : 0.0f};
#pragma unroll
      for (int i = 0; i < kRows; ++i) {
        const float* x = in + (i + row) * kPool1 + column;
        float b[2] = {x[0], more ? x[4 * kPlane1Stride] : 0.0f};
        multiply_add<kPrecision>(d[i], a, b);
      }
    }
  }
}

// A team computes the convolution, a warp some rows of it at a time, in two sums that do not wait
// for each other: of the kernel's first three columns, and of its last two.
template <class Plan, Precision kPrecision>
__device__ __forceinline__ void convolution2(const Place<Plan>& place, const float* parameters,
                                             const float* weights, ImageShared<Plan>& image) {
  constexpr int kRows = Plan::kWarpRows2, kColumns = 3;
  const Lane lane = place.lane;
  float upper_bias = parameters[kBias2 + lane.group];
  float lower_bias = parameters[kBias2 + lane.group + 8];
#pragma unroll 1
  for (int row = place.warp * kRows; row < kConv2; row += Plan::kTeamWarps * kRows) {
    Sums first[kRows], last[kRows];
    const float* input = image.output1 + row * kPool1;
    convolve2<kRows, kColumns, kPrecision>(input, weights, lane, first);
    convolve2<kRows, kKernel - kColumns, kPrecision>(input + kColumns, weights + kColumns, lane,
                                                     last);
    float* out = image.conv + lane.group * kPlane2Stride + row * kConv2 + 2 * lane.member;
#pragma unroll
    for (int i = 0; i < kRows; ++i) {
      first[i].add(last[i]);
      const float(&d)[4] = first[i].at;
      float4 z = make_float4(d[0] + upper_bias, d[1] + upper_bias, d[2] + lower_bias,
                             d[3] + lower_bias);
      store_window(out + i * kConv2, 8 * kPlane2Stride, z);
    }
  }
}

// The window, or its slopes, of feature i, which is a channel and a pooled row and column.
__device__ __forceinline__ int window2(int i) {
  int channel = i / (kPool2 * kPool2), row = i / kPool2 % kPool2, column = i % kPool2;
  return channel * kPlane2Stride + 2 * row * kConv2 + 2 * column;
}

// A team computes the layer of its image; the slopes take the convolution's place.
template <class Plan, Precision kPrecision, bool kTrain>
__device__ __forceinline__ void forward2(const Place<Plan>& place, const float* parameters,
                                         const float* weights, ImageShared<Plan>& image,
                                         float* features, Record* record) {
  convolution2<Plan, kPrecision>(place, parameters, weights, image);
  Place<Plan>::sync_team();
#pragma unroll 1
  for (int i = place.thread; i < kFeatures; i += Plan::kTeamThreads) {
    float* at = image.conv + window2(i);
    if constexpr (kTrain) {
      Pooled pooled = pooled_value_and_slopes(load_window(at, kConv2));
      store_window(at, kConv2, pooled.slopes);
      features[i] = record->features[i] = operand<kPrecision>(pooled.value);
    } else {
      features[i] = operand<kPrecision>(pooled_value(load_window(at, kConv2)));
    }
  }
}

// A team turns the slopes into the convolution's error, and sums it to the gradient of the bias: 16
// threads have a channel.
template <class Plan, Precision kPrecision>
__device__ __forceinline__ void error_of_convolution2(const Place<Plan>& place, const float* errors,
                                                      ImageShared<Plan>& image, float* bias) {
  constexpr int kOfChannel = kPool2 * kPool2;
#pragma unroll 1
  for (int i = place.thread; i < kFeatures; i += Plan::kTeamThreads) {
    float* at = image.conv + window2(i);
    float4 error = scaled(load_window(at, kConv2), errors[i]);
    store_window(at, kConv2,
                 make_float4(operand<kPrecision>(error.x), operand<kPrecision>(error.y),
                             operand<kPrecision>(error.z), operand<kPrecision>(error.w)));
    float sum = (error.x + error.y) + (error.z + error.w);
#pragma unroll
    for (int mask = kOfChannel / 2; mask > 0; mask /= 2) sum += exchange(sum, mask);
    if (i % kOfChannel == 0) bias[i / kOfChannel] = sum;
  }
}

// Adds an image's gradient of kCount weights of each pair of channels, one below the other from
// `input` and `d` on. In a product a's row is the output channel, b's column the input channel, and
// the sum runs over a row of the convolution.
template <int kCount, Precision kPrecision>
__device__ __forceinline__ void add_gradient2(const float* error, const float* input, Lane lane,
                                              Sums* total) {
  Sums d[kCount];
  int channel = lane.group < kChannels1 ? lane.group : 0;  // what has none is not used
  const float* e = error + lane.group * kPlane2Stride + 2 * lane.member;
  const float* in = input + channel * kPlane1Stride + 2 * lane.member;
#pragma unroll
  for (int row = 0; row < kConv2; ++row) {
    float4 window = load_window(e + row * kConv2, 8 * kPlane2Stride);
    float a[4] = {window.x, window.z, window.y, window.w};
#pragma unroll
    for (int i = 0; i < kCount; ++i) {
      const float* x = in + (row + i) * kPool1;
      float b[2] = {x[0], x[1]};
      multiply_add<kPrecision>(d[i], a, b);
    }
  }
#pragma unroll
  for (int i = 0; i < kCount; ++i) total[i].add(d[i]);
}

// Writes the gradient of one weight of each pair of channels in the parameters' order.
__device__ __forceinline__ void store_gradient2(const Sums& sums, int row, int column, Lane lane,
                                                float* to) {
  if (2 * lane.member >= kChannels1) return;
  int index = (lane.group * kChannels1 + 2 * lane.member) * kTaps + row * kKernel + column;
  constexpr int kLower = 8 * kChannels1 * kTaps;
  to[index] = sums.at[0];
  to[index + kTaps] = sums.at[1];
  to[index + kLower] = sums.at[2];
  to[index + kLower + kTaps] = sums.at[3];
}

// The sum over some images of kCount weights of each pair of channels, from a row of the kernel on.
template <int kCount, Precision kPrecision, class Plan>
__device__ __forceinline__ void gradient2_of_rows(const ImageShared<Plan>* images, int count,
                                                  int row, int column, Lane lane, float* to) {
  Sums sums[kCount];
#pragma unroll 1
  for (int n = 0; n < count; ++n) {
    const float* input = images[n].output1 + row * kPool1 + column;
    add_gradient2<kCount, kPrecision>(images[n].conv, input, lane, sums);
  }
#pragma unroll
  for (int i = 0; i < kCount; ++i) store_gradient2(sums[i], row + i, column, lane, to);
}

// Of an image alone, 10 warps have a column of the kernel each, three or two rows of it.
constexpr int kGradient2Warps = 2 * kKernel;

template <Precision kPrecision, class Plan>
__device__ __forceinline__ void gradient2_of_image(int warp, const ImageShared<Plan>& image,
                                                   Lane lane, float* to) {
  if (warp < kKernel) {
    gradient2_of_rows<3, kPrecision>(&image, 1, 0, warp, lane, to);
  } else {
    gradient2_of_rows<2, kPrecision>(&image, 1, 3, warp - kKernel, lane, to);
  }
}

// Of a group of images, 4 warps have the sum: each a column of the kernel, and of the fifth column
// a row; the first one has two rows of it.
template <Precision kPrecision, class Plan>
__device__ __forceinline__ void gradient2_of_group(int warp, const ImageShared<Plan>* images,
                                                   int count, Lane lane, float* to) {
  constexpr int kLast = kKernel - 1;
  gradient2_of_rows<kKernel, kPrecision>(images, count, 0, warp, lane, to);
  gradient2_of_rows<1, kPrecision>(images, count, warp, kLast, lane, to);
  if (warp == 0) gradient2_of_rows<1, kPrecision>(images, count, kLast, kLast, lane, to);
}

// The error of the layer's input is summed by jobs: one for two columns of the kernel, of three
// such pairs, and for six of the twelve rows of the input.
constexpr int kPairs = 3, kHalves = 2, kInputErrorJobs = kPairs * kHalves;

// In a product a's row `group` is the input channel with the left of the two columns, group + 8
// with the right one, b's column that of the convolution, and the sum runs over 8 output channels.
// The lower six rows are taken from the bottom up, so that both halves see the same: row i of the
// input sees rows i - 4 to i of the convolution.
template <Precision kPrecision>
__device__ __forceinline__ void add_input_error2(int pair, bool bottom_up, const float* error,
                                                 const float* weights, Lane lane, float* to) {
  constexpr int kRows = kPool1 / kHalves;
  Sums d[kRows];
  int channel = lane.group < kChannels1 ? lane.group : 0;  // what has none is not used
  bool right = 2 * pair + 1 < kKernel;
  auto row_of = [&](int row, int rows) { return bottom_up ? rows - 1 - row : row; };
#pragma unroll
  for (int half = 0; half < 2; ++half) {
    const float* e = error + (8 * half + lane.member) * kPlane2Stride + lane.group;
    const float* weight =
        weights + (8 * half + lane.member) * kWeight2Stride + channel * kTaps + 2 * pair;
    float b[kRows][2];
#pragma unroll
    for (int row = 0; row < kRows; ++row) {
      b[row][0] = e[row_of(row, kConv2) * kConv2];
      b[row][1] = e[row_of(row, kConv2) * kConv2 + 4 * kPlane2Stride];
    }
#pragma unroll
    for (int i = 0; i < kKernel; ++i) {
      const float* w = weight + row_of(i, kKernel) * kKernel;
      float a[4] = {w[0], right ? w[1] : 0.0f, w[4 * kWeight2Stride],
                    right ? w[4 * kWeight2Stride + 1] : 0.0f};
#pragma unroll
      for (int row = 0; row + i < kRows; ++row) multiply_add<kPrecision>(d[row + i], a, b[row]);
    }
  }
  float* out = to + channel * kPlane1Stride + 2 * pair;
#pragma unroll
  for (int row = 0; row < kRows; ++row) {
    const float(&sums)[4] = d[row].at;
    float before = from_lane_before(sums[3]);
    if (lane.group >= kChannels1) continue;
    float* at = out + row_of(row, kPool1) * kPool1;
    float2* two = reinterpret_cast<float2*>(at + 2 * lane.member);
    float left = lane.member > 0 ? sums[0] + before : sums[0];
    *two = make_float2(two->x + left, two->y + (sums[1] + sums[2]));
    if (right && lane.member == 3) at[kConv2] += sums[3];
  }
}

}  // namespace opproof::gpu
