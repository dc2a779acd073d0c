// Where things lie in the data directory, and what its files say: the truth that the index is rebuilt from.
//
//   <data dir>/<project>/<job>/.generation                    {"generation":3,"owner_uid":1000}, never goes back
//   <data dir>/<project>/<job>/step-000001200.gen-3/          a checkpoint if it holds manifest.json, else left over
//   <data dir>/<project>/<job>/step-.../.pinned, .quarantined, .trust  marks (checkpoint/format)
//   <data dir>/.belayd/{index,index.reserve,lock,belayd.log}  the daemon's own
//
// With several data folders this one is home; the others are in other_folders.h.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "checkpoint/commit/types.h"
#include "checkpoint/format/marks.h"
#include "checkpoint/index/schema.h"
#include "checkpoint/spread/data_folders.h"
#include "runtime/base/file_system.h"
#include "runtime/base/result.h"

namespace belay::checkpoint::index {

inline constexpr std::string_view kDeletedManifestName = "manifest.deleted";
inline constexpr std::uint64_t kManifestBytesMax = 64U << 20;

class Folders {
 public:
  explicit Folders(std::string data_dir, spread::DataFolders all = {})
      : data_dir_(std::move(data_dir)), all_(std::move(all)) {}
  const std::string& data_dir() const { return data_dir_; }
  const std::string& home_id() const { return all_.id; }
  const std::vector<spread::OtherFolder>& others() const { return all_.others; }
  std::string OwnFolder() const { return data_dir_ + "/.belayd"; }
  std::string Index() const { return OwnFolder() + "/index"; }
  // Space that is given back when the disk is full, so that the index and generations can still be written.
  std::string IndexReserve() const { return Index() + ".reserve"; }
  std::string Job(const commit::JobKey& job) const { return data_dir_ + "/" + job.project + "/" + job.job; }
  std::string Checkpoint(const commit::JobKey& job, const commit::CheckpointId& id) const {
    return Job(job) + "/" + CheckpointDirectoryName(id.step, id.generation);
  }
  std::string CheckpointIn(const spread::OtherFolder& other, const commit::JobKey& job,
                           const commit::CheckpointId& id) const {
    return other.path + "/" + job.project + "/" + job.job + "/" + CheckpointDirectoryName(id.step, id.generation);
  }
  std::string GenerationFile(const commit::JobKey& job) const { return Job(job) + "/.generation"; }

 private:
  std::string data_dir_;
  spread::DataFolders all_;
};

base::Status WriteGenerationFile(base::FileSystem& files, const Folders& folders, const commit::JobKey& job,
                                 const JobRecord& record);

struct Found {
  commit::Catalogue catalogue;
  std::vector<std::string> leftovers;  // folders of checkpoints never committed or half deleted; half-made small files
  std::vector<std::string> problems;   // what could not be read, in words; nothing is moved or deleted for it
  std::vector<std::string> unseen;     // folders that could not be looked at: what lies below is not known to be gone
  std::optional<base::Error> disk_error;  // why the first of them could not, if it was the disk's fault (kIo)
};
// Walks the data directory. With `known`, checkpoints that it describes are not read again, only looked for.
// `default_owner` owns jobs whose .generation file does not say otherwise. kIo, kPermissionDenied: the folder itself.
base::Result<Found> ScanFolders(base::FileSystem& files, const Folders& folders, const commit::Catalogue* known,
                                std::uint32_t default_owner);

// Makes durable what the files say and the index does not: a daemon that died may have left names that it had not
// synced. Nobody may be told of them, and nothing may be deleted for them, as long as a power cut can take them back.
base::Status SyncWhatIsNew(base::FileSystem& files, const Folders& folders, const commit::Catalogue& found,
                           const commit::Catalogue& known);

// kIo: the disk hides a folder of which `known` has no word either. Whoever went on would take its job for a new one.
base::Status CheckSeen(const Folders& folders, const commit::Catalogue& known, const Found& found);

// Adds what `known` says of unseen folders: an error of the disk must not make a run forget its checkpoints.
void KeepUnseen(const Folders& folders, const commit::Catalogue& known, Found& found);

commit::CommittedInfo InfoOf(const Manifest& manifest, bool pinned);

}  // namespace belay::checkpoint::index
