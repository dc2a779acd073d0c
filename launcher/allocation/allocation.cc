#include "launcher/allocation/allocation.h"

#include <algorithm>

#include "launcher/allocation/value.h"

namespace belay::launcher {
namespace {

using base::Code;
using base::Fail;

bool IsAlphanumeric(char c) { return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9'); }

bool IsIpv6Address(std::string_view name) {
  return name.size() <= 39 && std::ranges::count(name, ':') >= 2 && std::ranges::all_of(name, [](char c) {
           return (c >= '0' && c <= '9') || (c >= 'a' && c <= 'f') || (c >= 'A' && c <= 'F') || c == ':' || c == '.';
         });
}

std::string_view FirstLabel(std::string_view name) { return name.substr(0, name.find('.')); }

}  // namespace

std::string_view Name(AllocationSource source) {
  switch (source) {
    case AllocationSource::kHostList:
      return "host_list";
    case AllocationSource::kHostfile:
      return "hostfile";
    case AllocationSource::kSlurm:
      return "slurm";
    case AllocationSource::kPbs:
      return "pbs";
    case AllocationSource::kLsf:
      return "lsf";
    case AllocationSource::kKubeflow:
      return "kubeflow";
    case AllocationSource::kThisMachine:
      return "this_machine";
  }
  return "unknown";
}

std::int64_t TotalSlots(const Allocation& allocation) {
  std::int64_t slots = 0;
  for (const Node& node : allocation.nodes) slots += node.slots;
  return slots;
}

bool IsHostName(std::string_view name) {
  if (name.empty() || name.size() > kHostNameSizeMax) return false;
  if (IsIpv6Address(name)) return true;
  return IsAlphanumeric(name[0]) &&
         std::ranges::all_of(name, [](char c) { return IsAlphanumeric(c) || c == '.' || c == '-' || c == '_'; });
}

bool IsThisHost(std::string_view name, const std::string& host_name) {
  return name == "localhost" || name == "127.0.0.1" || name == "::1" || name == host_name ||
         name == FirstLabel(host_name);
}

std::optional<std::size_t> FindThisHost(const std::vector<Node>& nodes, const std::string& host_name) {
  std::optional<std::size_t> alike;
  std::size_t alike_count = 0;
  for (std::size_t i = 0; i < nodes.size(); ++i) {
    if (IsThisHost(nodes[i].name, host_name)) return i;
    if (FirstLabel(nodes[i].name) == FirstLabel(host_name)) {
      alike = i;
      ++alike_count;
    }
  }
  return alike_count == 1 ? alike : std::nullopt;
}

base::Status NodeCollector::Add(std::string_view where, std::string_view name, std::int32_t slots) {
  if (!IsHostName(name)) return NoHostName(where, name);
  const auto [entry, is_new] = index_by_name_.try_emplace(std::string(name), nodes_.size());
  if (is_new) {
    if (nodes_.size() == kNodesMax) {
      return Fail(Code::kInvalidArgument, where, ": more than ", kNodesMax, " hosts, which is as many as belay takes");
    }
    nodes_.push_back({std::string(name), slots, std::nullopt, std::nullopt});
    return {};
  }
  Node& node = nodes_[entry->second];
  if (slots > kSlotsMax - node.slots) {
    return Fail(Code::kInvalidArgument, where, ": ", name, " adds up to more than ", kSlotsMax, " slots");
  }
  node.slots += slots;
  return {};
}

base::Result<std::vector<Node>> NodeCollector::Take(std::string_view where) && {
  if (nodes_.empty()) return Fail(Code::kInvalidArgument, where, " names no host");
  return std::move(nodes_);
}

}  // namespace belay::launcher
