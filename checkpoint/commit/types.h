// The nouns of the commit protocol, as plain data: jobs, checkpoints, policies, what clients ask and are told.
//
// No protobuf here: the daemon translates (checkpoint/daemon/wire.h), so that the core can be simulated without a
// socket.
#pragma once

#include <compare>
#include <cstdint>
#include <map>
#include <memory>
#include <optional>
#include <ostream>
#include <string>
#include <vector>

#include "checkpoint/format/manifest.h"
#include "checkpoint/format/shard_file.h"
#include "checkpoint/format/trust.h"
#include "runtime/base/ids.h"
#include "runtime/base/result.h"

namespace belay::checkpoint::commit {

using ConnectionId = std::uint64_t;

// Whom to answer: a request's id is unique within its connection.
struct RequestRef {
  ConnectionId connection = 0;
  std::uint64_t id = 0;
};

struct JobKey {
  std::string project;
  std::string job;
  friend auto operator<=>(const JobKey&, const JobKey&) = default;
  friend std::ostream& operator<<(std::ostream& out, const JobKey& key) { return out << key.project << '/' << key.job; }
};

// One checkpoint of a job. Ordered by generation first: a run that was told to go back to an older step writes newer
// checkpoints with smaller steps, and those are the ones a resume wants and retention must keep.
struct CheckpointId {
  base::Generation generation;
  base::Step step;
  friend auto operator<=>(const CheckpointId&, const CheckpointId&) = default;
  friend std::ostream& operator<<(std::ostream& out, const CheckpointId& id) {
    return out << CheckpointDirectoryName(id.step, id.generation);
  }
};

struct Retention {
  std::uint32_t keep_last = 3;   // at least 1
  std::uint32_t keep_every = 0;  // also the first at or after each multiple of this; 0: none
  std::uint32_t keep_best = 0;
  std::string metric = "loss";
  bool larger_is_better = false;
};

inline constexpr std::size_t kStagingBuffersMax = 8;  // of a rank

// Where one file's image lies in a rank's staging memory.
struct SealedFile {
  std::string name;
  std::uint64_t offset = 0;
  std::uint64_t bytes = 0;
  std::optional<StepAndGeneration> origin;  // the earlier save that wrote it, if it was not this one
  // Its data, from here on, were written in waves; only its header lies at `offset`. None: the whole image does.
  std::optional<std::uint64_t> streamed_from = std::nullopt;
};

// A piece of a file, in staging memory that does not hold all of it.
struct WavePiece {
  std::string name;
  std::uint64_t file_bytes = 0;  // of the whole file
  std::uint64_t file_offset = 0;
  std::uint64_t offset = 0, bytes = 0;  // in the staging memory
};

// What a rank's shard turned out to be when its header was read out of staging memory.
struct InspectedFile {
  ManifestFile manifest;
  std::vector<ShardEntry> entries;  // empty for records
};

// A committed checkpoint as the catalogue knows it.
struct CommittedInfo {
  std::uint64_t bytes = 0;
  std::string created;
  std::string reason;
  std::int32_t world_size = 1;
  bool pinned = false;
  std::string digest;
  std::map<std::string, double> metrics;
  std::string quarantine;  // what damage was found; empty: none, and only then it is offered for restoring
  Trust trust;
};

// What a job's files (or the index) say about it at start-up and after a reindex.
struct CataloguedJob {
  base::Generation generation;
  std::uint32_t owner_uid = 0;
  std::map<CheckpointId, CommittedInfo> checkpoints;
};
using Catalogue = std::map<JobKey, CataloguedJob>;

enum class SnapshotState : std::uint8_t { kFilling = 1, kSealed = 2, kPrepared = 3, kCommitted = 4, kFailed = 5 };

// --- limits; PROTOCOL.md lists them ---
inline constexpr std::int32_t kWorldSizeMax = 65536;
inline constexpr std::size_t kFilesMax = 64;                // of one rank and snapshot
inline constexpr std::size_t kRecordsBytesMax = 16U << 20;  // of one rank
inline constexpr std::size_t kTextBytesMax = 4096;          // reasons, hosts, outcomes
inline constexpr std::size_t kMetricsMax = 256;
inline constexpr std::size_t kFileNameBytesMax = 200;
inline constexpr std::uint64_t kStagingAlignment = 4096;

}  // namespace belay::checkpoint::commit
