// A byte-level GPT: 256 symbols, learned positions, pre-norm blocks, tied input and output embedding.
//
//   tokens [B, T] int64 -> logits [B, T, 256]
//
//   x = dropout(token[tokens] + position[0..T))
//   each block:  x += dropout(proj(attention(norm(x))));  x += dropout(down(gelu(up(norm(x)))))
//   logits = norm(x) * token^T
//
// Initial weights, as in GPT-2: normal with deviation 0.02, the two projections that add to the residual stream by
// 0.02 / sqrt(2 * depth) so that its variance does not grow with depth; biases 0, norms 1.
#pragma once

#include <cstdint>
#include <vector>

#include <torch/torch.h>

#include "examples/gpt/options.h"

namespace examples {

// Causal self-attention: position t sees positions 0..t. [B, T, width] -> [B, T, width].
class AttentionImpl : public torch::nn::Module {
 public:
  explicit AttentionImpl(const GptConfig& config);
  torch::Tensor forward(const torch::Tensor& x);

  torch::nn::Linear query_key_value{nullptr}, projection{nullptr};

 private:
  std::int64_t heads_;
  double dropout_;
};
TORCH_MODULE(Attention);

class BlockImpl : public torch::nn::Module {
 public:
  explicit BlockImpl(const GptConfig& config);
  torch::Tensor forward(torch::Tensor x);

  torch::nn::LayerNorm attention_norm{nullptr}, mlp_norm{nullptr};
  Attention attention{nullptr};
  torch::nn::Linear up{nullptr}, down{nullptr};
  torch::nn::Dropout dropout{nullptr};
};
TORCH_MODULE(Block);

class GptImpl : public torch::nn::Module {
 public:
  explicit GptImpl(const GptConfig& config);
  torch::Tensor forward(const torch::Tensor& tokens);
  // Mean cross-entropy in nats a byte of a batch [B, T+1]: each byte but the first is predicted from those before it.
  torch::Tensor Loss(const torch::Tensor& batch);

  const GptConfig& config() const { return config_; }
  std::int64_t parameter_count() const;

 private:
  GptConfig config_;
  torch::nn::Embedding token_{nullptr}, position_{nullptr};
  torch::nn::Dropout dropout_{nullptr};
  torch::nn::ModuleList blocks_{nullptr};
  torch::nn::LayerNorm norm_{nullptr};
};
TORCH_MODULE(Gpt);

// AdamW's two groups: matrices decay, biases and norms do not.
std::vector<torch::optim::OptimizerParamGroup> ParameterGroups(torch::nn::Module& module, double weight_decay);

}  // namespace examples
