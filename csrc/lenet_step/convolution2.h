// The second convolution, forward and backward, for 16 images, by transform.h: its rows' numbers
// at each point are a convolution along columns by themselves. Included once for each instruction set,
// in a namespace that has its Vector.

// Adds factor x to sum, or lets it be x, if it is the first.
OPPROOF_INLINE void add(float factor, Vector x, bool& is_first, Vector& sum) {
  if (factor == 0) return;
  sum = is_first ? broadcast(factor) * x : fma(broadcast(factor), x, sum);
  is_first = false;
}

// The sum over every kStep-th column of a point's row, from kFirst on, of from[column] times it.
template <int kFirst, int kStep, int kColumns>
OPPROOF_INLINE Vector sum_of_columns(const Matrix<kPoints, kColumns>& matrix, int p,
                                     const Vector (&from)[kColumns]) {
  Vector sum = {};
  bool is_first = true;
  OPPROOF_UNROLL
  for (int i = kFirst; i < kColumns; i += kStep) add(matrix.at[p][i], from[i], is_first, sum);
  return sum;
}

// to[p] = sum over i of matrix[p][i] from[i].
template <int kColumns>
OPPROOF_INLINE void to_points(const Matrix<kPoints, kColumns>& matrix,
                              const Vector (&from)[kColumns], Vector (&to)[kPoints]) {
  to[0] = sum_of_columns<0, 1>(matrix, 0, from);
  OPPROOF_UNROLL
  for (int p = 1; p < kPoints - 1; p += 2) {
    Vector even = sum_of_columns<0, 2>(matrix, p, from);
    Vector odd = sum_of_columns<1, 2>(matrix, p, from);
    to[p] = even + odd;
    to[p + 1] = even - odd;
  }
  to[kPoints - 1] = sum_of_columns<0, 1>(matrix, kPoints - 1, from);
}

// to[i] = sum over p of matrix[p][i] from[p].
template <int kColumns>
OPPROOF_INLINE void from_points(const Matrix<kPoints, kColumns>& matrix,
                                const Vector (&from)[kPoints], Vector (&to)[kColumns]) {
  Vector even[kPoints], odd[kPoints];
  OPPROOF_UNROLL
  for (int p = 1; p < kPoints - 1; p += 2) {
    even[p] = from[p] + from[p + 1];
    odd[p] = from[p] - from[p + 1];
  }
  OPPROOF_UNROLL
  for (int i = 0; i < kColumns; ++i) {
    bool is_first = true;
    add(matrix.at[0][i], from[0], is_first, to[i]);
    OPPROOF_UNROLL
    for (int p = 1; p < kPoints - 1; p += 2) {
      add(matrix.at[p][i], i % 2 == 0 ? even[p] : odd[p], is_first, to[i]);
    }
    add(matrix.at[kPoints - 1][i], from[kPoints - 1], is_first, to[i]);
  }
}

inline void transform_weights2(const float* weight, Weights2& to) {
  for (int p = 0; p < kPoints; ++p) {
    float* rows = to.at[p];
#pragma omp simd
    for (int row = 0; row < kRows2; ++row) {
      float sum = 0;
      for (int k = 0; k < kKernel; ++k) {
        sum = opproof::fma(kOfTaps.at[p][k], weight[row * kKernel + k], sum);
      }
      rows[row] = sum;
    }
  }
}

// The weights' gradients, from those of the transformed ones.
inline void gradients_of_weights2(const Weights2& gradients, float* to) {
  for (int row = 0; row < kRows2; ++row) {
    for (int k = 0; k < kKernel; ++k) {
      float sum = 0;
      for (int p = 0; p < kPoints; ++p) {
        sum = opproof::fma(kOfTaps.at[p][k], gradients.at[p][row], sum);
      }
      to[row * kKernel + k] = sum;
    }
  }
}

// A row of the input, [column][channel].
inline void transform_input2(const Lanes (&pooled)[kWindows1], int row, Group& group) {
  for (int part = 0; part < kParts; ++part) {
    for (int tile = 0; tile < kTiles2; ++tile) {
      for (int c = 0; c < kChannels1; ++c) {
        Vector x[kPoints], to[kPoints];
        OPPROOF_UNROLL
        for (int i = 0; i < kPoints; ++i) {
          x[i] = load(pooled[(tile * kTile + i) * kChannels1 + c], part);
        }
        to_points(kOfInputs, x, to);
        OPPROOF_UNROLL
        for (int p = 0; p < kPoints; ++p) store(to[p], group.input2[p][row][tile][c], part);
      }
    }
  }
}

