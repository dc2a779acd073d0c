// A small ResNet (CIFAR style) for 28 x 28 grey images: pre-activation-free basic blocks, BatchNorm, no max pooling.
//
//   images [B, 1, 28, 28] float -> logits [B, 10]
//
//   3x3 convolution to `width` channels; three stages of `blocks` basic blocks with width, 2 * width and 4 * width
//   channels, each stage but the first halving the resolution (28, 14, 7); mean over the image; linear.
//
// Initial weights: convolutions He-normal over the fan-out, BatchNorm scales 1 but 0 at the end of each block, so that
// a block starts as the identity.
#pragma once

#include <cstdint>

#include <torch/torch.h>

#include "examples/vision/options.h"

namespace examples {

class BasicBlockImpl : public torch::nn::Module {
 public:
  BasicBlockImpl(std::int64_t in, std::int64_t out, std::int64_t stride);
  torch::Tensor forward(const torch::Tensor& x);

  torch::nn::Conv2d conv1{nullptr}, conv2{nullptr};
  torch::nn::BatchNorm2d norm1{nullptr}, norm2{nullptr};
  torch::nn::Sequential shortcut{nullptr};  // null where shapes agree
};
TORCH_MODULE(BasicBlock);

class ResNetImpl : public torch::nn::Module {
 public:
  explicit ResNetImpl(const ResNetConfig& config);
  torch::Tensor forward(torch::Tensor images);

 private:
  torch::nn::Conv2d stem_{nullptr};
  torch::nn::BatchNorm2d stem_norm_{nullptr};
  torch::nn::ModuleList blocks_{nullptr};
  torch::nn::Linear classifier_{nullptr};
};
TORCH_MODULE(ResNet);

}  // namespace examples
