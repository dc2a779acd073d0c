// A job of two ranks without torch, for whoever kills it or its belayd. Every byte of its state follows from the step.
//
//   crash_saver save --socket S [--first N] [--count N] [--bytes N] [--keep-last N] [--ask 1]
//   crash_saver check --socket S [--bytes N] [--begin 1]
//
// `save` begins a run and saves steps N, N+1, ...; it prints "run GENERATION" and, once it is told so, "committed STEP"
// or "failed STEP WHY". With --ask it prints "copied STEP" and waits for a line before it seals, and
// also waits for one after a failure. It ends with the error's exit status when belayd has gone. `check` restores every
// checkpoint that belayd offers, from memory and from disk, and prints "whole STEP" or "damaged STEP WHY" for each
// ("memory STEP" for one that is in memory only); with --begin it begins and ends a run before.
#include <cstring>
#include <iostream>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "checkpoint/client/client.h"
#include "checkpoint/client/restorer.h"
#include "checkpoint/client/snapshotter.h"
#include "checkpoint/format/boxes.h"
#include "checkpoint/format/deal.h"
#include "runtime/base/clock.h"
#include "runtime/base/environment.h"
#include "runtime/base/rng.h"
#include "runtime/base/transport.h"

namespace {

using namespace belay;              // NOLINT: a program of one file
using namespace belay::checkpoint;  // NOLINT

constexpr std::int32_t kWorld = 2;
const JobKey kJob{"default", "j"};

template <typename T>
T Must(base::Result<T> result, const char* what) {
  if (!result.has_value()) {
    std::cout << "ends " << what << ": " << result.error().Text() << std::endl;
    std::exit(static_cast<int>(base::Describe(result.error().code).exit_status));
  }
  if constexpr (!std::is_void_v<T>) return std::move(result).value();
}

struct Arguments {
  std::string socket;
  std::int64_t first = 1, count = 1'000'000'000;
  std::int64_t elements = 0;  // floats of each tensor
  std::uint32_t keep_last = 3;
  bool ask = false, begin = false;
};

Arguments Parse(int argc, char** argv) {
  std::map<std::string, std::string> values = {{"--first", "1"},      {"--count", "1000000000"},
                                               {"--bytes", "300000"}, {"--keep-last", "3"},
                                               {"--ask", "0"},        {"--begin", "0"}};
  for (int i = 2; i + 1 < argc; i += 2) values[argv[i]] = argv[i + 1];
  Arguments arguments;
  arguments.socket = values["--socket"];
  arguments.first = std::stoll(values["--first"]);
  arguments.count = std::stoll(values["--count"]);
  arguments.elements = std::stoll(values["--bytes"]) / 8 / kWorld * kWorld;
  arguments.keep_last = static_cast<std::uint32_t>(std::stoul(values["--keep-last"]));
  arguments.ask = values["--ask"] == "1";
  arguments.begin = values["--begin"] == "1";
  return arguments;
}

// Elements [first, first + bytes.size() / 4) of a tensor at a step.
void Fill(std::vector<std::uint32_t>& words, char tensor, std::int64_t step, std::int64_t first) {
  const std::uint64_t seed = base::Mix64(static_cast<std::uint64_t>(step) * 2 + (tensor == 'w' ? 1 : 0));
  for (std::size_t i = 0; i < words.size(); ++i) {
    words[i] = static_cast<std::uint32_t>(base::Mix64(seed + static_cast<std::uint64_t>(first) + i));
  }
}

// "model.w" is sharded, "optimizer.m" held by all and dealt out.
RankLayout LayoutOf(std::int32_t rank, std::int64_t elements) {
  const std::int64_t share = elements / kWorld;
  return {base::Rank(rank),
          {{"model", {{"w", DType::kF32, {elements}, Box{{share * rank}, {share}}}}},
           {"optimizer", {{"m", DType::kF32, {elements}, Box{{0}, {elements}}}}}}};
}

class Rank {
 public:
  Rank(const Arguments& arguments, std::int32_t rank, base::Generation generation) : rank_(rank) {
    std::vector<RankLayout> world;
    for (std::int32_t r = 0; r < kWorld; ++r) world.push_back(LayoutOf(r, arguments.elements));
    const auto index = static_cast<std::size_t>(rank);
    const auto deal = Must(Deal(world), "deal");
    const auto plans = Must(PlanShards(world[index], deal[index]), "plan");
    w_.resize(static_cast<std::size_t>(arguments.elements / kWorld));
    m_.resize(static_cast<std::size_t>(arguments.elements));
    std::vector<std::vector<Source>> sources;
    for (const ShardPlan& plan : plans) {
      auto& list = sources.emplace_back();
      for (const ShardEntry& entry : plan.entries) {
        const bool is_w = entry.name == "model.w";
        const auto skipped = static_cast<std::size_t>(is_w ? 0 : entry.box.offsets[0]);
        list.push_back({reinterpret_cast<const std::byte*>((is_w ? w_ : m_).data() + skipped), entry.bytes});
      }
    }
    SnapshotterOptions options;
    options.socket = arguments.socket;
    options.attach.job = kJob;
    options.attach.generation = generation;
    options.attach.rank = base::Rank(rank);
    options.attach.world_size = kWorld;
    options.attach.retention.keep_last = arguments.keep_last;
    options.identity = {kJob.project, kJob.job, base::Step(0), generation, base::Rank(rank), kWorld};
    options.threads = 1;
    snapshotter_ = Must(Snapshotter::Create(base::UnixTransport(), base::SystemClock(), MakeMemoryCopier(), options,
                                            LayoutFingerprint(world[index]), plans, sources),
                        "attach");
  }

