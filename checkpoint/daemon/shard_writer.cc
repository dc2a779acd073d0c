#include "checkpoint/daemon/shard_writer.h"

#include <algorithm>
#include <map>
#include <set>
#include <string>
#include <utility>

#include "checkpoint/commit/manifest_assembly.h"
#include "checkpoint/format/digest.h"
#include "checkpoint/index/other_folders.h"
#include "runtime/base/fault_points.h"
#include "runtime/base/log.h"
#include "runtime/base/units.h"

namespace belay::checkpoint {

using base::Code;

namespace {

constexpr std::size_t kPieceBytes = 128 * base::kMiB;

base::Result<std::vector<std::byte>> CopyHeader(const commit::SealedFile& file, std::span<const std::byte> image) {
  const std::vector<std::byte> start(image.begin(), image.begin() + 8);
  BELAY_ASSIGN(const std::uint64_t bytes, ShardHeaderBytes(start));
  if (bytes > image.size() || bytes > 8 + kShardHeaderBytesMax) {
    return base::Fail(Code::kCorrupt, file.name, " has a header of ", bytes, " bytes in a file of ", image.size());
  }
  std::vector<std::byte> header(image.begin(), image.begin() + static_cast<std::ptrdiff_t>(bytes));
  // The length was read before the rest was copied: a program that changes it meanwhile gains nothing.
  std::copy(start.begin(), start.end(), header.begin());
  return header;
}

base::Result<std::vector<commit::InspectedFile>> Inspect(const commit::StartWrite& order,
                                                         std::span<const std::byte> staging) {
  std::vector<commit::InspectedFile> inspected;
  for (const commit::SealedFile& file : order.files) {
    const std::uint64_t lies_there = file.streamed_from.value_or(file.bytes);
    if (file.offset > staging.size() || lies_there > staging.size() - file.offset || lies_there < 8) {
      return base::Fail(Code::kInvalidArgument, file.name, " lies outside the staging memory");
    }
    BELAY_ASSIGN(const auto header, CopyHeader(file, staging.subspan(file.offset, lies_there)));
    if (file.streamed_from && header.size() != *file.streamed_from) {
      return base::Fail(Code::kCorrupt, file.name, " has a header of ", header.size(),
                        " bytes, and its waves began at ", *file.streamed_from);
    }
    BELAY_ASSIGN(commit::InspectedFile one, commit::InspectShard(order, file, header));
    inspected.push_back(std::move(one));
  }
  if (auto records = DecodeRecords(*order.records); !records) {
    return base::Wrap(records.error(), "the records of rank ", order.rank);
  }
  commit::InspectedFile records;
  records.manifest.name = RecordsFileName(order.rank);
  records.manifest.bytes = order.records->size();
  records.manifest.kind = "records";
  records.manifest.rank = order.rank;
  records.manifest.header_sha256 = Sha256Hex(std::string_view(*order.records));
  inspected.push_back(std::move(records));
  return inspected;
}

// Syncs what was written under the temporary name, and gives it its own.
base::Status Finish(base::FileSystem& files, base::File& file, const std::string& temporary, const std::string& path) {
  BELAY_TRY(base::FaultPoint("write.after_data"));
  BELAY_TRY(file.Sync());
  BELAY_TRY(file.Close());
  BELAY_TRY(base::FaultPoint("write.after_sync"));
  return files.Rename(temporary, path);
}

base::Status WriteImage(base::FileSystem& files, const std::string& path, std::span<const std::byte> image, bool bulk) {
  const std::string temporary = path + ".tmp";
  BELAY_ASSIGN(auto file, files.Open(temporary, {.mode = base::OpenOptions::Mode::kCreateOrTruncate, .bulk = bulk}));
  if (!image.empty()) BELAY_TRY(file->Preallocate(image.size()));
  for (std::size_t at = 0; at < image.size(); at += kPieceBytes) {
    BELAY_TRY(file->WriteAt(at, image.subspan(at, std::min(kPieceBytes, image.size() - at))));
  }
  return Finish(files, *file, temporary, path);
}

// Its waves are there; the header comes last, because it holds their digests.
base::Status FinishStreamed(base::FileSystem& files, const std::string& path, std::span<const std::byte> header,
                            std::uint64_t bytes) {
  const std::string temporary = path + ".tmp";
  BELAY_ASSIGN(auto file, files.Open(temporary, {.mode = base::OpenOptions::Mode::kReadWrite, .bulk = true}));
  BELAY_ASSIGN(const std::uint64_t size, file->Size());
  if (size != bytes) {
    return base::Fail(Code::kIncomplete, temporary, " has ", size, " bytes after its last wave, and not ", bytes);
  }
  BELAY_TRY(file->WriteAt(0, header));
  return Finish(files, *file, temporary, path);
}

// Is this the file at `path`? Its header tells: identity, sizes and every chunk's digest are in it. The data are not
// read again; whoever reads them checks them.
base::Result<bool> IsFile(base::FileSystem& files, const std::string& path, const ManifestFile& wanted) {
  BELAY_ASSIGN(auto file, files.Open(path, {}));
  BELAY_ASSIGN(const std::uint64_t size, file->Size());
  if (size != wanted.bytes) return false;
  std::vector<std::byte> header(wanted.header_bytes);
  BELAY_ASSIGN(const std::size_t read, file->ReadAt(0, header));
  return read == header.size() && Sha256Hex(std::span<const std::byte>(header)) == wanted.header_sha256;
}

// One rank's files, in home and in another data folder.
class RankWriter {
 public:
  RankWriter(base::FileSystem& files, const index::Folders& folders, const commit::StartWrite& order)
      : files_(files), folders_(folders), order_(order), home_(folders.Checkpoint(order.job, order.id)) {}

