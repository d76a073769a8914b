// The float functions that give the same bits on every CPU and GPU: additions, multiplications,
// fused multiply-adds and divisions, each correctly rounded by IEEE 754, and integer operations.
//
// What is written with them alone, without branches, is the same function in every loop that the
// compiler vectorises, whatever the instruction set. Compile with -ffp-contract=off (g++) and
// -fmad=false (nvcc), which leave each operation as it is written.

#pragma once

#include <cmath>
#include <cstdint>
#include <cstring>

#if defined(__CUDACC__)
#define OPPROOF_INLINE __host__ __device__ __forceinline__
#else
#define OPPROOF_INLINE inline __attribute__((always_inline))
#endif

namespace opproof {

OPPROOF_INLINE uint32_t bits(float x) {
  uint32_t result;
  memcpy(&result, &x, sizeof result);
  return result;
}

OPPROOF_INLINE float from_bits(uint32_t x) {
  float result;
  memcpy(&result, &x, sizeof result);
  return result;
}

// a b + c, rounded once. Without an instruction for it, the C library computes it: slow, and right.
OPPROOF_INLINE float fma(float a, float b, float c) {
#if defined(__CUDA_ARCH__)
  return __fmaf_rn(a, b, c);
#else
  return __builtin_fmaf(a, b, c);
#endif
}

OPPROOF_INLINE double fma(double a, double b, double c) {
#if defined(__CUDA_ARCH__)
  return __fma_rn(a, b, c);
#else
  return __builtin_fma(a, b, c);
#endif
}

OPPROOF_INLINE float divide(float a, float b) {
#if defined(__CUDA_ARCH__)
  return __fdiv_rn(a, b);
#else
  return a / b;
#endif
}

OPPROOF_INLINE double divide(double a, double b) { return a / b; }

OPPROOF_INLINE float magnitude(float x) { return from_bits(bits(x) & 0x7fffffffu); }

// The smaller of |x| and a positive limit, which it also is for NaN: compared as integers, in one
// instruction.
OPPROOF_INLINE float magnitude_at_most(float limit, float x) {
  uint32_t b = bits(x) & 0x7fffffffu;
  return from_bits(b < bits(limit) ? b : bits(limit));
}

// The smaller one; x where it is NaN.
template <class T>
OPPROOF_INLINE T at_most(T limit, T x) {
  return x > limit ? limit : x;
}

// What an activation's value_and_derivative returns.
template <class T>
struct ValueAndDerivative {
  T value;
  T derivative;
};

// A power of e, as 2^-64 scale (1 + fraction). `scale` is a power of two, kept among the normal floats
// by 2^64; the last addition, which would round, is left to the one who goes on with it.
struct Exponential {
  float scale;
  float fraction;
};

namespace detail {

// Adding it rounds a float below 2^22 to an integer, which is then in the lowest bits of the sum.
constexpr float kRounder = 12582912.0f;  // 1.5 x 2^23

// 2 ln 2, in a part of 15 bits, whose products with integers to 2^8 are exact, and the rest.
constexpr float kTwoLn2High = 0x1.62e4p+0f;
constexpr float kTwoLn2Low = 0x1.7f7d1cp-19f;

// 2^n, from n + 127 in the lowest bits of a float: shifted into the exponent.
OPPROOF_INLINE float scale_of(float n_plus_127) { return from_bits(bits(n_plus_127) << 23); }

// e^(-u/2) - 1 for |u| <= ln 2; the polynomial is right to 2^-28. Coefficients: activations/fit_gelu.py.
OPPROOF_INLINE float fraction_of(float u) {
  float q = 0x1.6a4f8ap-16f;
  q = fma(q, u, -0x1.123988p-12f);
  q = fma(q, u, 0x1.5558aep-9f);
  q = fma(q, u, -0x1.555492p-6f);
  q = fma(q, u, 0x1.fffffcp-4f);
  q = fma(q, u, -0.5f);
  return q * u;
}

}  // namespace detail

// e^(-a^2 / 2) for |a| <= 16.28, with a scale of zero from 16.26 on. The square enters by a fused multiply-add: its rounding, which the
// exponential would magnify, never happens.
OPPROOF_INLINE Exponential exp_of_minus_half_square(float a) {
  using namespace detail;
  constexpr float kHalfLog2E = 0x1.715476p-1f;
  constexpr float kOffset = kRounder + 64.0f + 127.0f;
  float t = fma(a * a, -kHalfLog2E, kOffset);
  float n = t - kOffset;
  float u = fma(n, kTwoLn2Low, fma(a, a, n * kTwoLn2High));
  return {scale_of(t), fraction_of(u)};
}

// e^x, within 1.5 units in the last place, for every x.
OPPROOF_INLINE float exp(float x) {
  using namespace detail;
  constexpr float kLog2E = 0x1.715476p+0f;
  x = at_most(90.0f, x < -105.0f ? -105.0f : x);  // beyond, it is inf and 0 as at these
  float t = fma(x, kLog2E, kRounder + 127.0f);
  float n = t - (kRounder + 127.0f);
  float fraction = fraction_of(fma(n, kTwoLn2Low, fma(n, kTwoLn2High, -2.0f * x)));
  // 2^n in two factors, since n may be beyond the exponents of normal numbers.
  float half = fma(n, 0.5f, kRounder) - kRounder;
  float first = scale_of(kRounder + 127.0f + half);
  float second = scale_of(kRounder + 127.0f + (n - half));
  return (1.0f + fraction) * first * second;
}

OPPROOF_INLINE double exp(double x) { return ::exp(x); }

OPPROOF_INLINE double erfc(double x) { return ::erfc(x); }

}  // namespace opproof
