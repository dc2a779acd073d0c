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
  // Unsigned sums cannot wrap: what is asked for has a limit, and the rest is held or a part of it.
  if (demand.asked_bytes + demand.held_bytes + demand.spare_bytes <= demand.budget_bytes) return {};
  return base::Fail(base::Code::kNoSpace, "not enough staging memory: this rank asks for ",
                    HumanBytes(demand.asked_bytes), ", ", HumanBytes(demand.held_bytes),
                    " are taken, and the budget is ", HumanBytes(demand.budget_bytes), " (belayd --memory-budget)");
}

std::uint64_t ChooseWindow(const WindowDemand& demand) {
  const std::uint64_t free = demand.budget_bytes - std::min(demand.budget_bytes, demand.held_bytes);
  const std::uint64_t share = free / (demand.ranks_to_come + 1);
  const std::uint64_t most = std::max(kWindowBytes, demand.window_min_bytes);
  return std::min({share, most, demand.asked_bytes - std::min(demand.asked_bytes, kStagingAlignment)}) /
         kStagingAlignment * kStagingAlignment;
}

}  // namespace belay::checkpoint::commit
