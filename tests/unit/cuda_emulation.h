// Runs kernels of csrc/lenet_step/ on a CPU: what warp.cuh has for CUDA, and a block's threads as
// fibers, which take turns in a random order wherever they wait for each other, and only there.
// What lacks a barrier so gives other results in another order. Shared memory is NaN when a block
// starts.
//
// Lanes wait for each other in products and exchanges too, which on a GPU orders nothing in memory:
// of the barriers of a warp, one that follows these closely is not missed.

#pragma once

#include <setjmp.h>
#include <ucontext.h>

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <functional>
#include <memory>
#include <random>
#include <vector>

#define __device__
#define __host__
#define __global__
#define __forceinline__ inline __attribute__((always_inline))
#define __launch_bounds__(...)

struct alignas(8) float2 {
  float x, y;
};
struct alignas(16) float4 {
  float x, y, z, w;
};
inline float2 make_float2(float x, float y) { return {x, y}; }
inline float4 make_float4(float x, float y, float z, float w) { return {x, y, z, w}; }
using std::min;

struct Index {
  unsigned x, y;
};
inline Index threadIdx, blockIdx;

namespace emulation {

// Threads that wait for each other: a warp, or the block.
struct Meeting {
  std::vector<int> waiting;
  int members = 0;  // that have not ended
};

// A copy under way.
struct Copy {
  const void* arrival;
  float* to;
  const float* from;
  int bytes;
};

class Block {
 public:
  explicit Block(unsigned order) : random_(order) {}

  void run(int threads, size_t shared_bytes, const std::function<void()>& body) {
    body_ = &body;
    shared_.assign(shared_bytes / sizeof(float) + 4, std::nanf(""));
    fibers_.resize(std::max(fibers_.size(), static_cast<size_t>(threads)));
    block_ = {{}, threads};
    warps_.assign((threads + 31) / 32, Meeting{{}, 32});
    copies_.clear();
    // A late warp goes on only while all others wait: nothing but a barrier makes them wait for it.
    late_.resize(warps_.size());
    for (size_t warp = 0; warp < late_.size(); ++warp) late_[warp] = random_() % 4 == 0;
    for (int i = 0; i < threads; ++i) {
      if (!fibers_[i].stack) fibers_[i].stack = std::make_unique<char[]>(kStack);
      fibers_[i].started = false;
      make_ready(i);
    }
    for (int left = threads; left > 0;) {
      current_ = next();
      resume();
      if (!fibers_[current_].ended) continue;
      --left;
      end_in(block_);
      end_in(warp());
    }
  }

  // Waits for all of the meeting; the last to come does `together` first.
  template <class Together>
  void meet(Meeting& meeting, const Together& together) {
    meeting.waiting.push_back(current_);
    if (static_cast<int>(meeting.waiting.size()) == meeting.members) {
      together();
      release(meeting);
    }
    pause();
  }

  std::vector<Copy>& copies() { return copies_; }
  Meeting& whole() { return block_; }
  Meeting& warp() { return warps_[current_ / 32]; }
  int lane() const { return current_ % 32; }
  // What the lanes of this thread's warp show each other.
  float (*shown())[32] { return shown_[current_ / 32]; }
  void* shared() {
    auto address = reinterpret_cast<uintptr_t>(shared_.data());
    return reinterpret_cast<void*>((address + 15) / 16 * 16);
  }

 private:
  static constexpr size_t kStack = 1 << 16;

  struct Fiber {
    std::unique_ptr<char[]> stack;
    jmp_buf place;
    bool started = false, ended = false;
  };

  static Block*& active() {
    static Block* block = nullptr;
    return block;
  }

  static void enter() {
    Block& block = *active();
    (*block.body_)();
    block.fibers_[block.current_].ended = true;
    _longjmp(block.scheduler_, 1);
  }

  void resume() {
    threadIdx = {static_cast<unsigned>(current_), 0};
    if (_setjmp(scheduler_)) return;
    Fiber& fiber = fibers_[current_];
    if (fiber.started) _longjmp(fiber.place, 1);
    fiber.started = true;
    fiber.ended = false;
    active() = this;
    ucontext_t context;
    getcontext(&context);
    context.uc_stack.ss_sp = fiber.stack.get();
    context.uc_stack.ss_size = kStack;
    context.uc_link = nullptr;
    makecontext(&context, &Block::enter, 0);
    setcontext(&context);
  }

  void pause() {
    if (!_setjmp(fibers_[current_].place)) _longjmp(scheduler_, 1);
  }

  void make_ready(int thread) { ready_[late_[thread / 32]].push_back(thread); }

  // Takes any thread that is ready, of a late warp only if there is no other.
  int next() {
    std::vector<int>& threads = ready_[0].empty() ? ready_[1] : ready_[0];
    if (threads.empty()) {
      std::fputs("emulation: threads wait for ever\n", stderr);
      std::abort();
    }
    std::swap(threads[random_() % threads.size()], threads.back());
    int thread = threads.back();
    threads.pop_back();
    return thread;
  }

  void release(Meeting& meeting) {
    for (int thread : meeting.waiting) make_ready(thread);
    meeting.waiting.clear();
  }

  void end_in(Meeting& meeting) {
    --meeting.members;
    if (meeting.members > 0 && static_cast<int>(meeting.waiting.size()) == meeting.members) {
      release(meeting);
    }
  }

