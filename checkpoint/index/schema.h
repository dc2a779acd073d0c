// The index's records: key layout and values. README.md has the table.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

#include "checkpoint/commit/types.h"
#include "runtime/base/index.h"
#include "runtime/base/result.h"

namespace belay::checkpoint::index {

inline constexpr std::string_view kSchemaKey = "v";
inline constexpr std::string_view kSchemaVersion = "1";

std::string JobRecordKey(const commit::JobKey& job);
std::string CheckpointRecordKey(const commit::JobKey& job, const commit::CheckpointId& id);
std::string PreparedRecordKey(const commit::JobKey& job, const commit::CheckpointId& id, base::Rank rank);
std::string PreparedPrefix(const commit::JobKey& job, const commit::CheckpointId& id);

struct JobRecord {
  base::Generation generation;
  std::uint32_t owner_uid = 0;
};
std::string EncodeJobRecord(const JobRecord& record);
base::Result<JobRecord> DecodeJobRecord(std::string_view value);

std::string EncodeCheckpointRecord(const commit::CommittedInfo& info);
base::Result<commit::CommittedInfo> DecodeCheckpointRecord(std::string_view value);

// How far the scrubber is: one record, whose content is the daemon's business. Stays whatever the catalogue says.
inline constexpr std::string_view kScrubKey = "s";

// All that the index says. kCorrupt if a record does not decode, kFormatVersion if a newer belay wrote it.
base::Result<commit::Catalogue> ReadCatalogue(base::Index& index);
// The batch that makes the index say `wanted` instead of what it says now, PREPARED records dropped.
base::Result<base::IndexBatch> ReplaceCatalogue(base::Index& index, const commit::Catalogue& wanted);

}  // namespace belay::checkpoint::index
