// What belayd does in its other data folders (checkpoint/spread), always by way of home:
//
//   <other>/<project>/<job>/step-000001200.gen-3/   shards only; of a checkpoint if home has a folder of that name
//
// Home's folder is made before and removed after it.
#pragma once

#include <string>
#include <vector>

#include "checkpoint/commit/admission.h"
#include "checkpoint/commit/types.h"
#include "checkpoint/index/folders.h"
#include "runtime/base/file_system.h"
#include "runtime/base/result.h"

namespace belay::checkpoint::index {

// Where this rank's shards go; null: home.
const spread::OtherFolder* FolderFor(const Folders& folders, base::Rank rank);

// The checkpoint's folder in `other`, made durably if it is missing. kFolderMissing: `other` is not here. Nothing is
// made then, least of all on the disk below its mount point.
base::Result<std::string> MakeInOther(base::FileSystem& files, const Folders& folders, const spread::OtherFolder& other,
                                      const commit::JobKey& job, const commit::CheckpointId& id);

// kFolderMissing: files of the checkpoint in home's `directory` lie in a data folder that is not here. It must stay
// until they can be deleted with it.
base::Status CheckDeletable(base::FileSystem& files, const Folders& folders, const std::string& directory);

// Deletes, durably, what is left of a checkpoint that is none (any more), in all data folders, or a file that never got
// its name.
base::Status RemoveLeftover(base::FileSystem& files, const Folders& folders, const std::string& directory);

// Folders of checkpoints that home has no folder of (any more).
std::vector<std::string> FindStrays(base::FileSystem& files, const Folders& folders);

// Makes durable the folders that a daemon which died may have made and not synced.
base::Status SyncOtherFolders(base::FileSystem& files, const Folders& folders);

// Room in the folders that are written to, home first.
std::vector<commit::FolderSpace> SpaceOf(base::FileSystem& files, const Folders& folders);

}  // namespace belay::checkpoint::index