  std::mt19937 random_;
  const std::function<void()>* body_ = nullptr;
  std::vector<float> shared_;
  std::vector<Fiber> fibers_;
  std::vector<Meeting> warps_;
  Meeting block_;
  std::vector<bool> late_;      // of each warp
  std::vector<int> ready_[2];  // threads of warps that are not late, and that are
  std::vector<Copy> copies_;
  jmp_buf scheduler_;
  int current_ = 0;
  float shown_[32][6][32];
};

inline Block* running = nullptr;

// Calls body for each thread of each block, the blocks in a random order too.
inline void launch(unsigned order, int64_t columns, int64_t rows, int threads, size_t shared_bytes,
                   const std::function<void()>& body) {
  Block block(order);
  running = &block;
  std::vector<Index> blocks;
  for (unsigned y = 0; y < rows; ++y) {
    for (unsigned x = 0; x < columns; ++x) blocks.push_back({x, y});
  }
  std::shuffle(blocks.begin(), blocks.end(), std::mt19937(order));
  for (Index index : blocks) {
    blockIdx = index;
    block.run(threads, shared_bytes, body);
  }
}

}  // namespace emulation

// As in warp.cuh.
namespace opproof::gpu {

inline void sync_warp() {
  emulation::running->meet(emulation::running->warp(), [] {});
}

inline void sync_block() {
  emulation::running->meet(emulation::running->whole(), [] {});
}

// Shows x to the warp and returns what `lane` shows.
inline float shown_by(int lane, float x) {
  auto& block = *emulation::running;
  block.shown()[0][block.lane()] = x;
  sync_warp();
  float result = block.shown()[0][lane];
  sync_warp();
  return result;
}

inline float exchange(float x, int mask) {
  return shown_by(emulation::running->lane() ^ mask, x);
}

inline float from_lane_before(float x) {
  int lane = emulation::running->lane();
  return shown_by(lane > 0 ? lane - 1 : 0, x);
}

template <class T>
T& shared_memory() {
  return *static_cast<T*>(emulation::running->shared());
}

inline void wait_for_kernel_before() {}

// Copies are made when they are waited for: not a moment earlier than a GPU promises them.
class Arrival {
 public:
  void init() { *this = {}; }
  void expect(int bytes) { expected_ = bytes; }

  void copy(float* to, const float* from, int bytes) {
    if (reinterpret_cast<uintptr_t>(to) % 16 || reinterpret_cast<uintptr_t>(from) % 16 ||
        bytes % 16) {
      std::abort();
    }
    emulation::running->copies().push_back({this, to, from, bytes});
  }

  void wait() {
    for (auto& copy : emulation::running->copies()) {
      if (copy.arrival != this) continue;
      std::memcpy(copy.to, copy.from, copy.bytes);
      expected_ -= copy.bytes;
      copy.arrival = nullptr;
    }
    if (expected_ != 0) std::abort();
  }

 private:
  int64_t expected_ = 0;
};

inline float truncated_to_tf32(float x) {
  uint32_t bits;
  std::memcpy(&bits, &x, sizeof bits);
  bits &= 0xffffe000u;
  std::memcpy(&x, &bits, sizeof bits);
  return x;
}

// To the nearest, from the middle away from zero.
inline float round_to_tf32(float x) {
  if (!(std::fabs(x) < INFINITY)) return x;
  uint32_t bits;
  std::memcpy(&bits, &x, sizeof bits);
  bits += 0x1000u;
  std::memcpy(&x, &bits, sizeof bits);
  return truncated_to_tf32(x);
}

// The instruction m16n8k8 of PTX, whose lanes hold what matrix.cuh says. The last lane to come
// computes for all; the products are exact, the additions rounded to float.
inline void multiply_add_tf32(float (&d)[4], const float (&a)[4], const float (&b)[2]) {
  auto& block = *emulation::running;
  const int self = block.lane();
  float(*shown)[32] = block.shown();
  for (int i = 0; i < 4; ++i) shown[i][self] = truncated_to_tf32(a[i]);
  for (int i = 0; i < 2; ++i) shown[4 + i][self] = truncated_to_tf32(b[i]);
  static float results[32][16][8];
  float(&product)[16][8] = results[threadIdx.x / 32];
  block.meet(block.warp(), [&] {
    float left[16][8], right[8][8];
    for (int lane = 0; lane < 32; ++lane) {
      int group = lane / 4, member = lane % 4;
      left[group][member] = shown[0][lane];
      left[group + 8][member] = shown[1][lane];
      left[group][member + 4] = shown[2][lane];
      left[group + 8][member + 4] = shown[3][lane];
      right[member][group] = shown[4][lane];
      right[member + 4][group] = shown[5][lane];
    }
    for (int row = 0; row < 16; ++row) {
      float sums[8] = {};
      for (int k = 0; k < 8; ++k) {
        for (int column = 0; column < 8; ++column) sums[column] += left[row][k] * right[k][column];
      }
      for (int column = 0; column < 8; ++column) product[row][column] = sums[column];
    }
  });
  const int group = self / 4, column = self % 4 * 2;
  d[0] += product[group][column];
  d[1] += product[group][column + 1];
  d[2] += product[group + 8][column];
  d[3] += product[group + 8][column + 1];
}

}  // namespace opproof::gpu
