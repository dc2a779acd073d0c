#include "checkpoint/index/other_folders.h"

#include <algorithm>
#include <functional>

#include "checkpoint/spread/placement.h"
#include "checkpoint/spread/reach.h"
#include "runtime/base/fault_points.h"

namespace belay::checkpoint::index {

using base::Code;
using base::Status;
using spread::OtherFolder;

namespace {

// Unlike base::Exists an error stays an error.
base::Result<bool> IsThere(base::FileSystem& files, const std::string& path) {
  const auto info = files.Stat(path);
  if (info) return true;
  if (info.error().code == Code::kNotFound) return false;
  return tl::unexpected(info.error());
}

// Not a link: somebody who may write there could lead belayd elsewhere.
base::Result<bool> IsFolder(base::FileSystem& files, const std::string& path) {
  const auto info = files.Stat(path);
  if (!info && info.error().code == Code::kNotFound) return false;
  if (!info) return tl::unexpected(info.error());
  if (!info->is_directory || info->is_link) {
    return base::Fail(Code::kInvalidArgument, path, " is no folder of belay's: a file or a link is in its place");
  }
  return true;
}

// Folders whose names may be projects or jobs; what cannot be looked at is left alone.
std::vector<std::string> NamedFoldersIn(base::FileSystem& files, const std::string& path) {
  std::vector<std::string> folders;
  for (const std::string& name : files.List(path).value_or(std::vector<std::string>())) {
    if (!ValidateName("folder", name)) continue;
    const auto info = files.Stat(path + "/" + name);
    if (info && info->is_directory && !info->is_link) folders.push_back(name);
  }
  return folders;
}

void ForEachJob(base::FileSystem& files, const OtherFolder& other,
                const std::function<void(const std::string& project, const std::string& job)>& visit) {
  for (const std::string& project : NamedFoldersIn(files, other.path)) {
    for (const std::string& job : NamedFoldersIn(files, other.path + "/" + project)) visit(project, job);
  }
}

std::size_t CountWritten(const Folders& folders) {
  return 1 + static_cast<std::size_t>(std::ranges::count(folders.others(), false, &OtherFolder::retired));
}

commit::FolderSpace SpaceAt(base::FileSystem& files, const std::string& path) {
  commit::FolderSpace out{path, 0, 0, std::nullopt};
  if (const auto space = files.Space(path)) out.available_bytes = space->available_bytes;
  return out;
}

}  // namespace

const OtherFolder* FolderFor(const Folders& folders, base::Rank rank) {
  std::size_t left = spread::FolderOfRank(rank, CountWritten(folders));
  if (left == 0) return nullptr;
  for (const OtherFolder& other : folders.others()) {
    if (!other.retired && --left == 0) return &other;
  }
  return nullptr;
}

base::Result<std::string> MakeInOther(base::FileSystem& files, const Folders& folders, const OtherFolder& other,
                                      const commit::JobKey& job, const commit::CheckpointId& id) {
  BELAY_TRY(spread::CheckHere(files, folders.home_id(), other));
  std::string path = other.path;
  for (const std::string& name : {job.project, job.job, CheckpointDirectoryName(id.step, id.generation)}) {
    const std::string parent = path;
    path += "/" + name;
    BELAY_ASSIGN(const bool made, IsFolder(files, path));
    if (!made) {
      if (Status one = files.MakeDirectory(path, 0700); !one && one.error().code != Code::kAlreadyExists) {
        return tl::unexpected(one.error());
      }
    }
    BELAY_TRY(files.SyncDirectory(parent));  // also of one that was there: who made it may not have come so far
  }
  return path;
}

Status CheckDeletable(base::FileSystem& files, const Folders& folders, const std::string& directory) {
  for (const OtherFolder& other : folders.others()) {
    const Status here = spread::CheckHere(files, folders.home_id(), other);
    if (here) continue;
    const auto targets = spread::LinkTargets(files, directory);
    if (!targets && targets.error().code == Code::kNotFound) return {};
    if (!targets) return tl::unexpected(targets.error());
    const bool has_files_there =
        std::ranges::any_of(*targets, [&](const std::string& target) { return target.starts_with(other.path + "/"); });
    if (has_files_there) return base::Wrap(here.error(), directory, " stays, for it has files there");
  }
  return {};
}

Status RemoveLeftover(base::FileSystem& files, const Folders& folders, const std::string& directory) {
  // Its manifest's end may not be durable yet. Were files to go first, a power loss could leave a manifest without
  // them.
  const auto info = files.Stat(directory);
  if (info && info->is_directory) BELAY_TRY(files.SyncDirectory(directory));
  const bool is_in_home = directory.starts_with(folders.data_dir() + "/");
  if (is_in_home) BELAY_TRY(CheckDeletable(files, folders, directory));
  for (const OtherFolder& other : folders.others()) {
    if (!is_in_home || !spread::CheckHere(files, folders.home_id(), other)) continue;  // a start finds the rest
    const std::string place = other.path + directory.substr(folders.data_dir().size());
    const std::string job = base::ParentPath(place);
    bool has_files = true;
    for (const std::string& folder : {base::ParentPath(job), job, place}) {
      if (!has_files) break;
      BELAY_ASSIGN(has_files, IsFolder(files, folder));
    }
    if (!has_files) continue;
    BELAY_TRY(base::RemoveTree(files, place));
    BELAY_TRY(files.SyncDirectory(base::ParentPath(place)));
    BELAY_TRY(base::FaultPoint("spread.after_removal"));
  }
  BELAY_TRY(base::RemoveTree(files, directory));
  const std::string parent = base::ParentPath(directory);
  return base::Exists(files, parent) ? files.SyncDirectory(parent) : base::Status();
}

std::vector<std::string> FindStrays(base::FileSystem& files, const Folders& folders) {
  std::vector<std::string> strays;
  for (const OtherFolder& other : folders.others()) {
    if (!spread::CheckHere(files, folders.home_id(), other)) continue;
    ForEachJob(files, other, [&](const std::string& project, const std::string& job) {
      const std::string below = "/" + project + "/" + job + "/";
      for (const std::string& name : files.List(other.path + below).value_or(std::vector<std::string>())) {
        if (!ParseCheckpointDirectoryName(name)) continue;
        // Not what cannot be looked at.
        const auto in_home = IsThere(files, folders.data_dir() + below + name);
        if (in_home && !*in_home) strays.push_back(other.path + below + name);
      }
    });
  }
  return strays;
}

Status SyncOtherFolders(base::FileSystem& files, const Folders& folders) {
  for (const OtherFolder& other : folders.others()) {
    std::vector<std::string> changed = {other.path};
    for (const std::string& project : NamedFoldersIn(files, other.path)) changed.push_back(other.path + "/" + project);
    ForEachJob(files, other, [&](const std::string& project, const std::string& job) {
      changed.push_back(other.path + "/" + project + "/" + job);
    });
    for (const std::string& folder : changed) BELAY_TRY(files.SyncDirectory(folder));
  }
  return {};
}

std::vector<commit::FolderSpace> SpaceOf(base::FileSystem& files, const Folders& folders) {
  std::vector<commit::FolderSpace> all = {SpaceAt(files, folders.data_dir())};
  for (const OtherFolder& other : folders.others()) {
    if (other.retired) continue;
    all.push_back(SpaceAt(files, other.path));
    if (const Status here = spread::CheckHere(files, folders.home_id(), other); !here)
      all.back().missing = here.error();
  }
  if (all.size() == 1) return all;
  for (commit::FolderSpace& one : all) {  // several may be on one disk, whose space counts once
    if (const auto info = files.Stat(one.path)) one.device = info->device;
  }
  return all;
}

}  // namespace belay::checkpoint::index
