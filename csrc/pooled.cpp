// Activation, pool and activation in one: the operators' schemas, and their kernels for the CPU.
//
// A kernel works through blocks of whole windows that fit into the first-level cache: a pass each to
// activate, to pool, and to activate again, over contiguous values, which the compiler vectorises
// whatever the width of a plane.

#include "pooled.h"

#include <type_traits>

#include "cpu.h"
#include "planes.h"

namespace opproof {
namespace {

constexpr int64_t kLeastPerThread = 8192;  // windows
constexpr int64_t kColumns = 512;          // of a block, at most
constexpr int64_t kWindows = 512;          // of a block, at most

template <class T>
using Computed = decltype(widen(T{}));

// Rows of one or several planes, `columns` of each from `column` on; rows counted over all planes.
struct Block {
  Planes planes;
  int64_t row, rows, column, columns;

  int64_t windows() const { return rows * columns; }
  bool is_whole_rows() const { return columns == planes.columns(); }
  bool is_contiguous() const { return planes.leaves_none_over() && is_whole_rows(); }

  // Where the upper left value of the block's windows of a row is in the input.
  OPPROOF_INLINE int64_t input(int64_t i) const {
    int64_t r = row + i, height = planes.rows();
    return (r / height * planes.height + r % height * 2) * planes.width + 2 * column;
  }

  OPPROOF_INLINE int64_t output(int64_t i) const {
    return (row + i) * planes.columns() + column;
  }
};

// Calls body(block) for blocks that cover all windows, on torch's threads.
template <class Body>
void for_each_block(const Planes& planes, const Body& body) {
  int64_t columns = std::min(planes.columns(), kColumns);
  int64_t rows = std::max<int64_t>(1, kWindows / columns);
  int64_t least = std::max<int64_t>(1, kLeastPerThread / planes.columns());
  parallel(planes.count * planes.rows(), least,
           [&](int64_t begin, int64_t end) __attribute__((always_inline)) {
             for (int64_t row = begin; row < end; row += rows) {
               for (int64_t column = 0; column < planes.columns(); column += columns) {
                 body(Block{planes, row, std::min(rows, end - row), column,
                            std::min(columns, planes.columns() - column)});
               }
             }
           });
}

template <class T, class F>
OPPROOF_INLINE void load(const T* from, int64_t count, F* to) {
#pragma omp simd
  for (int64_t i = 0; i < count; ++i) to[i] = widen(from[i]);
}

template <class T, class F>
OPPROOF_INLINE void store(const F* from, int64_t count, T* to) {
#pragma omp simd
  for (int64_t i = 0; i < count; ++i) to[i] = narrow<T>(from[i]);
}

// The block's input as rows of 2 columns values, one below the other.
template <class T, class F>
OPPROOF_INLINE void load_input(const Block& block, const T* x, F* to) {
  int64_t width = 2 * block.columns;
  for (int64_t i = 0; i < block.rows; ++i) {
    load(x + block.input(i), width, to + 2 * i * width);
    load(x + block.input(i) + block.planes.width, width, to + (2 * i + 1) * width);
  }
}

template <class T, class F>
OPPROOF_INLINE void store_input(const Block& block, const F* from, T* to) {
  int64_t width = 2 * block.columns;
  for (int64_t i = 0; i < block.rows; ++i) {
    store(from + 2 * i * width, width, to + block.input(i));
    store(from + (2 * i + 1) * width, width, to + block.input(i) + block.planes.width);
  }
}

template <class T, class F>
OPPROOF_INLINE void load_output(const Block& block, const T* grad, F* to) {
  if (block.is_whole_rows()) return load(grad + block.output(0), block.windows(), to);
  for (int64_t i = 0; i < block.rows; ++i) {
    load(grad + block.output(i), block.columns, to + i * block.columns);
  }
}

template <class T, class F>
OPPROOF_INLINE void store_output(const Block& block, const F* from, T* to) {
  if (block.is_whole_rows()) return store(from, block.windows(), to + block.output(0));
  for (int64_t i = 0; i < block.rows; ++i) {
    store(from + i * block.columns, block.columns, to + block.output(i));
  }
}

// How four doubles are passed depends on the instruction set; but these functions are all inlined.
#pragma GCC diagnostic ignored "-Wpsabi"

// Four values, computed with side by side by whatever instructions there are: a row may be too short
// for the registers that the loops above fill.
template <class F>
struct Four {
  typedef F Values __attribute__((vector_size(4 * sizeof(F))));
  Values values;

  static OPPROOF_INLINE Four load(const F* from) {
    Four result;
    memcpy(&result, from, sizeof result);
    return result;
  }

