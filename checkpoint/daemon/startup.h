// What happens before the first client is heard: the index is opened (and rebuilt if it cannot be read), compared with
// the files, and what no checkpoint owns is removed.
#pragma once

#include <functional>
#include <memory>
#include <string>

#include "checkpoint/commit/types.h"
#include "checkpoint/index/folders.h"
#include "runtime/base/file_system.h"
#include "runtime/base/index.h"
#include "runtime/base/result.h"

namespace belay::checkpoint {

struct Recovered {
  std::unique_ptr<base::Index> index;
  commit::Catalogue catalogue;
};

// Opens or makes the index in a folder.
using OpenIndex =
    std::function<base::Result<std::unique_ptr<base::Index>>(base::FileSystem& files, const std::string& directory)>;

// kIo, kNoSpace, kReadOnly, kPermissionDenied: the data directory cannot be used.
base::Result<Recovered> Recover(base::FileSystem& files, const index::Folders& folders, std::uint32_t daemon_uid,
                                const OpenIndex& open_index);

// The second half of it, for an index that is open already and says `known`.
base::Result<commit::Catalogue> Reconcile(base::FileSystem& files, const index::Folders& folders, base::Index& index,
                                          const commit::Catalogue& known, std::uint32_t daemon_uid);

}  // namespace belay::checkpoint
