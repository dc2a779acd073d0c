// What one daemon hands to the next when it restarts: what lies in memory only, as plain data. Everything else the next
// one finds in the files. The daemon adds the descriptors of the memory (checkpoint/daemon/handover.h).
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "checkpoint/commit/state.h"
#include "checkpoint/commit/types.h"
#include "runtime/base/clock.h"

namespace belay::checkpoint::commit {

// A restart waits so long for saves to end, then it is given up: the daemon goes on as it was.
inline constexpr base::Duration kDrainPatience = std::chrono::seconds(60);
// So long clients are expected back: a launcher connects again at once, a rank at its next save.
inline constexpr base::Duration kReunionPatience = std::chrono::seconds(15);

struct HandedSlot {  // one rank's staging memory
  base::Rank rank;
  StagingSlot slot;
};
struct HandedJob {
  JobKey key;
  base::Generation generation;
  std::int32_t world_size = 0;
  std::optional<Launcher> launcher;  // of which connection means nothing here
  std::optional<MemoryPoint> memory;
  std::vector<HandedSlot> slots;
};
struct HandedOver {
  std::vector<HandedJob> jobs;
  bool clients_awaited = false;  // somebody besides the one that asked for the restart is connected
};

}  // namespace belay::checkpoint::commit