  base::Status Write(const std::vector<commit::InspectedFile>& inspected, std::span<const std::byte> staging) {
    BELAY_TRY(base::FaultPoint("write.before_data"));
    BELAY_TRY(base::MakeDirectories(files_, home_));
    BELAY_TRY(files_.SyncDirectory(base::ParentPath(home_)));  // it may be what a failed attempt left, and not durable
    const spread::OtherFolder* other = index::FolderFor(folders_, order_.rank);
    for (std::size_t i = 0; i < order_.files.size(); ++i) {
      const commit::SealedFile& file = order_.files[i];
      if (file.origin && order_.previous && LinkUnchanged(file.name, inspected[i].manifest)) continue;
      BELAY_ASSIGN(const std::string directory, FolderIn(other));
      const std::string path = directory + "/" + file.name;
      if (file.streamed_from) {
        BELAY_TRY(FinishStreamed(files_, path, staging.subspan(file.offset, *file.streamed_from), file.bytes));
      } else {
        BELAY_TRY(WriteImage(files_, path, staging.subspan(file.offset, file.bytes), true));
      }
      if (other != nullptr) elsewhere_[file.name] = directory;
    }
    BELAY_TRY(WriteImage(files_, home_ + "/" + RecordsFileName(order_.rank), std::as_bytes(std::span(*order_.records)),
                         false));
    BELAY_TRY(base::FaultPoint("write.after_rename"));
    BELAY_TRY(LinkFromHome());
    return files_.SyncDirectory(home_);
  }

 private:
  // The checkpoint's folder there; null: home.
  base::Result<std::string> FolderIn(const spread::OtherFolder* other) {
    if (other == nullptr) return home_;
    if (const auto known = used_.find(other); known != used_.end()) return known->second;
    BELAY_ASSIGN(std::string made, index::MakeInOther(files_, folders_, *other, order_.job, order_.id));
    return used_[other] = std::move(made);
  }

  // A second name for what the last checkpoint has already, in the data folder where it lies. Not finding it there is
  // no failure: then it is written.
  bool LinkUnchanged(const std::string& name, const ManifestFile& wanted) {
    const base::Status linked = base::FaultPoint("write.before_link");
    const auto same = linked ? TryLink(name, wanted) : base::Result<bool>(tl::unexpected(linked.error()));
    if (!same) base::LogWarning("written_again", {{"file", home_ + "/" + name}, {"why", same.error().Text()}});
    return same.value_or(false);
  }

  base::Result<bool> TryLink(const std::string& name, const ManifestFile& wanted) {
    const std::string previous = folders_.Checkpoint(order_.job, *order_.previous) + "/" + name;
    BELAY_ASSIGN(const bool same, IsFile(files_, previous, wanted));
    if (!same) return false;
    BELAY_ASSIGN(const auto target, files_.ReadLink(previous));
    if (!target) {
      BELAY_TRY(files_.Link(previous, home_ + "/" + name));
      return true;
    }
    for (const spread::OtherFolder& other : folders_.others()) {
      // A folder that is not written to any more gets no new names either, so that it empties.
      if (other.retired || *target != folders_.CheckpointIn(other, order_.job, *order_.previous) + "/" + name) continue;
      BELAY_ASSIGN(const std::string directory, FolderIn(&other));
      BELAY_TRY(files_.Link(*target, directory + "/" + name));
      elsewhere_[name] = directory;
      return true;
    }
    return false;
  }

