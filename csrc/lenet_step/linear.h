// The linear layers, for 16 images, and their gradients, for a batch. Included once for each
// instruction set, in a namespace that has its Vector.

// kCount of the outputs that `multiply` computes.
template <int kCount, int kInputs, int kOutputStride, int kInputStride>
void multiply_block(const float* weight, const float* bias, const Lanes* x, int part, Lanes* to) {
  Vector sum[kCount];
  OPPROOF_UNROLL
  for (int n = 0; n < kCount; ++n) sum[n] = broadcast(bias ? bias[n] : 0.0f);
  for (int i = 0; i < kInputs; ++i) {
    Vector value = load(x[i], part);
    // Too little is read of a row for the processor to see what comes.
    if (kInputStride > 1) {
      __builtin_prefetch(weight + (i + 12) * kInputStride);
      __builtin_prefetch(weight + (i + 12) * kInputStride + kCount - 1);
    }
    OPPROOF_UNROLL
    for (int n = 0; n < kCount; ++n) {
      sum[n] = fma(broadcast(weight[n * kOutputStride + i * kInputStride]), value, sum[n]);
    }
  }
  OPPROOF_UNROLL
  for (int n = 0; n < kCount; ++n) store(sum[n], to[n], part);
}

// to[n] = bias[n] + sum over i of weight[n kOutputStride + i kInputStride] x[i]; without a bias, 0.
template <int kOutputs, int kInputs, int kOutputStride, int kInputStride>
void multiply(const float* weight, const float* bias, const Lanes* x, Lanes* to) {
  constexpr int kBlock = Blocks::linear, kRest = kOutputs % kBlock;
  for (int part = 0; part < kParts; ++part) {
    int n = 0;
    for (; n + kBlock <= kOutputs; n += kBlock) {
      multiply_block<kBlock, kInputs, kOutputStride, kInputStride>(
          weight + n * kOutputStride, bias ? bias + n : nullptr, x, part, to + n);
    }
    if constexpr (kRest) {
      multiply_block<kRest, kInputs, kOutputStride, kInputStride>(
          weight + n * kOutputStride, bias ? bias + n : nullptr, x, part, to + n);
    }
  }
}

template <int kOutputs, int kInputs>
void forward_linear(const float* weight, const float* bias, const Lanes* x, Lanes* to) {
  multiply<kOutputs, kInputs, kInputs, 1>(weight, bias, x, to);
}

// The errors of a layer's inputs, from those of its outputs.
template <int kOutputs, int kInputs>
void backward_linear(const float* weight, const Lanes* errors, Lanes* to) {
  multiply<kInputs, kOutputs, 1, kInputs>(weight, nullptr, errors, to);
}

template <int kCount>
void multiply_by(const Lanes (&factors)[kCount], Lanes (&x)[kCount]) {
  for (int i = 0; i < kCount; ++i) {
    for (int part = 0; part < kParts; ++part) {
      store(load(x[i], part) * load(factors[i], part), x[i], part);
    }
  }
}

inline void forward_hidden(const float* parameters, Group& group) {
  forward_linear<kHidden1, kFeatures>(parameters + kWeight3, parameters + kBias3, group.features,
                                      group.hidden1);
  activate(group.hidden1, group.hidden1, group.derivative1);
  forward_linear<kHidden2, kHidden1>(parameters + kWeight4, parameters + kBias4, group.hidden1,
                                     group.hidden2);
  activate(group.hidden2, group.hidden2, group.derivative2);
  forward_linear<kClasses, kHidden2>(parameters + kWeight5, parameters + kBias5, group.hidden2,
                                     group.logits);
}

// From the errors of the logits to those of all layers above the convolutions.
inline void backward_hidden(const float* parameters, Group& group) {
  backward_linear<kClasses, kHidden2>(parameters + kWeight5, group.error_logits,
                                      group.error_hidden2);
  multiply_by(group.derivative2, group.error_hidden2);
  backward_linear<kHidden2, kHidden1>(parameters + kWeight4, group.error_hidden2,
                                      group.error_hidden1);
  multiply_by(group.derivative1, group.error_hidden1);
  backward_linear<kHidden1, kFeatures>(parameters + kWeight3, group.error_hidden1,
                                       group.error_features);
}

