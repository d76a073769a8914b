// Sweeps bit patterns through the headers of csrc/. Nothing of torch is linked: so it can be
// compiled with sanitizers, and with other flags than the library's.
//
//   sweep check STRIDE          what must hold for every STRIDE-th float; prints the largest errors
//   sweep bits FUNCTION STRIDE  gelu.h's results for every STRIDE-th float, any NaN as 0x7fc00000
//
// Fails with one line that says what is wrong, and where.

#include <algorithm>
#include <cmath>
#include <cstdarg>
#include <cstdio>
#include <cstdlib>
#include <limits>
#include <string>
#include <type_traits>
#include <vector>

#include "dtype.h"

namespace precise {
#include "activations/gelu.h"
}
namespace textbook {
#include "activations/gelu_erf.h"
}

using opproof::bits;
using opproof::from_bits;

constexpr uint64_t kPatterns = 1ull << 32;

[[noreturn]] __attribute__((format(printf, 1, 2))) void fail(const char* format, ...) {
  va_list values;
  va_start(values, format);
  vfprintf(stderr, format, values);
  va_end(values);
  fputc('\n', stderr);
  exit(1);
}

bool same(double left, double right) {
  if (std::isnan(left)) return std::isnan(right);
  return left == right && std::signbit(left) == std::signbit(right);
}

// ---- 16-bit floats, from their definition: `digits` of a significand, and the least exponent.

struct Format {
  const char* name;
  int digits, least_exponent;

  double largest() const { return ldexp(2 - ldexp(1, 1 - digits), 1 - least_exponent); }

  double decode(uint16_t pattern) const {
    int fraction_bits = digits - 1;
    int exponent = (pattern & 0x7fff) >> fraction_bits;
    int fraction = pattern & ((1 << fraction_bits) - 1);
    double magnitude = exponent ? ldexp(fraction + (1 << fraction_bits), exponent - 1)
                                : static_cast<double>(fraction);
    magnitude = ldexp(magnitude, least_exponent - fraction_bits);
    if (magnitude > largest()) magnitude = fraction ? NAN : INFINITY;
    return pattern & 0x8000 ? -magnitude : magnitude;
  }

  // To the nearest, ties to even, which is how nearbyint() rounds.
  double round(double x) const {
    if (std::isnan(x) || std::isinf(x) || x == 0) return x;
    int last = std::max(std::ilogb(x), least_exponent) - (digits - 1);
    double rounded = ldexp(nearbyint(ldexp(x, -last)), last);
    return fabs(rounded) > largest() ? copysign(INFINITY, x) : rounded;
  }
};

constexpr Format kHalf{"float16", 11, -14}, kBFloat16{"bfloat16", 8, -126};

template <class T>
void check_narrow(const Format& format, float x) {
  uint16_t result = opproof::narrow<T>(x).bits;
  if (!same(format.decode(result), format.round(x))) {
    fail("narrow to %s: %a gives 0x%04x, not %a", format.name, x, result, format.round(x));
  }
}

template <class T>
void check_format(const Format& format) {
  for (uint32_t pattern = 0; pattern < 1u << 16; ++pattern) {
    T value{static_cast<uint16_t>(pattern)};
    float wide = opproof::widen(value);
    if (!same(wide, format.decode(value.bits))) {
      fail("widen %s: 0x%04x gives %a, not %a", format.name, pattern, wide,
           format.decode(value.bits));
    }
    // The value itself; half way to the next one, which is a tie; and the floats beside both.
    float next = opproof::widen(T{static_cast<uint16_t>(pattern + 1)});
    for (float x : {wide, static_cast<float>(0.5 * (double(wide) + double(next)))}) {
      for (float near : {x, nextafterf(x, INFINITY), nextafterf(x, -INFINITY)}) {
        check_narrow<T>(format, near);
      }
    }
  }
}

// ---- The truth

struct Truth {
  long double value, derivative, second;
};

// By way of the upper tail, what rounding a a and a / sqrt 2 loses put back to first order: some
// 1e-18 relatively, but for the root of the derivative.
Truth truth(long double x) {
  // 1 / sqrt 2
  const long double high = 0x1.6a09e667f3bcc908p-1L, low = 0x1.65f626cdd52afa7cp-66L;
  long double a = fabsl(x), square = a * a, z = a * high;
  long double square_rest = fmal(a, a, -square), z_rest = fmal(a, high, -z) + a * low;
  long double density = expl(-square / 2) * (1 - square_rest / 2) * 0.39894228040143267794L;
  long double tail = erfcl(z) / 2 - z_rest * 1.41421356237309504880L * density;
  long double g = tail - a * density;
  return {x < 0 ? -a * tail : x - a * tail, x < 0 ? g : 1 - g,
          density * (2 - square - square_rest)};
}

