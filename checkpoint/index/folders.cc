#include "checkpoint/index/folders.h"

#include <algorithm>
#include <functional>
#include <set>

#include "checkpoint/index/other_folders.h"
#include "checkpoint/spread/reach.h"

namespace belay::checkpoint::index {

using base::Code;

namespace {

// Names of folders in `path` that are valid project or job names, sorted. What cannot be looked at is left out, and
// `unseen` is told.
using TellUnseen = std::function<void(const std::string& path, const base::Error& error)>;
base::Result<std::vector<std::string>> NamedFolders(base::FileSystem& files, const std::string& path,
                                                    const TellUnseen& unseen) {
  BELAY_ASSIGN(const auto names, files.List(path));
  std::vector<std::string> folders;
  for (const std::string& name : names) {
    if (!ValidateName("folder", name)) continue;  // ours alone, or somebody else's file
    const auto info = files.Stat(path + "/" + name);
    if (!info)
      unseen(path + "/" + name, info.error());
    else if (info->is_directory)
      folders.push_back(name);
  }
  return folders;
}

const commit::CommittedInfo* Find(const commit::CataloguedJob& job, const commit::CheckpointId& id) {
  const auto checkpoint = job.checkpoints.find(id);
  return checkpoint == job.checkpoints.end() ? nullptr : &checkpoint->second;
}

class Walk {
 public:
  Walk(base::FileSystem& files, const Folders& folders, const commit::Catalogue* known, std::uint32_t default_owner)
      : files_(files), folders_(folders), known_(known), default_owner_(default_owner) {}

  base::Result<Found> Run() {
    const TellUnseen unseen = [this](const std::string& path, const base::Error& error) { Unseen(path, error); };
    BELAY_ASSIGN(const auto projects, NamedFolders(files_, folders_.data_dir(), unseen));
    for (const std::string& project : projects) {
      const std::string path = folders_.data_dir() + "/" + project;
      const auto jobs = NamedFolders(files_, path, unseen);
      if (!jobs) {
        Unseen(path, jobs.error());
        continue;
      }
      for (const std::string& job : *jobs) WalkJob({project, job});
    }
    return std::move(found_);
  }

 private:
  void Unseen(const std::string& path, const base::Error& error) {
    if (error.code == Code::kNotFound) return;  // it went meanwhile
    found_.problems.push_back(error.Text());
    found_.unseen.push_back(path);
    if (error.code == Code::kIo && !found_.disk_error) found_.disk_error = error;
  }

  void WalkJob(const commit::JobKey& key) {
    const auto names = files_.List(folders_.Job(key));
    if (!names) return Unseen(folders_.Job(key), names.error());
    commit::CataloguedJob job;
    job.owner_uid = default_owner_;
    bool is_ours = false;
    if (std::binary_search(names->begin(), names->end(), std::string(".generation"))) {
      is_ours = true;
      ReadGeneration(key, job);
    }
    AddHalfMade(folders_.GenerationFile(key), *names);
    for (const std::string& name : *names) {
      const auto parsed = ParseCheckpointDirectoryName(name);
      if (!parsed) continue;
      is_ours = true;
      job.generation = std::max(job.generation, parsed->generation);
      WalkCheckpoint(key, {parsed->generation, parsed->step}, job);
    }
    if (is_ours) found_.catalogue[key] = std::move(job);
  }

  // What base::WriteFileDurably leaves when it is killed.
  void AddHalfMade(const std::string& path, const std::vector<std::string>& names) {
    const std::string temporary = path + ".tmp";
    const std::string name = temporary.substr(temporary.rfind('/') + 1);
    if (std::binary_search(names.begin(), names.end(), name)) found_.leftovers.push_back(temporary);
  }

