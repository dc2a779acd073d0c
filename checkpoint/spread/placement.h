// Which of a node's data folders a rank's shards go to. Pure.
#pragma once

#include <cstddef>

#include "runtime/base/ids.h"

namespace belay::checkpoint::spread {

// Of `folders` that are written to; 0 is the first one, home. Rank by rank in turn: ranks hold about the same, and the
// ranks of one node follow each other.
constexpr std::size_t FolderOfRank(base::Rank rank, std::size_t folders) {
  return static_cast<std::size_t>(rank.value()) % folders;
}

}  // namespace belay::checkpoint::spread
