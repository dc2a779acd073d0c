// One file for inspect.h, of each kind. Internal to checkpoint/cli.
#pragma once

#include <string>
#include <vector>

#include "checkpoint/cli/inspect.h"

namespace belay::checkpoint::cli {

// "shard", "records", "manifest" or nothing, by the name; a file that was never renamed (".tmp") is what it was to be.
std::string KindByName(const std::string& name);
// By the name, else by how the content begins; "unknown" if neither says.
base::Result<std::string> KindOf(base::FileSystem& files, const std::string& path);

struct InspectedManifest {
  FileView view;
  std::optional<Manifest> manifest;  // view.health says whether to believe it
  std::vector<ManifestFile> files;   // what it lists, as far as can be read, if it is too damaged for `manifest`
};
InspectedManifest InspectManifest(base::FileSystem& files, const std::string& path);

struct FileContext {
  const Manifest* manifest = nullptr;      // whole and good, or none
  const ManifestFile* expected = nullptr;  // what a manifest, possibly a damaged one, says of the file
  int threads = 1;
};
// A shard, a records file, or bytes that are neither.
FileView InspectFile(base::FileSystem& files, const std::string& path, const FileContext& context);

}  // namespace belay::checkpoint::cli
