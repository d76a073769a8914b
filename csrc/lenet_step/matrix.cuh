// Products of small matrices by a warp on the tensor cores, d[16 x 8] += a[16 x 8] b[8 x 8], in
// FP32's grade or TF32's.
//
// A lane is known by group = lane / 4 and member = lane % 4, and holds
//
//   of a  (group, member) (group + 8, member) (group, member + 4) (group + 8, member + 4)
//   of b  (member, group) (member + 4, group)
//   of d  (group, 2 member) (group, 2 member + 1) (group + 8, 2 member) (group + 8, 2 member + 1)
//
// each as (row, column). A sum runs over a's columns and b's rows, so that these may be taken in
// any order, if it is the same in both: often 2 member and 2 member + 1 stand for member and member
// + 4, since they are neighbours in memory.

#pragma once

#include "lenet_step/warp.cuh"
#include "scalar.h"

namespace opproof::gpu {

enum class Precision {
  kFp32,  // each operand in two parts of TF32, three products: all but FP32's last bits
  kTf32,  // each operand rounded to TF32
};

// Whether an operand is a number of TF32 as it is, as pixels are: then it has one part.
enum class Operand { kAny, kExact };

struct Lane {
  int group, member;
};

__device__ __forceinline__ Lane lane_of(int thread) { return {thread % 32 / 4, thread % 4}; }

// The sums of a lane, zero at first.
struct Sums {
  float at[4] = {};

  __device__ __forceinline__ void add(const Sums& other) {
#pragma unroll
    for (int i = 0; i < 4; ++i) at[i] += other.at[i];
  }
};

// A number made ready to be an operand. It costs more than the product does, so that what is used
// often is kept as an operand.
template <Precision kPrecision>
__device__ __forceinline__ float operand(float x) {
  return kPrecision == Precision::kTf32 ? round_to_tf32(x) : x;
}

// The nearest number of TF32, and the rest. The first is wrong for some NaN, but then the rest is
// NaN.
template <int kCount>
__device__ __forceinline__ void split(const float (&x)[kCount], float (&high)[kCount],
                                      float (&low)[kCount]) {
#pragma unroll
  for (int i = 0; i < kCount; ++i) {
    high[i] = from_bits((bits(x[i]) + 0x1000u) & 0xffffe000u);
    low[i] = x[i] - high[i];
  }
}

// d += a b of operands.
template <Precision kPrecision, Operand kB = Operand::kAny>
__device__ __forceinline__ void multiply_add(Sums& d, const float (&a)[4], const float (&b)[2]) {
  if constexpr (kPrecision == Precision::kTf32) {
    multiply_add_tf32(d.at, a, b);
  } else {
    float a_high[4], a_low[4];
    split(a, a_high, a_low);
    if constexpr (kB == Operand::kExact) {
      multiply_add_tf32(d.at, a_low, b);
      multiply_add_tf32(d.at, a_high, b);
    } else {
      float b_high[2], b_low[2];
      split(b, b_high, b_low);
      multiply_add_tf32(d.at, a_low, b_high);
      multiply_add_tf32(d.at, a_high, b_low);
      multiply_add_tf32(d.at, a_high, b_high);
    }
  }
}

}  // namespace opproof::gpu
