// Activation, average of a window of 2 x 2, and activation; and the softmax at the network's end.

#pragma once

#include "activation.h"
#include "lenet_step/warp.cuh"

namespace opproof::gpu {

// A window is a float4: x and y are the upper row, z and w the lower. A slope is the derivative of
// the pooled and activated value by one of the four.
struct Pooled {
  float value;
  float4 slopes;
};

__device__ __forceinline__ float mean_of(float a, float b, float c, float d) {
  return 0.25f * ((a + b) + (c + d));
}

__device__ __forceinline__ float pooled_value(float4 window) {
  return Activation::value(mean_of(Activation::value(window.x), Activation::value(window.y),
                                   Activation::value(window.z), Activation::value(window.w)));
}

__device__ __forceinline__ Pooled pooled_value_and_slopes(float4 window) {
  auto x = opproof::value_and_derivative(window.x);
  auto y = opproof::value_and_derivative(window.y);
  auto z = opproof::value_and_derivative(window.z);
  auto w = opproof::value_and_derivative(window.w);
  auto outer = opproof::value_and_derivative(mean_of(x.value, y.value, z.value, w.value));
  float share = 0.25f * outer.derivative;
  return {outer.value, make_float4(share * x.derivative, share * y.derivative,
                                   share * z.derivative, share * w.derivative)};
}

__device__ __forceinline__ float4 scaled(float4 window, float factor) {
  return make_float4(window.x * factor, window.y * factor, window.z * factor, window.w * factor);
}

// The window whose upper left value is `at`, in rows of `stride` floats.
__device__ __forceinline__ float4 load_window(const float* at, int stride) {
  float2 upper = *reinterpret_cast<const float2*>(at);
  float2 lower = *reinterpret_cast<const float2*>(at + stride);
  return make_float4(upper.x, upper.y, lower.x, lower.y);
}

__device__ __forceinline__ void store_window(float* at, int stride, float4 window) {
  *reinterpret_cast<float2*>(at) = make_float2(window.x, window.y);
  *reinterpret_cast<float2*>(at + stride) = make_float2(window.z, window.w);
}

}  // namespace opproof::gpu
