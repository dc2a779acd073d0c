#include "examples/gpt/data.h"

#include <cerrno>
#include <cstdio>
#include <memory>
#include <stdexcept>
#include <system_error>
#include <utility>

namespace examples {

TextData::TextData(std::string text, std::int64_t context, double held_out)
    : text_(std::move(text)), context_(context) {
  const auto held_out_bytes = static_cast<std::int64_t>(static_cast<double>(bytes()) * held_out);
  training_bytes_ = bytes() - held_out_bytes;
  training_windows_ = (training_bytes_ - 1) / context;
  validation_windows_ = (held_out_bytes - 1) / context;
  if (training_windows_ < 1 || validation_windows_ < 1) {
    throw std::invalid_argument("the text has " + std::to_string(bytes()) + " bytes, too few for a context of " +
                                std::to_string(context) + " in both the training and the held-out part");
  }
}

torch::Tensor TextData::Batch(std::int64_t start, const std::vector<std::int64_t>& windows) const {
  auto batch = torch::empty({static_cast<std::int64_t>(windows.size()), context_ + 1}, torch::kInt64);
  auto* out = batch.data_ptr<std::int64_t>();
  for (const auto window : windows) {
    const auto* in = reinterpret_cast<const unsigned char*>(text_.data()) + start + window * context_;
    for (std::int64_t i = 0; i <= context_; ++i) *out++ = in[i];
  }
  return batch;
}

std::string ReadFile(const std::string& path) {
  const auto fail = [&] { throw std::system_error(errno, std::generic_category(), "cannot read " + path); };
  const std::unique_ptr<std::FILE, int (*)(std::FILE*)> file(std::fopen(path.c_str(), "rb"), std::fclose);
  if (!file) fail();
  std::string text;
  char block[65536];
  for (std::size_t got; (got = std::fread(block, 1, sizeof block, file.get())) > 0;) text.append(block, got);
  if (std::ferror(file.get()) != 0) fail();
  return text;
}

}  // namespace examples
