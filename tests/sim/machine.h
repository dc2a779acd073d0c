// The machine that the daemon runs on: starts it, loses it, loses power, brings it back. The daemon is the real Service
// after the real Recover; its threads are lanes of the scheduler and its staging memory is made without touching.
#pragma once

#include <functional>
#include <map>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "checkpoint/daemon/service.h"
#include "runtime/base/sim/mem_file_system.h"
#include "runtime/base/sim/memory_index.h"
#include "tests/sim/disk.h"
#include "tests/sim/faults.h"
#include "tests/sim/network.h"
#include "tests/sim/scheduler.h"

namespace belay::checkpoint::sim {

inline constexpr const char* kDataDir = "/data";
// So many more data folders as the seed wants.
std::vector<std::string> AlsoDataDirs(std::uint64_t seed);

class Machine {
 public:
  struct Parts {
    Scheduler& scheduler;
    base::SimClock& clock;
    Faults& faults;
    base::MemFileSystem& files;
    Disk& disk;
    base::MemoryIndex& index;
    Network& network;
  };
  struct Handlers {
    std::function<void()> power_lost;  // after the disk has forgotten
    std::function<void(const std::string&)> trace;
  };
  Machine(Parts parts, commit::CoreConfig core, std::vector<std::string> also, Handlers handlers);
  ~Machine();

  void Start();
  // At a seam call some time soon. `power`: the whole machine goes, with its programs and what the disk had not synced.
  void DieSoon(std::uint64_t calls, bool power);
  // SIGTERM.
  void Stop();
  void LoseIndex() { index_lost_ = true; }  // at the next start
  void DamageIndex() { index_damaged_ = true; }
  void Interleave(bool on);

  bool up() const { return service_ != nullptr && !service_->exited() && !parts_.faults.ghost(); }
  const commit::State& state() const { return service_->state(); }
  std::size_t staging_count() const { return *staging_count_; }
  // The daemon could not read everything when it started or reindexed, and said so: it may miss checkpoints.
  bool half_blind = false;

 private:
  class MemoryStaging;
  void Bury(bool power);
  void Left();
  void StartLater();
  void AfterEvent();
  void TurnSoon(base::Duration delay);

  const Parts parts_;
  const commit::CoreConfig core_;
  const std::vector<std::string> also_;
  const Handlers handlers_;
  std::unique_ptr<Service> service_;
  std::uint64_t life_ = 0;  // raised by every start and end
  bool interleave_ = false;
  bool turn_armed_ = false, turning_ = false, idle_turn_ = false;
  bool index_lost_ = false, index_damaged_ = false;
  std::shared_ptr<std::size_t> staging_count_ = std::make_shared<std::size_t>(0);
};

}  // namespace belay::checkpoint::sim
