// Text from a trained model.
#pragma once

#include <string>

#include "examples/gpt/model.h"

namespace examples {

// The prompt and `bytes` more. Draws from a generator of its own: training's random numbers go on as if nothing had
// happened. The model is in the mode it was in before.
std::string Generate(Gpt& model, const torch::Device& device, const GenerateOptions& options);

}  // namespace examples
