// Loops for the CPU: compiled for three instruction sets, of which the best that the machine has is
// taken when they run. One library runs on every x86-64, and on other processors as `baseline`.

#pragma once

#include <torch/csrc/stable/ops.h>

#include <algorithm>
#include <atomic>
#include <cstdint>

#include "scalar.h"

namespace opproof {

enum class Isa : int64_t { baseline = 0, avx2 = 1, avx512 = 2 };

inline Isa best_isa() {
#if defined(__x86_64__)
  if (__builtin_cpu_supports("x86-64-v4")) return Isa::avx512;
  if (__builtin_cpu_supports("x86-64-v3")) return Isa::avx2;
#endif
  return Isa::baseline;
}

// The level in force. Verification lowers it, to compare levels bit by bit.
inline std::atomic<Isa>& isa() {
  static std::atomic<Isa> level{best_isa()};
  return level;
}

// The operator of that name, whose schemas say what it does.
inline int64_t use_isa(int64_t level) {
  int64_t best = static_cast<int64_t>(best_isa());
  isa() = static_cast<Isa>(level < 0 ? best : std::min(level, best));
  return static_cast<int64_t>(isa().load());
}

#if defined(__x86_64__)
#define OPPROOF_AVX2 __attribute__((target("arch=x86-64-v3")))
#define OPPROOF_AVX512 __attribute__((target("arch=x86-64-v4,prefer-vector-width=512")))
#else
#define OPPROOF_AVX2
#define OPPROOF_AVX512
#endif

template <class Body>
void run_baseline(const Body& body, int64_t begin, int64_t end) {
  body(begin, end);
}

template <class Body>
OPPROOF_AVX2 void run_avx2(const Body& body, int64_t begin, int64_t end) {
  body(begin, end);
}

template <class Body>
OPPROOF_AVX512 void run_avx512(const Body& body, int64_t begin, int64_t end) {
  body(begin, end);
}

// Elements between two prefetches, and how far ahead these are: arithmetic alone leaves too few loads
// under way to hide the latency of memory.
constexpr int64_t kBlock = 64;
constexpr int64_t kAhead = 512;

template <class T>
OPPROOF_INLINE void prefetch(const T* from) {
  const char* start = reinterpret_cast<const char*>(from + kAhead);
  for (int64_t offset = 0; offset < static_cast<int64_t>(kBlock * sizeof(T)); offset += 64) {
    __builtin_prefetch(start + offset);
  }
}

// Calls work(begin, count) for pieces of [begin, end), having prefetched what follows each.
template <class Work, class... In>
OPPROOF_INLINE void in_blocks(int64_t begin, int64_t end, const Work& work, const In*... in) {
  int64_t i = begin;
  for (; i + kBlock <= end; i += kBlock) {
    (prefetch(in + i), ...);
    work(i, kBlock);
  }
  work(i, end - i);
}

// Calls body(begin, end), whose call operator must be inlined, on torch's threads.
template <class Body>
void parallel(int64_t count, int64_t least_per_thread, const Body& body) {
  torch::stable::parallel_for(0, count, least_per_thread, [&](int64_t begin, int64_t end) {
    switch (isa().load(std::memory_order_relaxed)) {
      case Isa::avx512: return run_avx512(body, begin, end);
      case Isa::avx2: return run_avx2(body, begin, end);
      case Isa::baseline: return run_baseline(body, begin, end);
    }
  });
}

}  // namespace opproof
