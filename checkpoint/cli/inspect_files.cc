#include "checkpoint/cli/inspect_files.h"

#include <algorithm>

#include "checkpoint/cli/inspect_shard.h"
#include "checkpoint/cli/salvage.h"
#include "checkpoint/format/digest.h"
#include "checkpoint/spread/reach.h"

namespace belay::checkpoint::cli {
namespace {

using base::Code;
using base::Error;
using base::Result;

constexpr std::size_t kSniffedBytes = 256;

// What only looks like a limit here is damage: nobody asked for a file that large.
Error AsDamage(Error error) {
  if (error.code == Code::kLimitExceeded) error.code = Code::kCorrupt;
  return error;
}

void InspectRecords(base::FileSystem& files, const std::string& path, const FileContext& context, FileView& view) {
  auto text = base::ReadWholeFile(files, path, kRecordsBytesMax);
  if (!text) return view.problems.push_back(AsDamage(std::move(text).error()));
  const bool proven = context.expected != nullptr && Sha256Hex(*text) == context.expected->header_sha256;
  if (context.expected != nullptr && !proven) {
    view.problems.push_back({Code::kCorrupt,
                             base::Str(view.name, ": its ", text->size(), " bytes do not match the manifest's digest"),
                             nullptr});
    view.bad.push_back({0, text->size()});
  }
  auto records = DecodeRecords(*text);
  if (!records) {
    view.problems.push_back(base::Wrap(AsDamage(std::move(records).error()), view.name).value());
  } else {
    for (const auto& [name, bytes] : *records) view.records.emplace_back(name, bytes.size());
  }
  if (view.problems.empty() && proven) view.health = Health::kGood;
}

// First bytes of a file; fewer if it is shorter.
Result<std::string> Beginning(base::FileSystem& files, const std::string& path) {
  BELAY_ASSIGN(const base::FileInfo info, files.Stat(path));
  std::string text(std::min<std::uint64_t>(info.size_bytes, kSniffedBytes), '\0');
  if (text.empty()) return text;  // not opened: it may be a pipe, which would wait
  BELAY_ASSIGN(const auto file, files.Open(path, {}));
  BELAY_ASSIGN(const std::size_t read, file->ReadAt(0, std::as_writable_bytes(std::span(text))));
  text.resize(read);
  return text;
}

}  // namespace

std::string KindByName(const std::string& name) {
  std::string_view stem = name;
  if (stem.ends_with(".tmp")) stem.remove_suffix(4);
  if (stem.ends_with(".safetensors")) return "shard";
  if (stem.ends_with(".state.json")) return "records";
  if (stem == kManifestName || stem == "manifest.deleted") return "manifest";
  return {};
}

Result<std::string> KindOf(base::FileSystem& files, const std::string& path) {
  std::string kind = KindByName(path.substr(path.rfind('/') + 1));
  if (!kind.empty()) return kind;
  BELAY_ASSIGN(const std::string text, Beginning(files, path));
  if (text.find('{', 8) == 8) return std::string("shard");
  if (text.find("\"belay-manifest\"") != std::string::npos) return std::string("manifest");
  if (text.find("\"belay-records\"") != std::string::npos) return std::string("records");
  return std::string("unknown");
}

InspectedManifest InspectManifest(base::FileSystem& files, const std::string& path) {
  InspectedManifest out;
  out.view.name = path.substr(path.rfind('/') + 1);
  out.view.kind = "manifest";
  out.view.health = Health::kDamaged;
  if (const auto info = files.Stat(path)) out.view.bytes = info->size_bytes;
  auto text = base::ReadWholeFile(files, path, kManifestBytesMax);
  if (!text) {
    out.view.problems.push_back(AsDamage(std::move(text).error()));
    return out;
  }
  auto manifest = DecodeManifest(*text);
  if (manifest) {
    out.view.health = Health::kGood;
    out.manifest = std::move(*manifest);
    return out;
  }
  out.view.problems.push_back(base::Wrap(AsDamage(std::move(manifest).error()), out.view.name).value());
  out.manifest = SalvageManifest(*text);
  out.files = SalvageManifestFiles(*text);
  return out;
}

FileView InspectFile(base::FileSystem& files, const std::string& path, const FileContext& context) {
  FileView view;
  view.name = path.substr(path.rfind('/') + 1);
  view.kind = context.expected != nullptr ? context.expected->kind : KindByName(view.name);
  if (context.expected != nullptr) view.bytes_expected = context.expected->bytes;
  const auto fail = [&](Health health, Error error) {
    view.health = health;
    view.problems.push_back(std::move(error));
    return view;
  };
  const auto info = files.Stat(path);
  if (!info && info.error().code == Code::kNotFound) {
    // On a drive that is not there nothing is known to be missing.
    if (auto reachable = spread::CheckReachable(files, path); !reachable) {
      return fail(Health::kMissing, std::move(reachable).error());
    }
    view.bad.push_back({0, view.bytes_expected.value_or(0)});
    return fail(Health::kMissing, {Code::kIncomplete, view.name + " is missing", nullptr});
  }
  if (!info) return fail(Health::kDamaged, info.error());
  view.bytes = info->size_bytes;
  if (view.kind.empty()) {
    auto kind = KindOf(files, path);
    if (!kind) return fail(Health::kDamaged, std::move(kind).error());
    view.kind = std::move(*kind);
  }
  if (info->is_directory) return fail(Health::kDamaged, {Code::kCorrupt, view.name + " is a folder", nullptr});
  if (view.bytes == 0) return fail(Health::kDamaged, {Code::kIncomplete, view.name + " is empty", nullptr});
  if (view.kind == "shard") {
    InspectShard(files, path, context, view);
  } else if (view.kind == "records") {
    InspectRecords(files, path, context, view);
  } else {
    return fail(Health::kDamaged, {Code::kCorrupt,
                                   view.name + " is neither a safetensors file nor a manifest nor records, as far as "
                                               "can be seen from its first bytes",
                                   nullptr});
  }
  if (!view.problems.empty()) view.health = Health::kDamaged;
  return view;
}

}  // namespace belay::checkpoint::cli
