// The linear layers of a block's images, up to eight: these are the columns of operand b and of the
// sums, and a column without an image is not used. A block's warps share the rows, 16 at a time.

#pragma once

#include "lenet_step/staging.cuh"
#include "lenet_step/window.cuh"

namespace opproof::gpu {

constexpr int kTile = 16;

// The image whose values are a lane's part of operand b.
template <class Plan>
__device__ __forceinline__ int image_of(Lane lane) {
  return Plan::kAlone ? 0 : lane.group;
}

// Calls store(output, image, sum) for each output, inputs times weights [kOut, kIn]
// in rows at kWeightStride. The products
// make two sums in turn, which do not wait for each other.
template <int kIn, int kOut, int kWeightStride, int kStride, class Plan, Precision kPrecision,
          class Store>
__device__ __forceinline__ void multiply_weights(const Place<Plan>& place, const float* weights,
                                                 const float (&inputs)[Plan::kImages][kStride],
                                                 const Store& store) {
  constexpr int kSteps = (kIn + 7) / 8;
  const Lane lane = place.lane;
  const float* input = inputs[image_of<Plan>(lane)] + 2 * lane.member;
#pragma unroll 1
  for (int tile = place.warp_of_block(); tile * kTile < kOut; tile += Plan::kWarps) {
    // Rows beyond the last are that one again, and not used.
    int upper = tile * kTile + lane.group, lower = upper + 8;
    const float* upper_row = weights + min(upper, kOut - 1) * kWeightStride + 2 * lane.member;
    const float* lower_row = weights + min(lower, kOut - 1) * kWeightStride + 2 * lane.member;
    Sums d[2];
#pragma unroll
    for (int step = 0; step < kSteps; ++step) {
      float2 u = make_float2(0.0f, 0.0f), l = u, x = u;
      if (8 * step + 8 <= kIn || 8 * step + 2 * lane.member < kIn) {
        u = *reinterpret_cast<const float2*>(upper_row + 8 * step);
        l = *reinterpret_cast<const float2*>(lower_row + 8 * step);
        x = *reinterpret_cast<const float2*>(input + 8 * step);
      }
      float a[4] = {operand<kPrecision>(u.x), operand<kPrecision>(l.x), operand<kPrecision>(u.y),
                    operand<kPrecision>(l.y)};
      float b[2] = {x.x, x.y};
      multiply_add<kPrecision>(d[step % 2], a, b);
    }
    d[0].add(d[1]);
#pragma unroll
    for (int i = 0; i < 4; ++i) {
      int output = i < 2 ? upper : lower, image = 2 * lane.member + i % 2;
      if (output < kOut && image < place.count) store(output, image, d[0].at[i]);
    }
  }
}

// Calls store(input, image, error, error of the next input) for every other input: the errors of
// the outputs times the same weights, transposed. Row `group` of a is input 2 group of the tile,
// group + 8 the one after it.
template <int kIn, int kOut, int kWeightStride, int kStride, class Plan, Precision kPrecision,
          class Store>
__device__ __forceinline__ void multiply_transposed(const Place<Plan>& place, const float* weights,
                                                    const float (&errors)[Plan::kImages][kStride],
                                                    const Store& store) {
  constexpr int kSteps = (kOut + 7) / 8;
  const Lane lane = place.lane;
  const float* error = errors[image_of<Plan>(lane)] + lane.member;
#pragma unroll 1
  for (int tile = place.warp_of_block(); tile * kTile < kIn; tile += Plan::kWarps) {
    int input = tile * kTile + 2 * lane.group;
    const float* column = weights + lane.member * kWeightStride + min(input, kIn - 2);
    Sums d[2];
#pragma unroll
    for (int step = 0; step < kSteps; ++step) {
      float2 first = make_float2(0.0f, 0.0f), second = first;
      float b[2] = {};
      if (8 * step + 4 <= kOut) {
        first = *reinterpret_cast<const float2*>(column + 8 * step * kWeightStride);
        b[0] = error[8 * step];
      }
      if (8 * step + 8 <= kOut) {
        second = *reinterpret_cast<const float2*>(column + (8 * step + 4) * kWeightStride);
        b[1] = error[8 * step + 4];
      }
      float a[4] = {operand<kPrecision>(first.x), operand<kPrecision>(first.y),
                    operand<kPrecision>(second.x), operand<kPrecision>(second.y)};
      multiply_add<kPrecision>(d[step % 2], a, b);
    }
    d[0].add(d[1]);
#pragma unroll
    for (int i = 0; i < 2; ++i) {
      int image = 2 * lane.member + i;
      if (input < kIn && image < place.count) {
        store(input, image, d[0].at[i], d[0].at[i + 2]);
      }
    }
  }
}

// A layer with activation: its outputs, and their derivatives where `error` will be.
template <Precision kPrecision, bool kTrain>
__device__ __forceinline__ void activate(float z, float& output, float& error, float& recorded) {
  if constexpr (kTrain) {
    auto activated = opproof::value_and_derivative(z);
    output = recorded = operand<kPrecision>(activated.value);
    error = activated.derivative;
  } else {
    output = operand<kPrecision>(Activation::value(z));
  }
}

// From features to logits.
template <class Plan, Precision kPrecision, bool kTrain>
__device__ __forceinline__ void forward_linear(const Place<Plan>& place, const float* parameters,
                                               const Weights& weights, Shared<Plan>& shared,
                                               Record* records) {
  LinearShared<Plan>& linear = shared.before.linear;
  wait_for_weights<Plan>(3, shared);
  multiply_weights<kFeatures, kHidden1, Plan::kWeight3Stride, kFeatureStride, Plan, kPrecision>(
      place, weights.third, linear.features, [&](int i, int image, float sum) {
        activate<kPrecision, kTrain>(sum + parameters[kBias3 + i], linear.hidden1[image][i],
                                     linear.error1[image][i], records[image].hidden1[i]);
      });
  sync_block();
  wait_for_weights<Plan>(4, shared);
  multiply_weights<kHidden1, kHidden2, kHidden1, kHidden1Stride, Plan, kPrecision>(
      place, weights.fourth, linear.hidden1, [&](int i, int image, float sum) {
        activate<kPrecision, kTrain>(sum + parameters[kBias4 + i], linear.hidden2[image][i],
                                     linear.error2[image][i], records[image].hidden2[i]);
      });
  sync_block();
  multiply_weights<kHidden2, kClasses, kHidden2, kHidden2Stride, Plan, kPrecision>(
      place, parameters + kWeight5, linear.hidden2, [&](int i, int image, float sum) {
        linear.classes[image][i] = sum + parameters[kBias5 + i];
      });
  sync_block();
}

// Cross entropy and its derivatives by the logits, which take their place: 16 threads an image.
template <class Plan>
__device__ __forceinline__ void cross_entropy(const Place<Plan>& place, const int* image_numbers,
                                              const uint8_t* labels, int batch,
                                              LinearShared<Plan>& linear, Record* records) {
  constexpr int kThreads = 16;
  static_assert(Plan::kThreads >= Plan::kImages * kThreads);
  int image = threadIdx.x / kThreads, i = threadIdx.x % kThreads;
  // Whole warps go on, since their lanes exchange values.
  if (place.warp_of_block() * 32 >= Plan::kImages * kThreads) return;
  bool used = image < place.count && i < kClasses;
  float logit = used ? linear.classes[image][i] : -INFINITY;
  float largest = logit;
#pragma unroll
  for (int mask = kThreads / 2; mask > 0; mask /= 2) {
    float other = exchange(largest, mask);
    largest = other > largest ? other : largest;
  }
  float power = used ? expf(logit - largest) : 0.0f, sum = power;
#pragma unroll
  for (int mask = kThreads / 2; mask > 0; mask /= 2) sum += exchange(sum, mask);
  if (!used) return;
  int label = labels[image_numbers[image]];
  bool is_label = i == label;
  float error = (divide(power, sum) - (is_label ? 1.0f : 0.0f)) / static_cast<float>(batch);
  linear.classes[image][i] = records[image].classes[i] = error;
  if (is_label) records[image].loss = logf(sum) - (logit - largest);
  if (i == 0 && label >= kClasses) records[image].loss = NAN;
}

// From the logits' error to that of the features.
template <class Plan, Precision kPrecision>
__device__ __forceinline__ void backward_linear(const Place<Plan>& place, const float* parameters,
                                                const Weights& weights, LinearShared<Plan>& linear,
                                                Record* records) {
  for (int i = threadIdx.x; i < place.count * kHidden2; i += Plan::kThreads) {
    int image = i / kHidden2, input = i % kHidden2;
    float sum = 0.0f;
#pragma unroll
    for (int output = 0; output < kClasses; ++output) {
      float weight = parameters[kWeight5 + output * kHidden2 + input];
      sum = fma(linear.classes[image][output], weight, sum);
    }
    float& error = linear.error2[image][input];
    error = operand<kPrecision>(records[image].error2[input] = sum * error);
  }
  sync_block();
  multiply_transposed<kHidden1, kHidden2, kHidden1, kError2Stride, Plan, kPrecision>(
      place, weights.fourth, linear.error2, [&](int i, int image, float left, float right) {
        float2& error = *reinterpret_cast<float2*>(&linear.error1[image][i]);
        float2 product = make_float2(left * error.x, right * error.y);
        *reinterpret_cast<float2*>(&records[image].error1[i]) = product;
        error = make_float2(operand<kPrecision>(product.x), operand<kPrecision>(product.y));
      });
  sync_block();
  multiply_transposed<kFeatures, kHidden1, Plan::kWeight3Stride, kError1Stride, Plan, kPrecision>(
      place, weights.third, linear.error1, [&](int i, int image, float left, float right) {
        *reinterpret_cast<float2*>(&linear.features[image][i]) = make_float2(left, right);
      });
  sync_block();
}

}  // namespace opproof::gpu
