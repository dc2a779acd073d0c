#include <chrono>

#include "launcher/allocation/detect.h"
#include "launcher/allocation/hostlist.h"
#include "launcher/allocation/value.h"
#include "runtime/base/clock.h"
#include "runtime/base/str.h"

namespace belay::launcher {
namespace {

using base::Str;

std::string_view Title(AllocationSource source) {
  switch (source) {
    case AllocationSource::kSlurm:
      return "Slurm";
    case AllocationSource::kPbs:
      return "PBS";
    case AllocationSource::kLsf:
      return "LSF";
    case AllocationSource::kKubeflow:
      return "Kubeflow MPI operator";
    case AllocationSource::kHostList:
    case AllocationSource::kHostfile:
      return "";
    case AllocationSource::kThisMachine:
      return "this machine";
  }
  return "";
}

std::string Count(std::int64_t count, std::string_view noun) { return Str(count, " ", noun, count == 1 ? "" : "s"); }

std::string Headline(const Allocation& allocation) {
  std::string text(Title(allocation.source));
  if (!allocation.job_id.empty()) text += Str(" job ", allocation.job_id);
  text += text.empty() ? allocation.said_by : Str(" (", allocation.said_by, ")");
  text += Str(": ", Count(static_cast<std::int64_t>(allocation.nodes.size()), "node"), ", ",
              Count(TotalSlots(allocation), "slot"));
  if (allocation.restart_count) text += Str(", restart ", *allocation.restart_count);
  if (allocation.end_time) {
    text += Str(", ends ", base::Rfc3339(base::WallTime(std::chrono::seconds(*allocation.end_time))));
  } else if (allocation.time_limit_seconds) {
    text += Str(", limit ", *allocation.time_limit_seconds, " s");
  }
  if (allocation.hosts_may_be_down) text += ", hosts may still be starting";
  return text;
}

bool AreAlike(const Node& one, const Node& other) {
  return one.slots == other.slots && one.gpus == other.gpus && one.cores == other.cores;
}

}  // namespace

std::vector<std::pair<std::string, std::string>> DescribeAllocation(const Allocation& allocation) {
  std::vector<std::pair<std::string, std::string>> lines = {{"allocation", Headline(allocation)}};
  const std::vector<Node>& nodes = allocation.nodes;
  for (std::size_t at = 0; at < nodes.size();) {
    std::vector<std::string> names;
    std::size_t end = at;
    for (; end < nodes.size() && AreAlike(nodes[end], nodes[at]); ++end) names.push_back(nodes[end].name);
    std::string text = Str(CompressHostlist(names), "  ", Count(nodes[at].slots, "slot"));
    if (nodes[at].gpus) text += Str(", ", Count(*nodes[at].gpus, "GPU"));
    if (nodes[at].cores) text += Str(", ", Count(*nodes[at].cores, "core"));
    if (end - at > 1) text += " each";
    lines.emplace_back("nodes", std::move(text));
    at = end;
  }
  for (const std::string& note : allocation.notes) lines.emplace_back("note", note);
  return lines;
}

}  // namespace belay::launcher
