// Trains a byte-level GPT on a text, on any number of ranks, and goes on exactly where it was stopped.
//
//   examples/gpt/get_bible bible.txt
//   belay run -n 2 --job kjv -- train_gpt --data bible.txt --steps 2000
#include <cmath>
#include <cstdio>
#include <optional>
#include <stdexcept>
#include <system_error>
#include <vector>

#include <belay/checkpointer.h>
#include <belay/data_parallel.h>
#include <belay/metrics.h>
#include <belay/sampler.h>
#include <belay/session.h>

#include "examples/common/command_line.h"
#include "examples/common/determinism.h"
#include "examples/common/loss_log.h"
#include "examples/common/mixed_precision.h"
#include "examples/common/over_ranks.h"
#include "examples/common/stopwatch.h"
#include "examples/gpt/data.h"
#include "examples/gpt/generate.h"
#include "examples/gpt/model.h"
#include "examples/gpt/options.h"

namespace examples {
namespace {

// Before MPI and libtorch start, so that a wrong path costs nothing.
TextData OpenData(const GptOptions& options) {
  try {
    return TextData(ReadFile(options.data), options.model.context, options.held_out);
  } catch (const std::system_error& error) {
    Die("train_gpt", kExitNoInput,
        std::string(error.what()) + " (examples/gpt/get_bible FILE prepares a text; --data takes any file)");
  } catch (const std::invalid_argument& error) {
    Die("train_gpt", kExitBadData, options.data + ": " + error.what());
  }
}

// Mean loss over evenly spread windows of the held-out text; the ranks share them. Draws no random numbers.
double Validate(belay::Session& session, Gpt& model, const TextData& data, const GptOptions& options) {
  session.idle();
  const torch::NoGradGuard no_grad;
  const Autocast autocast(options.bf16, session.device());
  model->eval();
  auto sums = torch::zeros({2}, torch::dtype(torch::kDouble).device(session.device()));  // loss, batches
  for (std::int64_t batch = session.rank(); batch < options.validate_batches; batch += session.world_size()) {
    std::vector<std::int64_t> windows;
    for (std::int64_t i = 0; i < options.batch; ++i) {
      const auto nth = batch * options.batch + i, all = options.validate_batches * options.batch;
      windows.push_back(nth * data.validation_windows() / all);
    }
    sums[0] += model->Loss(data.ValidationBatch(windows).to(session.device())).to(torch::kDouble);
    sums[1] += 1.0;
  }
  model->train();
  sums = SumOverRanks(session, sums).to(torch::kCPU);
  return sums[0].item<double>() / sums[1].item<double>();
}

int Train(int argc, char** argv) {
  const GptOptions options = ParseGptOptions(argc, argv);
  const TextData data = OpenData(options);

  belay::Session session(argc, argv);
  PreferDeterministicKernels(session.device());

  torch::manual_seed(options.seed);
  Gpt model(options.model);
  model->to(session.device());
  torch::optim::AdamW optimizer(ParameterGroups(*model, options.weight_decay), torch::optim::AdamWOptions());
  belay::DataParallel parallel(session, *model);
  belay::PermutationSampler sampler(session, data.training_windows(), options.batch, options.seed);
  // From here on every rank draws its own dropout.
  torch::manual_seed(options.seed + 1'000'003 * static_cast<std::uint64_t>(session.rank() + 1));

  belay::Checkpointer checkpointer(
      session, {.every = options.checkpoint_every, .keep_last = static_cast<std::uint32_t>(options.keep)});
  checkpointer.add("model", *model).add("optimizer", optimizer).add("sampler", sampler);
  const auto first_step = checkpointer.resume();

  belay::Metrics metrics(session, options.steps);
  std::optional<LossLog> loss_log;
  if (session.is_main()) {
    std::printf("%lld parameters on %d ranks (%s), %lld bytes of text, steps %lld to %lld\n",
                static_cast<long long>(model->parameter_count()), session.world_size(), session.device().str().c_str(),
                static_cast<long long>(data.bytes()), static_cast<long long>(first_step),
                static_cast<long long>(options.steps));
    std::fflush(stdout);
    try {
      loss_log.emplace(options.loss_log, first_step);
    } catch (const std::system_error& error) {
      throw belay::Error(kExitCantCreate, std::string("--loss-log: ") + error.what());
    }
  }

  model->train();
  bool stopped = false;
  for (auto step = first_step; step < options.steps && !stopped; ++step) {
    const double learning_rate = LearningRate(options, step);
    for (auto& group : optimizer.param_groups()) group.options().set_lr(learning_rate);
    const auto epoch = sampler.epoch();

    optimizer.zero_grad();
    auto loss = torch::zeros({}, session.device());
    double data_wait = 0;
    for (std::int64_t part = 1; part <= options.accumulate; ++part) {
      const auto batch = Timed(data_wait, [&] { return data.TrainingBatch(sampler.next()).to(session.device()); });
      const bool last = part == options.accumulate;  // only the last one's backward talks to the other ranks
      const auto part_loss = parallel.forward(
          [&] {
            const Autocast autocast(options.bf16, session.device());
            return model->Loss(batch) / options.accumulate;
          },
          last);
      part_loss.backward();
      loss += part_loss.detach();
    }
    const double gradient_norm =
        options.clip > 0 ? torch::nn::utils::clip_grad_norm_(model->parameters(), options.clip) : NAN;
    optimizer.step();

    const double mean_loss = MeanOverRanks(session, loss);
    const auto samples = options.batch * options.accumulate;
    belay::StepMetrics measured{.loss = mean_loss,
                                .samples = samples,
                                .tokens = samples * options.model.context,
                                .data_wait_seconds = data_wait};
    measured.extra["learning_rate"] = learning_rate;
    if (options.clip > 0) measured.extra["gradient_norm"] = gradient_norm;
    metrics.step(step, measured);
    if (loss_log) loss_log->Write(step, epoch, mean_loss);
    if (session.is_main() && options.report_every > 0 && (step + 1) % options.report_every == 0) {
      std::printf("step %lld  epoch %lld  loss %.4f\n", static_cast<long long>(step + 1), static_cast<long long>(epoch),
                  mean_loss);
      std::fflush(stdout);
    }
    if (options.validate_every > 0 && (step + 1) % options.validate_every == 0) {
      const double validation_loss = Validate(session, model, data, options);
      metrics.scalar(step, "validation_loss", validation_loss);
      if (session.is_main()) {
        std::printf("step %lld  validation loss %.4f (%.3f bits a byte)\n", static_cast<long long>(step + 1),
                    validation_loss, validation_loss / std::log(2.0));
        std::fflush(stdout);
      }
    }
    stopped = checkpointer.step_done(step, {{"loss", mean_loss}}) == belay::Next::kStop;
  }

  if (!stopped && session.is_main() && options.generate.bytes > 0) {
    session.idle();
    const auto text = Generate(model, session.device(), options.generate);
    metrics.text(options.steps, "sample", text);
    std::printf("--- sampled text ---\n%s\n--------------------\n", text.c_str());
    std::fflush(stdout);
  }
  return session.finish();
}

}  // namespace
}  // namespace examples

int main(int argc, char** argv) { return examples::Train(argc, argv); }
