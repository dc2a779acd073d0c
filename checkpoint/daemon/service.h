// belayd, wired together: one loop thread owns the commit core; connections, disk writes and index writes happen on
// threads of their own and come back to it as events.
//
//   clients -- ConnectionHub (threads) --.                       .-- writers (one a rank, up to 4): shards
//                                        +--> events -> Core -->-+-- publisher (1): manifests, deletions, index
//   signals, finished work --------------'     loop thread       +-- openers (1): files for restores
//                                                                '-- scrubbing (1, idle priority): reads all again
#pragma once

#include <condition_variable>
#include <cstdint>
#include <deque>
#include <functional>
#include <memory>
#include <mutex>
#include <string>
#include <variant>

#include "checkpoint/commit/core.h"
#include "checkpoint/daemon/connection_hub.h"
#include "checkpoint/daemon/publisher.h"
#include "checkpoint/daemon/scrub_files.h"
#include "checkpoint/daemon/scrub_plan.h"
#include "checkpoint/daemon/worker_pool.h"
#include "checkpoint/index/folders.h"
#include "checkpoint/staging/staging_pool.h"
#include "runtime/base/clock.h"
#include "runtime/base/file_system.h"
#include "runtime/base/index.h"
#include "runtime/base/transport.h"

namespace belay::checkpoint {

struct ServiceOptions {
  std::string data_dir;
  std::string socket;
  std::string version;
  std::uint32_t uid = 0;
  std::int32_t pid = 0;
  std::uint64_t instance = 0;  // random
  int writers = 4;
  int touch_threads = 2;
  commit::CoreConfig core;
  // Called on the loop's thread when the core wants to leave at once: writes that hang must not hold the process. May
  // be empty.
  std::function<void()> forced_exit;
  ScrubOptions scrub;
};

class Service {
 public:
  Service(ServiceOptions options, base::FileSystem& files, base::Clock& clock, base::Listener& listener,
          std::unique_ptr<base::Index> index, commit::Catalogue catalogue);
  ~Service();

  // Serves until the core says Exit. One call, on the thread that becomes the loop.
  void Run();
  // Drain and leave. Any thread.
  void Stop();

 private:
  // What happens to the loop: to the core, or the end of a scrubber's read.
  using LoopEvent = std::variant<commit::Event, ScrubResult>;
  void Post(LoopEvent event);
  void Take(const commit::Event& event);
  void Take(const ScrubResult& result);
  void Scrub();
  void StoreScrubProgress();
  std::optional<base::SteadyTime> NextDeadline();
  void RequestCame(commit::RequestRef ref, const wire::Request& request);
  void CarryOut(commit::Action action);
  void Perform(commit::Reply& reply);
  void Perform(commit::AllocateStaging& order);
  void Perform(commit::FreeStaging& order);
  void Perform(commit::PersistGeneration& order);
  void Perform(commit::StartWrite& order);
  void Perform(commit::PublishManifest& order);
  void Perform(commit::DiscardFiles& order);
  void Perform(commit::DeleteCheckpoint& order);
  void Perform(commit::PersistPin& order);
  void Perform(commit::PersistQuarantine& order);
  void Perform(commit::RepairFile& order);
  void Perform(commit::OpenFromMemory& order);
  void Perform(commit::OpenFromDisk& order);
  void Perform(commit::RebuildIndex& order);
  void Perform(commit::Note& /*order*/) {}  // its reason is in the log by now
  void Perform(commit::Exit& order);
  void AnswerFailure(const commit::RequestRef& ref, const base::Error& error);
  void FillReport(wire::DaemonReport& report);
  void FillScrubReport(wire::ScrubReport& report) const;

  const ServiceOptions options_;
  const index::Folders folders_;
  base::FileSystem& files_;
  base::Clock& clock_;
  const base::SteadyTime started_;
  const std::string writer_name_;  // how files are written here; finding out takes a file
  std::unique_ptr<base::Index> index_;
  Publisher publisher_;
  StagingPool staging_;
  commit::Core core_;     // loop thread only
  ScrubPlan scrub_plan_;  // loop thread only
  ScrubGate scrub_gate_;
  bool exiting_ = false;  // loop thread only

  std::mutex mutex_;
  std::condition_variable changed_;
  std::deque<LoopEvent> events_;  // guarded by mutex_

  // Last, so that their threads end before what they use.
  ConnectionHub hub_;
  WorkerPool openers_;
  WorkerPool publishing_;
  WorkerPool writers_;
  WorkerPool scrubbing_;
};

}  // namespace belay::checkpoint
