#include "runtime/base/numa.h"

#include <charconv>

namespace belay::base {

namespace {

constexpr std::size_t kSmallFileBytesMax = 64 << 10;
constexpr int kNumberMax = 1 << 16;  // more cores than any kernel is built for

std::string_view Trimmed(std::string_view text) {
  while (!text.empty() && (text.back() == '\n' || text.back() == ' ')) text.remove_suffix(1);
  return text;
}

std::optional<int> Number(std::string_view text) {
  int number = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), number);
  if (error != std::errc() || end != text.data() + text.size()) return std::nullopt;
  return number;
}

}  // namespace

std::optional<std::vector<int>> ParseNumberList(std::string_view text) {
  std::vector<int> numbers;
  text = Trimmed(text);
  while (!text.empty()) {
    const std::size_t comma = text.find(',');
    const std::string_view range = text.substr(0, comma);
    const std::size_t dash = range.find('-');
    const auto first = Number(range.substr(0, dash));
    const auto last = dash == std::string_view::npos ? first : Number(range.substr(dash + 1));
    if (!first || !last || *first < 0 || *last < *first || *last > kNumberMax) return std::nullopt;
    for (int number = *first; number <= *last; ++number) numbers.push_back(number);
    if (comma == std::string_view::npos) break;
    text.remove_prefix(comma + 1);
    if (text.empty()) return std::nullopt;
  }
  return numbers;
}

std::vector<NumaNode> ReadNumaNodes(FileSystem& files, const std::string& sys) {
  const std::string folder = sys + "/devices/system/node";
  const auto online = ReadWholeFile(files, folder + "/online", kSmallFileBytesMax);
  const auto ids = online ? ParseNumberList(*online) : std::nullopt;
  if (!ids) return {};
  std::vector<NumaNode> nodes;
  for (const int id : *ids) {
    const auto list = ReadWholeFile(files, Str(folder, "/node", id, "/cpulist"), kSmallFileBytesMax);
    nodes.push_back({id, list ? ParseNumberList(*list).value_or(std::vector<int>()) : std::vector<int>()});
  }
  return nodes;
}

std::optional<std::int32_t> PciDeviceNode(FileSystem& files, const std::string& bus_id, const std::string& sys) {
  const auto text = ReadWholeFile(files, sys + "/bus/pci/devices/" + bus_id + "/numa_node", kSmallFileBytesMax);
  const auto node = text ? Number(Trimmed(*text)) : std::nullopt;
  return node && *node >= 0 ? node : std::nullopt;  // -1: not known
}

}  // namespace belay::base
