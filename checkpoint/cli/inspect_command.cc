// belay ckpt inspect
#include <algorithm>

#include "checkpoint/cli/documents.h"
#include "checkpoint/cli/inspect.h"
#include "checkpoint/cli/verb.h"
#include "checkpoint/format/boxes.h"
#include "runtime/base/environment.h"
#include "runtime/base/units.h"

namespace belay::checkpoint::cli {
namespace {

using base::Str;

Json RangesJson(const std::vector<ByteRange>& ranges) {
  Json list = Json::array();
  for (const ByteRange& range : ranges) list.push_back({{"begin", range.begin}, {"end", range.end}});
  return list;
}

Json ProblemsJson(const std::vector<base::Error>& problems) {
  Json list = Json::array();
  for (const base::Error& problem : problems) list.push_back(ErrorJson(problem));
  return list;
}

Json IdentityJson(const std::optional<ShardIdentity>& identity) {
  if (!identity) return {};
  return {{"project", identity->project},   {"job", identity->job},
          {"step", Str(identity->step)},    {"generation", Str(identity->generation)},
          {"rank", identity->rank.value()}, {"world_size", identity->world_size}};
}

Json TensorJson(const TensorView& tensor) {
  return {{"name", tensor.entry.name},
          {"dtype", DTypeName(tensor.entry.dtype)},
          {"shape", tensor.entry.box.lengths},
          {"offsets", tensor.entry.box.offsets},
          {"global_shape", tensor.entry.global_shape},
          {"file_offset", tensor.file_offset},
          {"bytes", tensor.entry.bytes},
          {"health", HealthName(tensor.health)},
          {"bad", RangesJson(tensor.bad)}};
}

Json FileJson(const FileView& file) {
  Json document = {{"name", file.name},
                   {"kind", file.kind},
                   {"health", HealthName(file.health)},
                   {"bytes", file.bytes},
                   {"bytes_expected", file.bytes_expected ? Json(*file.bytes_expected) : Json()}};
  if (file.kind == "shard" || file.kind == "safetensors") {
    document["header"] = {{"health", HealthName(file.header)}, {"bytes", file.header_bytes}};
    document["identity"] = IdentityJson(file.identity);
    document["data_bytes"] = file.data_bytes;
    document["chunks"] = {{"count", file.chunks},
                          {"good", file.chunks_good},
                          {"damaged", file.chunks_damaged},
                          {"missing", file.chunks_missing}};
    document["tensors"] = Json::array();
    for (const TensorView& tensor : file.tensors) document["tensors"].push_back(TensorJson(tensor));
  }
  if (file.kind == "records") {
    document["records"] = Json::array();
    for (const auto& [name, bytes] : file.records) {
      document["records"].push_back({{"name", name}, {"bytes", bytes}});
    }
  }
  document["bad"] = RangesJson(file.bad);
  document["problems"] = ProblemsJson(file.problems);
  return document;
}

Json ManifestJson(const Inspection& inspection) {
  Json document = {{"health", HealthName(inspection.manifest_health)}};
  if (!inspection.manifest) return document;
  const Manifest& manifest = *inspection.manifest;
  document.update({{"project", manifest.project},
                   {"job", manifest.job},
                   {"step", Str(manifest.step)},
                   {"generation", Str(manifest.generation)},
                   {"world_size", manifest.world_size},
                   {"reason", manifest.reason},
                   {"created", manifest.created},
                   {"parent_step", manifest.parent_step ? Json(Str(*manifest.parent_step)) : Json()},
                   {"files", manifest.files.size()},
                   {"digest", manifest.digest}});
  return document;
}

void Line(const std::string& name, const std::string& value) {
  Print(name + std::string(name.size() < 12 ? 12 - name.size() : 1, ' ') + value + "\n");
}

void PrintManifest(const Inspection& inspection) {
  const bool damaged = inspection.manifest_health == Health::kDamaged;
  if (!inspection.manifest) {
    return Line("manifest", inspection.manifest_health == Health::kMissing ? "none here" : "damaged, cannot be read");
  }
  const Manifest& manifest = *inspection.manifest;
  Line("manifest", damaged ? "damaged: what follows from it is not proven" : "good");
  Line("job", manifest.project + "/" + manifest.job);
  Line("step", Str(manifest.step, ", generation ", manifest.generation));
  Line("created", Str(manifest.created, ", ", manifest.reason, ", by ", manifest.world_size,
                      manifest.world_size == 1 ? " rank" : " ranks"));
  if (manifest.parent_step) Line("resumed at", Str("step ", *manifest.parent_step));
  Line("digest", manifest.digest);
}

std::string ChunksText(const FileView& file) {
  if (file.kind == "safetensors") return "no digests";
  if (file.kind != "shard") return "";
  return Str(file.chunks_good, "/", file.chunks);
}

void PrintTensors(const FileView& file, bool only_bad) {
  Table table({{"TENSOR"}, {"DTYPE"}, {"PIECE"}, {"OF"}, {"AT", true}, {"BYTES", true}, {"HEALTH"}});
  std::size_t rows = 0;
  for (const TensorView& tensor : file.tensors) {
    if (only_bad && tensor.bad.empty()) continue;
    std::string health(HealthName(tensor.health));
    for (const ByteRange& bad : tensor.bad)
      health += Str(&bad == &tensor.bad.front() ? ": " : ", ", bad.begin, "-", bad.end);
    table.Add({tensor.entry.name, std::string(DTypeName(tensor.entry.dtype)), BoxText(tensor.entry.box),
               ShapeText(tensor.entry.global_shape), Str(tensor.file_offset), Str(tensor.entry.bytes), health});
    ++rows;
  }
  if (rows > 0) Print("\n" + (only_bad ? file.name + "\n" : std::string()) + table.Text());
}

void PrintOneFile(const FileView& file) {
  Line("file", Str(file.name, ": ", file.kind, ", ", HealthName(file.health)));
  Line("bytes", Str(file.bytes, file.bytes_expected && *file.bytes_expected != file.bytes
                                    ? Str(", should be ", *file.bytes_expected)
                                    : std::string()));
  if (file.identity) {
    const ShardIdentity& own = *file.identity;
    Line("identity", Str("job ", own.project, "/", own.job, ", step ", own.step, ", generation ", own.generation,
                         ", rank ", own.rank, " of ", own.world_size));
  }
  if (file.header_bytes > 0) {
    const char* words = file.header == Health::kGood      ? ", as the manifest says"
                        : file.header == Health::kDamaged ? ", damaged"
                                                          : ", decodes; no manifest here proves it";
    Line("header", Str(file.header_bytes, " bytes", words));
    Line("data", file.kind == "safetensors"
                     ? Str(file.data_bytes, " bytes, without digests to check")
                     : Str(file.data_bytes, " bytes; of ", file.chunks, " chunks ", file.chunks_good, " good, ",
                           file.chunks_damaged, " damaged, ", file.chunks_missing, " missing"));
  }
  if (!file.records.empty()) Print("\n");
  for (const auto& [name, bytes] : file.records) Line("record", Str(name, ", ", bytes, " bytes"));
  PrintTensors(file, false);
}

void PrintFolder(const Inspection& inspection, bool with_tensors) {
  Print("\n");
  Table table({{"FILE"}, {"KIND"}, {"BYTES", true}, {"EXPECTED", true}, {"CHUNKS GOOD", true}, {"HEALTH"}});
  for (const FileView& file : inspection.files) {
    table.Add({file.name, file.kind, Str(file.bytes), file.bytes_expected ? Str(*file.bytes_expected) : "?",
               ChunksText(file), std::string(HealthName(file.health))});
  }
  Print(table.Text());
  for (const std::string& name : inspection.others) Print("also here: " + name + "\n");
  for (const FileView& file : inspection.files) {
    if (with_tensors) Print("\n" + file.name);
    PrintTensors(file, !with_tensors);
  }
}

void PrintConclusion(const Inspection& inspection, const std::vector<base::Error>& problems) {
  constexpr std::size_t kNamed = 20;
  Print("\n");
  for (const base::Error& problem : problems) Print("bad: " + problem.Text() + "\n");
  const std::size_t lost = inspection.lost.size(), all = inspection.readable.size() + lost;
  if (all > 0 && lost == 0 && !problems.empty()) Print(Str("all ", all, " tensors can be read\n"));
  if (lost > 0) {
    std::string names;
    for (std::size_t i = 0; i < std::min(lost, kNamed); ++i) names += (i == 0 ? "" : ", ") + inspection.lost[i];
    if (lost > kNamed) names += Str(" and ", lost - kNamed, " more");
    Print(Str(inspection.readable.size(), " of ", all, " tensors can be read whole; not ", names, "\n"));
  }
  const bool unproven = std::any_of(inspection.files.begin(), inspection.files.end(),
                                    [](const FileView& file) { return file.health == Health::kUnproven; });
  if (!problems.empty()) return;
  Print(unproven ? "nothing bad found; what is called unproven has no digest to hold it against\n" : "all good\n");
}

// Damage decides; what could not be read for another reason has its own status.
int StatusOf(const std::vector<base::Error>& problems) {
  int status = 0;
  for (const base::Error& problem : problems) {
    const auto own = base::Describe(problem.code).exit_status;
    if (own == base::ExitStatus::kBadData) return static_cast<int>(own);
    if (status == 0) status = static_cast<int>(own);
  }
  return status;
}

base::Result<int> RunInspect(const Arguments& arguments) {
  BELAY_ASSIGN(const auto threads, arguments.GetNumber("threads", 1, 256));
  const std::string named = *arguments.Positional(0);
  const std::string path = named.starts_with("/") ? named : base::CurrentDirectory() + "/" + named;
  BELAY_ASSIGN(const Inspection inspection,
               Inspect(base::PosixFileSystem(), path, static_cast<int>(threads.value_or(4))));
  const std::vector<base::Error> problems = AllProblems(inspection);
  const int status = StatusOf(problems);
  if (arguments.Has("json")) {
    Json files = Json::array();
    for (const FileView& file : inspection.files) files.push_back(FileJson(file));
    PrintDocument({{"path", inspection.path},
                   {"is_folder", inspection.is_folder},
                   {"ok", status == 0},
                   {"exit_status", status},
                   {"manifest", ManifestJson(inspection)},
                   {"files", std::move(files)},
                   {"others", inspection.others},
                   {"readable", inspection.readable},
                   {"lost", inspection.lost},
                   {"problems", ProblemsJson(inspection.problems)}});
    return status;
  }
  if (!inspection.is_folder) PrintOneFile(inspection.files.front());
  if (inspection.is_folder || inspection.files.front().kind == "manifest") PrintManifest(inspection);
  if (inspection.is_folder) PrintFolder(inspection, arguments.Has("tensors"));
  PrintConclusion(inspection, problems);
  return status;
}

}  // namespace

Verb InspectVerb() {
  return {
      "inspect",
      "look into a file or folder, however damaged, without belayd",
      {"belay ckpt inspect FILE",
       "Decodes a shard (*.safetensors), a manifest, a records file (*.state.json) or a whole checkpoint folder, also\n"
       "where the files were moved or are damaged, and says what is good, what is bad and what can still be read. A\n"
       "manifest in the same folder is used to prove the file. Nothing is written, and belayd is not asked. Exits 0\n"
       "only if nothing is bad, 65 if anything is damaged, cut off or missing.",
       {{"threads", "N", "how many chunks are read at once (4)"},
        {"tensors", "", "of a folder: list every tensor, not only the bad ones"},
        {"json", "", "print one JSON document (docs/json-output.md)"},
        {"help", "", "this text"}},
       1,
       1,
       "  belay ckpt inspect /backup/gpt/step-000001200.gen-3\n"
       "  belay ckpt inspect rank-00003.model.safetensors --json | jq '.files[0].bad'\n"},
      RunInspect};
}

}  // namespace belay::checkpoint::cli
