// What the operators that train LeNet-5 are given, checked.

#pragma once

#include "lenet.h"
#include "tensor.h"

namespace opproof {

struct Training {
  int64_t seeds, images, samples, steps, batch_size;
};

inline void check_tensor(const Tensor& tensor, const Tensor& images, ScalarType dtype,
                         const char* wanted, const char* name) {
  STD_TORCH_CHECK(tensor.scalar_type() == dtype, name, " must be ", wanted);
  STD_TORCH_CHECK(tensor.is_cuda() == images.is_cuda() &&
                      tensor.get_device_index() == images.get_device_index(),
                  name, " must be on images' device");
  STD_TORCH_CHECK(tensor.is_contiguous(), name, " must be contiguous");
}

inline void check_images(const Tensor& images) {
  check_tensor(images, images, ScalarType::Byte, "uint8", "images");
  STD_TORCH_CHECK(images.dim() == 2 && images.size(1) == lenet::kPixels,
                  "images must be of shape [n, 784]");
}

inline void check_parameters(const Tensor& parameters, const Tensor& images, const char* name) {
  check_tensor(parameters, images, ScalarType::Float, "float32", name);
  STD_TORCH_CHECK(parameters.dim() == 2 && parameters.size(1) == lenet::kParameters, name,
                  " must be of shape [seeds, 44426]");
}

inline bool has_shape(const Tensor& tensor, int64_t rows, int64_t columns) {
  return tensor.dim() == 2 && tensor.size(0) == rows && tensor.size(1) == columns;
}

inline Training checked(const Tensor& images, const Tensor& labels, const Tensor& order,
                        const Tensor& schedule, const Tensor& parameters,
                        const Tensor& first_moments, const Tensor& second_moments,
                        const Tensor& losses, int64_t batch_size) {
  check_images(images);
  check_tensor(labels, images, ScalarType::Byte, "uint8", "labels");
  check_tensor(order, images, ScalarType::Int, "int32", "order");
  check_tensor(schedule, images, ScalarType::Float, "float32", "schedule");
  check_tensor(losses, images, ScalarType::Float, "float32", "losses");
  check_parameters(parameters, images, "parameters");
  check_parameters(first_moments, images, "first_moments");
  check_parameters(second_moments, images, "second_moments");
  STD_TORCH_CHECK(batch_size >= 1, "batch_size must be at least 1");
  STD_TORCH_CHECK(labels.dim() == 1 && labels.size(0) == images.size(0),
                  "labels must be of shape [n], as many as images");
  int64_t seeds = parameters.size(0);
  STD_TORCH_CHECK(order.dim() == 2 && order.size(0) == seeds,
                  "order must be of shape [seeds, samples], as many seeds as parameters");
  int64_t samples = order.size(1), steps = (samples + batch_size - 1) / batch_size;
  STD_TORCH_CHECK(first_moments.size(0) == seeds && second_moments.size(0) == seeds,
                  "first_moments and second_moments must be of parameters' shape");
  STD_TORCH_CHECK(has_shape(schedule, steps, 3),
                  "schedule must be of shape [steps, 3], steps being ceil(samples / batch_size)");
  STD_TORCH_CHECK(has_shape(losses, seeds, steps), "losses must be of shape [seeds, steps]");
  return {seeds, images.size(0), samples, steps, batch_size};
}

template <class T>
T* data(const Tensor& tensor) {
  return static_cast<T*>(tensor.mutable_data_ptr());
}

}  // namespace opproof
