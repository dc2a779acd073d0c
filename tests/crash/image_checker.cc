#include <algorithm>
#include <utility>

#include "checkpoint/daemon/startup.h"
#include "checkpoint/format/manifest.h"
#include "checkpoint/index/folders.h"
#include "tests/crash/job_on_disk.h"

namespace belay::crash {

using namespace checkpoint;  // NOLINT: the service's own nouns
using commit::CheckpointId;

// What lies in the job's folder and belongs to nobody: the first of it, or nothing.
std::string ImageChecker::Stray(base::FileSystem& files, const JobState& state) const {
  const std::string folder = folders_.Job(JobOnDisk::kJob);
  const auto names = files.List(folder);
  if (!names) return names.error().Text();
  for (const std::string& name : *names) {
    if (name == ".generation") continue;
    const auto id = ParseCheckpointDirectoryName(name);
    if (!id || !state.checkpoints.contains({id->generation, id->step})) return folder + "/" + name;
    const std::string directory = folder + "/" + name;
    const auto text =
        base::ReadWholeFile(files, directory + "/" + std::string(kManifestName), index::kManifestBytesMax);
    const auto manifest = text ? DecodeManifest(*text) : base::Result<Manifest>(tl::unexpected(text.error()));
    if (!manifest) return manifest.error().Text();
    for (const std::string& inside : files.List(directory).value_or(std::vector<std::string>{})) {
      const bool listed =
          std::ranges::any_of(manifest->files, [&](const ManifestFile& file) { return file.name == inside; });
      if (!listed && inside != kManifestName && inside != kPinnedName) return directory + "/" + inside;
    }
  }
  for (const spread::OtherFolder& other : folders_.others()) {
    if (std::string stray = StrayInOther(files, state, other.path); !stray.empty()) return stray;
  }
  return {};
}

// Only what home's checkpoints link to may be there.
std::string ImageChecker::StrayInOther(base::FileSystem& files, const JobState& state, const std::string& other) const {
  const std::string folder = base::Str(other, "/", JobOnDisk::kJob.project, "/", JobOnDisk::kJob.job);
  for (const std::string& name : files.List(folder).value_or(std::vector<std::string>{})) {
    const auto id = ParseCheckpointDirectoryName(name);
    if (!id || !state.checkpoints.contains({id->generation, id->step})) return folder + "/" + name;
    const std::string home = folders_.Checkpoint(JobOnDisk::kJob, {id->generation, id->step});
    for (const std::string& inside : files.List(folder + "/" + name).value_or(std::vector<std::string>{})) {
      const std::string path = folder + "/" + name + "/" + inside;
      const auto link = files.ReadLink(home + "/" + inside);
      if (!link || *link != path) return path;
    }
  }
  return {};
}

std::string ImageChecker::Check(const DiskImage& image, const std::vector<JobState>& allowed) {
  std::string wrong = CheckStart(image, allowed);
  if (!wrong.empty() || image.index.empty()) return wrong;
  DiskImage without_index = image;
  without_index.index.clear();
  wrong = CheckStart(without_index, allowed);
  return wrong.empty() ? wrong : "with a lost index: " + wrong;
}

std::string ImageChecker::CheckStart(const DiskImage& image, const std::vector<JobState>& allowed) {
  JobOnDisk job(image, drives_, of_);
  const auto scan = index::ScanFolders(job.files(), folders_, nullptr, JobOnDisk::kOwner);
  if (!scan) return "the scan fails: " + scan.error().Text();
  if (!scan->problems.empty()) return "the scan complains: " + scan->problems.front();
  job.Start();
  if (std::ranges::find(allowed, job.state()) == allowed.end()) {
    std::string wrong = base::Str("found ", job.state(), "; allowed");
    for (const JobState& one : allowed) wrong += base::Str(" [", one, "]");
    return wrong;
  }
  for (const auto& [id, pinned] : job.state().checkpoints) {
    if (std::string wrong = CheckRestore(job.files(), image, id); !wrong.empty()) return wrong;
  }
  job.BeginRun();
  if (std::string stray = Stray(job.files(), job.state()); !stray.empty()) return "left over: " + stray;
  job.Save(1'000'000);
  const CheckpointId fresh{base::Generation(job.state().generation), base::Step(1'000'000)};
  if (!job.state().checkpoints.contains(fresh)) return "the next run cannot save";
  return CheckRestore(job.files(), {}, fresh);
}

std::string ImageChecker::CheckRestore(base::FileSystem& files, const DiskImage& image, const CheckpointId& id) {
  const std::string directory = folders_.Checkpoint(JobOnDisk::kJob, id);
  std::string key = directory;
  const auto add = [&](const std::string& prefix) {
    for (auto file = image.paths.lower_bound(prefix); file != image.paths.end(); ++file) {
      if (!file->first.starts_with(prefix)) break;
      key += file->first + '\0' + (file->second ? file->second->digest : "/");
    }
  };
  add(directory + "/");
  for (const spread::OtherFolder& other : folders_.others()) {
    add(folders_.CheckpointIn(other, JobOnDisk::kJob, id) + "/");
  }
  const auto [known, is_new] = restored_.try_emplace(key);
  if (is_new) {
    if (std::string wrong = CompareRestored(files, directory, id, of_ == State::kWithFrozenPart); !wrong.empty()) {
      known->second = base::Str(id, " does not restore: ", wrong);
    }
  }
  return known->second;
}

}  // namespace belay::crash
