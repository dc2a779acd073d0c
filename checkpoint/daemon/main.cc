// belayd: the checkpoint service of one node. README.md beside this file.
#include <unistd.h>

#include <csignal>
#include <cstdint>
#include <cstdio>
#include <iostream>
#include <string>
#include <thread>

#include <cxxopts.hpp>

#include "checkpoint/client/locate.h"
#include "checkpoint/daemon/service.h"
#include "checkpoint/daemon/startup.h"
#include "checkpoint/index/rocksdb_index.h"
#include "checkpoint/staging/memory_budget.h"
#include "runtime/base/environment.h"
#include "runtime/base/log.h"
#include "runtime/base/shared_memory.h"
#include "runtime/base/signals.h"
#include "runtime/base/units.h"

namespace belay::checkpoint {
namespace {

using base::Code;

constexpr std::uint64_t kLogBytesMax = 16 * base::kMiB;
constexpr auto kLockWait = std::chrono::seconds(5);     // for a daemon that is just leaving
constexpr auto kForcedLeave = std::chrono::seconds(2);  // for answers and the log, when told to leave at once

struct Flags {
  std::string data_dir;
  std::string socket;
  bool is_private = false;
  double linger_seconds = 2;
  std::uint64_t memory_budget = 0;
  ScrubOptions scrub;
  bool log_json = false;
};

base::Result<Flags> ParseFlags(int argc, char** argv, bool& help_shown) {
  cxxopts::Options options("belayd",
                           "Keeps the checkpoints of training jobs on this machine.\n"
                           "Usually started by `belay run` or `belay daemon start`.\n");
  // clang-format off
  options.add_options()
      ("data-dir", "where checkpoints live (default: BELAY_DATA_DIR, else ~/.local/share/belay)", cxxopts::value<std::string>())
      ("socket", "Unix socket to listen on (default: the data directory's private one)", cxxopts::value<std::string>())
      ("private", "serve one user, and leave when nobody is connected any more")
      ("linger", "seconds to stay after the last client left (with --private)", cxxopts::value<double>()->default_value("2"))
      ("memory-budget", "bytes of staging memory in all (default: half of the machine's)", cxxopts::value<std::uint64_t>())
      ("scrub-rate", "bytes a second at which committed checkpoints are read again and checked; 0: never", cxxopts::value<std::uint64_t>()->default_value("33554432"))
      ("scrub-every", "hours from the beginning of one such pass to the next", cxxopts::value<double>()->default_value("24"))
      ("scrub-delay", "seconds from the start to the first of them", cxxopts::value<double>()->default_value("60"))
      ("log-json", "write the log as JSON lines")
      ("version", "print the version")
      ("h,help", "print this");
  // clang-format on
  try {
    const auto parsed = options.parse(argc, argv);
    if (parsed.count("help") != 0 || parsed.count("version") != 0) {
      std::cout << (parsed.count("help") != 0 ? options.help() : std::string("belayd " BELAY_VERSION "\n"));
      help_shown = true;
      return Flags{};
    }
    if (!parsed.unmatched().empty()) {
      return base::Fail(Code::kInvalidArgument, "belayd does not understand '", parsed.unmatched().front(),
                        "'; see belayd --help");
    }
    Flags flags;
    std::optional<std::string> data_dir;
    if (parsed.count("data-dir") != 0) data_dir = parsed["data-dir"].as<std::string>();
    BELAY_ASSIGN(flags.data_dir, ResolveDataDirectory(data_dir));
    if (parsed.count("socket") != 0) {
      flags.socket = parsed["socket"].as<std::string>();
    } else {
      BELAY_ASSIGN(flags.socket, PrivateSocketPath(flags.data_dir));
    }
    flags.is_private = parsed.count("private") != 0;
    flags.linger_seconds = parsed["linger"].as<double>();
    if (!(flags.linger_seconds >= 0 && flags.linger_seconds <= 86400)) {
      return base::Fail(Code::kInvalidArgument, "--linger takes seconds from 0 to 86400");
    }
    flags.memory_budget = parsed.count("memory-budget") != 0 ? parsed["memory-budget"].as<std::uint64_t>()
                                                             : DefaultMemoryBudget(base::PosixFileSystem());
    flags.scrub.bytes_per_second = parsed["scrub-rate"].as<std::uint64_t>();
    const double every = parsed["scrub-every"].as<double>(), delay = parsed["scrub-delay"].as<double>();
    if (!(every >= 0 && every <= 87600)) {
      return base::Fail(Code::kInvalidArgument, "--scrub-every takes hours from 0 to 87600");
    }
    if (!(delay >= 0 && delay <= 86400)) {
      return base::Fail(Code::kInvalidArgument, "--scrub-delay takes seconds from 0 to 86400");
    }
    flags.scrub.every =
        std::chrono::duration_cast<base::Duration>(std::chrono::duration<double, std::ratio<3600>>(every));
    flags.scrub.first_after = std::chrono::duration_cast<base::Duration>(std::chrono::duration<double>(delay));
    flags.log_json = parsed.count("log-json") != 0;
    return flags;
  } catch (const cxxopts::exceptions::exception& error) {
    return base::Fail(Code::kInvalidArgument, error.what(), "; see belayd --help");
  }
}

// Two daemons on one data directory would undo each other's work. One that is just leaving is waited for.
base::Result<base::FileLock> LockDataDirectory(const std::string& path, base::Clock& clock) {
  const base::SteadyTime until = clock.Now() + kLockWait;
  while (true) {
    BELAY_ASSIGN(auto lock, base::FileLock::TryAcquire(path));
    if (lock) return *std::move(lock);
    if (clock.Now() >= until) {
      return base::Fail(Code::kAlreadyExists, "another belayd serves this data directory (", path, " is locked)");
    }
    clock.SleepFor(std::chrono::milliseconds(20));
  }
}

base::Status Serve(const Flags& flags, base::SignalWatcher& signals) {
  base::FileSystem& files = base::PosixFileSystem();
  base::Clock& clock = base::SystemClock();
  const index::Folders folders(flags.data_dir);
  const std::string own = folders.OwnFolder();
  if (auto made = base::MakeDirectories(files, own); !made) {
    return base::Wrap(made.error(), "cannot use the data directory ", flags.data_dir);
  }
  BELAY_ASSIGN(const base::FileLock lock, LockDataDirectory(own + "/lock", clock));

  const std::string log = own + "/belayd.log";
  base::LogOptions log_options;
  log_options.program = "belayd";
  log_options.path = log;
  log_options.bytes_max = kLogBytesMax;
  log_options.json = flags.log_json;
  BELAY_TRY(base::StartLogging(log_options));

  ServiceOptions options;
  options.data_dir = flags.data_dir;
  options.socket = flags.socket;
  options.version = BELAY_VERSION;
  options.writer = base::BulkWriterName(flags.data_dir);  // finding out takes a file
  options.uid = base::UserId();
  options.pid = base::ProcessId();
  options.instance = base::RandomSeed();
  options.touch_threads = static_cast<int>(std::min(8U, std::max(1U, std::thread::hardware_concurrency() / 2)));
  options.scrub = flags.scrub;
  options.core.daemon_uid = options.uid;
  options.core.is_private = flags.is_private;
  options.core.linger = std::chrono::duration_cast<base::Duration>(std::chrono::duration<double>(flags.linger_seconds));
  options.core.memory_budget_bytes = flags.memory_budget;

  // A write to a disk that hangs cannot be ended: whoever forces the daemon out wants its lock and its memory back.
  // Every state of the disk is one that a start cleans up, so the process may end where it stands.
  bool forced = false;
  options.forced_exit = [&forced, &clock] {
    forced = true;
    std::thread([&clock] {
      clock.SleepFor(kForcedLeave);
      ::_exit(0);
    }).detach();
  };

  const auto serve = [&]() -> base::Status {
    BELAY_ASSIGN(Recovered recovered, Recover(files, folders, options.uid, OpenRocksIndex));
    std::size_t checkpoints = 0;
    for (const auto& [key, job] : recovered.catalogue) checkpoints += job.checkpoints.size();
    BELAY_ASSIGN(auto listener, base::UnixTransport().Listen(flags.socket));
    base::LogInfo("serving", {{"data_dir", flags.data_dir},
                              {"socket", flags.socket},
                              {"pid", options.pid},
                              {"checkpoints", checkpoints},
                              {"version", options.version},
                              {"memory_budget", base::HumanBytes(flags.memory_budget)}});
    Service service(options, files, clock, MachineParts(options, *listener), std::move(recovered.index),
                    std::move(recovered.catalogue));
    std::thread watcher([&] {
      while (true) {
        const auto signal = signals.Next(std::nullopt);
        if (!signal || !*signal) return;
        base::LogInfo("signal", {{"number", **signal}});
        // The notices of batch systems, which their runs understand; here they only must not kill.
        if (**signal != SIGUSR1 && **signal != SIGUSR2) service.Stop();
      }
    });
    service.Run();
    if (forced) {
      base::LogInfo("left", {{"forced", true}});
      listener.reset();  // and its name
      ::_exit(0);
    }
    signals.Interrupt();
    watcher.join();
    return {};
  };
  base::Status served = serve();
  if (served)
    base::LogInfo("left");
  else
    base::LogError("cannot_serve", {{"why", served.error().Text()}});
  return served;
}

int Main(int argc, char** argv) {
  base::IgnoreSigpipe();
  bool help_shown = false;
  const auto flags = ParseFlags(argc, argv, help_shown);
  if (help_shown) return 0;
  base::Status result;
  if (!flags) {
    result = tl::unexpected(flags.error());
  } else if (auto signals = base::SignalWatcher::Create({SIGTERM, SIGINT, SIGHUP, SIGUSR1, SIGUSR2}); !signals) {
    result = tl::unexpected(signals.error());
  } else {
    result = Serve(*flags, *signals);
  }
  if (result) return 0;
  std::cerr << "belayd: " << result.error().Text() << "\n";
  return static_cast<int>(base::Describe(result.error().code).exit_status);
}

}  // namespace
}  // namespace belay::checkpoint

int main(int argc, char** argv) { return belay::checkpoint::Main(argc, argv); }
