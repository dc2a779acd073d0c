#include "examples/gpt/options.h"

#include <algorithm>
#include <cmath>
#include <numbers>

#include "examples/common/command_line.h"

namespace examples {

GptOptions ParseGptOptions(int argc, char** argv) {
  const auto integer = [](const char* initial) { return cxxopts::value<std::string>()->default_value(initial); };
  const auto real = [](const char* initial) { return cxxopts::value<std::string>()->default_value(initial); };
  const auto text = [](const char* initial) { return cxxopts::value<std::string>()->default_value(initial); };
  // clang-format off
  cxxopts::Options help("train_gpt", "Trains a byte-level GPT on any text file.\n");
  help.add_options("Data")
      ("data", "Text to train on; examples/gpt/get_bible makes the default", text("bible.txt"), "FILE")
      ("held-out", "Fraction of the text, at its end, for validation", real("0.05"), "F");
  help.add_options("Model")
      ("depth", "Blocks", integer("2"), "N")
      ("width", "Width of the residual stream", integer("128"), "N")
      ("heads", "Attention heads; must divide the width", integer("4"), "N")
      ("context", "Bytes that the model sees at once", integer("128"), "N")
      ("dropout", "Dropout probability", real("0.1"), "P");
  help.add_options("Training")
      ("batch", "Windows a backward pass on each rank", integer("8"), "N")
      ("accumulate", "Backward passes a step, whose gradients add up", integer("1"), "N")
      ("steps", "Updates in all", integer("2000"), "N")
      ("seed", "Seed of weights, dropout and order of the data", integer("1"), "N")
      ("lr", "Highest learning rate", real("1e-3"), "R")
      ("min-lr", "Learning rate at the last step", real("1e-4"), "R")
      ("warmup", "Steps of linear warm-up", integer("100"), "N")
      ("weight-decay", "AdamW's weight decay, on matrices only", real("0.1"), "R")
      ("clip", "Largest norm of all gradients together; 0: no limit", real("1.0"), "R")
      ("bf16", "Compute in bfloat16 where that is safe");
  help.add_options("Results")
      ("validate-every", "Steps between validations; 0: never", integer("250"), "N")
      ("validate-batches", "Batches a validation, over all ranks", integer("8"), "N")
      ("sample", "Bytes of text to generate at the end", integer("200"), "N")
      ("prompt", "How the generated text begins", text("In the beginning"), "TEXT")
      ("temperature", "Of the sampling; 0: always the likeliest byte", real("0.8"), "R")
      ("loss-log", "Write each step's loss here as JSON lines, 17 digits", text(""), "FILE")
      ("report-every", "Steps between lines of progress; 0: none", integer("50"), "N");
  help.add_options("Checkpoints")
      ("checkpoint-every", "Steps between saves; 0: only when stopped and at the end", integer("100"), "N")
      ("keep", "Checkpoints to keep", integer("3"), "N");
  // clang-format on
  const CommandLine line("train_gpt", help, argc, argv);

  GptOptions options;
  options.data = line.Text("data");
  options.held_out = line.Real("held-out", 0.001, 0.5);
  options.model = {.depth = line.Integer("depth", 1, 1000),
                   .width = line.Integer("width", 1, 1 << 20),
                   .heads = line.Integer("heads", 1, 1 << 16),
                   .context = line.Integer("context", 1, 1 << 24),
                   .dropout = line.Real("dropout", 0.0, 0.99)};
  if (options.model.width % options.model.heads != 0) line.Refuse("--heads must divide --width");
  options.batch = line.Integer("batch", 1);
  options.accumulate = line.Integer("accumulate", 1);
  options.steps = line.Integer("steps", 0);
  options.seed = static_cast<std::uint64_t>(line.Integer("seed", 0));
  options.learning_rate = line.Real("lr", 0.0, 1e3);
  options.final_learning_rate = line.Real("min-lr", 0.0, 1e3);
  options.warmup = line.Integer("warmup", 0);
  options.weight_decay = line.Real("weight-decay", 0.0, 1e3);
  options.clip = line.Real("clip", 0.0, 1e9);
  options.bf16 = line.Flag("bf16");
  options.validate_every = line.Integer("validate-every", 0);
  options.validate_batches = line.Integer("validate-batches", 1);
  options.generate = {.bytes = line.Integer("sample", 0),
                      .prompt = line.Text("prompt"),
                      .temperature = line.Real("temperature", 0.0, 100.0),
                      .seed = options.seed};
  options.loss_log = line.Text("loss-log");
  options.report_every = line.Integer("report-every", 0);
  options.checkpoint_every = line.Integer("checkpoint-every", 0);
  options.keep = line.Integer("keep", 1, 1 << 30);
  return options;
}

double LearningRate(const GptOptions& options, std::int64_t step) {
  if (step < options.warmup) {
    return options.learning_rate * static_cast<double>(step + 1) / static_cast<double>(options.warmup);
  }
  const auto falling = std::max<std::int64_t>(1, options.steps - 1 - options.warmup);
  const double done = std::min(1.0, static_cast<double>(step - options.warmup) / static_cast<double>(falling));
  const double cosine = 0.5 * (1.0 + std::cos(std::numbers::pi * done));
  return options.final_learning_rate + (options.learning_rate - options.final_learning_rate) * cosine;
}

}  // namespace examples