  base::Status Copy(std::int64_t step) {
    Fill(w_, 'w', step, static_cast<std::int64_t>(w_.size()) * rank_);
    Fill(m_, 'm', step, 0);
    BELAY_TRY(snapshotter_->Begin(base::Step(step), "interval"));
    return snapshotter_->Copy({});
  }
  base::Status Seal(std::int64_t step) {
    return snapshotter_->Seal({{"sampler", base::Str(step, " of rank ", rank_)}}, {}, std::nullopt);
  }
  base::Result<SnapshotOutcome> Wait(std::int64_t step) {
    return snapshotter_->Wait(base::Step(step), std::chrono::minutes(1));
  }

 private:
  const std::int32_t rank_;
  std::vector<std::uint32_t> w_, m_;
  std::unique_ptr<Snapshotter> snapshotter_;
};

void WaitForWord(const Arguments& arguments) {
  std::string line;
  if (arguments.ask) std::getline(std::cin, line);
}

base::Status SaveStep(const Arguments& arguments, std::vector<std::unique_ptr<Rank>>& ranks, std::int64_t step) {
  for (auto& rank : ranks) BELAY_TRY(rank->Copy(step));
  if (arguments.ask) std::cout << "copied " << step << std::endl;
  WaitForWord(arguments);
  for (auto& rank : ranks) BELAY_TRY(rank->Seal(step));
  BELAY_ASSIGN(const SnapshotOutcome outcome, ranks[0]->Wait(step));
  if (outcome.state == SnapshotState::kCommitted) return {};
  if (outcome.failure) return tl::unexpected(*outcome.failure);
  return base::Fail(base::Code::kTimeout, "no outcome within a minute");
}

int Save(const Arguments& arguments) {
  auto launcher = Must(Client::Connect(base::UnixTransport(), arguments.socket, "saver"), "connect");
  const RunGrant grant = Must(launcher->BeginRun(kJob, kWorld), "begin run");
  std::cout << "run " << grant.generation << std::endl;
  std::vector<std::unique_ptr<Rank>> ranks;
  for (std::int32_t r = 0; r < kWorld; ++r) ranks.push_back(std::make_unique<Rank>(arguments, r, grant.generation));
  for (std::int64_t step = arguments.first; step < arguments.first + arguments.count; ++step) {
    const base::Status saved = SaveStep(arguments, ranks, step);
    if (launcher->Broken()) Must(base::Status(base::Fail(base::Code::kUnavailable, "belayd has gone")), "save");
    if (saved) {
      std::cout << "committed " << step << std::endl;
      continue;
    }
    std::cout << "failed " << step << " " << saved.error().Text() << std::endl;
    WaitForWord(arguments);
  }
  Must(launcher->EndRun(kJob, grant.generation, "done"), "end run");
  return 0;
}

base::Status Restore(const Arguments& arguments, Client& client, const RestorePoint& point, bool from_memory) {
  const std::int64_t step = point.step.value();
  BELAY_ASSIGN(auto restorer, Restorer::Open(client, {kJob, point.step, point.generation}, from_memory));
  for (const base::Error& problem : restorer->Problems()) return tl::unexpected(problem);
  const auto elements = static_cast<std::size_t>(arguments.elements);
  for (const char tensor : {'w', 'm'}) {
    std::vector<std::uint32_t> wanted(elements), got(elements);
    Fill(wanted, tensor, step, 0);
    const std::vector<std::int64_t> shape = {arguments.elements};
    BELAY_TRY(restorer->Load({{tensor == 'w' ? "model.w" : "optimizer.m", DType::kF32, shape, WholeBox(shape),
                               reinterpret_cast<std::byte*>(got.data())}},
                             1));
    if (got != wanted) return base::Fail(base::Code::kCorrupt, "other bytes in ", std::string(1, tensor));
  }
  for (std::int32_t r = 0; r < kWorld; ++r) {
    BELAY_ASSIGN(const Records records, restorer->LoadRecords(base::Rank(r)));
    if (records != Records{{"sampler", base::Str(step, " of rank ", r)}}) {
      return base::Fail(base::Code::kCorrupt, "other records of rank ", r);
    }
  }
  return {};
}

int Check(const Arguments& arguments) {
  auto client = Must(Client::Connect(base::UnixTransport(), arguments.socket, "check"), "connect");
  if (arguments.begin) {
    const RunGrant grant = Must(client->BeginRun(kJob, kWorld), "begin run");
    std::cout << "run " << grant.generation << std::endl;
    Must(client->EndRun(kJob, grant.generation, "done"), "end run");
  }
  for (const RestorePoint& point : Must(client->RestorePoints(kJob), "restore points")) {
    base::Status restored;
    if (point.committed) restored = Restore(arguments, *client, point, false);
    if (restored && point.in_memory) restored = Restore(arguments, *client, point, true);
    std::cout << (!restored         ? "damaged "
                  : point.committed ? "whole "
                                    : "memory ")
              << point.step << (restored ? "" : " " + restored.error().Text()) << std::endl;
  }
  return 0;
}

}  // namespace

int main(int argc, char** argv) {
  base::IgnoreSigpipe();
  const std::string verb = argc > 1 ? argv[1] : "";
  const Arguments arguments = Parse(argc, argv);
  if (verb == "save" && !arguments.socket.empty()) return Save(arguments);
  if (verb == "check" && !arguments.socket.empty()) return Check(arguments);
  std::cerr << "usage: crash_saver save|check --socket S ...\n";
  return 64;
}
