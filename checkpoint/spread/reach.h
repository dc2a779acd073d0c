// A checkpoint's file in home may be a link to another data folder. Where it cannot be had: is the file lost, or is the
// folder's drive not there?
#pragma once

#include <string>
#include <vector>

#include "runtime/base/file_system.h"
#include "runtime/base/result.h"

namespace belay::checkpoint::spread {

// To be asked when `path` could not be opened or was not what it should be. kFolderMissing: it is a link to a data
// folder in use that is not there now, or not the right one; then nothing is known of the file. Well in all other
// cases, also for a folder that was dropped and is gone: the first error is the one to tell.
base::Status CheckReachable(base::FileSystem& files, const std::string& path);

// The first error, unless CheckReachable has a better one.
base::Error Explained(base::FileSystem& files, const std::string& path, base::Error error);

// Where the bytes of `path` are: what it links to, or itself. kUnsupported: a link that belay has not made.
base::Result<std::string> PlaceOfFile(base::FileSystem& files, const std::string& path);

// What the links in a folder lead to. kNotFound and so on: the folder.
base::Result<std::vector<std::string>> LinkTargets(base::FileSystem& files, const std::string& directory);

}  // namespace belay::checkpoint::spread