// |got - truth| in units of the last place that T has there, or at `least`; infinity counts as the
// power of two after the largest number.
template <class T>
double ulps(T got, long double truth, double least = 0) {
  using Limits = std::numeric_limits<T>;
  long double limit = ldexpl(1, Limits::max_exponent);
  long double error = fabsl(std::clamp<long double>(got, -limit, limit) -
                            std::clamp<long double>(truth, -limit, limit));
  long double size = std::max<long double>(fabsl(truth), least);
  int exponent = size == 0 ? Limits::min_exponent - 1 : std::ilogb(size);
  exponent = std::clamp(exponent, Limits::min_exponent - 1, Limits::max_exponent - 1);
  return ldexpl(error, Limits::digits - 1 - exponent);
}

// ---- The largest errors, by region

struct Region {
  double low, high;  // high is not of it
  double error = 0, at = 0;
};

struct Errors {
  std::string of;
  std::vector<Region> regions;

  void add(double x, double error) {
    for (Region& region : regions) {
      if (x < region.low || x >= region.high) continue;
      if (error <= region.error) return;
      region.error = std::isfinite(error) ? error : 1e300;
      region.at = x;
      return;
    }
  }

  void print(const char* end) const {
    printf("  \"%s\": [", of.c_str());
    for (const Region& region : regions) {
      printf("%s\n    {\"low\": %g, \"high\": %g, \"error\": %.9g, \"at\": %.17g}",
             &region == &regions[0] ? "" : ",", std::max(region.low, -1e300),
             std::min(region.high, 1e300), region.error, region.at);
    }
    printf("]%s\n", end);
  }
};

std::vector<Region> between(std::vector<double> bounds) {
  std::vector<Region> regions;
  for (size_t i = 1; i < bounds.size(); ++i) regions.push_back({bounds[i - 1], bounds[i]});
  return regions;
}

// Beyond 37 the doubles that the results are computed from are subnormal.
const std::vector<double> kBounds{-INFINITY, -37, -12, -5, -3, -1, 0, 12, 37, INFINITY};
const std::vector<double> kAroundRoot{-INFINITY, -37,     -12, -5, -3,
                                      -1.0518,   -0.4518, 0,   12, INFINITY};

// ---- The activations

// What holds for every x, NaN and infinity too.
template <class Activation, class T>
void check_function(const char* header, T x) {
  auto both = Activation::value_and_derivative(x);
  T value = Activation::value(x), derivative = Activation::derivative(x);
  T second = Activation::second_derivative(x);
  const char* type = sizeof(T) == 4 ? "float" : "double";
  if (!same(both.value, value) || !same(both.derivative, derivative)) {
    fail("%s, %s: value_and_derivative(%a) is %a, %a; apart they are %a, %a", header, type, x,
         both.value, both.derivative, value, derivative);
  }
  // The textbook's second derivative of huge numbers is 0 inf.
  bool in_range = std::is_same_v<Activation, precise::Activation> || fabs(x) < 1e18;
  for (T result : {value, derivative, second}) {
    if (std::isnan(x) && !std::isnan(result)) fail("%s, %s: NaN gives %a", header, type, result);
    if (std::isfinite(x) && in_range && std::isnan(result)) {
      fail("%s, %s: %a gives NaN", header, type, x);
    }
  }
}

template <class T>
void check_limits() {
  using precise::Activation;
  using Limits = std::numeric_limits<T>;
  // The derivative's limit from below; double has lost the sign.
  const T zero = std::is_same_v<T, float> ? T(-0.0) : T(0);
  struct {
    T x, value, derivative;
  } cases[] = {{0, 0, 0.5},
               {T(-0.0), T(-0.0), 0.5},
               {Limits::infinity(), Limits::infinity(), 1},
               {-Limits::infinity(), T(-0.0), zero},
               {Limits::max(), Limits::max(), 1},
               {-Limits::max(), T(-0.0), zero}};
  for (auto [x, value, derivative] : cases) {
    if (!same(Activation::value(x), value)) fail("gelu(%g) is %g", x, Activation::value(x));
    if (!same(Activation::derivative(x), derivative)) {
      fail("gelu'(%g) is %g", x, Activation::derivative(x));
    }
  }
}

struct Sweep {
  Errors exponential{"exp", between({-INFINITY, INFINITY})};
  Errors value{"gelu.h value", between(kBounds)};
  Errors derivative{"gelu.h derivative", between(kAroundRoot)};
  Errors second{"gelu.h second_derivative", between(kBounds)};
  Errors value64{"gelu.h double value", between(kBounds)};
  Errors derivative64{"gelu.h double derivative", between(kAroundRoot)};
  Errors second64{"gelu.h double second_derivative", between(kBounds)};
  // These are absolute; of x, from 1 on.
  Errors textbook{"gelu_erf.h value", between(kBounds)};
  Errors textbook_derivative{"gelu_erf.h derivative", between(kBounds)};

  void hold(uint32_t pattern) {
    float x = from_bits(pattern);
    check_function<precise::Activation>("gelu.h", x);
    check_function<::textbook::Activation>("gelu_erf.h", x);
    check_function<precise::Activation>("gelu.h", wider(pattern));
    check_function<::textbook::Activation>("gelu_erf.h", wider(pattern));
    check_narrow<opproof::Half>(kHalf, x);
    check_narrow<opproof::BFloat16>(kBFloat16, x);
    if (std::signbit(precise::Activation::value(x)) != std::signbit(x) && !std::isnan(x)) {
      fail("gelu.h: value(%a) is %a, of the other sign", x, precise::Activation::value(x));
    }
    if (std::isnan(x) != std::isnan(opproof::exp(x))) fail("exp(%a) is %a", x, opproof::exp(x));
    if (!std::isnan(x)) exponential.add(x, ulps(opproof::exp(x), expl(x)));
  }

