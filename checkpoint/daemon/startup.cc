#include "checkpoint/daemon/startup.h"

#include <algorithm>
#include <utility>

#include "checkpoint/index/other_folders.h"
#include "checkpoint/index/schema.h"
#include "runtime/base/log.h"

namespace belay::checkpoint {

using base::Code;

namespace {

struct Opened {
  std::unique_ptr<base::Index> index;
  commit::Catalogue catalogue;
};

base::Result<Opened> OpenAndRead(base::FileSystem& files, const std::string& directory, const OpenIndex& open_index) {
  Opened opened;
  BELAY_ASSIGN(opened.index, open_index(files, directory));
  BELAY_ASSIGN(opened.catalogue, index::ReadCatalogue(*opened.index));
  return opened;
}

// The index holds nothing that the files do not say, so a damaged one is thrown away.
base::Result<Opened> OpenOrReplace(base::FileSystem& files, const std::string& directory, const OpenIndex& open_index) {
  auto opened = OpenAndRead(files, directory, open_index);
  if (opened || opened.error().code == Code::kNoSpace || opened.error().code == Code::kReadOnly ||
      opened.error().code == Code::kPermissionDenied) {
    return opened;
  }
  base::LogWarning("index_replaced", {{"why", opened.error().Text()}});
  BELAY_TRY(base::RemoveTree(files, directory));
  return OpenAndRead(files, directory, open_index);
}

// Of a checkpoint's folder in another data folder, .../<project>/<job>/<step>.
bool IsKnown(const commit::Catalogue& known, const std::string& directory) {
  const auto name = [](const std::string& path) { return path.substr(path.rfind('/') + 1); };
  const std::string job = base::ParentPath(directory);
  const auto found = known.find({name(base::ParentPath(job)), name(job)});
  const auto id = ParseCheckpointDirectoryName(name(directory));
  return found != known.end() && id && found->second.checkpoints.contains({id->generation, id->step});
}

}  // namespace

base::Result<commit::Catalogue> Reconcile(base::FileSystem& files, const index::Folders& folders, base::Index& index,
                                          const commit::Catalogue& known, std::uint32_t daemon_uid) {
  BELAY_ASSIGN(index::Found found, index::ScanFolders(files, folders, &known, daemon_uid));
  for (const std::string& problem : found.problems) base::LogWarning("unreadable", {{"what", problem}});
  BELAY_TRY(index::CheckSeen(folders, known, found));
  if (auto synced = index::SyncWhatIsNew(files, folders, found.catalogue, known); !synced) {
    base::LogError("not_synced", {{"why", synced.error().Text()}});  // what is there can still be read
  }
  for (const std::string& stray : index::FindStrays(files, folders)) {
    // A checkpoint that home has forgotten and the index has not: a part of home may not be mounted.
    if (IsKnown(known, stray))
      base::LogWarning("stray_stays", {{"folder", stray}, {"why", "the index knows its checkpoint"}});
    else
      found.leftovers.push_back(stray);
  }
  for (const std::string& leftover : found.leftovers) {
    const base::Status removed = index::RemoveLeftover(files, folders, leftover);
    if (removed)
      base::LogInfo("leftover_removed", {{"folder", leftover}});
    else
      base::LogWarning("leftover_stays", {{"folder", leftover}, {"why", removed.error().Text()}});
  }
  index::KeepUnseen(folders, known, found);
  for (auto& [key, job] : found.catalogue) {
    if (const auto old = known.find(key); old != known.end()) {
      job.generation = std::max(job.generation, old->second.generation);
      if (job.owner_uid == daemon_uid) job.owner_uid = old->second.owner_uid;
    }
    // A daemon that is not root serves its own user only; a data directory that came from elsewhere is theirs now.
    if (daemon_uid != 0) job.owner_uid = daemon_uid;
  }
  // A job whose folder is gone keeps its generation: a stale run of it may still be about.
  for (const auto& [key, job] : known) {
    if (!found.catalogue.contains(key)) found.catalogue[key] = {job.generation, job.owner_uid, {}};
  }
  BELAY_ASSIGN(const base::IndexBatch batch, index::ReplaceCatalogue(index, found.catalogue));
  if (!batch.empty()) {
    if (auto written = index.Write(batch); !written) {
      base::LogError("index_not_written", {{"why", written.error().Text()}});
    }
  }
  return std::move(found.catalogue);
}

base::Result<Recovered> Recover(base::FileSystem& files, const index::Folders& folders, std::uint32_t daemon_uid,
                                const OpenIndex& open_index) {
  BELAY_ASSIGN(Opened opened, OpenOrReplace(files, folders.Index(), open_index));
  BELAY_ASSIGN(commit::Catalogue catalogue, Reconcile(files, folders, *opened.index, opened.catalogue, daemon_uid));
  return Recovered{std::move(opened.index), std::move(catalogue)};
}

}  // namespace belay::checkpoint
