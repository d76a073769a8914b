// Prints the float results of a header's three functions, for every STRIDE-th bit pattern, any NaN as
// 0x7fc00000. Nothing of torch is linked, so that it is compiled for any machine.

#include <cstdio>
#include <cstdlib>

#include "activation.h"

namespace {

uint32_t pattern_of(float result) {
  return result == result ? opproof::bits(result) : 0x7fc00000u;
}

}  // namespace

int main(int, char** arguments) {
  uint64_t stride = strtoull(arguments[1], nullptr, 10);
  for (uint64_t pattern = 0; pattern < 1ull << 32; pattern += stride) {
    float x = opproof::from_bits(static_cast<uint32_t>(pattern));
    auto both = opproof::value_and_derivative(x);
    uint32_t results[] = {pattern_of(Activation::value(x)), pattern_of(Activation::derivative(x)),
                          pattern_of(Activation::second_derivative(x)), pattern_of(both.value),
                          pattern_of(both.derivative)};
    fwrite(results, sizeof results, 1, stdout);
  }
}
