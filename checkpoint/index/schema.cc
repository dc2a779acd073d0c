#include "checkpoint/index/schema.h"

#include <stdexcept>
#include <utility>

#include <nlohmann/json.hpp>

namespace belay::checkpoint::index {

using base::Code;
using nlohmann::json;

namespace {

constexpr std::size_t kIdBytes = 16;
constexpr std::uint32_t kDeviceRecordSchema = 1;

// Big-endian, so that byte order is number order.
void AppendBigEndian(std::string& key, std::uint64_t value, int bytes) {
  for (int shift = (bytes - 1) * 8; shift >= 0; shift -= 8) key.push_back(static_cast<char>(value >> shift));
}

std::uint64_t ReadBigEndian(std::string_view bytes) {
  std::uint64_t value = 0;
  for (const char byte : bytes) value = value << 8 | static_cast<unsigned char>(byte);
  return value;
}

std::string CheckpointSuffix(const commit::JobKey& job, const commit::CheckpointId& id) {
  std::string key = job.project + "/" + job.job + "/";
  AppendBigEndian(key, id.generation.value(), 8);
  AppendBigEndian(key, static_cast<std::uint64_t>(id.step.value()), 8);
  return key;
}

// "<tag>/<project>/<job>" followed by nothing or by "/<id>"; names hold no slash.
std::optional<commit::JobKey> ParseJob(std::string_view key) {
  const std::size_t slash = key.find('/');
  if (slash == std::string_view::npos) return std::nullopt;
  return commit::JobKey{std::string(key.substr(0, slash)), std::string(key.substr(slash + 1))};
}

// Not field.get<T>(): that takes fractions and negative numbers too, and of one too large its answer is undefined.
template <typename T>
T Whole(const json& fields, const char* name) {
  const json& field = fields.at(name);
  if (field.is_number_unsigned()) {
    if (const auto number = field.get<std::uint64_t>(); std::in_range<T>(number)) return static_cast<T>(number);
  } else if (field.is_number_integer()) {
    if (const auto number = field.get<std::int64_t>(); std::in_range<T>(number)) return static_cast<T>(number);
  }
  throw std::out_of_range(base::Str(name, " is no whole number in its range"));
}

template <typename T>
base::Result<T> Decode(std::string_view value, const char* what, T (*read)(const json&)) {
  try {
    return read(json::parse(value));
  } catch (const std::exception& error) {
    return base::Fail(Code::kCorrupt, "a ", what, " record of the index does not decode: ", error.what());
  }
}

json ShapeFields(const base::BulkShape& shape) {
  return {{"block_bytes", shape.block_bytes}, {"queue_depth", shape.queue_depth}};
}

base::BulkShape ShapeOf(const json& fields) {
  const base::BulkShape shape{Whole<std::uint64_t>(fields, "block_bytes"), Whole<unsigned>(fields, "queue_depth")};
  if (!base::IsUsable(shape)) throw std::out_of_range("it has a shape that bulk files cannot have");
  return shape;
}

}  // namespace

std::string JobRecordKey(const commit::JobKey& job) { return "g/" + job.project + "/" + job.job; }
std::string CheckpointRecordKey(const commit::JobKey& job, const commit::CheckpointId& id) {
  return "c/" + CheckpointSuffix(job, id);
}
std::string PreparedPrefix(const commit::JobKey& job, const commit::CheckpointId& id) {
  return "p/" + CheckpointSuffix(job, id);
}
std::string PreparedRecordKey(const commit::JobKey& job, const commit::CheckpointId& id, base::Rank rank) {
  std::string key = PreparedPrefix(job, id);
  AppendBigEndian(key, static_cast<std::uint32_t>(rank.value()), 4);
  return key;
}

std::string EncodeJobRecord(const JobRecord& record) {
  return json{{"generation", record.generation.value()}, {"owner_uid", record.owner_uid}}.dump();
}
base::Result<JobRecord> DecodeJobRecord(std::string_view value) {
  return Decode<JobRecord>(value, "job", [](const json& fields) {
    return JobRecord{base::Generation(Whole<std::uint64_t>(fields, "generation")),
                     Whole<std::uint32_t>(fields, "owner_uid")};
  });
}

std::string EncodeCheckpointRecord(const commit::CommittedInfo& info) {
  json metrics = json::object();
  for (const auto& [name, number] : info.metrics) metrics[name] = number;  // not finite: null
  const json fields{{"bytes", info.bytes},
                    {"created", info.created},
                    {"reason", info.reason},
                    {"world_size", info.world_size},
                    {"pinned", info.pinned},
                    {"digest", info.digest},
                    {"metrics", metrics},
                    {"quarantine", info.quarantine},
                    {"trust", TrustName(info.trust.state)},
                    {"failed_resumes", info.trust.failed_resumes},
                    {"judged_by", info.trust.judged_by.value()},
                    {"trust_reason", info.trust.reason}};
  return fields.dump(-1, ' ', false, json::error_handler_t::replace);
}
base::Result<commit::CommittedInfo> DecodeCheckpointRecord(std::string_view value) {
  return Decode<commit::CommittedInfo>(value, "checkpoint", [](const json& fields) {
    commit::CommittedInfo info;
    info.bytes = Whole<std::uint64_t>(fields, "bytes");
    info.created = fields.at("created").get<std::string>();
    info.reason = fields.at("reason").get<std::string>();
    info.world_size = Whole<std::int32_t>(fields, "world_size");
    info.pinned = fields.at("pinned").get<bool>();
    info.digest = fields.at("digest").get<std::string>();
    info.quarantine = fields.value("quarantine", "");  // records of releases before 0.2 have none
    info.trust.state = ParseTrust(fields.value("trust", "")).value_or(TrustState::kUnknown);
    info.trust.failed_resumes = fields.value("failed_resumes", 0U);
    info.trust.judged_by = base::Generation(fields.value("judged_by", std::uint64_t{0}));
    info.trust.reason = fields.value("trust_reason", "");
    for (const auto& [name, number] : fields.at("metrics").items()) {
      if (number.is_number()) info.metrics[name] = number.get<double>();
    }
    return info;
  });
}

std::string DeviceRecordKey(std::uint64_t file_system_id, std::string_view folder) {
  std::string key(kDevicePrefix);
  AppendBigEndian(key, file_system_id, 8);
  return key.append(folder);
}

std::string EncodeDeviceRecord(const DeviceRecord& record) {
  json fields = ShapeFields(record.shape);
  fields["schema"] = kDeviceRecordSchema;
  fields["measured"] = record.measured_unix;
  fields["version"] = record.version;
  fields["speeds"] = json::array();
  for (const ShapeSpeed& speed : record.speeds) {
    json& one = fields["speeds"].emplace_back(ShapeFields(speed.shape));
    one["write"] = speed.write;
    one["read"] = speed.read;
  }
  return fields.dump(-1, ' ', false, json::error_handler_t::replace);
}
base::Result<DeviceRecord> DecodeDeviceRecord(std::string_view value) {
  BELAY_ASSIGN(const auto schema, Decode<std::uint32_t>(value, "device", [](const json& fields) {
                 return Whole<std::uint32_t>(fields, "schema");
               }));
  if (schema != kDeviceRecordSchema) {
    return base::Fail(Code::kFormatVersion, "a device record of the index has schema ", schema, ", this belay knows ",
                      kDeviceRecordSchema);
  }
  return Decode<DeviceRecord>(value, "device", [](const json& fields) {
    DeviceRecord record{
        Whole<std::int64_t>(fields, "measured"), fields.at("version").get<std::string>(), ShapeOf(fields), {}};
    for (const json& speed : fields.at("speeds")) {
      record.speeds.push_back(
          {ShapeOf(speed), Whole<std::uint64_t>(speed, "write"), Whole<std::uint64_t>(speed, "read")});
    }
    return record;
  });
}

base::Result<commit::Catalogue> ReadCatalogue(base::Index& index) {
  commit::Catalogue catalogue;
  BELAY_ASSIGN(const auto version, index.Get(kSchemaKey));
  if (version && *version != kSchemaVersion) {
    return base::Fail(Code::kFormatVersion, "the index has schema ", *version, ", this belay knows ", kSchemaVersion);
  }
  BELAY_ASSIGN(const auto jobs, index.Scan("g/"));
  for (const auto& [key, value] : jobs) {
    const auto job = ParseJob(std::string_view(key).substr(2));
    if (!job) return base::Fail(Code::kCorrupt, "a job's key in the index is malformed");
    BELAY_ASSIGN(const JobRecord record, DecodeJobRecord(value));
    catalogue[*job].generation = record.generation;
    catalogue[*job].owner_uid = record.owner_uid;
  }
  BELAY_ASSIGN(const auto checkpoints, index.Scan("c/"));
  for (const auto& [key, value] : checkpoints) {
    const std::string_view rest = std::string_view(key).substr(2);
    if (rest.size() < kIdBytes + 4) return base::Fail(Code::kCorrupt, "a checkpoint's key in the index is malformed");
    const auto job = ParseJob(rest.substr(0, rest.size() - kIdBytes - 1));
    if (!job) return base::Fail(Code::kCorrupt, "a checkpoint's key in the index is malformed");
    const std::string_view id = rest.substr(rest.size() - kIdBytes);
    BELAY_ASSIGN(commit::CommittedInfo info, DecodeCheckpointRecord(value));
    catalogue[*job].checkpoints[{base::Generation(ReadBigEndian(id.substr(0, 8))),
                                 base::Step(static_cast<std::int64_t>(ReadBigEndian(id.substr(8))))}] = std::move(info);
  }
  return catalogue;
}

base::Result<base::IndexBatch> ReplaceCatalogue(base::Index& index, const commit::Catalogue& wanted) {
  std::map<std::string, std::string> records;
  records[std::string(kSchemaKey)] = kSchemaVersion;
  for (const auto& [key, job] : wanted) {
    records[JobRecordKey(key)] = EncodeJobRecord({job.generation, job.owner_uid});
    for (const auto& [id, info] : job.checkpoints) {
      records[CheckpointRecordKey(key, id)] = EncodeCheckpointRecord(info);
    }
  }
  base::IndexBatch batch;
  BELAY_ASSIGN(const auto present, index.Scan(""));
  for (const auto& [key, value] : present) {
    if (key == kScrubKey || key.starts_with(kDevicePrefix)) continue;
    const auto record = records.find(key);
    if (record == records.end())
      batch.Delete(key);
    else if (record->second == value)
      records.erase(record);
  }
  for (auto& [key, value] : records) batch.Put(key, value);
  return batch;
}

}  // namespace belay::checkpoint::index
