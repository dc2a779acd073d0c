// belay ckpt show
#include "checkpoint/cli/documents.h"
#include "checkpoint/cli/verb.h"
#include "checkpoint/format/boxes.h"
#include "runtime/base/units.h"

namespace belay::checkpoint::cli {
namespace {

std::uint64_t BytesOf(const Restorer::SavedTensor& tensor) {
  return ElementCount(tensor.global_shape) * DTypeBytes(tensor.dtype);
}

Json FilesJson(const Manifest& manifest) {
  Json files = Json::array();
  for (const ManifestFile& file : manifest.files) {
    Json item = {{"name", file.name}, {"kind", file.kind}, {"rank", file.rank.value()}, {"bytes", file.bytes}};
    item["header_sha256"] = file.header_sha256;
    if (!file.data_sha256.empty()) item["data_sha256"] = file.data_sha256;
    files.push_back(std::move(item));
  }
  return files;
}

Json TensorsJson(const Restorer& restorer) {
  Json tensors = Json::array();
  for (const auto& [name, tensor] : restorer.tensors()) {
    tensors.push_back({{"name", name},
                       {"dtype", DTypeName(tensor.dtype)},
                       {"shape", tensor.global_shape},
                       {"bytes", BytesOf(tensor)}});
  }
  return tensors;
}

void PrintText(const Listed& listed, const Restorer& restorer, bool with_tensors) {
  const Manifest& manifest = restorer.manifest();
  const CheckpointInfo& info = listed.info;
  const auto line = [](const std::string& name, const std::string& value) {
    Print(name + std::string(12 - name.size(), ' ') + value + "\n");
  };
  line("job", info.key.job.project + "/" + info.key.job.job);
  line("step", base::Str(manifest.step));
  line("generation", base::Str(manifest.generation));
  line("created", manifest.created + " (" + AgeText(manifest.created, base::SystemClock().WallNow()) + " ago)");
  line("reason", manifest.reason);
  line("world", base::Str(manifest.world_size, manifest.world_size == 1 ? " rank" : " ranks"));
  if (manifest.parent_step) line("resumed at", base::Str("step ", *manifest.parent_step));
  line("size", base::HumanBytes(info.bytes));
  line("where", base::Str(info.in_memory ? "memory, " : "", info.directory));
  if (listed.pinned.value_or(false)) line("pinned", "yes");
  if (!info.quarantine.empty()) line("quarantined", info.quarantine);
  line("trust", base::Str(TrustName(info.trust.state), info.trust.reason.empty() ? "" : ": ", info.trust.reason));
  for (const auto& [name, value] : manifest.metrics) line("metric", base::Str(name, " = ", MetricsText(value)));
  line("digest", manifest.digest);

  Print("\n");
  Table files({{"FILE"}, {"SIZE", true}, {"SHA-256 OF THE DATA'S CHUNK DIGESTS, OR OF THE RECORDS"}});
  for (const ManifestFile& file : manifest.files) {
    files.Add(
        {file.name, base::HumanBytes(file.bytes), file.data_sha256.empty() ? file.header_sha256 : file.data_sha256});
  }
  Print(files.Text());
  std::uint64_t bytes = 0, elements = 0;
  Table tensors({{"TENSOR"}, {"DTYPE"}, {"SHAPE"}, {"SIZE", true}});
  for (const auto& [name, tensor] : restorer.tensors()) {
    bytes += BytesOf(tensor);
    elements += ElementCount(tensor.global_shape);
    tensors.Add({name, std::string(DTypeName(tensor.dtype)), ShapeText(tensor.global_shape),
                 base::HumanBytes(BytesOf(tensor))});
  }
  Print(base::Str("\n", restorer.tensors().size(), " tensors, ", elements, " elements, ", base::HumanBytes(bytes),
                  with_tensors ? "\n\n" : "; --tensors lists them\n"));
  if (with_tensors) Print(tensors.Text());
}

base::Result<int> RunShow(const Arguments& arguments) {
  BELAY_ASSIGN(const auto generation, arguments.GetNumber("generation", 1, INT64_MAX));
  BELAY_ASSIGN(Access access, OpenAccess(arguments, Need::kLook));
  BELAY_ASSIGN(const Listed listed, Find(access, *arguments.Positional(0), arguments.Positional(1), generation));
  BELAY_ASSIGN(const auto restorer, OpenFiles(access, listed));
  // A damaged header hides its tensors; `verify` tells all there is to tell, here a hint must do.
  const std::vector<base::Error> problems = restorer->Problems();
  if (arguments.Has("json")) {
    Json document = CheckpointJson(listed);
    const auto& parent = restorer->manifest().parent_step;
    document["parent_step"] = parent ? Json(base::Str(*parent)) : Json();
    document["files"] = FilesJson(restorer->manifest());
    document["tensors"] = TensorsJson(*restorer);
    document["problems"] = Json::array();
    for (const base::Error& problem : problems) document["problems"].push_back(ErrorJson(problem));
    PrintDocument({{"checkpoint", std::move(document)}});
  } else {
    PrintText(listed, *restorer, arguments.Has("tensors"));
  }
  for (const base::Error& problem : problems) Note(problem.Text());
  return problems.empty() ? 0 : static_cast<int>(base::ExitStatus::kBadData);
}

}  // namespace

Verb ShowVerb() {
  return {"show",
          "one checkpoint: files, digests, tensors",
          {"belay ckpt show JOB [STEP]",
           "Shows what a checkpoint holds. STEP is a number, a folder's name or \"latest\" (the default). Reads the "
           "manifest\n"
           "and the files' headers, not their data: `verify` does that.",
           WithCommon({{"tensors", "", "list every tensor with dtype and shape"},
                       {"generation", "N", "of several checkpoints of one step, this generation's"}}),
           1, 2, "  belay ckpt show gpt\n  belay ckpt show gpt 1200 --tensors\n"},
          RunShow};
}

}  // namespace belay::checkpoint::cli
