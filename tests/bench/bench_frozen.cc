// What frozen parameters cost: saves of a model with a frozen base beside saves of its trained part alone.
//
//   bench_frozen --socket S --bytes N --trained M --rounds K --tensors T
//
// Two jobs of one rank, turn by turn: "alone" with M trained bytes, "lora" with the same and N frozen ones. Prints one
// JSON object a round with their seconds from Begin to the commit. The first round writes the base; it is not printed.
#include <iostream>

#include <nlohmann/json.hpp>

#include "runtime/base/environment.h"
#include "tests/bench/bench_state.h"

namespace {

using namespace belay;         // NOLINT: a program of one file
using namespace belay::bench;  // NOLINT

struct Job {
  Job(const std::string& socket, const std::string& name, std::uint64_t trained, std::uint64_t frozen, int tensors)
      : key{"default", name}, world(MakeWorld(1, trained, frozen, tensors)) {
    launcher = Must(checkpoint::Client::Connect(base::UnixTransport(), socket, "bench"), "connect");
    generation = Must(launcher->BeginRun(key, 1), "begin run").generation;
    snapshotter = world[0].Attach(socket, key, generation, 1);
    snapshotter->AwaitTouched();
  }
  double Save(base::Step step) {
    return Seconds([&] {
      Must(snapshotter->Begin(step, "request"), "begin");
      Must(snapshotter->Copy({.frozen_unchanged = true}), "copy");
      Must(snapshotter->Seal({}, {}, std::nullopt), "seal");
      AwaitCommit(*snapshotter, step);
    });
  }
  checkpoint::JobKey key;
  std::vector<RankState> world;
  std::unique_ptr<checkpoint::Client> launcher;
  base::Generation generation;
  std::unique_ptr<checkpoint::Snapshotter> snapshotter;
};

}  // namespace

int main(int argc, char** argv) {
  auto flags =
      Flags(argc, argv, {{"--socket", ""}, {"--bytes", ""}, {"--trained", ""}, {"--rounds", "5"}, {"--tensors", "64"}});
  base::IgnoreSigpipe();
  const std::uint64_t trained = std::stoull(flags["--trained"]), frozen = std::stoull(flags["--bytes"]);
  const int tensors = std::stoi(flags["--tensors"]);
  Job alone(flags["--socket"], "alone", trained, 0, tensors), lora(flags["--socket"], "lora", trained, frozen, tensors);
  for (int round = 0; round <= std::stoi(flags["--rounds"]); ++round) {
    const base::Step step(round + 1);
    const double alone_seconds = alone.Save(step), lora_seconds = lora.Save(step);
    if (round == 0) continue;
    std::cout << nlohmann::json{{"round", round}, {"alone", alone_seconds}, {"lora", lora_seconds}}.dump() << std::endl;
  }
  for (Job* job : {&alone, &lora}) Must(job->launcher->EndRun(job->key, job->generation, "done"), "end run");
  return 0;
}