  // What lies in another data folder is durable there before home says so.
  base::Status LinkFromHome() {
    if (elsewhere_.empty()) return {};
    std::set<std::string> changed;
    for (const auto& [name, directory] : elsewhere_) changed.insert(directory);
    for (const std::string& directory : changed) BELAY_TRY(files_.SyncDirectory(directory));
    // A drive that went meanwhile may have left its mount point to be written to.
    for (const auto& [other, directory] : used_) {
      BELAY_TRY(spread::CheckHere(files_, folders_.home_id(), *other));
    }
    BELAY_TRY(base::FaultPoint("spread.before_link"));
    for (const auto& [name, directory] : elsewhere_) {
      const std::string link = home_ + "/" + name;
      base::Status linked = files_.LinkSymbolic(directory + "/" + name, link);
      if (!linked && linked.error().code == Code::kAlreadyExists) {  // left by a save of this step that failed
        BELAY_TRY(files_.Remove(link));
        linked = files_.LinkSymbolic(directory + "/" + name, link);
      }
      BELAY_TRY(linked);
    }
    return base::FaultPoint("spread.after_link");
  }

  base::FileSystem& files_;
  const index::Folders& folders_;
  const commit::StartWrite& order_;
  const std::string home_;
  std::map<const spread::OtherFolder*, std::string> used_;  // data folder to the checkpoint's folder in it
  std::map<std::string, std::string> elsewhere_;            // file to the folder that it lies in, if that is not home's
};

base::Status WritePiece(base::FileSystem& files, const index::Folders& folders, const commit::WriteWavePiece& order,
                        std::span<const std::byte> staging) {
  const commit::WavePiece& piece = order.piece;
  if (piece.offset > staging.size() || piece.bytes > staging.size() - piece.offset) {
    return base::Fail(Code::kInvalidArgument, "a wave of ", piece.name, " lies outside the staging memory");
  }
  const std::string home = folders.Checkpoint(order.job, order.id);
  if (order.first) BELAY_TRY(base::MakeDirectories(files, home));
  const spread::OtherFolder* other = index::FolderFor(folders, order.rank);
  BELAY_ASSIGN(const std::string directory, other == nullptr
                                                ? base::Result<std::string>(home)
                                                : index::MakeInOther(files, folders, *other, order.job, order.id));
  const std::string temporary = directory + "/" + piece.name + ".tmp";
  const auto mode = order.first ? base::OpenOptions::Mode::kCreateOrTruncate : base::OpenOptions::Mode::kReadWrite;
  BELAY_ASSIGN(auto file, files.Open(temporary, {.mode = mode, .bulk = true}));
  if (order.first) BELAY_TRY(file->Preallocate(piece.file_bytes));
  const auto bytes = staging.subspan(piece.offset, piece.bytes);
  for (std::size_t at = 0; at < bytes.size(); at += kPieceBytes) {
    BELAY_TRY(file->WriteAt(piece.file_offset + at, bytes.subspan(at, std::min(kPieceBytes, bytes.size() - at))));
  }
  BELAY_TRY(file->Sync());  // an error of a write that went by way of the page cache must come to light here
  BELAY_TRY(file->Close());
  return base::FaultPoint("wave.after_data");
}

}  // namespace

commit::WaveFinished WriteWaveOf(base::FileSystem& files, const index::Folders& folders,
                                 const commit::WriteWavePiece& order, std::span<const std::byte> staging) {
  commit::WaveFinished finished{order.ref, order.job, order.id, order.rank, std::nullopt};
  if (auto written = WritePiece(files, folders, order, staging); !written) finished.error = written.error();
  return finished;
}

commit::WriteFinished WriteRankFiles(base::FileSystem& files, base::Clock& clock, const index::Folders& folders,
                                     const commit::StartWrite& order, std::span<const std::byte> staging) {
  commit::WriteFinished finished{order.job, order.id, order.rank, std::nullopt, {}, 0};
  const base::SteadyTime began = clock.Now();
  auto inspected = Inspect(order, staging);
  if (!inspected) {
    finished.error = inspected.error();
    return finished;
  }
  finished.files = *std::move(inspected);
  if (order.inspect_only) return finished;
  if (auto written = RankWriter(files, folders, order).Write(finished.files, staging); !written) {
    finished.error = written.error();
  }
  finished.seconds = std::chrono::duration<double>(clock.Now() - began).count();
  return finished;
}

}  // namespace belay::checkpoint
