#include "checkpoint/commit/admission.h"

#include "runtime/base/units.h"

namespace belay::checkpoint::commit {

using base::HumanBytes;

base::Status AdmitSave(const DiskDemand& demand) {
  // Unsigned sums cannot wrap here: each term is bounded by the memory budget or the disk.
  const std::uint64_t wanted = demand.needed_bytes + demand.promised_bytes + demand.reserve_bytes;
  if (wanted <= demand.available_bytes) return {};
  return base::Fail(base::Code::kNoSpace, "not enough disk space for a checkpoint: it needs ",
                    HumanBytes(demand.needed_bytes), " and ", HumanBytes(demand.reserve_bytes), " stay in reserve",
                    demand.promised_bytes == 0 ? "" : ", other saves take " + HumanBytes(demand.promised_bytes),
                    ", but ", HumanBytes(demand.available_bytes),
                    " are free; make room, or keep fewer checkpoints (belay ckpt remove, or a smaller keep_last)");
}

base::Status AdmitStaging(const MemoryDemand& demand) {
  if (demand.asked_bytes <= demand.budget_bytes && demand.held_bytes <= demand.budget_bytes - demand.asked_bytes) {
    return {};
  }
  return base::Fail(base::Code::kNoSpace, "not enough staging memory: this rank asks for ",
                    HumanBytes(demand.asked_bytes), ", ", HumanBytes(demand.held_bytes),
                    " are taken, and the budget is ", HumanBytes(demand.budget_bytes), " (belayd --memory-budget)");
}

}  // namespace belay::checkpoint::commit
