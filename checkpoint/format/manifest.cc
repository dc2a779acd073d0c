#include "checkpoint/format/manifest.h"

#include <algorithm>
#include <array>
#include <charconv>
#include <cmath>
#include <cstdio>
#include <limits>
#include <nlohmann/json.hpp>
#include <set>

#include "checkpoint/format/digest.h"
#include "checkpoint/format/strict_json.h"

namespace belay::checkpoint {

using base::Code;
using base::Fail;
using nlohmann::json;

namespace {

constexpr std::string_view kDigestKey = ",\n \"digest\": \"";
constexpr std::string_view kDigestEnd = "\"\n}\n";
constexpr std::size_t kSha256Digits = 64;
// The critical features this build knows. A file with an origin has another identity in its header than the manifest.
constexpr std::string_view kOriginFeature = "origin";

bool IsSha256(std::string_view text) {
  return text.size() == kSha256Digits && text.find_first_not_of("0123456789abcdef") == std::string_view::npos;
}

// JSON has no word for these, and a loss may well be one of them.
json NumberToJson(double value) {
  if (std::isnan(value)) return "NaN";
  if (std::isinf(value)) return value > 0 ? "Infinity" : "-Infinity";
  return value;
}

std::optional<double> NumberFromJson(const json& value) {
  if (value.is_number()) return value.get<double>();
  if (value == "NaN") return std::numeric_limits<double>::quiet_NaN();
  if (value == "Infinity") return std::numeric_limits<double>::infinity();
  if (value == "-Infinity") return -std::numeric_limits<double>::infinity();
  return std::nullopt;
}

// Reads the fields of one object and remembers the first thing that was wrong.
class Fields {
 public:
  Fields(const json& object, std::string where) : object_(object), where_(std::move(where)) {
    if (!object.is_object()) Complain("is not an object");
  }

  std::string Text(const char* key) {
    const json* value = Find(key);
    if (value == nullptr) return {};
    if (!value->is_string()) return Complain(key, "is not a string"), std::string();
    return value->get<std::string>();
  }
  template <typename Int>
  Int Number(const char* key, std::uint64_t max = std::numeric_limits<Int>::max()) {
    const json* value = Find(key);
    if (value == nullptr) return 0;
    if (!value->is_number_unsigned() || value->get<std::uint64_t>() > max) {
      return Complain(key, "is not a whole number in range"), Int{0};
    }
    return static_cast<Int>(value->get<std::uint64_t>());
  }
  std::string Sha256(const char* key) {
    std::string text = Text(key);
    if (!IsSha256(text)) Complain(key, "is not a SHA-256");
    return text;
  }
  const json& Object(const char* key) { return Typed(key, json::value_t::object); }
  const json& Array(const char* key) { return Typed(key, json::value_t::array); }
  void Complain(const char* key, std::string_view what) { Complain(base::Str(JsonString(key), " ", what)); }
  void Complain(std::string what) {
    if (complaint_.empty()) complaint_ = std::move(what);
  }
  base::Status Check() const {
    if (!complaint_.empty()) return Fail(Code::kCorrupt, where_, ": ", complaint_);
    return {};
  }

 private:
  const json* Find(const char* key) {
    if (!object_.is_object()) return nullptr;
    const auto at = object_.find(key);
    if (at == object_.end()) return Complain(key, "is missing"), nullptr;
    return &*at;
  }
  const json& Typed(const char* key, json::value_t type) {
    static const json kEmptyObject = json::object(), kEmptyArray = json::array();
    const json* value = Find(key);
    if (value != nullptr && value->type() == type) return *value;
    Complain(key, "has the wrong type");
    return type == json::value_t::object ? kEmptyObject : kEmptyArray;
  }

  const json& object_;
  std::string where_;
  std::string complaint_;
};

std::optional<std::int32_t> ParseRank(std::string_view text) {
  std::int32_t rank = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), rank);
  if (error != std::errc() || end != text.data() + text.size() || rank < 0 || std::to_string(rank) != text) return {};
  return rank;
}

