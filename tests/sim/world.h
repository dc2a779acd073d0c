// Everything of one seed's world, and what its programs have in common.
#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "tests/sim/disk.h"
#include "tests/sim/faults.h"
#include "tests/sim/inspector.h"
#include "tests/sim/machine.h"
#include "tests/sim/model.h"
#include "tests/sim/network.h"
#include "tests/sim/scheduler.h"
#include "tests/sim/task.h"

namespace belay::checkpoint::sim {

struct Plants {  // what a scenario does wrong on purpose
  Lie lie = Lie::kNone;
  bool stale_bytes = false;  // a rank now and then seals a tensor of the step before
};

class World {
 public:
  World(std::uint64_t seed, Plants plants, Coverage& coverage, bool tracing);
  ~World();

  // The first is what the seed is judged by.
  void Violated(const std::string& what);
  const std::string& violation() const { return violation_; }
  void Trace(const std::string& what);
  void Count(Kind kind) { coverage.Count(kind); }

  const std::uint64_t seed;
  const Plants plants;
  const std::vector<std::string> also;  // data folders beside kDataDir
  Coverage& coverage;
  base::SimClock clock;
  Scheduler scheduler;
  Faults faults;
  base::MemFileSystem files;
  base::MemoryIndex index;
  Disk disk;
  Model model;
  Inspector inspector;
  Network network;
  std::unique_ptr<Machine> machine;
  std::uint64_t drive_turns = 0;  // how often a data folder went or came back
  bool calm = false;              // no fault is made any more

 private:
  friend class Program;
  std::map<std::int32_t, class Program*> programs_;  // by pid: an order that is the same in every process
  std::int32_t next_pid_ = 100;
  const bool tracing_;
  std::string violation_;
};

// A process: a coroutine with a pid. Dies when it is told to, when the power goes, or at its end.
class Program {
 public:
  explicit Program(World& world) : world_(world), pid_(world.next_pid_++) { world.programs_[pid_] = this; }
  virtual ~Program() {
    *there_ = false;
    world_.programs_.erase(pid_);
  }
  Program(const Program&) = delete;
  Program& operator=(const Program&) = delete;

  void Run() {
    life_ = Life();
    world_.scheduler.After({}, [this, there = there_] {
      if (*there && !killed_) life_.Start();
    });
  }
  // As soon as it is not on the stack. Nothing it waited for wakes it.
  void Kill();
  bool ended() const { return life_.done(); }
  std::int32_t pid() const { return pid_; }
  static void KillAll(World& world);

 protected:
  virtual Task<> Life() = 0;
  virtual void Died() {}  // lets go of connections and memory
  // A connection, as soon as a daemon listens.
  Task<std::shared_ptr<Line>> Connect();

  World& world_;

 private:
  const std::int32_t pid_;
  Task<> life_;
  bool killed_ = false;
  const std::shared_ptr<bool> there_ = std::make_shared<bool>(true);
};

// Opens a checkpoint through the daemon and compares it with what it must be, while the world goes on. To be called
// from an event that runs in no other (Scheduler::depth() == 1).
struct Restored {
  bool whole = false;
  std::string why_not;
};
Restored Restore(World& world, const std::shared_ptr<Line>& line, const commit::JobKey& job,
                 const commit::CheckpointId& id, bool from_memory);

void SetKey(const commit::JobKey& job, wire::JobKey& key);

}  // namespace belay::checkpoint::sim
