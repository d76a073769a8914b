// A step of training, for one instruction set. Included once for each, in a namespace that has its
//
//   Vector, kWidth numbers   of kLanes, which are kParts of them: functions work on one part at a time
//   fma(a, b, c)             a b + c, rounded once, in each lane
//   Blocks                   how much is summed at once, for its registers

constexpr int kParts = kLanes / kWidth;

OPPROOF_INLINE Vector broadcast(float x) { return x - Vector{}; }

OPPROOF_INLINE Vector load(const Lanes& x, int part) {
  return *reinterpret_cast<const Vector*>(x.at + part * kWidth);
}

OPPROOF_INLINE void store(Vector value, Lanes& to, int part) {
  *reinterpret_cast<Vector*>(to.at + part * kWidth) = value;
}

// Elements of both by turns: from the first halves of both, or from the second ones.
template <class Row, int... kAt>
OPPROOF_INLINE Row interleave(Row a, Row b, std::integer_sequence<int, kAt...>, bool second) {
  constexpr int kSize = sizeof...(kAt);
  return second ? __builtin_shufflevector(a, b, (kSize / 2 + kAt / 2 + kAt % 2 * kSize)...)
                : __builtin_shufflevector(a, b, (kAt / 2 + kAt % 2 * kSize)...);
}

// Rounds of it make rows of columns: each moves one bit of a row's number to the column's.
template <class Row, int kSize>
OPPROOF_INLINE void transpose(Row (&rows)[kSize]) {
  constexpr std::make_integer_sequence<int, kSize> kAll;
  OPPROOF_UNROLL
  for (int round = 1; round < kSize; round *= 2) {
    Row next[kSize];
    OPPROOF_UNROLL
    for (int i = 0; i < kSize / 2; ++i) {
      next[2 * i] = interleave(rows[i], rows[i + kSize / 2], kAll, false);
      next[2 * i + 1] = interleave(rows[i], rows[i + kSize / 2], kAll, true);
    }
    OPPROOF_UNROLL
    for (int i = 0; i < kSize; ++i) rows[i] = next[i];
  }
}

OPPROOF_INLINE Vector folded(const Lanes& x) {
  Vector part[kParts];
  OPPROOF_UNROLL
  for (int i = 0; i < kParts; ++i) part[i] = load(x, i);
  OPPROOF_UNROLL
  for (int half = kParts / 2; half > 0; half /= 2) {
    OPPROOF_UNROLL
    for (int i = 0; i < half; ++i) part[i] += part[i + half];
  }
  return part[0];
}

// The sum of the lanes of each: of those that are kLanes / 2 apart first, then of half of that...
inline void sum_lanes(const Lanes* sums, int count, float* to) {
  for (int first = 0; first < count; first += kWidth) {
    Vector block[kWidth];
    int size = count - first < kWidth ? count - first : kWidth;
    OPPROOF_UNROLL
    for (int i = 0; i < kWidth; ++i) block[i] = i < size ? folded(sums[first + i]) : Vector{};
    transpose(block);
    OPPROOF_UNROLL
    for (int half = kWidth / 2; half > 0; half /= 2) {
      OPPROOF_UNROLL
      for (int i = 0; i < half; ++i) block[i] += block[i + half];
    }
    memcpy(to + first, &block[0], size * sizeof(float));
  }
}

template <int kCount>
void activate(const Lanes (&x)[kCount], Lanes (&values)[kCount], Lanes (&derivatives)[kCount]) {
  const float* from = x[0].at;
  float *value = values[0].at, *derivative = derivatives[0].at;
#pragma omp simd
  for (int i = 0; i < kCount * kLanes; ++i) {
    auto both = opproof::value_and_derivative(from[i]);
    value[i] = both.value;
    derivative[i] = both.derivative;
  }
}

#include "lenet_step/pool.h"
#include "lenet_step/convolution1.h"
#include "lenet_step/convolution2.h"
#include "lenet_step/linear.h"

inline void load_pixels(const uint8_t* const (&images)[kLanes], Group& group) {
  for (int first = 0; first < kPixels; first += kLanes) {
    Bytes block[kLanes];
    for (int i = 0; i < kLanes; ++i) memcpy(&block[i], images[i] + first, sizeof(Bytes));
    transpose(block);
    const uint8_t* bytes = reinterpret_cast<const uint8_t*>(block);
    float* to = group.pixels[first].at;
#pragma omp simd
    for (int i = 0; i < kLanes * kLanes; ++i) to[i] = scaled(bytes[i]);
  }
}

inline void forward(const float* parameters, const Weights2& weights2, Group& group) {
  for (int row = 0; row < kPool1; ++row) {
    Lanes pooled[kWindows1];
    forward1(parameters, group, row, pooled);
    transform_input2(pooled, row, group);
  }
  forward2(parameters, weights2, group);
  forward_hidden(parameters, group);
}

inline void backward(const float* parameters, const Weights2& weights2, Group& group,
                     ConvolutionGradients& gradients) {
  backward_hidden(parameters, group);
  backward2(weights2, group, gradients);
  for (int part = 0; part < kParts; ++part) {
    for (int row = 0; row < kPool1; ++row) {
      Lanes pooled[kWindows1];
      untransform_input2(group, row, part, pooled);
      backward1(pooled, group, row, part, gradients);
    }
  }
}

