// GELU: x Phi(x), Phi being the distribution function of the standard normal and phi its density.
//
// In float it is computed from a = |x| by way of the upper tail, Q(a) = 1 - Phi(a), so that no digits
// are lost where Phi(x) is small:
//
//   gelu(x)   = max(x, 0) - a Q(a)
//   gelu'(x)  = g(a) for x < 0, 1 - g(a) else, with g(a) = Q(a) - a phi(a)
//   gelu''(x) = phi(a) (2 - a^2)
//
// All are e^(-a^2/2) times a smooth function, which with y = 1 / (1 + p a) is nearly a polynomial in
// y. With w = a / (k (1 + p a)), and a0 the root of g:
//
//   a Q(a) = e^(-a^2/2) w G(y)
//   g(a)   = e^(-a^2/2) (a0 - a) / 2 W(y)
//
// so that one exponential and one division serve both, and no subtraction cancels. G and W are
// polynomials about the y where they are 1: of their products only a small part is rounded twice.
// fit_gelu.py finds the constants.

#pragma once

#include "scalar.h"

struct Activation {
  // Within 3 units in the last place of the truth.
  static OPPROOF_INLINE float value(float x) {
    return value_of(x, common_of(opproof::magnitude_at_most(kLargest, x)));
  }

  // Within 3 units in the last place of the truth, also next to its root at -0.7518.
  static OPPROOF_INLINE float derivative(float x) {
    return derivative_of(x, common_of(opproof::at_most(kLargest, opproof::magnitude(x))));
  }

  static OPPROOF_INLINE opproof::ValueAndDerivative<float> value_and_derivative(float x) {
    Common common = common_of(opproof::at_most(kLargest, opproof::magnitude(x)));
    return {value_of(x, common), derivative_of(x, common)};
  }

  static OPPROOF_INLINE float second_derivative(float x) {
    constexpr float kDensityAtZero = 0x1.988454p-2f;  // 1 / sqrt(2 pi)
    float a = opproof::at_most(kLargest, opproof::magnitude(x));
    opproof::Exponential e = opproof::exp_of_minus_half_square(a);
    float factor = kDensityAtZero * 0x1p-64f * opproof::fma(-a, a, 2.0f);
    return opproof::fma(factor, e.fraction, factor) * e.scale;
  }

  static OPPROOF_INLINE double value(double x) {
    double a = opproof::at_most(40.0, fabs(x));
    return opproof::fma(-a, upper_tail(a), x < 0.0 ? -0.0 : x);
  }

  static OPPROOF_INLINE double derivative(double x) {
    double a = opproof::at_most(40.0, fabs(x));
    double g = opproof::fma(-a, density(a), upper_tail(a));
    return x < 0.0 ? g : 1.0 - g;
  }

  static OPPROOF_INLINE opproof::ValueAndDerivative<double> value_and_derivative(double x) {
    return {value(x), derivative(x)};
  }

  static OPPROOF_INLINE double second_derivative(double x) {
    double a = opproof::at_most(40.0, fabs(x));
    return density(a) * opproof::fma(-a, a, 2.0);
  }

 private:
  // There the scale of e^(-a^2/2) is zero: beyond, products with it are too, and not subnormal, which
  // takes a CPU long. From 14.7 on, the tail is less than any float.
  static constexpr float kLargest = 16.27f;

  struct Common {
    float a;                 // |x|, at most kLargest
    opproof::Exponential e;  // e^(-a^2/2)
    float w;
  };

  // p = 11/32: with k, of all pairs tried, the one with the smallest errors in the end.
  static constexpr float kK = 3.5f;
  static constexpr float kKP = 1.203125f;

  static OPPROOF_INLINE Common common_of(float a) {
    float w = opproof::divide(a, opproof::fma(kKP, a, kK));
    return {a, opproof::exp_of_minus_half_square(a), w};
  }

  // factor (1 + rest) e, but for e's scale.
  static OPPROOF_INLINE float product_of(float factor, float rest, opproof::Exponential e) {
    float small = opproof::fma(e.fraction, 1.0f + rest, rest);
    return opproof::fma(factor, small, factor);
  }

  static OPPROOF_INLINE float value_of(float x, Common at) {
    using opproof::fma;
    float d = fma(-kKP, at.w, 0x1.9bf4eep-2f);
    float g = -0x1.96b84ap-4f;
    g = fma(g, d, 0x1.355672p-5f);
    g = fma(g, d, 0x1.75c1a4p-3f);
    g = fma(g, d, -0x1.07fa78p-3f);
    g = fma(g, d, -0x1.5fe52p-2f);
    g = fma(g, d, 0x1.cbbdd8p-3f);
    g = fma(g, d, 0x1.1bf83p+0f);
    g = fma(g, d, 0x1.67d06ap+0f);
    float tail = product_of(at.w, g * d, at.e);
    return fma(-tail, at.e.scale * 0x1p-64f, x < 0.0f ? -0.0f : x);
  }

  static OPPROOF_INLINE float derivative_of(float x, Common at) {
    using opproof::fma;
    float d = fma(-kKP, at.w, 0x1.b1c7ccp-2f);
    float g = -0x1.7078d8p-7f;
    g = fma(g, d, 0x1.8215d8p-6f);
    g = fma(g, d, 0x1.0eaa9cp-6f);
    g = fma(g, d, -0x1.0aa126p-4f);
    g = fma(g, d, -0x1.56400ep-5f);
    g = fma(g, d, 0x1.8556b8p-3f);
    g = fma(g, d, 0x1.daa72ep-2f);
    g = fma(g, d, 0x1.1b91c6p-1f);
    float from_root = (0x1.80ead2p-2f - 0.5f * at.a) + -0x1.a03fd4p-28f;
    float product = product_of(from_root, g * d, at.e) * 0x1p-64f;
    return fma(x < 0.0f ? product : -product, at.e.scale, x < 0.0f ? -0.0f : 1.0f);
  }

  static OPPROOF_INLINE double density(double a) {
    // The square in two parts: the exponential would magnify its rounding.
    double square = a * a;
    double rest = opproof::fma(a, a, -square);
    double e = opproof::exp(-0.5 * square) * 0x1.9884533d43651p-2;
    return opproof::fma(e, -0.5 * rest, e);
  }

  // erfc(a / sqrt 2) / 2, the rounding of the argument taken back to first order: the derivative of
  // erfc(z) / 2 is -sqrt 2 phi(a).
  static OPPROOF_INLINE double upper_tail(double a) {
    constexpr double kHigh = 0x1.6a09e667f3bcdp-1, kLow = -0x1.bdd3413b26456p-55;  // 1 / sqrt 2
    double z = a * kHigh;
    double rest = opproof::fma(a, kLow, opproof::fma(a, kHigh, -z));
    return opproof::fma(-rest, 0x1.6a09e667f3bcdp+0 * density(a), 0.5 * opproof::erfc(z));
  }
};
