// The index's records: key layout and values. README.md has the table.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "checkpoint/commit/types.h"
#include "runtime/base/file_system.h"
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

// How fast bulk files of a shape were, in bytes a second. `write`: until they were durable.
struct ShapeSpeed {
  base::BulkShape shape;
  std::uint64_t write = 0, read = 0;
  friend bool operator==(const ShapeSpeed&, const ShapeSpeed&) = default;
};
// What was measured of the device that a folder is on, and the shape that bulk files there have since. A record that is
// lost, or does not decode, is measured again.
struct DeviceRecord {
  std::int64_t measured_unix = 0;  // seconds since 1970
  std::string version;             // of the belay that measured
  base::BulkShape shape;
  std::vector<ShapeSpeed> speeds;  // medians; none: it was too slow for so short a measurement
  friend bool operator==(const DeviceRecord&, const DeviceRecord&) = default;
};
// Of a folder and the file system on it (base::SpaceInfo): another one mounted there is another device.
std::string DeviceRecordKey(std::uint64_t file_system_id, std::string_view folder);
inline constexpr std::string_view kDevicePrefix = "d/";  // they stay, whatever the catalogue says
std::string EncodeDeviceRecord(const DeviceRecord& record);
// kCorrupt: no record, or no shape that can be used; kFormatVersion: of another belay.
base::Result<DeviceRecord> DecodeDeviceRecord(std::string_view value);

// All that the index says. kCorrupt if a record does not decode, kFormatVersion if a newer belay wrote it.
base::Result<commit::Catalogue> ReadCatalogue(base::Index& index);
// The batch that makes the index say `wanted` instead of what it says now, PREPARED records dropped.
base::Result<base::IndexBatch> ReplaceCatalogue(base::Index& index, const commit::Catalogue& wanted);

}  // namespace belay::checkpoint::index