inline void convolution_gradients(const ConvolutionGradients& sums, float* to) {
  Weights2 weights2;
  for (int c = 0; c < kChannels1; ++c) {
    sum_lanes(sums.weight1[c], kTaps, to + kWeight1 + c * kTaps);
  }
  sum_lanes(sums.bias1, kChannels1, to + kBias1);
  sum_lanes(sums.bias2, kChannels2, to + kBias2);
  for (int p = 0; p < kPoints; ++p) sum_lanes(sums.weight2[p], kRows2, weights2.at[p]);
  gradients_of_weights2(weights2, to + kWeight2);
}

// The sum of the cross entropies of the first `count` images, and the errors of the logits: the
// others' are zero.
inline double cross_entropy(const Group& group, const uint8_t* labels, int count, float scale,
                            Lanes (&errors)[kClasses]) {
  Lanes largest = group.logits[0], sum{};
  for (int c = 1; c < kClasses; ++c) {
    const float* logit = group.logits[c].at;
#pragma omp simd
    for (int i = 0; i < kLanes; ++i) {
      largest.at[i] = logit[i] > largest.at[i] ? logit[i] : largest.at[i];
    }
  }
  for (int c = 0; c < kClasses; ++c) {
    const float* logit = group.logits[c].at;
#pragma omp simd
    for (int i = 0; i < kLanes; ++i) {
      errors[c].at[i] = opproof::exp(logit[i] - largest.at[i]);
      sum.at[i] += errors[c].at[i];
    }
  }
  for (int c = 0; c < kClasses; ++c) {
#pragma omp simd
    for (int i = 0; i < kLanes; ++i) {
      float target = labels[i] == c ? 1.0f : 0.0f;
      float error = (opproof::divide(errors[c].at[i], sum.at[i]) - target) * scale;
      errors[c].at[i] = i < count ? error : 0.0f;
    }
  }
  double total = 0;
  for (int i = 0; i < count; ++i) {
    float margin = largest.at[i] - group.logits[labels[i]].at[i];
    total += log(static_cast<double>(sum.at[i])) + margin;
  }
  return total;
}

// torch.optim.NAdam's step; see `train` for the schedule.
inline void update(Workspace& work, const float* schedule) {
  float of_gradient = schedule[0], of_moment = schedule[1], of_root = schedule[2];
  float *parameters = work.parameters, *first = work.first_moments, *second = work.second_moments;
  const float* gradients = work.gradients;
#pragma omp simd
  for (int i = 0; i < padded(kParameters); ++i) {
    float gradient = gradients[i];
    float m = opproof::fma(0.1f, gradient - first[i], first[i]);
    float v = opproof::fma(0.001f * gradient, gradient, 0.999f * second[i]);
    first[i] = m;
    second[i] = v;
    float step = opproof::fma(of_gradient, gradient, of_moment * m);
    parameters[i] += opproof::divide(step, opproof::fma(sqrtf(v), of_root, 1e-8f));
  }
}

// One step with the images `order[0..count)`. Returns the mean of their cross entropies.
inline float step(const Data& data, const int32_t* order, int64_t count, const float* schedule,
                  Workspace& work) {
  static const uint8_t kNoImage[kPixels] = {};
  float scale = 1.0f / static_cast<float>(count);
  double loss = 0;
  memset(&work.convolutions, 0, sizeof work.convolutions);
  transform_weights2(work.parameters + kWeight2, work.weights2);
  for (int64_t first = 0; first < count; first += kLanes) {
    int size = count - first < kLanes ? static_cast<int>(count - first) : kLanes;
    const uint8_t* images[kLanes];
    uint8_t labels[kLanes] = {};
    for (int i = 0; i < kLanes; ++i) {
      images[i] = i < size ? data.images + int64_t{order[first + i]} * kPixels : kNoImage;
      if (i < size) labels[i] = data.labels[order[first + i]];
    }
    load_pixels(images, work.group);
    forward(work.parameters, work.weights2, work.group);
    loss += cross_entropy(work.group, labels, size, scale, work.group.error_logits);
    backward(work.parameters, work.weights2, work.group, work.convolutions);
    keep(work.group, first, work.batch);
  }
  convolution_gradients(work.convolutions, work.gradients);
  linear_gradients(work.batch, count, work.gradients);
  update(work, schedule);
  return static_cast<float>(loss / static_cast<double>(count));
}

inline void predict_group(const uint8_t* images, int count, const float* parameters, Group& group,
                          uint8_t* classes) {
  static const uint8_t kNoImage[kPixels] = {};
  const uint8_t* each[kLanes];
  for (int i = 0; i < kLanes; ++i) each[i] = i < count ? images + i * kPixels : kNoImage;
  load_pixels(each, group);
  Weights2 weights2;
  transform_weights2(parameters + kWeight2, weights2);
  forward(parameters, weights2, group);
  for (int i = 0; i < count; ++i) {
    int best = 0;
    for (int c = 1; c < kClasses; ++c) {
      if (group.logits[c].at[i] > group.logits[best].at[i]) best = c;
    }
    classes[i] = static_cast<uint8_t>(best);
  }
}
