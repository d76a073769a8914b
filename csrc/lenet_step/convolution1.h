// The first convolution, forward and backward, for 16 images. Included once for each instruction set,
// in a namespace that has its Vector.
//
// What a function sums stands in registers while it does: how many channels of it at once, the
// instruction set's Blocks say, so that there are more products than loads.

// The four outputs of each window of a pool, for all channels: to[channel][four].
inline void convolve_window1(const float* parameters, const Lanes* corner, int part, Lanes* to) {
  constexpr int kBlock = Blocks::forward1;
  for (int first = 0; first < kChannels1; first += kBlock) {
    Vector sum[kBlock][4];
    OPPROOF_UNROLL
    for (int c = 0; c < kBlock; ++c) {
      OPPROOF_UNROLL
      for (Vector& each : sum[c]) each = broadcast(parameters[kBias1 + first + c]);
    }
    for (int ky = 0; ky < kKernel; ++ky) {
      const Lanes *upper = corner + ky * kImage, *lower = upper + kImage;
      const float* weight = parameters + kWeight1 + first * kTaps + ky * kKernel;
      OPPROOF_UNROLL
      for (int kx = 0; kx < kKernel; ++kx) {
        Vector x[] = {load(upper[kx], part), load(upper[kx + 1], part), load(lower[kx], part),
                      load(lower[kx + 1], part)};
        OPPROOF_UNROLL
        for (int c = 0; c < kBlock; ++c) {
          Vector factor = broadcast(weight[c * kTaps + kx]);
          OPPROOF_UNROLL
          for (int i = 0; i < 4; ++i) sum[c][i] = fma(factor, x[i], sum[c][i]);
        }
      }
    }
    OPPROOF_UNROLL
    for (int c = 0; c < kBlock; ++c) {
      OPPROOF_UNROLL
      for (int i = 0; i < 4; ++i) store(sum[c][i], to[4 * (first + c) + i], part);
    }
  }
}

// A row of pooled values.
inline void forward1(const float* parameters, Group& group, int row, Lanes (&pooled)[kWindows1]) {
  Lanes values[4 * kWindows1];
  for (int part = 0; part < kParts; ++part) {
    for (int column = 0; column < kPool1; ++column) {
      convolve_window1(parameters, group.pixels + 2 * row * kImage + 2 * column, part,
                       values + 4 * kChannels1 * column);
    }
  }
  pool_row<kWindows1>(values, group.inner1[row], pooled, group.outer1[row]);
}

// Adds to the gradients of the weights what the errors of two rows of outputs make.
inline void add_gradients1(const Lanes (&errors)[2][kChannels1][kConv1], const Lanes* input, int part,
                           Lanes (&gradients)[kChannels1][kTaps]) {
  constexpr int kBlock = Blocks::gradient1;
  for (int first = 0; first < kChannels1; first += kBlock) {
    for (int ky = 0; ky < kKernel; ++ky) {
      Vector sum[kBlock][kKernel];
      OPPROOF_UNROLL
      for (int c = 0; c < kBlock; ++c) {
        OPPROOF_UNROLL
        for (int kx = 0; kx < kKernel; ++kx) {
          sum[c][kx] = load(gradients[first + c][ky * kKernel + kx], part);
        }
      }
      for (int row = 0; row < 2; ++row) {
        const Lanes* x = input + (row + ky) * kImage;
#pragma GCC unroll 8
        for (int column = 0; column < kConv1; ++column) {
          Vector error[kBlock];
          OPPROOF_UNROLL
          for (int c = 0; c < kBlock; ++c) error[c] = load(errors[row][first + c][column], part);
          OPPROOF_UNROLL
          for (int kx = 0; kx < kKernel; ++kx) {
            Vector value = load(x[column + kx], part);
            OPPROOF_UNROLL
            for (int c = 0; c < kBlock; ++c) sum[c][kx] = fma(error[c], value, sum[c][kx]);
          }
        }
      }
      OPPROOF_UNROLL
      for (int c = 0; c < kBlock; ++c) {
        OPPROOF_UNROLL
        for (int kx = 0; kx < kKernel; ++kx) {
          store(sum[c][kx], gradients[first + c][ky * kKernel + kx], part);
        }
      }
    }
  }
}

// From the errors of a row of pooled values.
inline void backward1(const Lanes (&pooled)[kWindows1], const Group& group, int row, int part,
                      ConvolutionGradients& gradients) {
  Lanes errors[2][kChannels1][kConv1];
  for (int window = 0; window < kWindows1; ++window) {
    int column = window / kChannels1, c = window % kChannels1;
    spread(load(pooled[window], part), group.outer1[row][window], group.inner1[row] + 4 * window,
           part, &errors[0][c][2 * column], &errors[1][c][2 * column]);
  }
  add_gradients1(errors, group.pixels + 2 * row * kImage, part, gradients.weight1);
  add_bias_gradients<kChannels1, kConv1, 2>(errors[0][0], part, gradients.bias1);
}
