// The JSON of a checkpoint, as several commands print it. For .cc files only: it includes the JSON library.
#pragma once

#include <nlohmann/json.hpp>
#include <string>

#include "checkpoint/cli/access.h"
#include "checkpoint/cli/output.h"
#include "checkpoint/client/restorer.h"

namespace belay::checkpoint::cli {

using Json = nlohmann::ordered_json;

inline Json CheckpointJson(const Listed& listed) {
  const CheckpointInfo& info = listed.info;
  Json document = {{"project", info.key.job.project},
                   {"job", info.key.job.job},
                   {"step", base::Str(info.key.step)},
                   {"generation", base::Str(info.key.generation)},
                   {"bytes", info.bytes},
                   {"created", info.created},
                   {"reason", info.reason},
                   {"world_size", info.world_size},
                   {"in_memory", info.in_memory},
                   {"on_disk", true},
                   {"pinned", listed.pinned ? Json(*listed.pinned) : Json()},
                   {"quarantine", info.quarantine.empty() ? Json() : Json(info.quarantine)},
                   {"trust", TrustName(info.trust.state)},
                   {"failed_resumes", info.trust.failed_resumes},
                   {"trust_reason", info.trust.reason.empty() ? Json() : Json(info.trust.reason)},
                   {"directory", info.directory},
                   {"digest", info.digest}};
  Json metrics = Json::object();
  for (const auto& [name, value] : info.metrics) metrics[name] = value;  // NaN becomes null
  document["metrics"] = std::move(metrics);
  return document;
}

inline Json ErrorJson(const base::Error& error) {
  return {{"code", static_cast<int>(error.code)}, {"name", base::Describe(error.code).name}, {"message", error.Text()}};
}

// Adds schema_version and prints.
inline void PrintDocument(Json fields) {
  Json document = {{"schema_version", kJsonSchemaVersion}};
  document.update(fields);
  Print(document.dump(2, ' ', false, Json::error_handler_t::replace) + "\n");
}

}  // namespace belay::checkpoint::cli
