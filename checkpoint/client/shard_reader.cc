#include "checkpoint/client/shard_reader.h"

#include <algorithm>
#include <array>
#include <cstring>
#include <utility>
#include <vector>

#include "runtime/base/check.h"

namespace belay::checkpoint {
namespace {

using base::Code;
using base::Fail;
using base::Result;
using base::Status;

class FileBytes final : public ByteSource {
 public:
  FileBytes(std::unique_ptr<base::File> file, std::uint64_t offset, std::uint64_t bytes, std::size_t block_bytes)
      : file_(std::move(file)), offset_(offset), bytes_(bytes), block_bytes_(block_bytes) {}
  std::uint64_t Size() const override { return bytes_; }
  std::size_t BlockBytes() const override { return block_bytes_; }
  Status Read(std::uint64_t offset, std::span<std::byte> bytes) const override {
    BELAY_CHECK(offset <= bytes_ && bytes.size() <= bytes_ - offset, "reads beyond the file");
    BELAY_ASSIGN(const std::size_t read, file_->ReadAt(offset_ + offset, bytes));
    if (read < bytes.size()) return Fail(Code::kIncomplete, "it ends at byte ", offset + read, " while it is read");
    return {};
  }

 private:
  std::unique_ptr<base::File> file_;  // ReadAt is pread: thread-safe on the machine's files
  std::uint64_t offset_, bytes_;
  std::size_t block_bytes_;
};

Status CheckIdentity(const Manifest& manifest, const ManifestFile& file, const ShardIdentity& found) {
  const StepAndGeneration expected = file.origin.value_or(StepAndGeneration{manifest.step, manifest.generation});
  if (found.project == manifest.project && found.job == manifest.job && found.step == expected.step &&
      found.generation == expected.generation && found.rank == file.rank && found.world_size == manifest.world_size) {
    return {};
  }
  return Fail(Code::kCorrupt, file.name, " belongs to another checkpoint: rank ", found.rank, " of ", found.world_size,
              ", job ", found.project, "/", found.job, ", step ", found.step, ", generation ", found.generation);
}

// What a stored file has too much of, nobody asked for: to who reads it that is damage like any other.
base::Error AsDamage(base::Error error) {
  if (error.code == Code::kLimitExceeded) error.code = Code::kCorrupt;
  return error;
}

}  // namespace

Result<std::unique_ptr<ByteSource>> MemorySource(std::unique_ptr<base::File> memory, std::uint64_t offset,
                                                 std::uint64_t bytes) {
  BELAY_ASSIGN(const std::uint64_t have, memory->Size());
  if (offset > have || bytes > have - offset) {
    return Fail(Code::kIncomplete, "its image should end at byte ", offset + bytes, " of ", have, " in memory");
  }
  return std::unique_ptr<ByteSource>(std::make_unique<FileBytes>(std::move(memory), offset, bytes, kCachedBytes));
}

Result<std::unique_ptr<ByteSource>> FileSource(std::unique_ptr<base::File> file, std::uint64_t offset) {
  BELAY_ASSIGN(const std::uint64_t size, file->Size());
  if (offset > size) return Fail(Code::kIncomplete, "it should begin at byte ", offset, " of ", size);
  return std::unique_ptr<ByteSource>(std::make_unique<FileBytes>(std::move(file), offset, size - offset, kChunkBytes));
}

Result<std::unique_ptr<ShardReader>> ShardReader::Open(const Manifest& manifest, const ManifestFile& file,
                                                       std::unique_ptr<ByteSource> source) {
  if (file.header_bytes > 8 + kShardHeaderBytesMax) {
    return Fail(Code::kCorrupt, "the manifest gives ", file.name, " a header of ", file.header_bytes,
                " bytes; the limit is ", 8 + kShardHeaderBytesMax);
  }
  if (source->Size() < file.header_bytes || file.header_bytes < 8) {
    return Fail(Code::kIncomplete, file.name, " is truncated: ", source->Size(), " of ", file.bytes,
                " bytes, not even its header (", file.header_bytes, " bytes) is whole");
  }
  std::vector<std::byte> start(file.header_bytes);
  if (auto read = source->Read(0, start); !read) return base::Wrap(std::move(read).error(), "cannot read ", file.name);
  // The digest first: a length that damage has made huge is damage, not a limit that somebody exceeded.
  const bool same = Sha256Hex(std::span<const std::byte>(start)) == file.header_sha256;
  if (!same || ShardHeaderBytes(std::span(start).first(8)) != file.header_bytes) {
    return Fail(Code::kCorrupt, file.name, " is damaged: its header (file bytes 0 to ", file.header_bytes,
                ") does not match the manifest");
  }
  auto header = DecodeShardHeader(start);
  if (!header) return base::Wrap(AsDamage(std::move(header).error()), "cannot read the header of ", file.name);
  header->plan.file_name = file.name;
  BELAY_TRY(CheckIdentity(manifest, file, header->identity));
  if (header->plan.FileBytes() != file.bytes || header->digests.size() != ChunkCount(header->plan.data_bytes) ||
      Sha256Hex(header->digests) != file.data_sha256) {
    return Fail(Code::kCorrupt, file.name, " is damaged: its chunk digests do not match the manifest");
  }
  std::unique_ptr<ShardReader> reader(new ShardReader(std::move(*header), std::move(source)));
  const std::uint64_t have = reader->source_->Size();
  if (have != file.bytes) {
    const bool shorter = have < file.bytes;
    return Fail(shorter ? Code::kIncomplete : Code::kCorrupt, file.name,
                shorter ? " is truncated: " : " is too long: ", have, " bytes instead of ", file.bytes,
                shorter ? base::Str("; the first bytes missing are among ",
                                    reader->Place((have - file.header_bytes) / kChunkBytes))
                        : std::string());
  }
  return reader;
}

std::uint64_t ShardReader::ChunkSize(std::uint64_t chunk) const {
  return std::min(kChunkBytes, header_.plan.data_bytes - chunk * kChunkBytes);
}

Status ShardReader::ReadChunk(std::uint64_t chunk, std::span<std::byte> bytes) const {
  return ReadChunkInto(chunk, {&bytes, 1});
}

Status ShardReader::ReadChunkInto(std::uint64_t chunk, std::span<const std::span<std::byte>> places) const {
  BELAY_CHECK(chunk < header_.digests.size(), "chunk ", chunk, " of ", name());
  const std::uint64_t begin = header_.plan.header_bytes + chunk * kChunkBytes;
  std::uint64_t at = 0;
  DigestStream digest;
  for (std::span<std::byte> place : places) {
    while (!place.empty()) {
      const std::span<std::byte> block = place.first(std::min(place.size(), source_->BlockBytes()));
      if (auto read = source_->Read(begin + at, block); !read) {
        return base::Wrap(std::move(read).error(), "cannot read ", name(), " (", Place(chunk), ")");
      }
      digest.Add(block);
      at += block.size();
      place = place.subspan(block.size());
    }
  }
  BELAY_CHECK(at == ChunkSize(chunk), at, " bytes wanted of a chunk of ", ChunkSize(chunk));
  if (digest.Finish() == header_.digests[chunk]) return {};
  return Fail(Code::kCorrupt, name(), " is damaged: the digest of ", Place(chunk), " does not match");
}

std::string ShardReader::Place(std::uint64_t chunk) const {
  const std::uint64_t begin = chunk * kChunkBytes;
  const std::uint64_t end = begin + ChunkSize(chunk);
  const ShardEntry* first = nullptr;
  std::size_t count = 0;
  for (const ShardEntry& entry : header_.plan.entries) {
    if (entry.bytes == 0 || entry.data_offset >= end || entry.data_offset + entry.bytes <= begin) continue;
    if (first == nullptr) first = &entry;
    ++count;
  }
  std::string text =
      base::Str("file bytes ", header_.plan.header_bytes + begin, " to ", header_.plan.header_bytes + end);
  if (first != nullptr) {
    text += base::Str(", tensor ", first->name, " from its byte ",
                      begin > first->data_offset ? begin - first->data_offset : 0);
    if (count > 1) text += base::Str(" and ", count - 1, " more after it");
  }
  return text;
}

Result<Records> ReadRecords(const ManifestFile& file, const ByteSource& source) {
  if (source.Size() != file.bytes) {
    return Fail(source.Size() < file.bytes ? Code::kIncomplete : Code::kCorrupt, file.name, " has ", source.Size(),
                " bytes instead of ", file.bytes);
  }
  if (file.bytes > kRecordsBytesMax) {
    return Fail(Code::kCorrupt, "the manifest gives ", file.name, " ", file.bytes, " bytes; the limit is ",
                kRecordsBytesMax);
  }
  std::string text(file.bytes, '\0');
  if (auto read = source.Read(0, std::as_writable_bytes(std::span(text))); !read) {
    return base::Wrap(std::move(read).error(), "cannot read ", file.name);
  }
  if (Sha256Hex(text) != file.header_sha256) {
    return Fail(Code::kCorrupt, file.name, " is damaged: its ", file.bytes,
                " bytes do not match the manifest's digest");
  }
  auto records = DecodeRecords(text);
  if (!records) return base::Wrap(AsDamage(std::move(records).error()), "cannot read ", file.name);
  return records;
}

}  // namespace belay::checkpoint
