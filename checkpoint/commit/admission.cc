#include "checkpoint/commit/admission.h"

#include <algorithm>

#include "checkpoint/commit/types.h"
#include "runtime/base/units.h"

namespace belay::checkpoint::commit {

using base::HumanBytes;

base::Status AdmitSave(const DiskDemand& demand) {
  // Unsigned sums cannot wrap here: each term is bounded by the memory budget or the disk.
  const std::uint64_t wanted = demand.needed_bytes + demand.promised_bytes + demand.reserve_bytes;
  if (wanted <= demand.available_bytes) return {};
  return base::Fail(base::Code::kNoSpace, "not enough disk space ",
                    demand.where.empty() ? "" : "in " + demand.where + " ", "for a checkpoint: it needs ",
                    HumanBytes(demand.needed_bytes), " and ", HumanBytes(demand.reserve_bytes), " stay in reserve",
                    demand.promised_bytes == 0 ? "" : ", other saves take " + HumanBytes(demand.promised_bytes),
                    ", but ", HumanBytes(demand.available_bytes),
                    " are free; make room, or keep fewer checkpoints (belay ckpt remove, or a smaller keep_last)");
}

base::Status AdmitStaging(const MemoryDemand& demand) {
  // No sum wraps: one rank asks for 2^46 bytes at most, what is held was admitted, and what is spared has a limit too.
  if (demand.asked_bytes + demand.held_bytes + demand.spare_bytes <= demand.budget_bytes) return {};
  const std::uint64_t needed = demand.held_bytes + demand.asked_bytes * (1 + demand.absent_ranks);
  return base::Fail(base::Code::kNoSpace, "not enough staging memory: this rank asks for ",
                    HumanBytes(demand.asked_bytes), ", ", HumanBytes(demand.held_bytes),
                    " are taken, and the budget is ", HumanBytes(demand.budget_bytes),
                    " (belayd --memory-budget); it takes --memory-budget ", needed,
                    demand.absent_ranks == 0 ? base::Str(" for ", demand.world_size == 1 ? "it" : "all ranks")
                                             : base::Str(" if all ", demand.world_size, " ranks ask for as much"));
}

std::uint64_t ChooseWindow(const WindowDemand& demand) {
  const std::uint64_t free = demand.budget_bytes - std::min(demand.budget_bytes, demand.held_bytes);
  const std::uint64_t share = free / (demand.ranks_to_come + 1);
  const std::uint64_t most = std::max(kWindowBytes, demand.window_min_bytes);
  return std::min({share, most, demand.asked_bytes - std::min(demand.asked_bytes, kStagingAlignment)}) /
         kStagingAlignment * kStagingAlignment;
}

}  // namespace belay::checkpoint::commit