  void measure(uint32_t pattern) {
    float x = from_bits(pattern);
    if (!std::isfinite(x)) return;
    Truth t = truth(x);
    value.add(x, ulps(precise::Activation::value(x), t.value));
    derivative.add(x, ulps(precise::Activation::derivative(x), t.derivative));
    second.add(x, ulps(precise::Activation::second_derivative(x), t.second));
    long double size = std::max(1.0L, fabsl(x));
    textbook.add(x, fabsl(::textbook::Activation::value(x) - t.value) / size);
    textbook_derivative.add(x, fabsl(::textbook::Activation::derivative(x) - t.derivative));
    double fine = wider(pattern);
    t = truth(fine);
    double least = fabs(fine + 0.7518) < 0.3 ? 0.125 : 0;  // the derivative's root
    value64.add(fine, ulps(precise::Activation::value(fine), t.value));
    derivative64.add(fine, ulps(precise::Activation::derivative(fine), t.derivative, least));
    second64.add(fine, ulps(precise::Activation::second_derivative(fine), t.second));
  }

  // The float of the pattern as a double, with digits of its own in the lower places.
  static double wider(uint32_t pattern) {
    double x = from_bits(pattern);
    uint64_t b;
    memcpy(&b, &x, sizeof b);
    if (std::isfinite(x) && x != 0) b |= (pattern * 2654435761u) & 0x1fffffffu;
    memcpy(&x, &b, sizeof b);
    return x;
  }
};

void check(uint64_t stride) {
  check_format<opproof::Half>(kHalf);
  check_format<opproof::BFloat16>(kBFloat16);
  check_limits<float>();
  check_limits<double>();
  for (double x : {double(INFINITY), -double(INFINITY), double(NAN)}) {
    if (!same(opproof::exp(float(x)), exp(x))) fail("exp(%g) is %g", x, opproof::exp(float(x)));
  }
  Sweep sweep;
  for (uint64_t pattern = 0; pattern < kPatterns; pattern += stride) sweep.hold(pattern);
  for (uint32_t infinity : {0x7f800000u, 0xff800000u}) {
    for (int32_t step = -2000; step <= 2000; ++step) sweep.hold(infinity + step);
  }
  // Most floats are tiny or huge, where nothing happens: closer where the functions bend, closest
  // at the derivative's root.
  for (uint32_t sign : {0u, 0x80000000u}) {
    for (uint64_t pattern = 0; pattern < bits(INFINITY); pattern += 64 * stride) {
      sweep.measure(sign | pattern);
    }
    for (uint64_t pattern = bits(0x1p-12f); pattern < bits(17.0f); pattern += stride) {
      sweep.measure(sign | pattern);
    }
  }
  for (int32_t step = -20000; step <= 20000; ++step) sweep.measure(bits(-0.7517916f) + step);
  puts("{");
  for (Errors* errors :
       {&sweep.exponential, &sweep.value, &sweep.derivative, &sweep.second, &sweep.value64,
        &sweep.derivative64, &sweep.second64, &sweep.textbook, &sweep.textbook_derivative}) {
    errors->print(errors == &sweep.textbook_derivative ? "" : ",");
  }
  puts("}");
}

template <class Function>
void write_bits(uint64_t stride, Function function) {
  constexpr int kCount = 4096;
  static float x[kCount], y[kCount];
  for (uint64_t pattern = 0; pattern < kPatterns;) {
    int count = 0;
    for (; count < kCount && pattern < kPatterns; pattern += stride) {
      x[count++] = from_bits(pattern);
    }
#pragma omp simd
    for (int i = 0; i < count; ++i) y[i] = function(x[i]);
    for (int i = 0; i < count; ++i) y[i] = std::isnan(y[i]) ? from_bits(0x7fc00000u) : y[i];
    fwrite(y, sizeof *y, count, stdout);
  }
}

int main(int count, char** arguments) {
  using precise::Activation;
  std::string wanted;
  for (int i = 1; i < count - 1; ++i) wanted += std::string(i > 1 ? " " : "") + arguments[i];
  uint64_t stride = count > 1 ? strtoull(arguments[count - 1], nullptr, 10) : 0;
  if (stride && wanted == "check") {
    check(stride);
  } else if (stride && wanted == "bits value") {
    write_bits(stride, [](float x) { return Activation::value(x); });
  } else if (stride && wanted == "bits derivative") {
    write_bits(stride, [](float x) { return Activation::derivative(x); });
  } else if (stride && wanted == "bits second_derivative") {
    write_bits(stride, [](float x) { return Activation::second_derivative(x); });
  } else {
    fail("usage: sweep check STRIDE | sweep bits FUNCTION STRIDE");
  }
}
