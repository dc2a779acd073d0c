// Training states of a given size for the measuring programs, and words for when something fails.
#pragma once

#include <chrono>
#include <cstdint>
#include <cstdlib>
#include <iostream>
#include <map>
#include <string>
#include <vector>

#include "checkpoint/client/client.h"
#include "checkpoint/client/restorer.h"
#include "checkpoint/client/snapshotter.h"
#include "checkpoint/format/deal.h"
#include "checkpoint/format/shard_file.h"
#include "runtime/base/clock.h"
#include "runtime/base/rng.h"
#include "runtime/base/transport.h"

namespace belay::bench {

template <typename T>
T Must(base::Result<T> result, const char* what) {
  if (!result.has_value()) {
    std::cerr << "bench: " << what << ": " << result.error().Text() << "\n";
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

// --name value ...; what is missing has the default given here.
inline std::map<std::string, std::string> Flags(int argc, char** argv, std::map<std::string, std::string> defaults) {
  for (int i = 1; i < argc; i += 2) {
    if (i + 1 == argc || !defaults.contains(argv[i])) {
      std::cerr << "bench: cannot use " << argv[i] << "\n";
      std::exit(64);
    }
    defaults[argv[i]] = argv[i + 1];
  }
  return defaults;
}

// One rank's tensors: `trained` bytes, and `frozen` ones if there are any, in equal float tensors of random bits,
// touched.
class RankState {
 public:
  RankState(int rank, std::uint64_t trained, std::uint64_t frozen, int tensors) : rank_(rank) {
    Add(trained, tensors, false);
    if (frozen > 0) Add(frozen, tensors, true);
    std::uint64_t offset = 0;
    for (const checkpoint::PartLayout& part : layout_.parts) {
      for (const checkpoint::TensorSpec& tensor : part.tensors) {
        offsets_["model." + tensor.name] = offset;
        offset += static_cast<std::uint64_t>(tensor.global_shape[0]) * 4;
      }
    }
    bytes_ = offset;
    state_.resize(bytes_ / 8 + 1);
    spare_.assign(bytes_ / 8 + 1, 1);
    base::Rng rng(static_cast<std::uint64_t>(rank) + 1);
    for (std::uint64_t& word : state_) word = rng.Next();
  }

  // What this rank writes, once all layouts are known.
  void Plan(const std::vector<checkpoint::Piece>& pieces) {
    plans_ = Must(checkpoint::PlanShards(layout_, pieces), "plan");
    for (const checkpoint::ShardPlan& plan : plans_) {
      auto& list = sources_.emplace_back();
      for (const checkpoint::ShardEntry& entry : plan.entries) {
        list.push_back({data() + offsets_.at(entry.name), entry.bytes});
        targets_.push_back({entry.name, entry.dtype, entry.global_shape, entry.box, spare() + offsets_.at(entry.name)});
      }
    }
  }

  std::unique_ptr<checkpoint::Snapshotter> Attach(const std::string& socket, const checkpoint::JobKey& job,
                                                  base::Generation generation, int world) {
    checkpoint::SnapshotterOptions options;
    options.socket = socket;
    options.attach.job = job;
    options.attach.generation = generation;
    options.attach.rank = base::Rank(rank_);
    options.attach.world_size = world;
    options.attach.retention.keep_last = 1;
    options.identity = {job.project, job.job, base::Step(0), generation, base::Rank(rank_), world};
    return Must(
        checkpoint::Snapshotter::Create(base::UnixTransport(), base::SystemClock(), checkpoint::MakeMemoryCopier(),
                                        options, checkpoint::LayoutFingerprint(layout_), plans_, sources_),
        "attach");
  }

  const checkpoint::RankLayout& layout() const { return layout_; }
  const std::vector<checkpoint::Target>& targets() const { return targets_; }
  std::byte* data() { return reinterpret_cast<std::byte*>(state_.data()); }
  std::byte* spare() { return reinterpret_cast<std::byte*>(spare_.data()); }
  std::uint64_t bytes() const { return bytes_; }

 private:
  void Add(std::uint64_t bytes, int tensors, bool frozen) {
    checkpoint::PartLayout part{"model", {}, frozen};
    const auto elements = static_cast<std::int64_t>(bytes / static_cast<std::uint64_t>(tensors) / 4);
    for (int i = 0; i < tensors; ++i) {
      // Each rank has its own.
      const std::string name = (frozen ? "frozen" : "trained") + std::to_string(rank_) + "." + std::to_string(i);
      part.tensors.push_back({name, checkpoint::DType::kF32, {elements}, checkpoint::Box{{0}, {elements}}});
    }
    layout_.parts.push_back(std::move(part));
  }

  int rank_;
  checkpoint::RankLayout layout_{base::Rank(rank_), {}};
  std::map<std::string, std::uint64_t> offsets_;  // in state_
  std::uint64_t bytes_ = 0;
  std::vector<std::uint64_t> state_, spare_;
  std::vector<checkpoint::ShardPlan> plans_;
  std::vector<std::vector<checkpoint::Source>> sources_;
  std::vector<checkpoint::Target> targets_;
};

// A world of such ranks, all in this process.
inline std::vector<RankState> MakeWorld(int ranks, std::uint64_t trained, std::uint64_t frozen, int tensors) {
  std::vector<RankState> world;
  std::vector<checkpoint::RankLayout> layouts;
  for (int r = 0; r < ranks; ++r) {
    world.emplace_back(r, trained / static_cast<std::uint64_t>(ranks), frozen / static_cast<std::uint64_t>(ranks),
                       tensors);
    layouts.push_back(world.back().layout());
  }
  const auto deal = Must(checkpoint::Deal(layouts), "deal");
  for (int r = 0; r < ranks; ++r) world[static_cast<std::size_t>(r)].Plan(deal[static_cast<std::size_t>(r)]);
  return world;
}

// Waits for the commit of a sealed step; ends the program if it failed.
inline void AwaitCommit(checkpoint::Snapshotter& snapshotter, base::Step step) {
  const auto outcome = Must(snapshotter.Wait(step, std::chrono::minutes(5)), "wait");
  if (outcome.state == checkpoint::SnapshotState::kCommitted) return;
  std::cerr << "bench: not committed: " << (outcome.failure ? outcome.failure->Text() : "deadline") << "\n";
  std::exit(74);
}

}  // namespace belay::bench
