// The launches that make a training call or a prediction, through a `launch` given by the caller:
// launch(kernel, early, grid.x, grid.y, threads, bytes of shared memory, arguments...), where
// `early` lets the kernel start before the one before it ends.

#pragma once

#include <algorithm>

#include "lenet_step/network.cuh"
#include "lenet_step/update.cuh"

namespace opproof::gpu {

struct TrainingArrays {
  Images images;
  const float* schedule;  // [steps, 3]
  State state;            // each [seeds, 44426]
  float* losses;          // [seeds, steps]
  int64_t seeds;
  int64_t batch_size;

  int64_t steps() const { return (images.samples + batch_size - 1) / batch_size; }
};

inline int64_t divide_up(int64_t a, int64_t b) { return (a + b - 1) / b; }

template <class Plan>
int64_t partials_per_seed(int64_t batch_size) {
  return divide_up(batch_size, Plan::kImagesPerPartial);
}

template <class Plan, Precision kPrecision, class Launch>
void train_by(const Launch& launch, const TrainingArrays& training, const Workspace& workspace) {
  const int64_t steps = training.steps(), batch_size = training.batch_size;
  for (int64_t step = 0; step < steps; ++step) {
    int64_t first = step * batch_size;
    int batch = static_cast<int>(std::min(batch_size, training.images.samples - first));
    // The first one waits: what ran before this call may have made the images and their order.
    bool early = Plan::kAlone && step > 0;
    launch(&differentiate<Plan, kPrecision>, early, divide_up(batch, Plan::kImages),
           training.seeds, Plan::kThreads, sizeof(Shared<Plan>), training.images, first, batch,
           static_cast<const float*>(training.state.parameter), workspace);
    launch(&update<kPrecision>, Plan::kAlone, int64_t{kUpdateBlocks}, training.seeds,
           kUpdateThreads, sizeof(UpdateShared), workspace, batch, Plan::kImagesPerPartial,
           training.schedule, training.state, training.losses, step, steps);
  }
}

template <class Plan, class Launch>
void predict_by(const Launch& launch, const uint8_t* images, int64_t count, int64_t seeds,
                const float* parameters, uint8_t* classes) {
  launch(&classify<Plan>, false, divide_up(count, Plan::kImages), seeds, Plan::kThreads,
         sizeof(Shared<Plan>), images, static_cast<int>(count), parameters, classes);
}

}  // namespace opproof::gpu
