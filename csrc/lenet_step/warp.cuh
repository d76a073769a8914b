// What the lanes of a warp do together, and the instructions that C++ has no words for. All that
// depends on CUDA's compiler is here: tests/unit/cuda_emulation.h has the same for a CPU.

#pragma once

#if defined(__CUDACC__)

#include <cuda_runtime.h>

#include <cstdint>

namespace opproof::gpu {

constexpr unsigned kAllLanes = 0xffffffffu;

__device__ __forceinline__ void sync_warp() { __syncwarp(); }
__device__ __forceinline__ void sync_block() { __syncthreads(); }

// What the lane whose number differs in the bits of `mask` gives.
__device__ __forceinline__ float exchange(float x, int mask) {
  return __shfl_xor_sync(kAllLanes, x, mask);
}

// What the lane before this one gives.
__device__ __forceinline__ float from_lane_before(float x) {
  return __shfl_up_sync(kAllLanes, x, 1);
}

// The block's dynamic shared memory.
template <class T>
__device__ __forceinline__ T& shared_memory() {
  extern __shared__ __align__(16) unsigned char memory[];
  return *reinterpret_cast<T*>(memory);
}

// The nearest number of TF32, which has 10 bits of mantissa.
__device__ __forceinline__ float round_to_tf32(float x) {
  uint32_t result;
  asm("cvt.rna.tf32.f32 %0, %1;" : "=r"(result) : "f"(x));
  return __uint_as_float(result);
}

// d += a b by a warp: d is 16 x 8, a 16 x 8, b 8 x 8, the operands in TF32: their last 13 bits are
// dropped. Which of the elements a lane holds is said in matrix.cuh.
__device__ __forceinline__ void multiply_add_tf32(float (&d)[4], const float (&a)[4],
                                                  const float (&b)[2]) {
  asm("mma.sync.aligned.m16n8k8.row.col.f32.tf32.tf32.f32 "
      "{%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, {%0, %1, %2, %3};"
      : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])
      : "r"(__float_as_uint(a[0])), "r"(__float_as_uint(a[1])), "r"(__float_as_uint(a[2])),
        "r"(__float_as_uint(a[3])), "r"(__float_as_uint(b[0])), "r"(__float_as_uint(b[1])));
}

// Copies to shared memory that go on beside the threads, to wait for once. Addresses and sizes are
// multiples of 16 bytes. Before sm_90 the threads copy, and the next barrier is what to wait for.
class Arrival {
 public:
  // By one thread, before all else.
  __device__ __forceinline__ void init() {
#if __CUDA_ARCH__ >= 900
    asm volatile("mbarrier.init.shared.b64 [%0], 1;\n fence.mbarrier_init.release.cluster;"
                 ::"r"(address_of(&state_)) : "memory");
#endif
  }

  // By one thread, once: so many bytes in all.
  __device__ __forceinline__ void expect(int bytes) {
#if __CUDA_ARCH__ >= 900
    asm volatile("mbarrier.arrive.expect_tx.shared.b64 _, [%0], %1;"
                 ::"r"(address_of(&state_)), "r"(bytes) : "memory");
#endif
  }

  __device__ __forceinline__ void copy(float* to, const float* from, int bytes) {
#if __CUDA_ARCH__ >= 900
    asm volatile("cp.async.bulk.shared::cluster.global.mbarrier::complete_tx::bytes "
                 "[%0], [%1], %2, [%3];"
                 ::"r"(address_of(to)), "l"(from), "r"(bytes), "r"(address_of(&state_)) : "memory");
#else
    for (int i = 0; i < bytes / 4; ++i) to[i] = from[i];
#endif
  }

  __device__ __forceinline__ void wait() {
#if __CUDA_ARCH__ >= 900
    asm volatile("{\n"
                 ".reg .pred done;\n"
                 "again%=: mbarrier.try_wait.parity.shared.b64 done, [%0], 0;\n"
                 "@!done bra again%=;\n"
                 "}" ::"r"(address_of(&state_)) : "memory");
#endif
  }

 private:
  __device__ __forceinline__ static unsigned address_of(const void* shared) {
    return static_cast<unsigned>(__cvta_generic_to_shared(shared));
  }

  uint64_t state_;
};

// Waits for the kernel before this one, then lets the next one's blocks start, which will wait here
// in their turn. Without effect where a kernel is launched without leave to start early.
__device__ __forceinline__ void wait_for_kernel_before() {
#if __CUDA_ARCH__ >= 900
  asm volatile("griddepcontrol.wait;\n griddepcontrol.launch_dependents;" ::: "memory");
#endif
}

}  // namespace opproof::gpu

#endif
