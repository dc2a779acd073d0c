// What batch systems and people write about hosts. The first byte chooses.
//
//   e   an environment: NAME=VALUE, separated by zero bytes; one that begins with byte 1 is --host, with byte 2 the
//   content
//       of every file, with byte 3 this host's name
//   n   a compressed host list; c compressed counts; g a count of GPUs
//   l   a host list; f a hostfile; m a hostfile as MPICH writes it
#include <algorithm>
#include <unordered_set>

#include "launcher/allocation/detect.h"
#include "launcher/allocation/gpu_count.h"
#include "launcher/allocation/hostfile.h"
#include "launcher/allocation/hostlist.h"
#include "launcher/allocation/value.h"
#include "tests/fuzz/fuzz_target.h"

namespace {

using namespace belay;
using namespace belay::launcher;

bool IsPrintable(std::string_view text) {
  return std::ranges::all_of(text, [](char c) { return c >= ' ' && c <= '~'; });
}

// A complaint begins with its place, fits on a screen and cannot drive a terminal.
void CheckComplaint(const base::Error& error, std::string_view where) {
  FUZZ_CHECK(error.message.starts_with(where) && error.message.size() < 1000 && IsPrintable(error.message));
}

void CheckNodes(const std::vector<Node>& nodes) {
  FUZZ_CHECK(!nodes.empty() && nodes.size() <= kNodesMax);
  std::unordered_set<std::string> names;
  for (const Node& node : nodes) {
    FUZZ_CHECK(IsHostName(node.name) && names.insert(node.name).second);
    FUZZ_CHECK(node.slots >= 1 && node.slots <= kSlotsMax);
    FUZZ_CHECK(node.gpus.value_or(0) >= 0 && node.cores.value_or(1) >= 1);
  }
}

void CheckEnvironment(std::string_view text) {
  AllocationHost host;
  AskedHosts asked;
  std::string file;
  host.host_name = "n1";
  for (const std::string_view word : Parts(text, '\0')) {
    const std::size_t equals = word.find('=');
    if (word.starts_with('\1'))
      asked.host_lists.emplace_back(word.substr(1));
    else if (word.starts_with('\2'))
      file = word.substr(1);
    else if (word.starts_with('\3'))
      host.host_name = word.substr(1);
    else if (equals != std::string_view::npos)
      host.environment[std::string(word.substr(0, equals))] = word.substr(equals + 1);
  }
  host.read_file = [&](const std::string&) -> base::Result<std::string> { return file; };
  const auto found = DetectAllocation(asked, host);
  if (!found) {
    FUZZ_CHECK(!found.error().message.empty() && IsPrintable(found.error().message));
    return;
  }
  CheckNodes(found->nodes);
  FUZZ_CHECK(!found->this_node || *found->this_node < found->nodes.size());
  FUZZ_CHECK(asked.host_lists.empty() == (found->source != AllocationSource::kHostList));
  FUZZ_CHECK(IsPrintable(found->job_id) && IsPrintable(found->said_by));
  FUZZ_CHECK(found->restart_count.value_or(0) >= 0 && found->time_limit_seconds.value_or(0) >= 0);
  std::size_t described = 0;
  for (const auto& [name, value] : DescribeAllocation(*found)) {
    FUZZ_CHECK(IsPrintable(value));
    if (name != "nodes") continue;
    const auto names = ExpandHostlist("it", value.substr(0, value.find(' ')));
    FUZZ_CHECK(names.has_value());
    for (const std::string& node : *names) FUZZ_CHECK(node == found->nodes[described++].name);
  }
  FUZZ_CHECK(described == found->nodes.size());
}

void CheckHostlist(std::string_view text) {
  const auto names = ExpandHostlist("it", text);
  if (!names) return CheckComplaint(names.error(), "it");
  FUZZ_CHECK(!names->empty() && names->size() <= kNodesMax && std::ranges::all_of(*names, IsHostName));
  const auto again = ExpandHostlist("it", CompressHostlist(*names));
  FUZZ_CHECK(again && *again == *names);
}

void CheckCounts(std::string_view text) {
  const auto counts = ExpandCounts("it", text, 1, 1000);
  if (!counts) return CheckComplaint(counts.error(), "it");
  FUZZ_CHECK(!counts->empty() && counts->size() <= kNodesMax);
  FUZZ_CHECK(std::ranges::all_of(*counts, [](std::int32_t count) { return count >= 1 && count <= 1000; }));
}

// Entries mean the same once written out plainly.
void CheckEntries(const base::Result<std::vector<HostEntry>>& entries, const HostRules& rules) {
  if (!entries) return CheckComplaint(entries.error(), "it");
  std::string plain;
  for (const HostEntry& entry : *entries) {
    FUZZ_CHECK(IsHostName(entry.name) && entry.slots >= 1 && entry.slots <= kSlotsMax);
    plain += entry.name + " slots=" + std::to_string(entry.slots) + "\n";
  }
  const auto again = ParseHostfile(plain, rules);
  FUZZ_CHECK(again && std::ranges::equal(*again, *entries, [](const HostEntry& a, const HostEntry& b) {
               return a.name == b.name && a.slots == b.slots;
             }));
  const auto nodes = NodesOf(*entries, "it");
  if (!nodes) return CheckComplaint(nodes.error(), "it");
  CheckNodes(*nodes);
}

}  // namespace

BELAY_FUZZ_TARGET(data) {
  if (data.empty()) return;
  const std::string_view text = data.substr(1);
  const HostRules rules = {.where = "it"};
  const HostRules mpich = {.where = "it", .colon_counts = true};
  switch (data.front()) {
    case 'e':
      return CheckEnvironment(text);
    case 'n':
      return CheckHostlist(text);
    case 'c':
      return CheckCounts(text);
    case 'g':
      if (const auto count = CountGpus("it", text)) FUZZ_CHECK(*count >= 0 && *count <= kGpusMax);
      if (const auto count = CountGpuIndices("it", text)) FUZZ_CHECK(*count >= 1 && *count <= kGpusMax);
      return;
    case 'l':
      return CheckEntries(ParseHostList(text, rules), rules);
    case 'f':
      return CheckEntries(ParseHostfile(text, rules), rules);
    case 'm':
      return CheckEntries(ParseHostfile(text, mpich), mpich);
    default:
      return;
  }
}
