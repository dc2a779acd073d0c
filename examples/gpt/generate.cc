#include "examples/gpt/generate.h"

#include <algorithm>

#include <ATen/CPUGeneratorImpl.h>

namespace examples {

std::string Generate(Gpt& model, const torch::Device& device, const GenerateOptions& options) {
  const torch::NoGradGuard no_grad;
  const bool was_training = model->is_training();
  model->eval();
  auto generator = at::make_generator<at::CPUGeneratorImpl>(options.seed);

  std::string text = options.prompt.empty() ? "\n" : options.prompt;
  for (std::int64_t i = 0; i < options.bytes; ++i) {
    const auto length = std::min<std::int64_t>(static_cast<std::int64_t>(text.size()), model->config().context);
    auto tokens = torch::empty({1, length}, torch::kInt64);
    const auto* tail = reinterpret_cast<const unsigned char*>(text.data()) + text.size() - length;
    std::copy(tail, tail + length, tokens.data_ptr<std::int64_t>());
    const auto logits = model->forward(tokens.to(device)).select(1, -1).squeeze(0).to(torch::kCPU, torch::kFloat);
    const auto next = options.temperature > 0
                          ? torch::multinomial(torch::softmax(logits / options.temperature, 0), 1, false, generator)
                          : logits.argmax(0);
    text.push_back(static_cast<char>(next.item<std::int64_t>()));
  }
  model->train(was_training);
  return text;
}

}  // namespace examples
