// The checkpoint engine alone, without torch: one rank's state of a given size through a real belayd.
//
//   bench_engine --socket S --job NAME --bytes N --rounds K [--tensors T]
//
// Prints one JSON object a round, all in seconds: memcpy of the state into touched memory (the limit, taken right
// before), copy (tensors to staging, digests included), committed (from Begin to the commit), restore_memory,
// restore_disk, digest (XXH3-128 of the state alone). scripts/bench adds fio's figures and makes the ratios.
#include <cstdint>
#include <cstring>
#include <iostream>
#include <map>
#include <memory>
#include <numeric>
#include <string>
#include <vector>

#include <nlohmann/json.hpp>

#include "checkpoint/client/client.h"
#include "checkpoint/client/restorer.h"
#include "checkpoint/client/snapshotter.h"
#include "checkpoint/format/boxes.h"
#include "checkpoint/format/deal.h"
#include "checkpoint/format/digest.h"
#include "checkpoint/format/shard_file.h"
#include "runtime/base/clock.h"
#include "runtime/base/environment.h"
#include "runtime/base/rng.h"
#include "runtime/base/transport.h"

namespace {

using namespace belay;              // NOLINT: a program of one file
using namespace belay::checkpoint;  // NOLINT

template <typename T>
T Must(base::Result<T> result, const char* what) {
  if (!result.has_value()) {
    std::cerr << "bench_engine: " << what << ": " << result.error().Text() << "\n";
    std::exit(static_cast<int>(base::Describe(result.error().code).exit_status));
  }
  if constexpr (!std::is_void_v<T>) return std::move(result).value();
}

template <typename Action>
double Seconds(Action&& action) {
  const auto begin = base::SystemClock().Now();
  action();
  return std::chrono::duration<double>(base::SystemClock().Now() - begin).count();
}

struct Arguments {
  std::string socket, job = "bench";
  std::uint64_t bytes = 256 * base::kMiB;
  int rounds = 5;
  int tensors = 64;
};

Arguments Parse(int argc, char** argv) {
  std::map<std::string, std::string> values;
  for (int i = 1; i + 1 < argc; i += 2) values[argv[i]] = argv[i + 1];
  Arguments arguments;
  arguments.socket = values["--socket"];
  if (values.count("--job")) arguments.job = values["--job"];
  if (values.count("--bytes")) arguments.bytes = std::stoull(values["--bytes"]);
  if (values.count("--rounds")) arguments.rounds = std::stoi(values["--rounds"]);
  if (values.count("--tensors")) arguments.tensors = std::stoi(values["--tensors"]);
  return arguments;
}

}  // namespace

int main(int argc, char** argv) {
  const Arguments arguments = Parse(argc, argv);
  if (arguments.socket.empty()) {
    std::cerr << "usage: bench_engine --socket S [--job NAME] [--bytes N] [--rounds K] [--tensors T]\n";
    return 64;
  }
  base::IgnoreSigpipe();

  // State: equal float tensors of random bits, touched.
  const std::int64_t elements = static_cast<std::int64_t>(arguments.bytes / arguments.tensors / 4);
  const std::uint64_t tensor_bytes = static_cast<std::uint64_t>(elements) * 4;
  const std::uint64_t total = tensor_bytes * arguments.tensors;
  std::vector<std::uint64_t> state(total / 8 + 1), spare(total / 8 + 1, 1);
  base::Rng rng(1);
  for (std::uint64_t& word : state) word = rng.Next();
  auto* const bytes = reinterpret_cast<std::byte*>(state.data());
  auto* const other = reinterpret_cast<std::byte*>(spare.data());

  RankLayout layout{base::Rank(0), {PartLayout{"model", {}}}};
  for (int i = 0; i < arguments.tensors; ++i) {
    layout.parts[0].tensors.push_back({"t" + std::to_string(i), DType::kF32, {elements}, Box{{0}, {elements}}});
  }
  const auto deal = Must(Deal({layout}), "deal");
  const auto plans = Must(PlanShards(layout, deal[0]), "plan");
  std::vector<std::vector<Source>> sources;
  std::vector<Target> targets;
  for (const ShardPlan& plan : plans) {
    auto& list = sources.emplace_back();
    for (const ShardEntry& entry : plan.entries) {
      const std::uint64_t index = std::stoull(entry.name.substr(entry.name.find(".t") + 2));
      list.push_back({bytes + index * tensor_bytes, tensor_bytes});
      targets.push_back({entry.name, entry.dtype, entry.global_shape, entry.box, other + index * tensor_bytes});
    }
  }

  const JobKey job{"default", arguments.job};
  auto launcher = Must(Client::Connect(base::UnixTransport(), arguments.socket, "bench"), "connect");
  const RunGrant grant = Must(launcher->BeginRun(job, 1), "begin run");
  SnapshotterOptions options;
  options.socket = arguments.socket;
  options.attach.job = job;
  options.attach.generation = grant.generation;
  options.attach.retention.keep_last = 1;
  options.identity = {job.project, job.job, base::Step(0), grant.generation, base::Rank(0), 1};
  auto snapshotter = Must(Snapshotter::Create(base::UnixTransport(), base::SystemClock(), MakeMemoryCopier(), options,
                                              LayoutFingerprint(layout), plans, sources),
                          "attach");
  snapshotter->AwaitTouched();  // as a program's start-up and first steps would have given it the time

  for (int round = 0; round < arguments.rounds; ++round) {
    const base::Step step(round + 1);
    nlohmann::json figures;
    figures["round"] = round;
    figures["bytes"] = total;
    figures["memcpy"] = Seconds([&] { std::memcpy(other, bytes, total); });
    figures["digest"] = Seconds([&] { static_cast<void>(DigestChunks({bytes, total})); });
    const auto begin = base::SystemClock().Now();
    Must(snapshotter->Begin(step, "request"), "begin");
    figures["copy"] = Seconds([&] { Must(snapshotter->Copy({}), "copy"); });
    Must(snapshotter->Seal({}, {}, std::nullopt), "seal");
    const SnapshotOutcome outcome = Must(snapshotter->Wait(step, std::chrono::minutes(5)), "wait");
    figures["committed"] = std::chrono::duration<double>(base::SystemClock().Now() - begin).count();
    if (outcome.state != SnapshotState::kCommitted) {
      std::cerr << "bench_engine: not committed: " << (outcome.failure ? outcome.failure->Text() : "deadline") << "\n";
      return 74;
    }
    for (const bool from_memory : {true, false}) {
      std::memset(other, 0, total);
      figures[from_memory ? "restore_memory" : "restore_disk"] = Seconds([&] {
        auto restorer = Must(Restorer::Open(*launcher, {job, step, grant.generation}, from_memory), "open");
        Must(restorer->Load(targets, 2), "load");
      });
      if (std::memcmp(other, bytes, total) != 0) {
        std::cerr << "bench_engine: restored bytes differ\n";
        return 70;
      }
    }
    std::cout << figures.dump() << std::endl;
  }
  Must(launcher->EndRun(job, grant.generation, "done"), "end run");
  return 0;
}