  void ReadGeneration(const commit::JobKey& key, commit::CataloguedJob& job) {
    const std::string path = folders_.GenerationFile(key);
    const auto text = base::ReadWholeFile(files_, path, 4096);
    const auto record = text ? DecodeJobRecord(*text) : base::Result<JobRecord>(tl::unexpected(text.error()));
    if (!record) {
      found_.problems.push_back(base::Str(path, ": ", record.error().Text()));
      return;
    }
    job.generation = record->generation;
    job.owner_uid = record->owner_uid;
  }

  void WalkCheckpoint(const commit::JobKey& key, const commit::CheckpointId& id, commit::CataloguedJob& job) {
    const std::string directory = folders_.Checkpoint(key, id);
    const auto names = files_.List(directory);
    if (!names) return Unseen(directory, names.error());
    const auto has = [&](std::string_view name) {
      return std::binary_search(names->begin(), names->end(), std::string(name));
    };
    if (!has(kManifestName)) {
      found_.leftovers.push_back(directory);
      return;
    }
    for (const std::string_view mark : {kPinnedName, kQuarantinedName, kTrustName}) {
      AddHalfMade(directory + "/" + std::string(mark), *names);
    }
    if (const commit::CommittedInfo* info = Known(key, id)) {
      job.checkpoints[id] = *info;
      job.checkpoints[id].pinned = has(kPinnedName);
      job.checkpoints[id].quarantine = has(kQuarantinedName) ? QuarantineIn(directory) : std::string();
      job.checkpoints[id].trust = has(kTrustName) ? TrustIn(directory) : Trust();
      return;
    }
    const std::string path = directory + "/" + std::string(kManifestName);
    const auto text = base::ReadWholeFile(files_, path, kManifestBytesMax);
    if (!text && text.error().code != Code::kLimitExceeded) return Unseen(directory, text.error());
    const auto manifest = text ? DecodeManifest(*text) : base::Result<Manifest>(tl::unexpected(text.error()));
    if (!manifest) {
      found_.problems.push_back(base::Str(path, ": ", manifest.error().Text()));
      return;
    }
    if (manifest->project != key.project || manifest->job != key.job || manifest->step != id.step ||
        manifest->generation != id.generation) {
      found_.problems.push_back(base::Str(path, ": it is of job ", manifest->project, "/", manifest->job, ", ",
                                          CheckpointDirectoryName(manifest->step, manifest->generation)));
      return;
    }
    for (const ManifestFile& file : manifest->files) {
      const std::string place = directory + "/" + file.name;
      const auto info = files_.Stat(place);
      if (!info || info->size_bytes != file.bytes) {
        found_.problems.push_back(
            base::Str(place, ": ",
                      info ? base::Str("has ", info->size_bytes, " bytes, the manifest says ", file.bytes)
                           : spread::Explained(files_, place, info.error()).Text()));
      }
    }
    job.checkpoints[id] = InfoOf(*manifest, has(kPinnedName));
    if (has(kQuarantinedName)) job.checkpoints[id].quarantine = QuarantineIn(directory);
    if (has(kTrustName)) job.checkpoints[id].trust = TrustIn(directory);
  }

  std::string QuarantineIn(const std::string& directory) const {
    const std::string mark = directory + "/" + std::string(kQuarantinedName);
    return QuarantineFrom(base::ReadWholeFile(files_, mark, kMarkBytesMax)).reason;
  }

  Trust TrustIn(const std::string& directory) const {
    return TrustFrom(base::ReadWholeFile(files_, directory + "/" + std::string(kTrustName), kMarkBytesMax));
  }

  const commit::CommittedInfo* Known(const commit::JobKey& key, const commit::CheckpointId& id) const {
    if (known_ == nullptr) return nullptr;
    const auto job = known_->find(key);
    return job == known_->end() ? nullptr : Find(job->second, id);
  }

