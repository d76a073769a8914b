// The operators over a device's train_kernel and predict_kernel, which are defined before this is
// included.

#pragma once

#include <vector>

#include "lenet_step.h"

namespace opproof {
namespace {

void train(const Tensor& images, const Tensor& labels, const Tensor& order, const Tensor& schedule,
           Tensor parameters, Tensor first_moments, Tensor second_moments, Tensor losses,
           int64_t batch_size, bool tf32) {
  Training training = checked(images, labels, order, schedule, parameters, first_moments,
                              second_moments, losses, batch_size);
  if (training.seeds == 0 || training.samples == 0) return;
  train_kernel(training, images, labels, order, schedule, parameters, first_moments, second_moments,
               losses, tf32);
}

Tensor predict(const Tensor& images, const Tensor& parameters) {
  check_images(images);
  check_parameters(parameters, images, "parameters");
  Tensor classes =
      torch::stable::new_empty(images, std::vector<int64_t>{parameters.size(0), images.size(0)});
  if (classes.numel() > 0) predict_kernel(images, parameters, classes);
  return classes;
}

inline void implement(torch::stable::detail::StableLibrary& library) {
  library.impl("train", TORCH_BOX(&train));
  library.impl("predict", TORCH_BOX(&predict));
}

}  // namespace
}  // namespace opproof
