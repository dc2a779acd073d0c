// Runs what follows in its scope in bfloat16 where that is safe (autocast); the weights stay in float.
#pragma once

#include <ATen/autocast_mode.h>
#include <torch/torch.h>

namespace examples {

class Autocast {
 public:
  Autocast(bool enabled, const torch::Device& device) : device_(device.type()), enabled_(enabled) {
    if (!enabled_) return;
    at::autocast::increment_nesting();
    at::autocast::set_autocast_enabled(device_, true);
    at::autocast::set_autocast_dtype(device_, torch::kBFloat16);
  }
  ~Autocast() {
    if (!enabled_) return;
    at::autocast::set_autocast_enabled(device_, false);
    // The cache holds bfloat16 copies of the weights, which the next update makes stale.
    if (at::autocast::decrement_nesting() == 0) at::autocast::clear_cache();
  }
  Autocast(const Autocast&) = delete;
  Autocast& operator=(const Autocast&) = delete;

 private:
  c10::DeviceType device_;
  bool enabled_;
};

}  // namespace examples
