// What a save costs training: a loop of real forward and backward passes over a model of a given size, with and without
// saves.
//
//   belay run -n N -- bench_stall --megabytes M --steps S --every K --out FILE
//
// Rank 0 writes one JSON object with a list for each of these, in seconds:
//   step      how long each step took
//   stall     training time lost to the save begun at the end of that step: what beginning it took within step_done,
//             and what the next update waited for its copy. The same sum as `stall_ms` of the metrics; about 0 where no
//             save was begun
//   boundary  how long that step's step_done took, whatever it did
//   memcpy    the limit: copying this rank's state; on a GPU, out of it into pinned memory
//   device    where the model was
#include <chrono>
#include <cstring>
#include <fstream>
#include <iostream>
#include <map>
#include <string>
#include <utility>
#include <vector>

#include <torch/torch.h>

#include "belay/checkpointer.h"
#include "belay/data_parallel.h"
#include "belay/session.h"
#include "runtime/session/session_state.h"

namespace {

double Now() { return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count(); }

// Equal square layers, so that the parameters take `megabytes` of float32.
struct Tower : torch::nn::Module {
  Tower(int layers, int width) {
    for (int i = 0; i < layers; ++i) {
      layers_.push_back(register_module("layer" + std::to_string(i), torch::nn::Linear(width, width)));
    }
  }
  torch::Tensor forward(torch::Tensor x) {
    for (auto& layer : layers_) x = torch::relu(layer->forward(x));
    return x;
  }
  std::vector<torch::nn::Linear> layers_;
};

}  // namespace

int main(int argc, char** argv) {
  std::map<std::string, std::string> flags{
      {"--megabytes", "64"}, {"--steps", "60"}, {"--every", "10"}, {"--out", ""}, {"--batch", "0"}};
  for (int i = 1; i + 1 < argc; i += 2) flags[argv[i]] = argv[i + 1];
  const std::int64_t steps = std::stoll(flags["--steps"]), every = std::stoll(flags["--every"]);

  belay::Session session(argc, argv);
  const torch::Device device = session.device();
  torch::manual_seed(1);
  const int width = 1024;
  // Adam keeps two moments beside each parameter.
  const int layers = std::max(1, std::stoi(flags["--megabytes"]) / (3 * 4));
  Tower tower(layers, width);
  tower.to(device);
  torch::optim::AdamW optimizer(tower.parameters(), torch::optim::AdamWOptions(1e-4));
  belay::DataParallel parallel(session, tower);
  belay::Checkpointer checkpointer(session, {.every = every, .keep_last = 1, .save_at_end = false});
  checkpointer.add("model", tower).add("optimizer", optimizer);

  const std::int64_t first = checkpointer.resume();
  // Steps long enough for a copy to hide behind them, as training has them.
  const std::int64_t batch = flags["--batch"] != "0" ? std::stoll(flags["--batch"]) : device.is_cuda() ? 4096 : 64;
  const torch::Tensor input = torch::randn({batch, width}, device);
  std::vector<double> step_seconds, stall_seconds, boundary_seconds;
  // As Metrics does, which looks just before step_done.
  const auto take_stall = [&] { return std::exchange(session.state().stall_seconds, 0.0); };
  for (std::int64_t step = first; step < steps; ++step) {
    const double begin = Now();
    auto loss = parallel.forward([&] { return tower.forward(input).square().mean(); });
    optimizer.zero_grad();
    loss.backward();
    optimizer.step();
    const double waited = take_stall();  // after resume(): nothing, no save is under way
    if (!stall_seconds.empty()) stall_seconds.back() += waited;
    const double before_done = Now();
    if (checkpointer.step_done(step) == belay::Next::kStop) break;
    // As a program does that reads its loss: else steps would only be queued, and none would have a time.
    if (device.is_cuda()) torch::cuda::synchronize();
    const double end = Now();
    step_seconds.push_back(end - begin);
    boundary_seconds.push_back(end - before_done);
    stall_seconds.push_back(take_stall());
  }

  // The limit: one warm memcpy of what this rank stages.
  std::int64_t state_bytes = 0;
  for (const auto& parameter : tower.parameters()) state_bytes += parameter.numel() * 12;
  const std::int64_t staged = state_bytes / session.world_size();
  const auto bytes = torch::TensorOptions().dtype(torch::kUInt8);
  const auto from = torch::full({staged}, 1, bytes.device(device));
  auto to = torch::full({staged}, 2, bytes.pinned_memory(device.is_cuda()));
  std::vector<double> copies;
  for (int i = 0; i < 5; ++i) {
    if (device.is_cuda()) torch::cuda::synchronize();
    const double begin = Now();
    if (device.is_cuda()) {
      to.copy_(from);  // waits for the last byte
    } else {
      std::memcpy(to.data_ptr(), from.data_ptr(), staged);
    }
    copies.push_back(Now() - begin);
  }
  if (session.is_main() && !flags["--out"].empty()) {
    std::ofstream out(flags["--out"]);
    const auto list = [&](const char* name, const std::vector<double>& values) {
      out << "\"" << name << "\": [";
      for (std::size_t i = 0; i < values.size(); ++i) out << (i ? ", " : "") << values[i];
      out << "]";
    };
    out << "{\"device\": \"" << device.str() << "\", \"staged_bytes\": " << staged << ", \"every\": " << every << ", ";
    list("step", step_seconds);
    out << ", ";
    list("stall", stall_seconds);
    out << ", ";
    list("boundary", boundary_seconds);
    out << ", ";
    list("memcpy", copies);
    out << "}\n";
  }
  return session.finish();
}
