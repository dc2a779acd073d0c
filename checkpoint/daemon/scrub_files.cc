#include "checkpoint/daemon/scrub_files.h"

#include <algorithm>
#include <utility>
#include <vector>

#include "checkpoint/format/digest.h"
#include "checkpoint/format/shard_file.h"
#include "checkpoint/spread/reach.h"
#include "runtime/base/fault_points.h"
#include "runtime/base/units.h"

namespace belay::checkpoint {
namespace {

using base::Code;
using base::Fail;
using base::Status;

constexpr std::size_t kPieceBytes = 128 * base::kMiB;

// Fills `bytes` from the file; kCancelled if the gate closes, kIncomplete if the file ends before.
Status Read(base::File& file, const std::string& name, std::uint64_t offset, std::span<std::byte> bytes,
            const Passage& passage) {
  if (!passage.Pass(bytes.size())) return Fail(Code::kCancelled, "reading ", name, " was given up");
  BELAY_ASSIGN(const std::size_t read, file.ReadAt(offset, bytes));
  if (read < bytes.size()) return Fail(Code::kIncomplete, name, " ends at byte ", offset + read, " while it is read");
  return {};
}

// The first tensor in a chunk, for people.
std::string TensorAt(const ShardPlan& plan, std::uint64_t begin) {
  for (const ShardEntry& entry : plan.entries) {
    if (entry.bytes > 0 && entry.data_offset + entry.bytes > begin) {
      return base::Str(", tensor ", entry.name, " from its byte ",
                       begin > entry.data_offset ? begin - entry.data_offset : 0);
    }
  }
  return {};
}

Status CheckShard(base::File& file, const ManifestFile& expected, const Passage& passage) {
  if (expected.header_bytes < 8 || expected.header_bytes > std::min(expected.bytes, 8 + kShardHeaderBytesMax)) {
    return Fail(Code::kCorrupt, "the manifest gives ", expected.name, " a header of ", expected.header_bytes, " bytes");
  }
  std::vector<std::byte> start(expected.header_bytes);
  BELAY_TRY(Read(file, expected.name, 0, start, passage));
  if (Sha256Hex(std::span<const std::byte>(start)) != expected.header_sha256) {
    return Fail(Code::kCorrupt, expected.name, " is damaged: its header (file bytes 0 to ", expected.header_bytes,
                ") does not match the manifest");
  }
  auto header = DecodeShardHeader(start);
  if (!header) return Fail(Code::kCorrupt, "the header of ", expected.name, ": ", header.error().Text());
  const ShardPlan& plan = header->plan;
  if (plan.FileBytes() != expected.bytes || header->digests.size() != ChunkCount(plan.data_bytes) ||
      Sha256Hex(header->digests) != expected.data_sha256) {
    return Fail(Code::kCorrupt, expected.name, " is damaged: its chunk digests do not match the manifest");
  }
  std::vector<std::byte> buffer(std::min(kChunkBytes, std::max<std::uint64_t>(plan.data_bytes, 1)));
  for (std::size_t chunk = 0; chunk < header->digests.size(); ++chunk) {
    const std::uint64_t begin = chunk * kChunkBytes;
    const auto bytes = std::span(buffer).first(std::min(kChunkBytes, plan.data_bytes - begin));
    BELAY_TRY(Read(file, expected.name, plan.header_bytes + begin, bytes, passage));
    if (DigestChunk(bytes) == header->digests[chunk]) continue;
    return Fail(Code::kCorrupt, expected.name, " is damaged: the digest of file bytes ", plan.header_bytes + begin,
                " to ", plan.header_bytes + begin + bytes.size(), TensorAt(plan, begin), " does not match");
  }
  return {};
}

Status CheckRecords(base::File& file, const ManifestFile& expected, const Passage& passage) {
  if (expected.bytes > kRecordsBytesMax) return Fail(Code::kCorrupt, "the manifest gives ", expected.name, " too much");
  std::vector<std::byte> bytes(expected.bytes);
  BELAY_TRY(Read(file, expected.name, 0, bytes, passage));
  if (Sha256Hex(std::span<const std::byte>(bytes)) == expected.header_sha256) return {};
  return Fail(Code::kCorrupt, expected.name, " is damaged: its ", expected.bytes,
              " bytes do not match the manifest's digest");
}

base::Result<Manifest> ReadManifest(base::FileSystem& files, const std::string& directory) {
  BELAY_ASSIGN(const std::string text,
               base::ReadWholeFile(files, directory + "/" + std::string(kManifestName), kManifestBytesMax));
  auto manifest = DecodeManifest(text);
  if (!manifest) return Fail(Code::kCorrupt, kManifestName, ": ", manifest.error().Text());
  return manifest;
}

Status WriteAnew(base::FileSystem& files, const std::string& path, std::span<const std::byte> image,
                 const Passage& passage) {
  BELAY_ASSIGN(auto file, files.Open(path, {.mode = base::OpenOptions::Mode::kCreateOrTruncate, .bulk = true}));
  if (!image.empty()) BELAY_TRY(file->Preallocate(image.size()));
  for (std::size_t at = 0; at < image.size(); at += kPieceBytes) {
    const auto piece = image.subspan(at, std::min(kPieceBytes, image.size() - at));
    if (!passage.Pass(piece.size())) return Fail(Code::kCancelled, "writing ", path, " was given up");
    BELAY_TRY(file->WriteAt(at, piece));
  }
  BELAY_TRY(file->Sync());
  return file->Close();
}

Status RepairOrFail(base::FileSystem& files, const std::string& directory, const commit::RepairFile& order,
                    std::span<const std::byte> staging, BackgroundGate& gate) {
  BELAY_ASSIGN(const std::string path, spread::PlaceOfFile(files, directory + "/" + order.file.name));
  BELAY_ASSIGN(const Manifest manifest, DecodeManifest(order.manifest));
  if (order.file.name == kManifestName) return base::WriteFileDurably(files, path, order.manifest);
  const auto expected = std::find_if(manifest.files.begin(), manifest.files.end(),
                                     [&](const ManifestFile& file) { return file.name == order.file.name; });
  if (expected == manifest.files.end()) return Fail(Code::kNotFound, "the manifest does not list ", order.file.name);
  std::span<const std::byte> image;
  if (order.file.records != nullptr) {
    image = std::as_bytes(std::span(*order.file.records));
  } else {
    if (order.file.offset > staging.size() || order.file.bytes > staging.size() - order.file.offset) {
      return Fail(Code::kNotFound, "the snapshot is not in memory any more");
    }
    image = staging.subspan(order.file.offset, order.file.bytes);
  }
  const std::string temporary = path + ".tmp";
  const Passage passage(gate, Passage::Haste::kMemoryMayGo);
  Status written = WriteAnew(files, temporary, image, passage);
  if (written) written = base::FaultPoint("repair.after_sync");
  if (written) written = CheckFile(files, temporary, *expected, passage);
  if (!written) {
    base::IgnoreError(files.Remove(temporary), "it may not be there");
    return written;
  }
  BELAY_TRY(files.Rename(temporary, path));
  return files.SyncDirectory(base::ParentPath(path));
}

}  // namespace

Status CheckFile(base::FileSystem& files, const std::string& path, const ManifestFile& expected,
                 const Passage& passage) {
  auto file = files.Open(path, {.bulk = expected.kind == "shard"});
  if (!file && file.error().code == Code::kNotFound) return Fail(Code::kIncomplete, expected.name, " is missing");
  if (!file) return tl::unexpected(file.error());
  BELAY_ASSIGN(const std::uint64_t bytes, (*file)->Size());
  if (bytes != expected.bytes) {
    return Fail(bytes < expected.bytes ? Code::kIncomplete : Code::kCorrupt, expected.name, " has ", bytes,
                " bytes instead of ", expected.bytes);
  }
  return expected.kind == "shard" ? CheckShard(**file, expected, passage) : CheckRecords(**file, expected, passage);
}

ScrubResult Scrub(base::FileSystem& files, const std::string& directory, const ScrubOrder& order,
                  BackgroundGate& gate) {
  ScrubResult result{order, {}, 0, std::nullopt, false};
  const auto manifest = ReadManifest(files, directory);
  if (!manifest && manifest.error().code == Code::kNotFound) return result;  // it has been removed
  if (!manifest) {
    result.error = manifest.error();
    // Nothing else of it can be checked, so it is not come back to in this pass.
    result.file = IsDamage(*result.error) ? std::string(kManifestName) : std::string();
    return result;
  }
  const auto next = std::find_if(manifest->files.begin(), manifest->files.end(),
                                 [&](const ManifestFile& file) { return file.name > order.after; });
  if (next == manifest->files.end()) return result;
  result.file = next->name;
  result.bytes = next->bytes;
  const Status checked = CheckFile(files, directory + "/" + next->name, *next, gate);
  if (checked) return result;
  result.is_given_up = checked.error().code == Code::kCancelled;
  if (result.is_given_up) return result;
  // A checkpoint that retention takes away meanwhile loses its manifest first.
  if (const auto still = ReadManifest(files, directory); !still && still.error().code == Code::kNotFound) {
    return ScrubResult{order, {}, 0, std::nullopt, false};
  }
  result.error = spread::Explained(files, directory + "/" + next->name, checked.error());
  return result;
}

commit::RepairFinished Repair(base::FileSystem& files, const std::string& directory, const commit::RepairFile& order,
                              std::span<const std::byte> staging, BackgroundGate& gate) {
  commit::RepairFinished finished{order.job, order.id, order.file.name, order.damage, std::nullopt};
  if (auto repaired = RepairOrFail(files, directory, order, staging, gate); !repaired)
    finished.error = repaired.error();
  return finished;
}

}  // namespace belay::checkpoint
