// Text as windows of bytes. Window i of the training part is bytes [i * context, i * context + context + 1): the
// windows share only the byte that is the last target of one and the first input of the next, so an epoch predicts each
// byte once. The tail of the text is held out for validation.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include <torch/types.h>

namespace examples {

class TextData {
 public:
  // `held_out`: fraction of the text for validation, in (0, 1). Throws std::invalid_argument if either part is shorter
  // than one window.
  TextData(std::string text, std::int64_t context, double held_out);

  std::int64_t training_windows() const { return training_windows_; }
  std::int64_t validation_windows() const { return validation_windows_; }
  std::int64_t bytes() const { return static_cast<std::int64_t>(text_.size()); }

  // [windows.size(), context + 1] int64 on the CPU.
  torch::Tensor TrainingBatch(const std::vector<std::int64_t>& windows) const { return Batch(0, windows); }
  torch::Tensor ValidationBatch(const std::vector<std::int64_t>& windows) const {
    return Batch(training_bytes_, windows);
  }

 private:
  torch::Tensor Batch(std::int64_t start, const std::vector<std::int64_t>& windows) const;

  std::string text_;
  std::int64_t context_, training_bytes_ = 0, training_windows_ = 0, validation_windows_ = 0;
};

// A whole file; throws std::system_error.
std::string ReadFile(const std::string& path);

}  // namespace examples