// At one point, kBlock channels of 4 rows of outputs.
template <int kBlock>
void multiply2(const float (&weight)[kRows2],
               const Lanes (&input)[kPool1][kTiles2][kChannels1], int row, int tile, int channel,
               int part, Lanes (&to)[kConv2][kTiles2][kChannels2]) {
  constexpr int kRows = 4;
  Vector sum[kBlock][kRows] = {};
  for (int in = 0; in < kChannels1; ++in) {
    OPPROOF_UNROLL
    for (int ky = 0; ky < kKernel; ++ky) {
      Vector x[kRows];
      OPPROOF_UNROLL
      for (int i = 0; i < kRows; ++i) x[i] = load(input[row + ky + i][tile][in], part);
      OPPROOF_UNROLL
      for (int c = 0; c < kBlock; ++c) {
        Vector factor = broadcast(weight[row2(channel + c, in) + ky]);
        OPPROOF_UNROLL
        for (int i = 0; i < kRows; ++i) sum[c][i] = fma(factor, x[i], sum[c][i]);
      }
    }
  }
  OPPROOF_UNROLL
  for (int c = 0; c < kBlock; ++c) {
    OPPROOF_UNROLL
    for (int i = 0; i < kRows; ++i) store(sum[c][i], to[row + i][tile][channel + c], part);
  }
}

// A row of the outputs, to where its pool's windows have it: to[window][four].
inline void transform_output2(const Group& group, const float* bias, int row, Lanes* to) {
  for (int part = 0; part < kParts; ++part) {
    for (int tile = 0; tile < kTiles2; ++tile) {
      for (int c = 0; c < kChannels2; ++c) {
        Vector points[kPoints], outputs[kTile];
        OPPROOF_UNROLL
        for (int p = 0; p < kPoints; ++p) points[p] = load(group.output2[p][row][tile][c], part);
        from_points(kOfOutputs, points, outputs);
        OPPROOF_UNROLL
        for (int i = 0; i < kTile; ++i) {
          int column = tile * kTile + i, window = column / 2 * kChannels2 + c;
          store(outputs[i] + broadcast(bias[c]), to[4 * window + row % 2 * 2 + column % 2], part);
        }
      }
    }
  }
}

inline void forward2(const float* parameters, const Weights2& weights, Group& group) {
  for (int p = 0; p < kPoints; ++p) {
    for (int part = 0; part < kParts; ++part) {
      for (int row = 0; row < kConv2; row += 4) {
        for (int tile = 0; tile < kTiles2; ++tile) {
          for (int c = 0; c < kChannels2; c += Blocks::forward2) {
            multiply2<Blocks::forward2>(weights.at[p], group.input2[p], row, tile, c, part,
                                        group.output2[p]);
          }
        }
      }
    }
  }
  Lanes values[4 * kWindows2], pooled[kWindows2];
  for (int row = 0; row < kPool2; ++row) {
    transform_output2(group, parameters + kBias2, 2 * row, values);
    transform_output2(group, parameters + kBias2, 2 * row + 1, values);
    pool_row<kWindows2>(values, group.inner2[row], pooled, group.outer2[row]);
    for (int column = 0; column < kPool2; ++column) {
      for (int c = 0; c < kChannels2; ++c) {
        group.features[(c * kPool2 + row) * kPool2 + column] = pooled[column * kChannels2 + c];
      }
    }
  }
}

// The errors of two rows of outputs, and of what they were transformed from.
inline void errors_of_output2(Group& group, int row, Lanes (&errors)[2][kChannels2][kConv2]) {
  for (int part = 0; part < kParts; ++part) {
    for (int column = 0; column < kPool2; ++column) {
      for (int c = 0; c < kChannels2; ++c) {
        const Lanes& error = group.error_features[(c * kPool2 + row) * kPool2 + column];
        int window = column * kChannels2 + c;
        spread(load(error, part), group.outer2[row][window], group.inner2[row] + 4 * window, part,
               &errors[0][c][2 * column], &errors[1][c][2 * column]);
      }
    }
    for (int i = 0; i < 2; ++i) {
      for (int tile = 0; tile < kTiles2; ++tile) {
        for (int c = 0; c < kChannels2; ++c) {
          Vector each[kTile], points[kPoints];
          OPPROOF_UNROLL
          for (int k = 0; k < kTile; ++k) each[k] = load(errors[i][c][tile * kTile + k], part);
          to_points(kOfOutputs, each, points);
          OPPROOF_UNROLL
          for (int p = 0; p < kPoints; ++p) {
            store(points[p], group.output2[p][2 * row + i][tile][c], part);
          }
        }
      }
    }
  }
}

