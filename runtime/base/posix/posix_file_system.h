// Makings of PosixFileSystem() that tests want apart.
#pragma once

#include <memory>

#include "runtime/base/file_system.h"
#include "runtime/base/posix/bulk_engine.h"

namespace belay::base {

// A file system whose bulk files go no better way than this one.
std::unique_ptr<FileSystem> MakePosixFileSystem(BulkMethod best);

}  // namespace belay::base
