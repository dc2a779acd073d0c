// What the service stands on beside files, clock and index: clients, threads, staging memory. On a machine these are
// sockets, worker threads and touched memfds; a simulation brings its own and has the same Service in one thread.
#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <utility>

#include "checkpoint/commit/core.h"
#include "checkpoint/daemon/connection_hub.h"
#include "checkpoint/daemon/probe_plan.h"
#include "checkpoint/daemon/scrub_plan.h"
#include "checkpoint/daemon/worker_pool.h"
#include "checkpoint/spread/data_folders.h"
#include "checkpoint/staging/staging_pool.h"
#include "runtime/base/transport.h"

namespace belay::checkpoint {

// What is told of the last restart of this process.
struct LastRestart {
  std::uint64_t attempts = 0;
  std::string failure;       // why the last one put nothing else in this one's place; empty: it did, or there was none
  std::string from_version;  // empty: no belayd was before this one
  std::string lost;          // what was not taken up, and why
  base::SteadyTime left{};   // when the one before let its last client go
};

struct ServiceOptions {
  std::string data_dir;
  spread::DataFolders folders;  // beside it
  std::string socket;
  std::string version;
  std::string writer;  // how files are written here, for the report
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
  ProbeOptions probe;
  LastRestart restart;
  // Is the belayd that is installed now able to take this one's place? On a thread of its own. Empty: none ever is.
  std::function<base::Status()> check_successor;
};

// What a job is called where memory is kept.
inline std::string OwnerName(const commit::JobKey& job) { return base::Str(job); }
// Staging memory on the way from one Service to the next.
using HeldMemory = std::map<StagingKey, std::shared_ptr<StagingMemory>>;

// As StagingPool.
class Staging {
 public:
  virtual ~Staging() = default;
  virtual base::Status Allocate(const StagingKey& key, std::uint64_t bytes, std::optional<std::int32_t> numa_node,
                                Touched touched) = 0;
  virtual void Free(const std::string& owner, base::Rank rank, std::size_t from_buffer) = 0;
  virtual std::shared_ptr<StagingMemory> Find(const StagingKey& key) const = 0;
};

// All are there. Destroyed from the last to the first: whoever submits goes before the one it submits to.
struct ServiceParts {
  std::unique_ptr<Staging> staging;
  std::unique_ptr<Clients> clients;
  // `waves` apart from `writers`: a trainer waits for each of them, and must not wait for others' whole states.
  std::unique_ptr<Executor> openers, publishing, writers, waves, scrubbing;
};
// `held`: the staging memory to begin with.
ServiceParts MachineParts(const ServiceOptions& options, base::Listener& listener, HeldMemory held = {});

}  // namespace belay::checkpoint
