// The manifest: the file that makes a folder of shards a checkpoint. JSON, described in FORMAT.md.
//
// Present if and only if the checkpoint is committed. It lists every file with its size and digest.
#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "checkpoint/format/layout.h"
#include "runtime/base/ids.h"
#include "runtime/base/result.h"

namespace belay::checkpoint {

inline constexpr std::size_t kManifestBytesMax = std::size_t{64} << 20;  // it travels in one frame
inline constexpr std::size_t kRecordsBytesMax = std::size_t{256} << 20;
inline constexpr std::size_t kRunNameBytesMax = 100;  // project and job names

// Which save of a job: what names its folder.
struct StepAndGeneration {
  base::Step step;
  base::Generation generation;
  friend auto operator<=>(const StepAndGeneration&, const StepAndGeneration&) = default;
};

struct ManifestFile {
  std::string name;  // inside the checkpoint's folder; no slash
  std::uint64_t bytes = 0;
  std::string kind;  // "shard" or "records"
  base::Rank rank;
  std::uint64_t header_bytes = 0;  // shards only
  std::string header_sha256;       // shards: of the header's bytes; records: of the whole file
  std::string data_sha256;         // shards: over the list of chunk digests; records: empty
  // Shards: the earlier save that wrote these bytes, which its header names; none: this one. The file is here all the
  // same (a hard link, mostly).
  std::optional<StepAndGeneration> origin;
};

struct Manifest {
  std::string project, job;
  base::Step step;
  base::Generation generation;
  std::int32_t world_size = 1;
  std::string reason;   // "interval", "preemption", "final", "request"
  std::string created;  // RFC 3339, UTC
  std::map<base::Rank, std::string> layout_fingerprints;
  std::optional<base::Step> parent_step;  // the checkpoint this run resumed from
  std::map<std::string, double>
      metrics;                      // what the trainer attached, "loss" for one; for `best` retention and listings
  std::vector<ManifestFile> files;  // sorted by name
  std::string digest;               // SHA-256 of the encoding without this field; the checkpoint's name for the world
};

// JSON text; computes and appends the digest (manifest.digest is ignored) and sorts the files.
std::string EncodeManifest(const Manifest& manifest);
// Untrusted input. kCorrupt (also when the digest does not match), kFormatVersion, kLimitExceeded.
base::Result<Manifest> DecodeManifest(std::string_view json);

// "step-000001200.gen-3" and back.
std::string CheckpointDirectoryName(base::Step step, base::Generation generation);
std::optional<StepAndGeneration> ParseCheckpointDirectoryName(std::string_view name);

// Project and job names: 1-100 of [A-Za-z0-9._-], not starting with a dot. kInvalidArgument says what is wrong.
base::Status ValidateName(std::string_view what, std::string_view name);

// "rank-00003.state.json": small records of one rank, name -> bytes (base64 in the file).
// Record names are 1-1024 bytes of UTF-8.
using Records = std::map<std::string, std::string>;
std::string EncodeRecords(const Records& records);
// Untrusted input. kCorrupt, kFormatVersion, kLimitExceeded.
base::Result<Records> DecodeRecords(std::string_view json);
std::string RecordsFileName(base::Rank rank);

inline constexpr std::string_view kManifestName = "manifest.json";

}  // namespace belay::checkpoint
