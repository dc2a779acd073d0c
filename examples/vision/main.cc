// Trains a small ResNet on Fashion-MNIST, on any number of ranks, and goes on exactly where it was stopped: BatchNorm's
// running statistics, the random crops and the optimizer's momentum included.
//
//   belay run -n 2 --job fashion -- train_vision --steps 1000
#include <cstdio>
#include <memory>
#include <optional>
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
#include "examples/vision/data.h"
#include "examples/vision/model.h"
#include "examples/vision/options.h"

namespace examples {
namespace {

// Before MPI and libtorch start, so that a wrong path costs nothing.
ImageData OpenData(const VisionOptions& options, const std::string& name, std::int64_t limit) {
  try {
    return ImageData(options.data, name, limit);
  } catch (const std::system_error& error) {
    Die("train_vision", kExitNoInput,
        std::string(error.what()) + " (apt-get install dataset-fashion-mnist, or --data DIR)");
  } catch (const BadData& error) {
    Die("train_vision", kExitBadData, error.what());
  }
}

std::unique_ptr<torch::optim::Optimizer> MakeOptimizer(const VisionOptions& options, torch::nn::Module& model) {
  if (options.optimizer == "adamw") {
    return std::make_unique<torch::optim::AdamW>(
        model.parameters(), torch::optim::AdamWOptions(options.learning_rate).weight_decay(options.weight_decay));
  }
  return std::make_unique<torch::optim::SGD>(model.parameters(), torch::optim::SGDOptions(options.learning_rate)
                                                                     .momentum(options.momentum)
                                                                     .weight_decay(options.weight_decay)
                                                                     .nesterov(options.momentum > 0));
}

// Share of the test images that the model names rightly; the ranks share the work.
double Accuracy(belay::Session& session, belay::DataParallel& parallel, ResNet& model, const ImageData& test,
                const VisionOptions& options) {
  session.idle();
  // Each rank's BatchNorm has seen its own images: judge the model that checkpoints hold, which is rank 0's.
  parallel.sync_buffers();
  const torch::NoGradGuard no_grad;
  const Autocast autocast(options.bf16, session.device());
  model->eval();
  auto right = torch::zeros({1}, torch::dtype(torch::kInt64).device(session.device()));
  constexpr std::int64_t kBatch = 256;
  for (std::int64_t start = kBatch * session.rank(); start < test.size(); start += kBatch * session.world_size()) {
    std::vector<std::int64_t> indices;
    for (auto i = start; i < std::min(start + kBatch, test.size()); ++i) indices.push_back(i);
    const auto batch = test.Take(indices);
    right += (model->forward(batch.images.to(session.device())).argmax(1) == batch.labels.to(session.device())).sum();
  }
  model->train();
  return SumOverRanks(session, right).item<double>() / static_cast<double>(test.size());
}

int Train(int argc, char** argv) {
  const VisionOptions options = ParseVisionOptions(argc, argv);
  const ImageData data = OpenData(options, "train", options.limit);
  const ImageData test = OpenData(options, "t10k", options.test_limit);

  belay::Session session(argc, argv);
  PreferDeterministicKernels(session.device());

  torch::manual_seed(options.seed);
  ResNet model(options.model);
  model->to(session.device());
  const auto optimizer = MakeOptimizer(options, *model);
  belay::DataParallel parallel(session, *model);
  belay::PermutationSampler sampler(session, data.size(), options.batch, options.seed);
  // From here on every rank draws its own crops and mirrors.
  torch::manual_seed(options.seed + 1'000'003 * static_cast<std::uint64_t>(session.rank() + 1));

  belay::Checkpointer checkpointer(
      session, {.every = options.checkpoint_every, .keep_last = static_cast<std::uint32_t>(options.keep)});
  checkpointer.add("model", *model).add("optimizer", *optimizer).add("sampler", sampler);
  const auto first_step = checkpointer.resume();

  belay::Metrics metrics(session, options.steps);
  std::optional<LossLog> loss_log;
  if (session.is_main()) {
    std::printf("%lld images on %d ranks (%s), steps %lld to %lld\n", static_cast<long long>(data.size()),
                session.world_size(), session.device().str().c_str(), static_cast<long long>(first_step),
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
    for (auto& group : optimizer->param_groups()) group.options().set_lr(learning_rate);
    const auto epoch = sampler.epoch();
    double data_wait = 0;
    const auto batch = Timed(data_wait, [&] {
      auto taken = data.Take(sampler.next());
      taken.images = Augment(taken.images, options.shift).to(session.device());
      taken.labels = taken.labels.to(session.device());
      return taken;
    });

    optimizer->zero_grad();
    const auto loss = parallel.forward([&] {
      const Autocast autocast(options.bf16, session.device());
      return torch::cross_entropy_loss(model->forward(batch.images), batch.labels);
    });
    loss.backward();
    optimizer->step();

    const double mean_loss = MeanOverRanks(session, loss);
    metrics.step(step, {.loss = mean_loss,
                        .samples = options.batch,
                        .data_wait_seconds = data_wait,
                        .extra = {{"learning_rate", learning_rate}}});
    if (loss_log) loss_log->Write(step, epoch, mean_loss);
    if (session.is_main() && options.report_every > 0 && (step + 1) % options.report_every == 0) {
      std::printf("step %lld  epoch %lld  loss %.4f\n", static_cast<long long>(step + 1), static_cast<long long>(epoch),
                  mean_loss);
      std::fflush(stdout);
    }
    stopped = checkpointer.step_done(step, {{"loss", mean_loss}}) == belay::Next::kStop;
  }

  if (!stopped) {
    const double accuracy = Accuracy(session, parallel, model, test, options);
    metrics.scalar(options.steps, "test_accuracy", accuracy);
    if (session.is_main()) {
      std::printf("accuracy on %lld test images: %.2f %%\n", static_cast<long long>(test.size()), 100.0 * accuracy);
      std::fflush(stdout);
    }
  }
  return session.finish();
}

}  // namespace
}  // namespace examples

int main(int argc, char** argv) { return examples::Train(argc, argv); }
