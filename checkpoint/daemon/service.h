// belayd, wired together: one loop thread owns the commit core; connections, disk writes and index writes happen on
// threads of their own and come back to it as events.
//
//   clients -- ConnectionHub (threads) --.                       .-- writers (one a rank, up to 4): shards
//                                        +--> events -> Core -->-+-- publisher (1): manifests, deletions, index
//   signals, finished work --------------'     loop thread       +-- openers (1): files for restores
//                                                                '-- scrubbing (1, idle priority): reads all again,
//                                                                    measures devices
#pragma once

#include <condition_variable>
#include <cstdint>
#include <deque>
#include <functional>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <thread>
#include <variant>
#include <vector>

#include "checkpoint/commit/core.h"
#include "checkpoint/commit/handover.h"
#include "checkpoint/daemon/background_gate.h"
#include "checkpoint/daemon/connection_hub.h"
#include "checkpoint/daemon/probe_plan.h"
#include "checkpoint/daemon/publisher.h"
#include "checkpoint/daemon/scrub_files.h"
#include "checkpoint/daemon/scrub_plan.h"
#include "checkpoint/daemon/service_parts.h"
#include "checkpoint/index/folders.h"
#include "runtime/base/clock.h"
#include "runtime/base/file_system.h"
#include "runtime/base/index.h"

namespace belay::checkpoint {

class Service {
 public:
  // The parts bring their threads, or none: then all happens on the thread that calls Turn().
  Service(ServiceOptions options, base::FileSystem& files, base::Clock& clock, ServiceParts parts,
          std::unique_ptr<base::Index> index, commit::Catalogue catalogue, std::vector<commit::HandedJob> handed = {});
  ~Service();

  // Serves until the core says Exit. One call, on the thread that becomes the loop.
  void Run();
  // Drain and leave. Any thread.
  void Stop();

  // What Run() does, for a caller with a loop of its own: Start() once, then Turn() as often as wanted. Turn handles
  // one event, or the passing of NextDeadline(); false if neither has come. After exited() there is nothing to do.
  void Start();
  bool Turn();
  std::optional<base::SteadyTime> NextDeadline();
  bool exited() const { return exiting_; }

  // After Run(): what the belayd that takes this one's place is to have; no value if it was told to leave.
  struct Succession {
    commit::HandedOver handed;
    HeldMemory memory;  // of all the slots in it
  };
  std::optional<Succession> HandOver() const;

  const commit::State& state() const { return core_.state(); }

 private:
  // What happens to the loop: to the core, the end of a scrubber's read, or that of a measurement.
  using LoopEvent = std::variant<commit::Event, ScrubResult, ProbeResult>;
  void Post(LoopEvent event);
  void Take(const commit::Event& event);
  void Take(const ScrubResult& result);
  void Take(const ProbeResult& result);
  void WorkInBackground();
  void Scrub();
  void Probe();
  void StoreScrubProgress();
  void RequestCame(commit::RequestRef ref, const wire::Request& request);
  void Handle(const LoopEvent& event);
  void CarryOut(commit::Action action);
  void Perform(commit::Reply& reply);
  void Perform(commit::AllocateStaging& order);
  void Perform(commit::FreeStaging& order);
  void Perform(commit::PersistGeneration& order);
  void Perform(commit::StartWrite& order);
  void Perform(commit::WriteWavePiece& order);
  void Perform(commit::PublishManifest& order);
  void Perform(commit::DiscardFiles& order);
  void Perform(commit::DeleteCheckpoint& order);
  void Perform(commit::PersistPin& order);
  void Perform(commit::PersistQuarantine& order);
  void Perform(commit::PersistTrust& order);
  void Perform(commit::RepairFile& order);
  void Perform(commit::OpenFromMemory& order);
  void Perform(commit::OpenFromDisk& order);
  void Perform(commit::RebuildIndex& order);
  void Perform(commit::CheckSuccessor& order);
  void Perform(commit::Note& /*order*/) {}  // its reason is in the log by now
  void Perform(commit::Exit& order);
  void AnswerFailure(const commit::RequestRef& ref, const base::Error& error);
  void FillReport(wire::DaemonReport& report, const std::vector<ProbedDevice>& devices);
  void TakeUp(const commit::HandedJob& handed);
  void FillRestartReport(wire::RestartReport& report) const;
  void FillScrubReport(wire::ScrubReport& report) const;

  const ServiceOptions options_;
  const index::Folders folders_;
  base::FileSystem& files_;
  base::Clock& clock_;
  const base::SteadyTime started_;
  std::unique_ptr<base::Index> index_;
  Publisher publisher_;
  commit::Core core_;     // loop thread only
  ScrubPlan scrub_plan_;  // loop thread only
  ProbePlan probe_plan_;  // loop thread only
  BackgroundGate gate_;
  bool exiting_ = false;  // loop thread only
  bool restart_ = false;  // set with exiting_
  // What was taken up from the belayd before, set once.
  std::uint32_t taken_snapshots_ = 0;
  std::uint64_t taken_bytes_ = 0;
  std::string lost_;

  std::mutex mutex_;
  std::condition_variable changed_;
  std::deque<LoopEvent> events_;  // guarded by mutex_

  ServiceParts parts_;  // late, so that their threads end before what they use
  std::jthread trial_;  // of the program that is to take this one's place
};

}  // namespace belay::checkpoint
