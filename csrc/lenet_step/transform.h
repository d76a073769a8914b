// A convolution of rows by 5 taps as products of single numbers (Toom and Cook, Winograd): to find 4
// outputs, 8 inputs and 5 taps are each transformed to 8 numbers, whose products, transformed, are the
// outputs. That is 8 multiplications for 20, and, summed over channels and rows before the last
// transformation, little more.
//
// All are polynomials taken at 8 points, of which infinity is the last.

#pragma once

#include "lenet.h"

namespace opproof::lenet {

constexpr int kTile = 4;  // outputs
constexpr int kPoints = kTile + kKernel - 1;

template <int kRows, int kColumns>
struct Matrix {
  float at[kRows][kColumns];
};

// Those from the second on in pairs: the numbers of a polynomial at a pair are the sum and the
// difference of its even and its odd part.
constexpr double kPoint[kPoints - 1] = {0, 1, -1, 2, -2, 0.5, -0.5};

// A row a point: its powers.
template <int kColumns>
constexpr Matrix<kPoints, kColumns> powers(bool divided) {
  Matrix<kPoints, kColumns> result{};
  for (int p = 0; p < kPoints - 1; ++p) {
    double divisor = 1;
    for (double other : kPoint) divisor *= divided && other != kPoint[p] ? kPoint[p] - other : 1;
    double power = 1;
    for (int i = 0; i < kColumns; ++i, power *= kPoint[p]) {
      result.at[p][i] = static_cast<float>(power / divisor);
    }
  }
  result.at[kPoints - 1][kColumns - 1] = 1;
  return result;
}

// A row a point: the coefficients of the polynomial that is zero at the others.
constexpr Matrix<kPoints, kPoints> zeros_at_others() {
  Matrix<kPoints, kPoints> result{};
  for (int p = 0; p < kPoints; ++p) {
    double coefficients[kPoints] = {1};
    for (int other = 0; other < kPoints - 1; ++other) {
      if (other == p) continue;
      for (int i = kPoints - 1; i >= 0; --i) {
        coefficients[i] = (i > 0 ? coefficients[i - 1] : 0) - kPoint[other] * coefficients[i];
      }
    }
    for (int i = 0; i < kPoints; ++i) result.at[p][i] = static_cast<float>(coefficients[i]);
  }
  return result;
}

// From taps, inputs, and errors of outputs, a column each, to points. The other way, the columns
// weigh the points: to outputs, and to errors of inputs.
constexpr Matrix<kPoints, kKernel> kOfTaps = powers<kKernel>(true);
constexpr Matrix<kPoints, kPoints> kOfInputs = zeros_at_others();
constexpr Matrix<kPoints, kTile> kOfOutputs = powers<kTile>(false);

}  // namespace opproof::lenet
