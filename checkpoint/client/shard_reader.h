// Reading one shard file, wherever its bytes are: the chunks of its data section, each checked against its digest.
//
// A ShardReader has read and checked the header; after that it does not change, so any number of threads may read.
// Errors name the file, and for damaged bytes the tensor and the offset.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <string>

#include "checkpoint/format/manifest.h"
#include "checkpoint/format/shard_file.h"
#include "runtime/base/file_system.h"

namespace belay::checkpoint {

// Bytes by offset. Any thread.
class ByteSource {
 public:
  virtual ~ByteSource() = default;
  virtual std::uint64_t Size() const = 0;
  // How much to ask for at once: little of what is in memory, so that it is digested while in the core's own cache,
  // much of a disk.
  virtual std::size_t BlockBytes() const = 0;
  // Fills `bytes`, which must lie inside; kIo.
  virtual base::Status Read(std::uint64_t offset, std::span<std::byte> bytes) const = 0;
};
// `bytes` bytes of shared memory from `offset` on; kIncomplete if it is shorter. Read like a file: to map the pages and
// to take the mapping down again costs as much as the copy.
base::Result<std::unique_ptr<ByteSource>> MemorySource(std::unique_ptr<base::File> memory, std::uint64_t offset,
                                                       std::uint64_t bytes);
base::Result<std::unique_ptr<ByteSource>> FileSource(std::unique_ptr<base::File> file, std::uint64_t offset);

class ShardReader {
 public:
  // Reads the header and holds it, and the file's size, against the manifest's entry: kIncomplete, kCorrupt.
  static base::Result<std::unique_ptr<ShardReader>> Open(const Manifest& manifest, const ManifestFile& file,
                                                         std::unique_ptr<ByteSource> source);

  const std::string& name() const { return header_.plan.file_name; }
  const ShardHeader& header() const { return header_; }
  std::uint64_t ChunkSize(std::uint64_t chunk) const;
  // Chunk `chunk` of the data section into `bytes`, exactly ChunkSize(chunk), checked. kCorrupt, kIo.
  base::Status ReadChunk(std::uint64_t chunk, std::span<std::byte> bytes) const;
  // The same into several places, which take the chunk together, one after the other. After an error they hold
  // anything.
  base::Status ReadChunkInto(std::uint64_t chunk, std::span<const std::span<std::byte>> places) const;
  // "file bytes 4096 to 8192, tensor model.weight from its byte 0"
  std::string Place(std::uint64_t chunk) const;

 private:
  ShardReader(ShardHeader header, std::unique_ptr<ByteSource> source)
      : header_(std::move(header)), source_(std::move(source)) {}

  ShardHeader header_;
  std::unique_ptr<ByteSource> source_;
};

// The records file, whole and checked against the manifest's entry.
base::Result<Records> ReadRecords(const ManifestFile& file, const ByteSource& source);

}  // namespace belay::checkpoint