// At one point, adds to the gradients of the weights of kBlock channels.
template <int kBlock>
void add_gradients2(const Lanes (&errors)[kConv2][kTiles2][kChannels2],
                    const Lanes (&input)[kPool1][kTiles2][kChannels1], int channel, int in, int part,
                    Lanes (&gradients)[kRows2]) {
  Vector sum[kBlock][kKernel];
  OPPROOF_UNROLL
  for (int c = 0; c < kBlock; ++c) {
    OPPROOF_UNROLL
    for (int ky = 0; ky < kKernel; ++ky) sum[c][ky] = load(gradients[row2(channel + c, in) + ky], part);
  }
  for (int tile = 0; tile < kTiles2; ++tile) {
    OPPROOF_UNROLL
    for (int row = 0; row < kConv2; ++row) {
      Vector error[kBlock];
      OPPROOF_UNROLL
      for (int c = 0; c < kBlock; ++c) error[c] = load(errors[row][tile][channel + c], part);
      OPPROOF_UNROLL
      for (int ky = 0; ky < kKernel; ++ky) {
        Vector x = load(input[row + ky][tile][in], part);
        OPPROOF_UNROLL
        for (int c = 0; c < kBlock; ++c) sum[c][ky] = fma(error[c], x, sum[c][ky]);
      }
    }
  }
  OPPROOF_UNROLL
  for (int c = 0; c < kBlock; ++c) {
    OPPROOF_UNROLL
    for (int ky = 0; ky < kKernel; ++ky) store(sum[c][ky], gradients[row2(channel + c, in) + ky], part);
  }
}

// At one point, the errors of two channels of the input: of kCount rows from kFirst on.
template <int kFirst, int kCount>
void errors_of_input2(const float (&weight)[kRows2],
                      const Lanes (&errors)[kConv2][kTiles2][kChannels2], int tile, int in, int part,
                      Lanes (&to)[kPool1][kTiles2][kChannels1]) {
  Vector sum[2][kCount] = {};
  for (int c = 0; c < kChannels2; ++c) {
    OPPROOF_UNROLL
    for (int ky = 0; ky < kKernel; ++ky) {
      Vector factors[2] = {broadcast(weight[row2(c, in) + ky]),
                           broadcast(weight[row2(c, in + 1) + ky])};
      OPPROOF_UNROLL
      for (int y = 0; y < kConv2; ++y) {
        int row = y + ky - kFirst;
        if (row < 0 || row >= kCount) continue;
        Vector error = load(errors[y][tile][c], part);
        sum[0][row] = fma(factors[0], error, sum[0][row]);
        sum[1][row] = fma(factors[1], error, sum[1][row]);
      }
    }
  }
  OPPROOF_UNROLL
  for (int i = 0; i < kCount; ++i) {
    store(sum[0][i], to[kFirst + i][tile][in], part);
    store(sum[1][i], to[kFirst + i][tile][in + 1], part);
  }
}

// The gradients of the weights, then the errors of the input, in the input's place.
inline void backward2(const Weights2& weights, Group& group, ConvolutionGradients& gradients) {
  for (int row = 0; row < kPool2; ++row) {
    Lanes errors[2][kChannels2][kConv2];
    errors_of_output2(group, row, errors);
    for (int part = 0; part < kParts; ++part) {
      add_bias_gradients<kChannels2, kConv2, 2>(errors[0][0], part, gradients.bias2);
    }
  }
  constexpr int kCount = Blocks::rows1;
  for (int p = 0; p < kPoints; ++p) {
    for (int part = 0; part < kParts; ++part) {
      for (int c = 0; c < kChannels2; c += Blocks::gradient2) {
        for (int in = 0; in < kChannels1; ++in) {
          add_gradients2<Blocks::gradient2>(group.output2[p], group.input2[p], c, in, part,
                                            gradients.weight2[p]);
        }
      }
      for (int tile = 0; tile < kTiles2; ++tile) {
        for (int in = 0; in < kChannels1; in += 2) {
          errors_of_input2<0, kCount>(weights.at[p], group.output2[p], tile, in, part,
                                      group.input2[p]);
          if constexpr (kCount < kPool1) {
            errors_of_input2<kCount, kPool1 - kCount>(weights.at[p], group.output2[p], tile, in,
                                                      part, group.input2[p]);
          }
        }
      }
    }
  }
}

// The errors of a row of the input, [column][channel], back from its points.
inline void untransform_input2(const Group& group, int row, int part, Lanes (&to)[kWindows1]) {
  for (int c = 0; c < kChannels1; ++c) {
    Vector sum[kPool1] = {};
    OPPROOF_UNROLL
    for (int tile = 0; tile < kTiles2; ++tile) {
      Vector points[kPoints], errors[kPoints];
      OPPROOF_UNROLL
      for (int p = 0; p < kPoints; ++p) points[p] = load(group.input2[p][row][tile][c], part);
      from_points(kOfInputs, points, errors);
      OPPROOF_UNROLL
      for (int i = 0; i < kPoints; ++i) sum[tile * kTile + i] += errors[i];
    }
    OPPROOF_UNROLL
    for (int column = 0; column < kPool1; ++column) {
      store(sum[column], to[column * kChannels1 + c], part);
    }
  }
}