  OPPROOF_INLINE void store(F* to) const { memcpy(to, this, sizeof *this); }
};

// The sums of four pairs of neighbours.
template <class F>
OPPROOF_INLINE typename Four<F>::Values pair_sums(const F* from) {
  auto left = Four<F>::load(from).values, right = Four<F>::load(from + 4).values;
  return __builtin_shufflevector(left, right, 0, 2, 4, 6) +
         __builtin_shufflevector(left, right, 1, 3, 5, 7);
}

// Multiplies four pairs of neighbours, each pair by one factor.
template <class F>
OPPROOF_INLINE void multiply_pairs(const F* from, const Four<F>& four, F* to) {
  auto factors = four.values;
  auto left = Four<F>::load(from).values, right = Four<F>::load(from + 4).values;
  Four<F>{left * __builtin_shufflevector(factors, factors, 0, 0, 1, 1)}.store(to);
  Four<F>{right * __builtin_shufflevector(factors, factors, 2, 2, 3, 3)}.store(to + 4);
}

// The mean of each window of the block's values.
template <class F>
OPPROOF_INLINE void pool(const Block& block, const F* values, F* means) {
  int64_t columns = block.columns, width = 2 * columns;
  for (int64_t row = 0; row < block.rows; ++row, means += columns) {
    const F *upper = values + 2 * row * width, *lower = upper + width;
    int64_t i = 0;
    for (; i + 4 <= columns; i += 4) {
      Four<F>{F(0.25) * (pair_sums(upper + 2 * i) + pair_sums(lower + 2 * i))}.store(means + i);
    }
    for (; i < columns; ++i) {
      means[i] = F(0.25) * ((upper[2 * i] + upper[2 * i + 1]) + (lower[2 * i] + lower[2 * i + 1]));
    }
  }
}

// The block's values, each times its window's factor.
template <class F>
OPPROOF_INLINE void spread(const Block& block, const F* factors, const F* values, F* to) {
  int64_t columns = block.columns, width = 2 * columns;
  for (int64_t row = 0; row < block.rows; ++row, factors += columns) {
    int64_t i = 0;
    for (; i + 4 <= columns; i += 4) {
      auto four = Four<F>::load(factors + i);
      multiply_pairs(values + 2 * i, four, to + 2 * i);
      multiply_pairs(values + width + 2 * i, four, to + width + 2 * i);
    }
    for (; i < columns; ++i) {
      for (int64_t at : {2 * i, 2 * i + 1, width + 2 * i, width + 2 * i + 1}) {
        to[at] = values[at] * factors[i];
      }
    }
    values += 2 * width;
    to += 2 * width;
  }
}

template <class T, class F>
OPPROOF_INLINE void activate(const T* from, int64_t count, F* values) {
  in_blocks(0, count, [=](int64_t begin, int64_t size) __attribute__((always_inline)) {
#pragma omp simd
    for (int64_t i = begin; i < begin + size; ++i) values[i] = Activation::value(widen(from[i]));
  }, from);
}

// `next` is prefetched alongside: what will be written after this.
template <class T, class F>
OPPROOF_INLINE void activate(const T* from, int64_t count, F* values, F* derivatives, const T* next) {
  in_blocks(0, count, [=](int64_t begin, int64_t size) __attribute__((always_inline)) {
#pragma omp simd
    for (int64_t i = begin; i < begin + size; ++i) {
      auto both = value_and_derivative(widen(from[i]));
      values[i] = both.value;
      derivatives[i] = both.derivative;
    }
  }, from, next);
}

template <class T>
void forward_kernel(const Tensor&, const Planes& planes, const T* x, T* y) {
  using F = Computed<T>;
  for_each_block(planes, [=](const Block& block) __attribute__((always_inline)) {
    alignas(64) F values[4 * kWindows], means[kWindows];
    if (block.is_contiguous()) {
      activate(x + block.input(0), 4 * block.windows(), values);
    } else {
      load_input(block, x, values);
      activate(values, 4 * block.windows(), values);
    }
    pool(block, values, means);
    activate(means, block.windows(), means);
    store_output(block, means, y);
  });
}

template <class T>
void backward_kernel(const Tensor&, const Planes& planes, const T* grad, const T* x, T* out) {
  using F = Computed<T>;
  for_each_block(planes, [=](const Block& block) __attribute__((always_inline)) {
    alignas(64) F values[4 * kWindows], derivatives[4 * kWindows], means[kWindows],
        factors[kWindows];
    if (block.is_contiguous()) {
      activate(x + block.input(0), 4 * block.windows(), values, derivatives, out + block.input(0));
    } else {
      load_input(block, x, values);
      activate(values, 4 * block.windows(), values, derivatives, values);
    }
    pool(block, values, means);
    load_output(block, grad, factors);
#pragma omp simd
    for (int64_t i = 0; i < block.windows(); ++i) {
      factors[i] = F(0.25) * factors[i] * Activation::derivative(means[i]);
    }
    if constexpr (std::is_same_v<T, F>) {
      if (block.is_contiguous()) return spread(block, factors, derivatives, out + block.input(0));
    }
    spread(block, factors, derivatives, derivatives);
    store_input(block, derivatives, out);
  });
}

// Window by window: nobody trains with it.
template <class T>
void double_backward_kernel(const Tensor&, const Planes& planes, const T* grad_grad, const T* grad,
                            const T* x, T* out_grad, T* out_x) {
  using F = Computed<T>;
  for_each_block(planes, [=](const Block& block) __attribute__((always_inline)) {
    for (int64_t row = 0; row < block.rows; ++row) {
      for (int64_t column = 0; column < block.columns; ++column) {
        int64_t upper = block.input(row) + 2 * column, lower = upper + planes.width;
        int64_t output = block.output(row) + column;
        int64_t at[] = {upper, upper + 1, lower, lower + 1};
        Window<F> window, window_grad;
        for (int i = 0; i < 4; ++i) {
          window.at[i] = widen(x[at[i]]);
          window_grad.at[i] = widen(grad_grad[at[i]]);
        }
        auto result = pooled_double_backward<F>(window_grad, widen(grad[output]), window);
        out_grad[output] = narrow<T>(result.grad);
        for (int i = 0; i < 4; ++i) out_x[at[i]] = narrow<T>(result.x.at[i]);
      }
    }
  });
}

}  // namespace
}  // namespace opproof

#include "pooled_operators.h"

OPPROOF_DEFINE(library) {
  library.def("pooled_forward(Tensor x) -> Tensor");
  library.def("pooled_backward(Tensor grad, Tensor x) -> Tensor");
  library.def(
      "pooled_double_backward(Tensor grad_grad, Tensor grad, Tensor x) -> (Tensor, Tensor)");
}

OPPROOF_REGISTER(CPU, library) { opproof::implement(library); }
