// belayd: the checkpoint service of one node. README.md beside this file.
#include <unistd.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <csignal>
#include <cstdint>
#include <cstdio>
#include <iostream>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include <cxxopts.hpp>

#include "checkpoint/client/locate.h"
#include "checkpoint/daemon/service.h"
#include "checkpoint/daemon/startup.h"
#include "checkpoint/daemon/successor.h"
#include "checkpoint/index/rocksdb_index.h"
#include "checkpoint/spread/join.h"
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
constexpr int kWritersMax = 16;
constexpr auto kLockWait = std::chrono::seconds(5);     // for a daemon that is just leaving
constexpr auto kForcedLeave = std::chrono::seconds(2);  // for answers and the log, when told to leave at once

struct Flags {
  std::string data_dir;
  spread::Wishes folders;
  std::string socket;
  bool is_private = false;
  double linger_seconds = 2;
  std::uint64_t memory_budget = 0;
  std::size_t snapshots_in_flight = 0;
  ScrubOptions scrub;
  ProbeOptions probe;
  bool log_json = false;
  std::optional<int> take_over, check_take_over;  // descriptors of hand-over records
};

base::Result<Flags> ParseFlags(int argc, char** argv, bool& help_shown) {
  cxxopts::Options options("belayd",
                           "Keeps the checkpoints of training jobs on this machine.\n"
                           "Usually started by `belay run` or `belay daemon start`.\n");
  // clang-format off
  options.add_options()
      ("data-dir", "where checkpoints live (default: BELAY_DATA_DIR, else ~/.local/share/belay)", cxxopts::value<std::string>())
      ("also-data-dir", "a folder on another drive, to write to it too; remembered; may be repeated", cxxopts::value<std::string>())
      ("drop-data-dir", "write no more to such a folder; forget it, with what it holds, if it is gone; may be repeated", cxxopts::value<std::string>())
      ("socket", "Unix socket to listen on (default: the data directory's private one)", cxxopts::value<std::string>())
      ("private", "serve one user, and leave when nobody is connected any more")
      ("linger", "seconds to stay after the last client left (with --private)", cxxopts::value<double>()->default_value("2"))
      ("memory-budget", "bytes of staging memory in all (default: half of the machine's)", cxxopts::value<std::uint64_t>())
      ("snapshots-in-flight", "of one job: more than 1 takes as much more staging memory once saves come faster than the disk takes them", cxxopts::value<std::size_t>()->default_value("2"))
      ("scrub-rate", "bytes a second at which committed checkpoints are read again and checked, and all else is done that nobody waits for; 0: checkpoints are never read again", cxxopts::value<std::uint64_t>()->default_value("33554432"))
      ("scrub-every", "hours from the beginning of one such pass to the next", cxxopts::value<double>()->default_value("24"))
      ("scrub-delay", "seconds from the start to the first of them", cxxopts::value<double>()->default_value("60"))
      ("no-probe", "do not measure which block size and queue depth suit the data folders' devices, and use none that was measured")
      ("probe-idle", "seconds without a save or a restore before one is measured", cxxopts::value<double>()->default_value("10"))
      ("log-json", "write the log as JSON lines")
      ("take-over", "descriptor of what the belayd before this one left (`belay daemon restart` gives it)", cxxopts::value<int>())
      ("check-take-over", "only say whether this belayd could: `belay daemon restart` asks", cxxopts::value<int>())
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
    for (const auto& word : parsed.arguments()) {
      const bool also = word.key() == "also-data-dir";
      if (!also && word.key() != "drop-data-dir") continue;
      BELAY_ASSIGN(std::string folder, ResolveDataDirectory(word.value()));
      (also ? flags.folders.also : flags.folders.drop).push_back(std::move(folder));
    }
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
    flags.snapshots_in_flight = parsed["snapshots-in-flight"].as<std::size_t>();
    if (flags.snapshots_in_flight < 1 || flags.snapshots_in_flight > commit::kStagingBuffersMax) {
      return base::Fail(Code::kInvalidArgument, "--snapshots-in-flight takes a number from 1 to ",
                        commit::kStagingBuffersMax);
    }
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
    flags.probe.enabled = parsed.count("no-probe") == 0;
    const double idle = parsed["probe-idle"].as<double>();
    if (!(idle >= 0 && idle <= 86400)) {
      return base::Fail(Code::kInvalidArgument, "--probe-idle takes seconds from 0 to 86400");
    }
    flags.probe.idle = std::chrono::duration_cast<base::Duration>(std::chrono::duration<double>(idle));
    flags.log_json = parsed.count("log-json") != 0;
    if (parsed.count("take-over") != 0) flags.take_over = parsed["take-over"].as<int>();
    if (parsed.count("check-take-over") != 0) flags.check_take_over = parsed["check-take-over"].as<int>();
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

// What a Service of this process has to begin with: of the process before it, or of the Service before it.
struct Serving {
  const Flags& flags;
  base::SignalWatcher& signals;
  const ProgramOnDisk& program;
  base::FileLock lock;
  std::string writer;  // finding out takes a file
  spread::Wishes wishes;
};

std::string FreshId() {
  std::array<char, 33> text{};
  std::snprintf(text.data(), text.size(), "%016llx%016llx", static_cast<unsigned long long>(base::RandomSeed()),
                static_cast<unsigned long long>(base::RandomSeed()));
  return text.data();
}

// A start with a folder missing is refused, and by then the memory would be lost.
base::Status CheckFoldersHere(const std::string& data_dir) {
  base::FileSystem& files = base::PosixFileSystem();
  BELAY_ASSIGN(const spread::DataFolders folders, spread::ReadDataFolders(files, data_dir));
  for (const spread::OtherFolder& other : folders.others) {
    if (auto here = spread::CheckHere(files, folders.id, other); !here) {
      return base::Wrap(std::move(here).error(), "not restarted, this belayd goes on");
    }
  }
  return {};
}

ServiceOptions OptionsOf(const Serving& serving, const TakenOver& begin, std::function<void()> forced_exit) {
  const Flags& flags = serving.flags;
  ServiceOptions options;
  options.data_dir = flags.data_dir;
  options.socket = flags.socket;
  options.version = BELAY_VERSION;
  options.writer = serving.writer;
  options.uid = base::UserId();
  options.pid = base::ProcessId();
  options.instance = base::RandomSeed();
  options.touch_threads = static_cast<int>(std::min(8U, std::max(1U, std::thread::hardware_concurrency() / 2)));
  options.scrub = flags.scrub;
  options.probe = flags.probe;
  options.core.daemon_uid = options.uid;
  options.core.is_private = flags.is_private;
  options.core.linger = std::chrono::duration_cast<base::Duration>(std::chrono::duration<double>(flags.linger_seconds));
  options.core.memory_budget_bytes = flags.memory_budget;
  options.core.snapshots_in_flight = flags.snapshots_in_flight;
  options.core.clients_awaited = begin.clients_awaited;
  options.forced_exit = std::move(forced_exit);
  options.restart = begin.report;
  options.check_successor = [&program = serving.program, folders = flags.data_dir]() -> base::Status {
    BELAY_TRY(CheckFoldersHere(folders));
    return CheckSuccessor(program);
  };
  return options;
}

// What the next one begins with. Its callers wait in the socket's queue meanwhile.
struct Next : TakenOver {
  base::UniqueFd socket;
};

// Serves until it is told to leave (no value) or to restart; then everything is drained.
base::Result<std::optional<Next>> ServeOnce(Serving& serving, TakenOver begin) {
  base::FileSystem& files = base::PosixFileSystem();
  base::Clock& clock = base::SystemClock();
  const Flags& flags = serving.flags;

  // A write to a disk that hangs cannot be ended: whoever forces the daemon out wants its lock and its memory back.
  // Every state of the disk is one that a start cleans up, so the process may end where it stands.
  bool forced = false;
  ServiceOptions options = OptionsOf(serving, begin, [&forced, &clock] {
    forced = true;
    std::thread([&clock] {
      clock.SleepFor(kForcedLeave);
      ::_exit(0);
    }).detach();
  });
  // One that took over, or goes on after all, copes with a folder that has gone since, as it did before.
  serving.wishes.go_on_without = begin.report.attempts > 0;
  BELAY_ASSIGN(options.folders, spread::Join(files, flags.data_dir, serving.wishes, FreshId));
  serving.wishes.drop.clear();
  const index::Folders folders(flags.data_dir, options.folders);
  // One or two ranks at a time for each drive.
  options.writers = std::clamp(2 * static_cast<int>(folders.others().size() + 1), options.writers, kWritersMax);
  BELAY_ASSIGN(Recovered recovered, Recover(files, folders, options.uid, OpenRocksIndex));
  std::size_t checkpoints = 0;
  for (const auto& [key, job] : recovered.catalogue) checkpoints += job.checkpoints.size();
  std::unique_ptr<base::Listener> listener = std::move(begin.listener);
  if (listener == nullptr) {
    BELAY_ASSIGN(listener, base::UnixTransport().Listen(flags.socket));
  }
  for (const spread::OtherFolder& other : folders.others()) {
    base::LogInfo("data_folder", {{"folder", other.path}, {"retired", other.retired}});
  }
  base::LogInfo("serving", {{"data_dir", flags.data_dir},
                            {"socket", flags.socket},
                            {"pid", options.pid},
                            {"checkpoints", checkpoints},
                            {"version", options.version},
                            {"memory_budget", base::HumanBytes(flags.memory_budget)}});
  Next next;
  {
    Service service(options, files, clock, MachineParts(options, *listener, std::move(begin.memory)),
                    std::move(recovered.index), std::move(recovered.catalogue), std::move(begin.jobs));
    std::atomic<bool> told_to_stop{false};
    std::thread watcher([&] {
      while (true) {
        const auto signal = serving.signals.Next(std::nullopt);
        if (!signal || !*signal) return;
        base::LogInfo("signal", {{"number", **signal}});
        // The notices of batch systems, which their runs understand; here they only must not kill.
        if (**signal == SIGUSR1 || **signal == SIGUSR2) continue;
        told_to_stop = true;
        service.Stop();
      }
    });
    service.Run();
    if (forced) {
      base::LogInfo("left", {{"forced", true}});
      listener.reset();  // and its name
      ::_exit(0);
    }
    serving.signals.Interrupt();
    watcher.join();
    auto succession = service.HandOver();
    if (!succession || told_to_stop) return std::optional<Next>();  // also where it came in the last moment
    next.jobs = std::move(succession->handed.jobs);
    next.memory = std::move(succession->memory);
    next.clients_awaited = succession->handed.clients_awaited;
    next.report = {.attempts = options.restart.attempts + 1, .from_version = BELAY_VERSION, .left = clock.Now()};
  }
  next.socket = listener->HandOver();
  return std::optional(std::move(next));
}

// Answers only if the other program could not be put in this one's place.
base::Error Restart(const Serving& serving, const Next& next) {
  if (!next.socket.valid()) return {Code::kIo, "the socket cannot be handed over: too many open files?", nullptr};
  Handover handover;
  handover.version = BELAY_VERSION;
  handover.lock = serving.lock.Descriptor();
  handover.listener = next.socket.get();
  handover.attempts = next.report.attempts;
  handover.left = next.report.left;
  handover.clients_awaited = next.clients_awaited;
  for (const commit::HandedJob& job : next.jobs) {
    Handover::Job& one = handover.jobs.emplace_back(Handover::Job{job, {}});
    for (const auto& [rank, slot] : job.slots) {
      for (std::size_t buffer = 0; buffer < slot.buffers.size(); ++buffer) {
        one.descriptors.push_back(next.memory.at({OwnerName(job.key), rank, buffer})->number());
      }
    }
  }
  base::LogInfo("restarting", {{"program", serving.program.path}, {"jobs", handover.jobs.size()}});
  return ExecSuccessor(serving.program, handover);
}

base::Status Serve(const Flags& flags, base::SignalWatcher& signals, const ProgramOnDisk& program, TakenOver begin) {
  base::FileSystem& files = base::PosixFileSystem();
  const std::string own = index::Folders(flags.data_dir).OwnFolder();
  BELAY_TRY(spread::CheckIsHome(files, flags.data_dir));
  if (auto made = base::MakeDirectories(files, own); !made) {
    return base::Wrap(made.error(), "cannot use the data directory ", flags.data_dir);
  }
  if (!begin.lock) {
    BELAY_ASSIGN(begin.lock, LockDataDirectory(own + "/lock", base::SystemClock()));
  }

  base::LogOptions log_options;
  log_options.program = "belayd";
  log_options.path = own + "/belayd.log";
  log_options.bytes_max = kLogBytesMax;
  log_options.json = flags.log_json;
  BELAY_TRY(base::StartLogging(log_options));
  if (!begin.report.lost.empty()) base::LogWarning("not_all_taken_up", {{"why", begin.report.lost}});

  Serving serving{
      flags,        signals, program, *std::move(begin.lock), std::string(base::BulkWriterName(flags.data_dir)),
      flags.folders};
  base::Status served;
  while (true) {
    auto next = ServeOnce(serving, std::move(begin));
    if (!next) served = tl::unexpected(next.error());
    if (!next || !*next) break;
    const base::Error failed = Restart(serving, **next);
    // Everything is here still: this one goes on as the next would have.
    base::LogError("restart_failed", {{"why", failed.Text()}});
    auto listener = base::TakeUpUnixListener(flags.socket, std::move((*next)->socket));
    begin = **std::move(next);
    if (listener) begin.listener = *std::move(listener);
    begin.report.failure = base::Str("belayd could not be restarted and goes on as it was: ", failed.Text());
  }
  if (served)
    base::LogInfo("left");
  else
    base::LogError("cannot_serve", {{"why", served.error().Text()}});
  return served;
}

int Main(int argc, char** argv) {
  base::IgnoreSigpipe();
  const ProgramOnDisk program = InstalledProgram(argc, argv);
  bool help_shown = false;
  const auto flags = ParseFlags(argc, argv, help_shown);
  if (help_shown) return 0;
  TakenOver begin;
  if (flags && flags->take_over) {
    begin = TakeOver(*flags->take_over, index::Folders(flags->data_dir).OwnFolder() + "/lock", flags->socket);
  }
  base::Status result;
  if (!flags) {
    result = tl::unexpected(flags.error());
  } else if (flags->check_take_over) {
    result = ReadRecordOnly(*flags->check_take_over);
  } else if (auto signals = base::SignalWatcher::Create({SIGTERM, SIGINT, SIGHUP, SIGUSR1, SIGUSR2}); !signals) {
    result = tl::unexpected(signals.error());
  } else {
    result = Serve(*flags, *signals, program, std::move(begin));
  }
  if (result) return 0;
  std::cerr << "belayd: " << result.error().Text() << "\n";
  return static_cast<int>(base::Describe(result.error().code).exit_status);
}

}  // namespace
}  // namespace belay::checkpoint

int main(int argc, char** argv) { return belay::checkpoint::Main(argc, argv); }
