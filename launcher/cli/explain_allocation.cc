#include "launcher/cli/explain_allocation.h"

#include <chrono>
#include <nlohmann/json.hpp>
#include <optional>

#include "launcher/allocation/detect.h"
#include "runtime/base/clock.h"
#include "runtime/base/str.h"

namespace belay::launcher {
namespace {

using base::Str;
using nlohmann::json;

template <typename T>
json OrNull(const std::optional<T>& value) {
  return value ? json(*value) : json(nullptr);
}

}  // namespace

std::vector<std::pair<std::string, std::string>> AllocationLines(const base::Result<Allocation>& allocation,
                                                                 const std::string& host_name) {
  const std::string only_here = Str("belay run starts its ranks on this host only, ", host_name);
  if (!allocation) {
    return {{"allocation", Str("cannot be made out: ", allocation.error().Text())},
            {"for now", only_here + ", and does not need to know"}};
  }
  auto lines = DescribeAllocation(*allocation);
  if (!allocation->this_node) {
    lines.emplace_back("for now", only_here + ", which is none of these");
  } else if (allocation->nodes.size() > 1) {
    const Node& node = allocation->nodes[*allocation->this_node];
    lines.emplace_back("for now",
                       Str(only_here, ", which has ", node.slots, " of the ", TotalSlots(*allocation), " slots"));
  }
  return lines;
}

void AddAllocation(const base::Result<Allocation>& allocation, json& document) {
  document["allocation"] = nullptr;
  document["allocation_error"] = allocation ? json(nullptr) : json(allocation.error().Text());
  if (!allocation) return;
  json nodes = json::array();
  for (const Node& node : allocation->nodes) {
    nodes.push_back(
        {{"name", node.name}, {"slots", node.slots}, {"gpus", OrNull(node.gpus)}, {"cores", OrNull(node.cores)}});
  }
  json end_time = nullptr;
  if (allocation->end_time) end_time = base::Rfc3339(base::WallTime(std::chrono::seconds(*allocation->end_time)));
  document["allocation"] = {
      {"source", std::string(Name(allocation->source))},
      {"said_by", allocation->said_by},
      {"job_id", allocation->job_id.empty() ? json(nullptr) : json(allocation->job_id)},
      {"slots", TotalSlots(*allocation)},
      {"this_node", allocation->this_node ? json(allocation->nodes[*allocation->this_node].name) : json(nullptr)},
      {"restart_count", OrNull(allocation->restart_count)},
      {"time_limit_seconds", OrNull(allocation->time_limit_seconds)},
      {"end_time", end_time},
      {"hosts_may_be_down", allocation->hosts_may_be_down},
      {"notes", allocation->notes},
      {"nodes", nodes}};
}

}  // namespace belay::launcher
