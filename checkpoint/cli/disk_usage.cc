#include "checkpoint/cli/disk_usage.h"

#include <algorithm>
#include <map>
#include <tuple>
#include <utility>

#include "checkpoint/format/marks.h"
#include "checkpoint/spread/data_folders.h"

namespace belay::checkpoint::cli {
namespace {

using base::Code;
using base::Result;

class Measure {
 public:
  Measure(base::FileSystem& files, std::string data_dir) : files_(files), data_dir_(std::move(data_dir)) {}

  Result<DiskUsage> Run(const std::string& only_project, const std::string& only_job) {
    BELAY_ASSIGN(const auto projects, files_.List(data_dir_));
    for (const std::string& project : projects) {
      if (!ValidateName("project", project) || (!only_project.empty() && project != only_project)) continue;
      for (const std::string& job : Folders(data_dir_ + "/" + project)) {
        if (!ValidateName("job", job) || (!only_job.empty() && job != only_job)) continue;
        MeasureJob(project, job);
      }
    }
    const std::string own = data_dir_ + "/.belayd";
    found_.index_bytes = Tree(own + "/index") + Size(own + "/index.reserve");
    found_.own_bytes = Tree(own) - std::min(Tree(own), found_.index_bytes);
    found_.runs_bytes = Tree(data_dir_ + "/.runs");
    BELAY_ASSIGN(found_.space, files_.Space(data_dir_));
    MeasureOthers();
    std::sort(found_.jobs.begin(), found_.jobs.end(), [](const JobUsage& a, const JobUsage& b) {
      return std::tie(b.bytes, a.project, a.job) < std::tie(a.bytes, b.project, b.job);
    });
    return std::move(found_);
  }

 private:
  void MeasureOthers() {
    const auto folders = spread::ReadDataFolders(files_, data_dir_);
    if (!folders) return found_.problems.push_back(folders.error());
    for (const spread::OtherFolder& other : folders->others) {
      const base::Status here = spread::CheckHere(files_, folders->id, other);
      const auto space = here ? files_.Space(other.path) : base::Result<base::SpaceInfo>(tl::unexpected(here.error()));
      if (space)
        found_.also.push_back({other.path, *space});
      else
        found_.problems.push_back(space.error());
    }
  }

  // Names in a folder; one that cannot be listed is remembered, one that is not there is empty.
  std::vector<std::string> Names(const std::string& path) {
    auto names = files_.List(path);
    if (names) return std::move(*names);
    if (names.error().code != Code::kNotFound) found_.problems.push_back(std::move(names).error());
    return {};
  }
  std::vector<std::string> Folders(const std::string& path) {
    const auto info = files_.Stat(path);
    if (!info || !info->is_directory) return {};
    std::vector<std::string> folders = Names(path);
    std::erase_if(folders, [&](const std::string& name) {
      const auto inner = files_.Stat(path + "/" + name);
      return !inner || !inner->is_directory;
    });
    return folders;
  }
  std::uint64_t Size(const std::string& path) {
    const auto info = files_.Stat(path);
    return info && !info->is_directory ? info->size_bytes : 0;
  }
  std::uint64_t Tree(const std::string& path) {
    const auto info = files_.Stat(path);
    if (!info) return 0;
    if (!info->is_directory) return info->size_bytes;
    std::uint64_t bytes = 0;
    for (const std::string& name : Names(path)) bytes += Tree(path + "/" + name);
    return bytes;
  }

  void MeasureJob(const std::string& project, const std::string& job) {
    const std::string folder = data_dir_ + "/" + project + "/" + job;
    struct Inode {
      std::uint64_t bytes = 0;
      std::size_t checkpoints = 0;  // that link to it
      std::size_t last = 0;         // the one seen last
    };
    std::map<std::pair<std::uint64_t, std::uint64_t>, Inode> inodes;  // by file system and number
    JobUsage usage{project, job, 0, {}};
    bool is_ours = false;
    for (const std::string& name : Folders(folder)) {
      const auto id = ParseCheckpointDirectoryName(name);
      if (!id) continue;
      is_ours = true;
      const std::size_t index = usage.checkpoints.size();
      CheckpointUsage& one = usage.checkpoints.emplace_back();
      one.step = id->step;
      one.generation = id->generation;
      one.directory = folder + "/" + name;
      for (const std::string& file : Names(one.directory)) {
        const auto info = files_.Stat(one.directory + "/" + file);
        if (!info || info->is_directory) continue;
        Mark(one, file);
        one.bytes += info->size_bytes;
        Inode& inode = inodes[{info->device, info->inode}];
        if (inode.checkpoints == 0 || inode.last != index) ++inode.checkpoints;
        if (inode.checkpoints == 1 && inode.bytes == 0) usage.bytes += info->size_bytes;
        inode.bytes = info->size_bytes;
        inode.last = index;
      }
    }
    // A job of which only the generation is left has a folder and nothing else.
    is_ours = is_ours || base::Exists(files_, folder + "/.generation");
    if (!is_ours) return;
    for (CheckpointUsage& one : usage.checkpoints) {
      for (const std::string& file : Names(one.directory)) {
        const auto info = files_.Stat(one.directory + "/" + file);
        if (!info || info->is_directory) continue;
        if (inodes[{info->device, info->inode}].checkpoints == 1) one.unique_bytes += info->size_bytes;
      }
    }
    std::sort(usage.checkpoints.begin(), usage.checkpoints.end(),
              [](const CheckpointUsage& a, const CheckpointUsage& b) {
                return std::tie(b.unique_bytes, b.generation, b.step) < std::tie(a.unique_bytes, a.generation, a.step);
              });
    found_.jobs.push_back(std::move(usage));
  }

  void Mark(CheckpointUsage& one, const std::string& file) {
    if (file == kManifestName) one.committed = true;
    if (file == kPinnedName) one.pinned = true;
    if (file == kQuarantinedName) {
      one.quarantine = QuarantineFrom(base::ReadWholeFile(files_, one.directory + "/" + file, kMarkBytesMax)).reason;
    }
  }

  base::FileSystem& files_;
  const std::string data_dir_;
  DiskUsage found_;
};

}  // namespace

Result<DiskUsage> MeasureDiskUsage(base::FileSystem& files, const std::string& data_dir, const std::string& project,
                                   const std::string& job) {
  return Measure(files, data_dir).Run(project, job);
}

}  // namespace belay::checkpoint::cli
