// The dtypes: how their values are kept in memory, and the type that they are computed in.

#pragma once

#include <torch/headeronly/core/ScalarType.h>
#include <torch/headeronly/util/Exception.h>

#include "scalar.h"

namespace opproof {

struct Half {
  uint16_t bits;
};

struct BFloat16 {
  uint16_t bits;
};

OPPROOF_INLINE float widen(float x) { return x; }
OPPROOF_INLINE double widen(double x) { return x; }
OPPROOF_INLINE float widen(BFloat16 x) { return from_bits(static_cast<uint32_t>(x.bits) << 16); }

// Moved into place, the exponent is 112 too small; multiplying mends that, and subnormals with it.
OPPROOF_INLINE float widen(Half x) {
  uint32_t magnitude = x.bits & 0x7fffu;
  uint32_t finite = bits(from_bits(magnitude << 13) * 0x1p112f);
  uint32_t special = 0x7f800000u | magnitude << 13;
  uint32_t sign = static_cast<uint32_t>(x.bits & 0x8000u) << 16;
  return from_bits((magnitude < 0x7c00u ? finite : special) | sign);
}

// To the nearest, ties to even, NaN to NaN.
template <class T>
OPPROOF_INLINE T narrow(float x);

template <class T>
OPPROOF_INLINE T narrow(double x) {
  return x;
}

template <>
OPPROOF_INLINE float narrow<float>(float x) {
  return x;
}

template <>
OPPROOF_INLINE BFloat16 narrow<BFloat16>(float x) {
  uint32_t b = bits(x);
  uint32_t rounded = (b + 0x7fffu + (b >> 16 & 1u)) >> 16;
  return {static_cast<uint16_t>(x != x ? 0x7fc0u : rounded)};
}

// The sum with a power of two rounds a subnormal at the bit where a half ends.
template <>
OPPROOF_INLINE Half narrow<Half>(float x) {
  uint32_t b = bits(x) & 0x7fffffffu;
  uint32_t normal = (b - (112u << 23) + 0xfffu + (b >> 13 & 1u)) >> 13;
  uint32_t subnormal = bits(from_bits(b) + 0.5f) - bits(0.5f);
  uint32_t result = b < 113u << 23 ? subnormal : normal;
  result = b >= 0x477ff000u ? 0x7c00u : result;  // rounds to beyond 65504
  result = b > 0x7f800000u ? 0x7e00u : result;
  return {static_cast<uint16_t>(result | (bits(x) >> 16 & 0x8000u))};
}

// Calls f with a value of the type that tensors of the dtype keep.
template <class F>
void dispatch(torch::headeronly::ScalarType dtype, F f) {
  using torch::headeronly::ScalarType;
  switch (dtype) {
    case ScalarType::Float: return f(float{});
    case ScalarType::Double: return f(double{});
    case ScalarType::Half: return f(Half{});
    case ScalarType::BFloat16: return f(BFloat16{});
    default: STD_TORCH_CHECK(false, "dtype must be float32, float64, float16 or bfloat16");
  }
}

}  // namespace opproof
