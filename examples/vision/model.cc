#include "examples/vision/model.h"

namespace examples {

namespace nn = torch::nn;

namespace {

nn::Conv2d Convolution(std::int64_t in, std::int64_t out, std::int64_t kernel, std::int64_t stride) {
  nn::Conv2d convolution(nn::Conv2dOptions(in, out, kernel).stride(stride).padding(kernel / 2).bias(false));
  nn::init::kaiming_normal_(convolution->weight, 0.0, torch::kFanOut, torch::kReLU);
  return convolution;
}

}  // namespace

BasicBlockImpl::BasicBlockImpl(std::int64_t in, std::int64_t out, std::int64_t stride) {
  conv1 = register_module("conv1", Convolution(in, out, 3, stride));
  norm1 = register_module("norm1", nn::BatchNorm2d(out));
  conv2 = register_module("conv2", Convolution(out, out, 3, 1));
  norm2 = register_module("norm2", nn::BatchNorm2d(out));
  nn::init::zeros_(norm2->weight);
  if (stride != 1 || in != out) {
    shortcut = register_module("shortcut", nn::Sequential(Convolution(in, out, 1, stride), nn::BatchNorm2d(out)));
  }
}

torch::Tensor BasicBlockImpl::forward(const torch::Tensor& x) {
  const auto y = norm2->forward(conv2->forward(torch::relu(norm1->forward(conv1->forward(x)))));
  return torch::relu(y + (shortcut.is_empty() ? x : shortcut->forward(x)));
}

ResNetImpl::ResNetImpl(const ResNetConfig& config) {
  stem_ = register_module("stem", Convolution(1, config.width, 3, 1));
  stem_norm_ = register_module("stem_norm", nn::BatchNorm2d(config.width));
  blocks_ = register_module("blocks", nn::ModuleList());
  std::int64_t channels = config.width;
  for (int stage = 0; stage < 3; ++stage) {
    for (std::int64_t block = 0; block < config.blocks; ++block) {
      const bool shrinks = stage > 0 && block == 0;
      const auto out = shrinks ? 2 * channels : channels;
      blocks_->push_back(BasicBlock(channels, out, shrinks ? 2 : 1));
      channels = out;
    }
  }
  classifier_ = register_module("classifier", nn::Linear(channels, config.classes));
}

torch::Tensor ResNetImpl::forward(torch::Tensor images) {
  auto x = torch::relu(stem_norm_->forward(stem_->forward(images)));
  for (const auto& block : *blocks_) x = block->as<BasicBlock>()->forward(x);
  return classifier_->forward(x.mean({2, 3}));
}

}  // namespace examples
