// The training step's kernels on a CPU, by cuda_emulation.h: functions for
// test_lenet_step_emulated.py.

#include "cuda_emulation.h"
// After it, which has what they take from CUDA.
#include "lenet_step/launches.cuh"

using namespace opproof::gpu;

namespace {

// Launches kernels with their threads, and blocks, in an order that `order` determines.
struct Emulated {
  unsigned order;

  template <class Kernel, class... Arguments>
  void operator()(Kernel kernel, bool, int64_t columns, int64_t rows, int threads, size_t bytes,
                  Arguments... arguments) const {
    emulation::launch(order, columns, rows, threads, bytes, [&] { kernel(arguments...); });
  }
};

template <class T>
std::vector<T> poisoned(int64_t count) {
  std::vector<T> values(count);
  std::memset(static_cast<void*>(values.data()), 0xff, count * sizeof(T));
  return values;
}

// Calls body with one of the plans, which the test numbers likewise.
template <class Body>
void with_plan(int plan, const Body& body) {
  if (plan == 0) return body(Plan<1>{});
  if (plan == 1) return body(Plan<1, true>{});
  body(Plan<8>{});
}

template <class Plan>
void train_by_plan(const Emulated& emulated, const TrainingArrays& training, bool tf32) {
  int64_t images = training.seeds * training.batch_size;
  int64_t partials = partials_per_seed<Plan>(training.batch_size);
  auto records = poisoned<Record>(images);
  auto sums = poisoned<float>(training.seeds * partials * kConvolutionParameters);
  auto slopes = poisoned<float4>(Plan::kAlone ? 0 : images * kWindows1);
  Workspace workspace = {records.data(), sums.data(), slopes.data(), training.batch_size, partials};
  if (tf32) {
    train_by<Plan, Precision::kTf32>(emulated, training, workspace);
  } else {
    train_by<Plan, Precision::kFp32>(emulated, training, workspace);
  }
}

}  // namespace

extern "C" void train(const uint8_t* pixels, const uint8_t* labels, const int* order,
                      const float* schedule, float* parameters, float* first_moments,
                      float* second_moments, float* losses, int64_t seeds, int64_t samples,
                      int64_t batch_size, bool tf32, int plan, unsigned thread_order) {
  TrainingArrays training = {{pixels, labels, order, samples},
                       schedule,
                       {parameters, first_moments, second_moments},
                       losses,
                       seeds,
                       batch_size};
  with_plan(plan, [&](auto chosen) {
    train_by_plan<decltype(chosen)>({thread_order}, training, tf32);
  });
}

extern "C" void predict(const uint8_t* pixels, int64_t count, int64_t seeds,
                        const float* parameters, uint8_t* classes, int plan,
                        unsigned thread_order) {
  with_plan(plan, [&](auto chosen) {
    predict_by<decltype(chosen)>(Emulated{thread_order}, pixels, count, seeds, parameters, classes);
  });
}