base::Result<ManifestFile> DecodeFile(const json& value, std::int32_t world_size) {
  Fields fields(value, "manifest, a file");
  ManifestFile file;
  file.name = fields.Text("name");
  file.bytes = fields.Number<std::uint64_t>("bytes", std::uint64_t{1} << 62);
  file.kind = fields.Text("kind");
  file.rank = base::Rank(fields.Number<std::int32_t>("rank"));
  file.header_bytes = fields.Number<std::uint64_t>("header_bytes", std::uint64_t{1} << 62);
  file.header_sha256 = fields.Sha256("header_sha256");
  file.data_sha256 = fields.Text("data_sha256");
  // A name comes from a disk and goes to open(): it stays inside the folder.
  if (!ValidateName("file", file.name) || file.name == kManifestName) fields.Complain("name", "is not a file name");
  if (file.rank.value() >= world_size) fields.Complain("rank", "is outside the world");
  if (file.kind == "shard") {
    if (!IsSha256(file.data_sha256)) fields.Complain("data_sha256", "is not a SHA-256");
    if (file.header_bytes > file.bytes) fields.Complain("header_bytes", "is more than the file");
  } else if (file.kind == "records") {
    if (!file.data_sha256.empty()) fields.Complain("data_sha256", "is set for records");
    if (file.header_bytes != 0) fields.Complain("header_bytes", "is set for records");
  } else {
    fields.Complain("kind", "is neither shard nor records");
  }
  if (value.is_object() && value.contains("origin")) {
    Fields origin(fields.Object("origin"), "manifest, the origin of a file");
    file.origin.emplace();
    file.origin->step = base::Step(origin.Number<std::int64_t>("step"));
    file.origin->generation = base::Generation(origin.Number<std::uint64_t>("generation"));
    if (file.kind != "shard") fields.Complain("origin", "is set for records");
    BELAY_TRY(origin.Check());
  }
  BELAY_TRY(fields.Check());
  return file;
}

}  // namespace

std::string EncodeManifest(const Manifest& manifest) {
  nlohmann::ordered_json out;
  out["format"] = "belay-manifest";
  out["version"] = 1;
  auto& critical = out["critical"] = json::array();
  const bool has_origins = std::any_of(manifest.files.begin(), manifest.files.end(),
                                       [](const ManifestFile& file) { return file.origin.has_value(); });
  if (has_origins) critical.push_back(kOriginFeature);
  out["project"] = manifest.project;
  out["job"] = manifest.job;
  out["step"] = manifest.step.value();
  out["generation"] = manifest.generation.value();
  out["world_size"] = manifest.world_size;
  out["reason"] = manifest.reason;
  out["created"] = manifest.created;
  out["parent_step"] = manifest.parent_step ? nlohmann::ordered_json(manifest.parent_step->value()) : nullptr;
  auto& metrics = out["metrics"] = json::object();
  for (const auto& [name, value] : manifest.metrics) metrics[name] = NumberToJson(value);
  auto& layouts = out["layout_fingerprints"] = json::object();
  for (const auto& [rank, fingerprint] : manifest.layout_fingerprints) {
    layouts[std::to_string(rank.value())] = fingerprint;
  }
  std::vector<const ManifestFile*> sorted;
  for (const ManifestFile& file : manifest.files) sorted.push_back(&file);
  std::sort(sorted.begin(), sorted.end(),
            [](const ManifestFile* a, const ManifestFile* b) { return a->name < b->name; });
  auto& files = out["files"] = json::array();
  for (const ManifestFile* file : sorted) {
    nlohmann::ordered_json entry;
    entry["name"] = file->name;
    entry["bytes"] = file->bytes;
    entry["kind"] = file->kind;
    entry["rank"] = file->rank.value();
    entry["header_bytes"] = file->header_bytes;
    entry["header_sha256"] = file->header_sha256;
    entry["data_sha256"] = file->data_sha256;
    if (file->origin) {
      auto& origin = entry["origin"] = json::object();
      origin["step"] = file->origin->step.value();
      origin["generation"] = file->origin->generation.value();
    }
    files.push_back(std::move(entry));
  }
  // The digest is over the text as it would be without it: it ends in "\n}\n".
  std::string text = out.dump(1, ' ', false, json::error_handler_t::replace) + "\n";
  const std::string digest = Sha256Hex(text);
  text.resize(text.size() - 3);
  return text + std::string(kDigestKey) + digest + std::string(kDigestEnd);
}

