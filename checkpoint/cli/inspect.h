// Looking at one file of a checkpoint, or a whole folder, without belayd and however damaged: what is there, what is
// good, what is bad down to the byte ranges that a digest covers, and what can still be read.
//
// Never writes. Trusts nothing: sizes are compared before memory is asked for, and everything found wrong is a line in
// `problems`, not an end. What holds what: a manifest's digest proves the manifest, the manifest proves headers and the
// lists of chunk digests, those prove data. A file that nothing proves is said to be unproven.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "checkpoint/format/manifest.h"
#include "checkpoint/format/shard_file.h"
#include "runtime/base/file_system.h"

namespace belay::checkpoint::cli {

enum class Health : std::uint8_t {
  kGood,      // a digest proves it
  kUnproven,  // it makes sense, but there is no digest to hold it against
  kDamaged,
  kMissing,
};
std::string_view HealthName(Health health);

struct ByteRange {
  std::uint64_t begin = 0, end = 0;
  friend bool operator==(const ByteRange&, const ByteRange&) = default;
};

struct TensorView {
  ShardEntry entry;
  std::uint64_t file_offset = 0;
  Health health = Health::kUnproven;
  std::vector<ByteRange> bad;  // of the tensor's own bytes: damaged or missing
};

struct FileView {
  std::string name, kind;  // "shard", "safetensors" (not belay's), "manifest", "records", "unknown"
  std::uint64_t bytes = 0;
  std::optional<std::uint64_t> bytes_expected;  // by the manifest, else by the header
  Health health = Health::kUnproven;            // of the whole file
  Health header = Health::kUnproven;            // shards only, as all below
  std::optional<ShardIdentity> identity;
  std::uint64_t header_bytes = 0, data_bytes = 0;
  std::uint64_t chunks = 0, chunks_good = 0, chunks_damaged = 0, chunks_missing = 0;  // by their digests
  std::vector<ByteRange> bad;                                                         // of the file
  std::vector<TensorView> tensors;
  std::vector<std::pair<std::string, std::uint64_t>> records;  // name, bytes
  std::vector<base::Error> problems;
};

struct Inspection {
  std::string path;
  bool is_folder = false;
  Health manifest_health = Health::kMissing;
  std::optional<Manifest> manifest;  // of the folder, the file's folder or the file; kDamaged: as far as it can be read
  std::vector<FileView> files;       // the manifest itself among them, if it is what was asked for
  std::vector<std::string> others;   // names in the folder that are no file of a checkpoint
  std::vector<base::Error> problems;  // of the whole: no manifest, tensors that the files do not tile
  // Tensors (of one file: the pieces in it) of which every byte can be read and none is known to be bad; and the rest.
  std::vector<std::string> readable, lost;
};

// kNotFound, kPermissionDenied, kIo: `path` itself cannot be looked at.
base::Result<Inspection> Inspect(base::FileSystem& files, const std::string& path, int threads);

// Everything wrong with it, in one list.
std::vector<base::Error> AllProblems(const Inspection& inspection);

}  // namespace belay::checkpoint::cli
