// base::Index on RocksDB: metadata only, never payload.
//
// A plain DB with one writer; each batch is synced. After a full disk the database is closed, a reserve file beside it
// is given back, and it is opened again, so that the next batch finds room (RocksDB 7.8 does not resume by itself: its
// issue 11643). Thread-safe as base::Index says.
#pragma once

#include <memory>
#include <string>

#include "runtime/base/file_system.h"
#include "runtime/base/index.h"

namespace belay::checkpoint {

// Opens or makes the index in `directory` (made if missing). kCorrupt if RocksDB cannot read what is there.
base::Result<std::unique_ptr<base::Index>> OpenRocksIndex(base::FileSystem& files, const std::string& directory);

}  // namespace belay::checkpoint
