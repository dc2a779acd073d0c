// A training whose checkpoints can be of no use:  wayward_trainer STEPS LOG [crash|exit|nan|wait STEP]
//
//   crash S   aborts in its second step after a resume from a step >= S
//   exit S    exits with 3 there, before it has finished one step
//   nan S     its loss is NaN from then on
//   wait S    waits there, in its second step, to be killed
//
// LOG gets a line `resume STEP` at each start and `step STEP` after each step, from rank 0. Saves every 20 steps.
#include <unistd.h>

#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <fstream>
#include <limits>
#include <string>

#include "belay/checkpointer.h"
#include "belay/data_parallel.h"
#include "belay/session.h"

int main(int argc, char** argv) {
  if (argc < 3) return 64;
  belay::Session session(argc, argv);
  const std::int64_t steps = std::atoll(argv[1]);
  const std::string how = argc > 4 ? argv[3] : "";
  const std::int64_t from = argc > 4 ? std::atoll(argv[4]) : std::numeric_limits<std::int64_t>::max();
  const auto log = [&](const std::string& what, std::int64_t step) {
    if (session.is_main()) std::ofstream(argv[2], std::ios::app) << what << " " << step << std::endl;
  };

  torch::manual_seed(1);
  torch::nn::Linear model(8, 8);
  torch::optim::SGD optimizer(model->parameters(), torch::optim::SGDOptions(0.01));
  belay::DataParallel parallel(session, *model);
  belay::Checkpointer checkpointer(session, {.every = 0, .keep_last = 3});
  checkpointer.add("model", *model).add("optimizer", optimizer);

  const std::int64_t first = checkpointer.resume();
  log("resume", first);
  const bool wayward = first > 0 && first >= from;
  for (std::int64_t step = first; step < steps; ++step) {
    if (wayward && how == "exit") return 3;
    if (wayward && how == "crash" && step > first) std::abort();
    while (wayward && how == "wait" && step > first) pause();
    optimizer.zero_grad();
    auto loss = parallel.forward([&] { return model->forward(torch::ones({4, 8})).square().mean(); });
    loss.backward();
    optimizer.step();
    log("step", step);
    const double number = wayward && how == "nan" ? std::nan("") : loss.item<double>();
    if (checkpointer.step_done(step, {{"loss", number}}) == belay::Next::kStop) break;
    if ((step + 1) % 20 == 0) checkpointer.save_now();  // waits, so that none is put off
  }
  return session.finish();
}
