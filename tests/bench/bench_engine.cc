// The checkpoint engine alone, without torch: a job's state of a given size through a real belayd.
//
//   bench_engine --socket S --daemon-pid P --job NAME --bytes N --ranks R --rounds K --tensors T
//
// The state is shared out among R ranks, each a thread here with its own connection. Prints one JSON object a round, in
// seconds, of the slowest rank: memcpy of the state into touched memory (the limit, taken right before), digest
// (XXH3-128 of it alone), copy (tensors to staging, digests included), committed (from Begin to the commit),
// restore_memory (not where belayd's memory is so small that it saves in waves), restore_disk; and daemon_cpu, what belayd used of the processors from Begin to the commit.
// scripts/bench adds fio's figures and makes the ratios.
#include <unistd.h>

#include <algorithm>
#include <barrier>
#include <cstring>
#include <fstream>
#include <sstream>
#include <thread>

#include <nlohmann/json.hpp>

#include "checkpoint/format/digest.h"
#include "runtime/base/environment.h"
#include "tests/bench/bench_state.h"

namespace {

using namespace belay;              // NOLINT: a program of one file
using namespace belay::bench;       // NOLINT
using namespace belay::checkpoint;  // NOLINT

// User and system time of all its threads, those that ended included.
double CpuSeconds(const std::string& pid) {
  std::ifstream file("/proc/" + pid + "/stat");
  std::string text((std::istreambuf_iterator<char>(file)), {});
  std::istringstream rest(text.substr(text.rfind(')') + 2));
  std::string field;
  double ticks = 0;
  for (int i = 3; rest >> field && i <= 15; ++i) {
    if (i >= 14) ticks += std::stod(field);
  }
  return ticks / static_cast<double>(::sysconf(_SC_CLK_TCK));
}

}  // namespace

int main(int argc, char** argv) {
  auto flags = Flags(argc, argv,
                     {{"--socket", ""},
                      {"--daemon-pid", ""},
                      {"--job", "bench"},
                      {"--bytes", "268435456"},
                      {"--ranks", "1"},
                      {"--rounds", "5"},
                      {"--tensors", "64"}});
  base::IgnoreSigpipe();
  const int ranks = std::stoi(flags["--ranks"]), rounds = std::stoi(flags["--rounds"]);
  auto world = MakeWorld(ranks, std::stoull(flags["--bytes"]), 0, std::stoi(flags["--tensors"]));

  const JobKey job{"default", flags["--job"]};
  auto launcher = Must(Client::Connect(base::UnixTransport(), flags["--socket"], "bench"), "connect");
  const RunGrant grant = Must(launcher->BeginRun(job, ranks), "begin run");

  std::barrier together(ranks);
  std::mutex mutex;
  std::map<std::string, double> slowest;  // guarded by mutex
  const auto measure = [&](const char* name, const auto& action) {
    together.arrive_and_wait();
    const double seconds = Seconds(action);
    const std::lock_guard lock(mutex);
    slowest[name] = std::max(slowest[name], seconds);
  };
  const auto one_rank = [&](int r) {
    RankState& state = world[static_cast<std::size_t>(r)];
    auto client = Must(Client::Connect(base::UnixTransport(), flags["--socket"], "bench"), "connect");
    auto snapshotter = state.Attach(flags["--socket"], job, grant.generation, ranks);
    snapshotter->AwaitTouched();  // as a program's start-up and first steps would have given it the time
    for (int round = 0; round < rounds; ++round) {
      const base::Step step(round + 1);
      measure("memcpy", [&] { std::memcpy(state.spare(), state.data(), state.bytes()); });
      measure("digest", [&] { static_cast<void>(DigestChunks({state.data(), state.bytes()})); });
      double cpu = 0;
      if (r == 0 && !flags["--daemon-pid"].empty()) cpu = CpuSeconds(flags["--daemon-pid"]);
      measure("committed", [&] {
        Must(snapshotter->Begin(step, "request"), "begin");
        const double copied = Seconds([&] { Must(snapshotter->Copy({}), "copy"); });
        {
          const std::lock_guard lock(mutex);
          slowest["copy"] = std::max(slowest["copy"], copied);
        }
        Must(snapshotter->Seal({}, {}, std::nullopt), "seal");
        AwaitCommit(*snapshotter, step);
      });
      together.arrive_and_wait();
      if (r == 0 && !flags["--daemon-pid"].empty()) slowest["daemon_cpu"] = CpuSeconds(flags["--daemon-pid"]) - cpu;
      for (const bool from_memory : {true, false}) {
        if (from_memory && snapshotter->InWaves()) continue;  // of a state that passes through, nothing stays there
        std::memset(state.spare(), 0, state.bytes());
        measure(from_memory ? "restore_memory" : "restore_disk", [&] {
          auto restorer = Must(Restorer::Open(*client, {job, step, grant.generation}, from_memory), "open");
          Must(restorer->Load(state.targets(), std::max(1, 2 / ranks)), "load");
        });
        if (std::memcmp(state.spare(), state.data(), state.bytes()) != 0) {
          std::cerr << "bench_engine: restored bytes differ\n";
          std::exit(70);
        }
      }
      together.arrive_and_wait();
      if (r == 0) {
        nlohmann::json figures(slowest);
        figures["round"] = round;
        figures["bytes"] = state.bytes() * static_cast<std::uint64_t>(ranks);
        std::cout << figures.dump() << std::endl;
        slowest.clear();
      }
    }
  };
  {
    std::vector<std::jthread> threads;
    for (int r = 0; r < ranks; ++r) threads.emplace_back(one_rank, r);
  }
  Must(launcher->EndRun(job, grant.generation, "done"), "end run");
  return 0;
}