// Keeps a layer's inputs, a row an image, and the errors of its outputs, of the 16 images from `first`
// on.
template <int kOutputs, int kInputs>
void keep(const Lanes (&inputs)[kInputs], const Lanes (&errors)[kOutputs], int64_t first,
          LinearBatch<kOutputs, kInputs>& batch) {
  for (int part = 0; part < kParts; ++part) {
    auto* rows = &batch.inputs[first + part * kWidth];
    for (int column = 0; column < kInputs; column += kWidth) {
      Vector block[kWidth];
      OPPROOF_UNROLL
      for (int i = 0; i < kWidth; ++i) {
        block[i] = column + i < kInputs ? load(inputs[column + i], part) : Vector{};
      }
      transpose(block);
      OPPROOF_UNROLL
      for (int i = 0; i < kWidth; ++i) memcpy(rows[i].at + column, &block[i], sizeof(Vector));
    }
  }
  for (int n = 0; n < kOutputs; ++n) batch.errors[n * batch.groups + first / kLanes] = errors[n];
}

inline void keep(const Group& group, int64_t first, Batch& batch) {
  keep(group.features, group.error_hidden1, first, batch.first);
  keep(group.hidden1, group.error_hidden2, first, batch.second);
  keep(group.hidden2, group.error_logits, first, batch.third);
}

// A block of the weights' gradients: kRows outputs by kVectors vectors of inputs.
template <int kRows, int kVectors, int kOutputs, int kInputs>
void weight_gradients_block(const LinearBatch<kOutputs, kInputs>& batch, int64_t images, int row,
                            int column, float* gradients) {
  Vector sum[kRows][kVectors] = {};
  const auto* inputs = batch.inputs.data();
  const float* errors = batch.errors[row * batch.groups].at;
  int64_t stride = batch.groups * kLanes;
  for (int64_t image = 0; image < images; ++image) {
    const float* x = inputs[image].at + column;
    Vector value[kVectors];
    OPPROOF_UNROLL
    for (int v = 0; v < kVectors; ++v) memcpy(&value[v], x + v * kWidth, sizeof(Vector));
    OPPROOF_UNROLL
    for (int r = 0; r < kRows; ++r) {
      Vector error = broadcast(errors[r * stride + image]);
      OPPROOF_UNROLL
      for (int v = 0; v < kVectors; ++v) sum[r][v] = fma(error, value[v], sum[r][v]);
    }
  }
  OPPROOF_UNROLL
  for (int r = 0; r < kRows; ++r) {
    OPPROOF_UNROLL
    for (int v = 0; v < kVectors; ++v) {
      int at = column + v * kWidth;
      float* to = gradients + (row + r) * kInputs + at;
      if (at + kWidth <= kInputs) {
        memcpy(to, &sum[r][v], sizeof(Vector));
      } else if (at < kInputs) {
        Vector last = sum[r][v];
        memcpy(to, &last, kInputs % kWidth * sizeof(float));
      }
    }
  }
}

template <int kOutputs, int kInputs>
void weight_gradients(const LinearBatch<kOutputs, kInputs>& batch, int64_t images,
                      float* gradients) {
  constexpr int kRows = Blocks::rows, kVectors = Blocks::vectors, kRest = kOutputs % kRows;
  for (int column = 0; column < kInputs; column += kVectors * kWidth) {
    int row = 0;
    for (; row + kRows <= kOutputs; row += kRows) {
      weight_gradients_block<kRows, kVectors>(batch, images, row, column, gradients);
    }
    if constexpr (kRest) {
      weight_gradients_block<kRest, kVectors>(batch, images, row, column, gradients);
    }
  }
}

template <int kOutputs, int kInputs>
void bias_gradients(const LinearBatch<kOutputs, kInputs>& batch, int64_t images, float* gradients) {
  Lanes sums[kOutputs];
  for (int n = 0; n < kOutputs; ++n) {
    const Lanes* errors = &batch.errors[n * batch.groups];
    for (int part = 0; part < kParts; ++part) {
      Vector sum = load(errors[0], part);
      for (int64_t group = 1; group * kLanes < images; ++group) sum += load(errors[group], part);
      store(sum, sums[n], part);
    }
  }
  sum_lanes(sums, kOutputs, gradients);
}

inline void linear_gradients(const Batch& batch, int64_t images, float* gradients) {
  weight_gradients(batch.first, images, gradients + kWeight3);
  bias_gradients(batch.first, images, gradients + kBias3);
  weight_gradients(batch.second, images, gradients + kWeight4);
  bias_gradients(batch.second, images, gradients + kBias4);
  weight_gradients(batch.third, images, gradients + kWeight5);
  bias_gradients(batch.third, images, gradients + kBias5);
}