  base::FileSystem& files_;
  const Folders& folders_;
  const commit::Catalogue* known_;
  const std::uint32_t default_owner_;
  Found found_;
};

}  // namespace

base::Status WriteGenerationFile(base::FileSystem& files, const Folders& folders, const commit::JobKey& job,
                                 const JobRecord& record) {
  BELAY_TRY(base::MakeDirectories(files, folders.Job(job)));
  // Those that were there too: who made them may not have come so far.
  BELAY_TRY(files.SyncDirectory(base::ParentPath(folders.Job(job))));
  BELAY_TRY(files.SyncDirectory(folders.data_dir()));
  return base::WriteFileDurably(files, folders.GenerationFile(job), EncodeJobRecord(record));
}

base::Result<Found> ScanFolders(base::FileSystem& files, const Folders& folders, const commit::Catalogue* known,
                                std::uint32_t default_owner) {
  return Walk(files, folders, known, default_owner).Run();
}

base::Status CheckSeen(const Folders& folders, const commit::Catalogue& known, const Found& found) {
  if (!found.disk_error) return {};
  for (const std::string& folder : found.unseen) {
    const auto speaks_of = [&](const std::string& path) { return path == folder || path.starts_with(folder + "/"); };
    const bool is_known = std::any_of(known.begin(), known.end(), [&](const auto& entry) {
      if (speaks_of(folders.Job(entry.first))) return true;
      return std::any_of(entry.second.checkpoints.begin(), entry.second.checkpoints.end(), [&](const auto& checkpoint) {
        return speaks_of(folders.Checkpoint(entry.first, checkpoint.first));
      });
    });
    if (is_known) continue;
    return base::Wrap(*found.disk_error, "cannot look at ", folder,
                      ", and the index does not know what it holds; start again when the disk is well");
  }
  return {};
}

void KeepUnseen(const Folders& folders, const commit::Catalogue& known, Found& found) {
  const auto unseen = [&](const std::string& path) {
    return std::any_of(found.unseen.begin(), found.unseen.end(),
                       [&](const std::string& folder) { return path == folder || path.starts_with(folder + "/"); });
  };
  for (const auto& [key, job] : known) {
    for (const auto& [id, info] : job.checkpoints) {
      if (!unseen(folders.Checkpoint(key, id))) continue;
      const auto [kept, is_new] = found.catalogue.try_emplace(key);
      if (is_new) kept->second.owner_uid = job.owner_uid;
      kept->second.checkpoints.try_emplace(id, info);
    }
  }
}

base::Status SyncWhatIsNew(base::FileSystem& files, const Folders& folders, const commit::Catalogue& found,
                           const commit::Catalogue& known) {
  // Folders of projects and jobs with nothing in them yet stand in no catalogue.
  std::set<std::string> changed = {folders.data_dir()};
  BELAY_ASSIGN(const auto projects, NamedFolders(files, folders.data_dir(), [](const auto&, const auto&) {}));
  for (const std::string& project : projects) changed.insert(folders.data_dir() + "/" + project);
  for (const auto& [key, job] : found) {
    const auto known_job = known.find(key);
    const bool is_new = known_job == known.end();
    if (is_new || known_job->second.generation != job.generation) changed.insert(folders.Job(key));
    for (const auto& [id, info] : job.checkpoints) {
      const auto* same = is_new ? nullptr : Find(known_job->second, id);
      if (same == nullptr) changed.insert(folders.Job(key));
      if (same == nullptr || same->pinned != info.pinned) changed.insert(folders.Checkpoint(key, id));
    }
  }
  for (const std::string& folder : changed) BELAY_TRY(files.SyncDirectory(folder));
  return SyncOtherFolders(files, folders);
}

commit::CommittedInfo InfoOf(const Manifest& manifest, bool pinned) {
  commit::CommittedInfo info;
  for (const ManifestFile& file : manifest.files) info.bytes += file.bytes;
  info.created = manifest.created;
  info.reason = manifest.reason;
  info.world_size = manifest.world_size;
  info.pinned = pinned;
  info.digest = manifest.digest;
  info.metrics = manifest.metrics;
  return info;
}

}  // namespace belay::checkpoint::index
