// A shard for inspect.h. Internal to checkpoint/cli.
#pragma once

#include <string>

#include "checkpoint/cli/inspect_files.h"

namespace belay::checkpoint::cli {

// Fills `view`, whose name, sizes and kind are set; the file is not empty.
void InspectShard(base::FileSystem& files, const std::string& path, const FileContext& context, FileView& view);

}  // namespace belay::checkpoint::cli
