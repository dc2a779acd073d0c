#include "checkpoint/spread/reach.h"

#include <algorithm>
#include <optional>
#include <utility>

#include "checkpoint/format/manifest.h"
#include "checkpoint/spread/data_folders.h"

namespace belay::checkpoint::spread {

using base::Code;
using base::Fail;
using base::Status;

namespace {

std::string NameOf(const std::string& path) { return path.substr(path.rfind('/') + 1); }

// "/nvme1/belay" of "/nvme1/belay/default/gpt/step-000000100.gen-1/rank-00001.model.safetensors".
std::optional<std::string> RootOf(const std::string& file) {
  const std::string step = base::ParentPath(file);
  if (!file.starts_with('/') || !ParseCheckpointDirectoryName(NameOf(step))) return std::nullopt;
  const std::string root = base::ParentPath(base::ParentPath(base::ParentPath(step)));
  return root.size() > 1 ? std::optional(root) : std::nullopt;
}

}  // namespace

Status CheckReachable(base::FileSystem& files, const std::string& path) {
  const auto target = files.ReadLink(path);
  if (!target || !*target) return {};
  const auto root = RootOf(**target);
  if (!root) return {};
  const auto home = RootOf(path);
  const auto folders = home ? ReadDataFolders(files, *home) : base::Result<DataFolders>(DataFolders());
  if (!folders) return base::Wrap(folders.error(), "the data folders of ", *home);
  if (!folders->id.empty()) {
    const auto folder = std::ranges::find(folders->others, *root, &OtherFolder::path);
    if (folder == folders->others.end()) return {};  // given up, with what it held
    if (auto here = CheckHere(files, folders->id, *folder); !here)
      return base::Wrap(here.error(), "cannot have ", path);
    return {};
  }
  // A copy of the checkpoint's folder somewhere else has no home to ask.
  const auto membership = ReadMembership(files, *root);
  if (membership || membership.error().code != Code::kNotFound) return {};
  return Fail(Code::kFolderMissing, path, " lies in the data folder ", *root,
              ", which is not there: is its drive mounted?");
}

base::Error Explained(base::FileSystem& files, const std::string& path, base::Error error) {
  if (auto reachable = CheckReachable(files, path); !reachable) return std::move(reachable).error();
  return error;
}

base::Result<std::string> PlaceOfFile(base::FileSystem& files, const std::string& path) {
  const auto target = files.ReadLink(path);
  if (!target && target.error().code != Code::kNotFound) return tl::unexpected(target.error());
  if (!target || !*target) return path;
  BELAY_TRY(CheckReachable(files, path));
  if (NameOf(**target) == NameOf(path) && NameOf(base::ParentPath(**target)) == NameOf(base::ParentPath(path)) &&
      RootOf(**target) && ReadMembership(files, *RootOf(**target))) {
    return **target;
  }
  return Fail(Code::kUnsupported, path, " is a link to ", **target, ", which is no place of belay's");
}

base::Result<std::vector<std::string>> LinkTargets(base::FileSystem& files, const std::string& directory) {
  BELAY_ASSIGN(const auto names, files.List(directory));
  std::vector<std::string> targets;
  for (const std::string& name : names) {
    BELAY_ASSIGN(auto target, files.ReadLink(directory + "/" + name));
    if (target) targets.push_back(*std::move(target));
  }
  return targets;
}

}  // namespace belay::checkpoint::spread
