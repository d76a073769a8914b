// What both convolutions share: the pools behind them, forward and backward, and the gradients of
// biases, for 16 images. Included once for each instruction set, in a namespace that has its Vector.

// Activation, pool, activation of a row of windows, whose values are overwritten.
template <int kWindows>
void pool_row(Lanes (&values)[4 * kWindows], Lanes (&inner)[4 * kWindows], Lanes (&pooled)[kWindows],
              Lanes (&outer)[kWindows]) {
  activate(values, values, inner);
  for (int window = 0; window < kWindows; ++window) {
    const Lanes* x = values + 4 * window;
    for (int part = 0; part < kParts; ++part) {
      Vector upper = load(x[0], part) + load(x[1], part);
      Vector lower = load(x[2], part) + load(x[3], part);
      store(broadcast(0.25f) * (upper + lower), pooled[window], part);
    }
  }
  activate(pooled, pooled, outer);
}

// The errors of a window's four values, from that of what is pooled: to[row][..][column].
inline void spread(Vector error, const Lanes& outer, const Lanes* inner, int part, Lanes* upper,
                   Lanes* lower) {
  Vector factor = broadcast(0.25f) * error * load(outer, part);
  store(factor * load(inner[0], part), upper[0], part);
  store(factor * load(inner[1], part), upper[1], part);
  store(factor * load(inner[2], part), lower[0], part);
  store(factor * load(inner[3], part), lower[1], part);
}

template <int kOut, int kColumns, int kRows>
void add_bias_gradients(const Lanes* errors, int part, Lanes* sums) {
  for (int c = 0; c < kOut; ++c) {
    Vector sum = load(sums[c], part);
    for (int row = 0; row < kRows; ++row) {
      const Lanes* error = errors + (row * kOut + c) * kColumns;
      for (int column = 0; column < kColumns; ++column) sum += load(error[column], part);
    }
    store(sum, sums[c], part);
  }
}