base::Result<Manifest> DecodeManifest(std::string_view text) {
  if (text.size() > kManifestBytesMax) {
    return Fail(Code::kLimitExceeded, "a manifest of ", text.size(), " bytes; the limit is ", kManifestBytesMax);
  }
  // The version is looked at before the digest, so that a newer manifest is called newer and not damaged.
  if (auto checked = CheckJson(text, 8); !checked) return base::Wrap(std::move(checked).error(), "manifest");
  const json object = json::parse(text);
  Fields fields(object, "manifest");
  if (fields.Text("format") != "belay-manifest") return Fail(Code::kCorrupt, "not a belay manifest");
  const auto version = fields.Number<std::uint64_t>("version");
  BELAY_TRY(fields.Check());
  if (version != 1) return Fail(Code::kFormatVersion, "a manifest of version ", version, "; this build reads 1");
  for (const json& feature : fields.Array("critical")) {
    if (feature == kOriginFeature) continue;
    return Fail(Code::kFormatVersion,
                "the manifest needs a feature that this build lacks: ", ToUtf8(feature.dump().substr(0, 200)));
  }

  const std::size_t tail = kDigestKey.size() + kSha256Digits + kDigestEnd.size();
  if (text.size() < tail || text.substr(text.size() - tail, kDigestKey.size()) != kDigestKey ||
      !text.ends_with(kDigestEnd)) {
    return Fail(Code::kCorrupt, "the manifest does not end in its digest");
  }
  Manifest manifest;
  manifest.digest = fields.Sha256("digest");
  if (Sha256Hex(std::string(text.substr(0, text.size() - tail)) + "\n}\n") != manifest.digest) {
    return Fail(Code::kCorrupt, "the manifest does not match its digest");
  }

  manifest.project = fields.Text("project");
  manifest.job = fields.Text("job");
  manifest.step = base::Step(fields.Number<std::int64_t>("step"));
  manifest.generation = base::Generation(fields.Number<std::uint64_t>("generation"));
  manifest.world_size = fields.Number<std::int32_t>("world_size");
  manifest.reason = fields.Text("reason");
  manifest.created = fields.Text("created");
  if (manifest.world_size < 1) fields.Complain("world_size", "is 0");
  if (!ValidateName("project", manifest.project)) fields.Complain("project", "is not a name");
  if (!ValidateName("job", manifest.job)) fields.Complain("job", "is not a name");
  if (object.contains("parent_step") && !object["parent_step"].is_null()) {
    manifest.parent_step = base::Step(fields.Number<std::int64_t>("parent_step"));
  }
  for (const auto& [name, value] : fields.Object("metrics").items()) {
    const auto number = NumberFromJson(value);
    if (!number) fields.Complain("metrics", "has a value that is not a number");
    manifest.metrics[name] = number.value_or(0);
  }
  for (const auto& [name, value] : fields.Object("layout_fingerprints").items()) {
    const auto rank = ParseRank(name);
    if (!rank || *rank >= manifest.world_size || !value.is_string()) {
      fields.Complain("layout_fingerprints", "is not a list of ranks and fingerprints");
      break;
    }
    manifest.layout_fingerprints[base::Rank(*rank)] = value.get<std::string>();
  }
  for (const json& value : fields.Array("files")) {
    BELAY_ASSIGN(ManifestFile file, DecodeFile(value, manifest.world_size));
    if (!manifest.files.empty() && manifest.files.back().name >= file.name) {
      fields.Complain("files", "are not sorted by name, or one is listed twice");
    }
    manifest.files.push_back(std::move(file));
  }
  BELAY_TRY(fields.Check());
  return manifest;
}

std::string CheckpointDirectoryName(base::Step step, base::Generation generation) {
  std::array<char, 80> text{};
  std::snprintf(text.data(), text.size(), "step-%09lld.gen-%llu", static_cast<long long>(step.value()),
                static_cast<unsigned long long>(generation.value()));
  return text.data();
}

std::optional<StepAndGeneration> ParseCheckpointDirectoryName(std::string_view name) {
  constexpr std::string_view kStep = "step-", kGeneration = ".gen-";
  if (!name.starts_with(kStep)) return std::nullopt;
  const std::size_t dot = name.find(kGeneration);
  if (dot == std::string_view::npos) return std::nullopt;
  const std::string_view step_text = name.substr(kStep.size(), dot - kStep.size());
  const std::string_view generation_text = name.substr(dot + kGeneration.size());
  std::int64_t step = 0;
  std::uint64_t generation = 0;
  std::from_chars(step_text.data(), step_text.data() + step_text.size(), step);
  std::from_chars(generation_text.data(), generation_text.data() + generation_text.size(), generation);
  const StepAndGeneration parsed{base::Step(step), base::Generation(generation)};
  // Only the one spelling that we write.
  if (step < 0 || CheckpointDirectoryName(parsed.step, parsed.generation) != name) return std::nullopt;
  return parsed;
}

base::Status ValidateName(std::string_view what, std::string_view name) {
  const bool allowed = std::all_of(name.begin(), name.end(), [](char c) {
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '.' || c == '_' ||
           c == '-';
  });
  if (name.empty() || name.size() > kRunNameBytesMax || !allowed || name[0] == '.') {
    return Fail(Code::kInvalidArgument, "the ", what, " name ", JsonString(name.substr(0, 2 * kRunNameBytesMax)),
                " is not 1-100 of A-Z a-z 0-9 . _ - with something other than a dot first");
  }
  return {};
}

}  // namespace belay::checkpoint
