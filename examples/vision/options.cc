#include "examples/vision/options.h"

#include <algorithm>
#include <cmath>
#include <numbers>

#include "examples/common/command_line.h"

namespace examples {

VisionOptions ParseVisionOptions(int argc, char** argv) {
  const auto integer = [](const char* initial) { return cxxopts::value<std::string>()->default_value(initial); };
  const auto real = [](const char* initial) { return cxxopts::value<std::string>()->default_value(initial); };
  const auto text = [](const char* initial) { return cxxopts::value<std::string>()->default_value(initial); };
  // clang-format off
  cxxopts::Options help("train_vision", "Trains a small ResNet on Fashion-MNIST.\n");
  help.add_options("Data")
      ("data", "Folder with the idx files of Fashion-MNIST", text("/usr/share/datasets/fashion-mnist"), "DIR")
      ("limit", "Train on the first N images only; 0: all", integer("0"), "N")
      ("test-limit", "Test on the first N images only; 0: all", integer("0"), "N")
      ("shift", "Random crop: move images by up to N pixels", integer("2"), "N");
  help.add_options("Model")
      ("blocks", "Residual blocks in each of the three stages", integer("1"), "N")
      ("width", "Channels of the first stage", integer("16"), "N");
  help.add_options("Training")
      ("batch", "Images a step on each rank", integer("64"), "N")
      ("steps", "Updates in all", integer("1000"), "N")
      ("seed", "Seed of weights, augmentation and order of the data", integer("1"), "N")
      ("optimizer", "sgd (with momentum) or adamw", text("sgd"), "NAME")
      ("lr", "Highest learning rate", real("0.1"), "R")
      ("momentum", "Momentum of sgd", real("0.9"), "R")
      ("weight-decay", "Weight decay", real("5e-4"), "R")
      ("warmup", "Steps of linear warm-up", integer("50"), "N")
      ("bf16", "Compute in bfloat16 where that is safe");
  help.add_options("Results")
      ("loss-log", "Write each step's loss here as JSON lines, 17 digits", text(""), "FILE")
      ("report-every", "Steps between lines of progress; 0: none", integer("50"), "N");
  help.add_options("Checkpoints")
      ("checkpoint-every", "Steps between saves; 0: only when stopped and at the end", integer("100"), "N")
      ("keep", "Checkpoints to keep", integer("3"), "N");
  // clang-format on
  const CommandLine line("train_vision", help, argc, argv);

  VisionOptions options;
  options.data = line.Text("data");
  options.limit = line.Integer("limit", 0);
  options.test_limit = line.Integer("test-limit", 0);
  options.shift = line.Integer("shift", 0, 28);
  options.model.blocks = line.Integer("blocks", 1, 1000);
  options.model.width = line.Integer("width", 1, 1 << 16);
  options.batch = line.Integer("batch", 1);
  options.steps = line.Integer("steps", 0);
  options.seed = static_cast<std::uint64_t>(line.Integer("seed", 0));
  options.optimizer = line.Text("optimizer");
  if (options.optimizer != "sgd" && options.optimizer != "adamw") line.Refuse("--optimizer must be sgd or adamw");
  options.learning_rate = line.Real("lr", 0.0, 1e3);
  options.momentum = line.Real("momentum", 0.0, 0.9999);
  options.weight_decay = line.Real("weight-decay", 0.0, 1e3);
  options.warmup = line.Integer("warmup", 0);
  options.bf16 = line.Flag("bf16");
  options.loss_log = line.Text("loss-log");
  options.report_every = line.Integer("report-every", 0);
  options.checkpoint_every = line.Integer("checkpoint-every", 0);
  options.keep = line.Integer("keep", 1, 1 << 30);
  return options;
}

double LearningRate(const VisionOptions& options, std::int64_t step) {
  if (step < options.warmup) {
    return options.learning_rate * static_cast<double>(step + 1) / static_cast<double>(options.warmup);
  }
  const auto falling = std::max<std::int64_t>(1, options.steps - 1 - options.warmup);
  const double done = std::min(1.0, static_cast<double>(step - options.warmup) / static_cast<double>(falling));
  return options.learning_rate * 0.5 * (1.0 + std::cos(std::numbers::pi * done));
}

}  // namespace examples
