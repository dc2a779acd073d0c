#include "launcher/allocation/gpu_count.h"

#include <algorithm>
#include <string>

#include "launcher/allocation/allocation.h"
#include "launcher/allocation/value.h"
#include "runtime/base/str.h"

namespace belay::launcher {

using base::Str;

base::Result<std::int32_t> CountGpus(std::string_view where, std::string_view text) {
  // Which sockets or devices, "(S:0-1)" and "(IDX:0,2)", may hold commas.
  std::string plain;
  std::int32_t depth = 0;
  for (const char c : text) {
    if (c == '(') ++depth;
    if (depth == 0) plain += c;
    if (c == ')') depth = std::max(0, depth - 1);
  }
  std::int64_t total = 0;
  for (std::string_view part : Parts(plain, ',')) {
    for (const std::string_view prefix : {"gres:", "gres/"}) {
      if (part.starts_with(prefix)) part.remove_prefix(prefix.size());
    }
    const std::string_view last = part.substr(part.rfind(':') + 1);  // without a colon the whole
    const bool is_type = IsHostName(last) && (last[0] < '0' || last[0] > '9');
    if (is_type) {
      total = std::min<std::int64_t>(kGpusMax, total + 1);
      continue;
    }
    BELAY_ASSIGN(const std::int64_t count,
                 WholeNumber(Str(where, ", a count of GPUs like 8, b200:8 or gpu:b200:8,"), last, 0, kGpusMax));
    total = std::min<std::int64_t>(kGpusMax, total + count);
  }
  return static_cast<std::int32_t>(total);
}

base::Result<std::int32_t> CountGpuIndices(std::string_view where, std::string_view text) {
  std::int64_t count = 0;
  for (const std::string_view part : Parts(text, ',')) {
    const std::size_t dash = part.find('-');
    BELAY_ASSIGN(const std::int64_t first, WholeNumber(where, part.substr(0, dash), 0, kGpusMax));
    std::int64_t last = first;
    if (dash != std::string_view::npos) {
      BELAY_ASSIGN(last, WholeNumber(where, part.substr(dash + 1), first, kGpusMax));
    }
    count = std::min<std::int64_t>(kGpusMax, count + last - first + 1);
  }
  return static_cast<std::int32_t>(count);
}

}  // namespace belay::launcher
