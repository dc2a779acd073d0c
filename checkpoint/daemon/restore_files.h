// Descriptors for a restore: of files on disk, or of a snapshot that still lies in staging memory. Read-only both.
#pragma once

#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "checkpoint/commit/actions.h"
#include "checkpoint/protocol/belayd.pb.h"
#include "checkpoint/staging/staging_pool.h"
#include "runtime/base/file_system.h"
#include "runtime/base/result.h"
#include "runtime/base/unique_fd.h"

namespace belay::checkpoint {

struct OpenedFiles {
  wire::Response response;  // an OpenedCheckpoint
  std::vector<base::UniqueFd> descriptors;
};

// Blocks on the disk. kNotFound names the file that the manifest does not list or that is not there.
base::Result<OpenedFiles> OpenDiskFiles(base::FileSystem& files, const std::string& directory,
                                        const std::vector<std::string>& names);

// Shards are windows of the ranks' staging memory; records get a small memory of their own.
base::Result<OpenedFiles> OpenMemoryFiles(
    const commit::OpenFromMemory& order,
    const std::function<std::shared_ptr<StagingMemory>(const commit::MemoryFile&)>& find_memory);

}  // namespace belay::checkpoint
