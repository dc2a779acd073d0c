#include "examples/gpt/model.h"

#include <cmath>
#include <memory>
#include <string>

namespace examples {

namespace nn = torch::nn;
namespace F = torch::nn::functional;

AttentionImpl::AttentionImpl(const GptConfig& config) : heads_(config.heads), dropout_(config.dropout) {
  query_key_value = register_module("query_key_value", nn::Linear(config.width, 3 * config.width));
  projection = register_module("projection", nn::Linear(config.width, config.width));
}

torch::Tensor AttentionImpl::forward(const torch::Tensor& x) {
  const auto batch = x.size(0), length = x.size(1), width = x.size(2);
  // [B, T, 3 * width] -> three of [B, heads, T, width / heads]
  const auto parts =
      query_key_value->forward(x).view({batch, length, 3, heads_, width / heads_}).permute({2, 0, 3, 1, 4});
  const auto mixed = at::scaled_dot_product_attention(parts[0], parts[1], parts[2], /*attn_mask=*/{},
                                                      is_training() ? dropout_ : 0.0, /*is_causal=*/true);
  return projection->forward(mixed.transpose(1, 2).reshape({batch, length, width}));
}

BlockImpl::BlockImpl(const GptConfig& config) {
  attention_norm = register_module("attention_norm", nn::LayerNorm(nn::LayerNormOptions({config.width})));
  attention = register_module("attention", Attention(config));
  mlp_norm = register_module("mlp_norm", nn::LayerNorm(nn::LayerNormOptions({config.width})));
  up = register_module("up", nn::Linear(config.width, 4 * config.width));
  down = register_module("down", nn::Linear(4 * config.width, config.width));
  dropout = register_module("dropout", nn::Dropout(config.dropout));
}

torch::Tensor BlockImpl::forward(torch::Tensor x) {
  x = x + dropout->forward(attention->forward(attention_norm->forward(x)));
  return x + dropout->forward(down->forward(torch::gelu(up->forward(mlp_norm->forward(x)))));
}

GptImpl::GptImpl(const GptConfig& config) : config_(config) {
  token_ = register_module("token", nn::Embedding(kByteValues, config.width));
  position_ = register_module("position", nn::Embedding(config.context, config.width));
  dropout_ = register_module("dropout", nn::Dropout(config.dropout));
  blocks_ = register_module("blocks", nn::ModuleList());
  for (std::int64_t i = 0; i < config.depth; ++i) blocks_->push_back(Block(config));
  norm_ = register_module("norm", nn::LayerNorm(nn::LayerNormOptions({config.width})));

  const torch::NoGradGuard no_grad;
  for (const auto& entry : named_parameters()) {
    const auto& name = entry.key();
    auto parameter = entry.value();
    if (parameter.dim() < 2) {
      if (name.ends_with("bias")) parameter.zero_();
      continue;  // the scales of the norms start at 1
    }
    const bool adds_to_residual = name.ends_with("projection.weight") || name.ends_with("down.weight");
    parameter.normal_(0.0, adds_to_residual ? 0.02 / std::sqrt(2.0 * static_cast<double>(config.depth)) : 0.02);
  }
}

torch::Tensor GptImpl::forward(const torch::Tensor& tokens) {
  const auto positions = torch::arange(tokens.size(1), tokens.options());
  auto x = dropout_->forward(token_->forward(tokens) + position_->forward(positions));
  for (const auto& block : *blocks_) x = block->as<Block>()->forward(x);
  return F::linear(norm_->forward(x), token_->weight);
}

torch::Tensor GptImpl::Loss(const torch::Tensor& batch) {
  const auto length = batch.size(1) - 1;
  const auto logits = forward(batch.narrow(1, 0, length));
  return F::cross_entropy(logits.reshape({-1, kByteValues}), batch.narrow(1, 1, length).reshape({-1}));
}

std::int64_t GptImpl::parameter_count() const {
  std::int64_t count = 0;
  for (const auto& parameter : parameters()) count += parameter.numel();
  return count;
}

std::vector<torch::optim::OptimizerParamGroup> ParameterGroups(nn::Module& module, double weight_decay) {
  std::vector<torch::Tensor> matrices, others;
  for (const auto& parameter : module.parameters()) (parameter.dim() >= 2 ? matrices : others).push_back(parameter);
  const auto options = [](double decay) {
    auto result = std::make_unique<torch::optim::AdamWOptions>();
    result->betas({0.9, 0.95}).weight_decay(decay);
    return result;
  };
  std::vector<torch::optim::OptimizerParamGroup> groups;
  groups.emplace_back(matrices, options(weight_decay));
  groups.emplace_back(others, options(0.0));
  return groups;
}

}  // namespace examples
