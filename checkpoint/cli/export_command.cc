// belay ckpt export
#include "checkpoint/cli/documents.h"
#include "checkpoint/cli/export.h"
#include "checkpoint/cli/verb.h"
#include "runtime/base/environment.h"
#include "runtime/base/units.h"

namespace belay::checkpoint::cli {
namespace {

base::Result<int> RunExport(const Arguments& arguments) {
  const auto to = arguments.Get("to");
  if (!to || to->empty()) {
    return base::Fail(base::Code::kInvalidArgument, "say where to: --to DIR; see `belay ckpt export --help`");
  }
  std::string directory = to->starts_with("/") ? *to : base::CurrentDirectory() + "/" + *to;
  while (directory.size() > 1 && directory.ends_with("/")) directory.pop_back();

  ExportOptions options;
  options.part = arguments.Get("part").value_or("model");
  options.strip_prefix = arguments.Has("strip-prefix");
  BELAY_ASSIGN(const auto limit, arguments.GetNumber("file-bytes-max", 1, INT64_MAX));
  if (limit) options.file_bytes_max = static_cast<std::uint64_t>(*limit);
  BELAY_ASSIGN(const auto generation, arguments.GetNumber("generation", 1, INT64_MAX));
  BELAY_ASSIGN(Access access, OpenAccess(arguments, Need::kLook));
  BELAY_ASSIGN(const Listed listed, Find(access, *arguments.Positional(0), arguments.Positional(1), generation));
  BELAY_ASSIGN(const auto restorer, OpenFiles(access, listed));
  BELAY_ASSIGN(const ExportReport report,
               Export(*restorer, base::PosixFileSystem(), directory, base::Str(base::ProcessId()), options));
  if (arguments.Has("json")) {
    PrintDocument({{"directory", directory},
                   {"files", report.files},
                   {"tensors", report.tensors},
                   {"bytes", report.bytes},
                   {"stored_as_u8", report.stored_as_u8},
                   {"checkpoint", CheckpointJson(listed)}});
  } else {
    Print(base::Str("exported step ", listed.info.key.step, ": ", report.tensors, " tensors, ",
                    base::HumanBytes(report.bytes), " to ", directory, "\n"));
  }
  if (!report.stored_as_u8.empty()) {
    Note(base::Str(report.stored_as_u8.size(),
                   " FP8 tensors are stored as U8, because stock readers do not know them; the ",
                   "header's belay.dtypes has their true types"));
  }
  return 0;
}

}  // namespace

Verb ExportVerb() {
  return {"export",
          "write plain safetensors for other programs",
          {"belay ckpt export JOB [STEP] --to DIR",
           "Writes one part of a checkpoint (the model) as Hugging Face safetensors: model.safetensors, or several "
           "files with\n"
           "model.safetensors.index.json. Every tensor is whole, every byte is checked on the way, and DIR appears "
           "only when\n"
           "all of it is durable. STEP is a number, a folder's name or \"latest\" (the default).",
           WithCommon({{"to", "DIR", "the folder to make"},
                       {"part", "NAME", "which part to write (model)"},
                       {"strip-prefix", "", "drop \"model.\" (the part's name) from tensor names"},
                       {"file-bytes-max", "BYTES", "begin another file beyond this (5000000000)"},
                       {"generation", "N", "of several checkpoints of one step, this generation's"}}),
           1, 2, "  belay ckpt export gpt --to gpt-final --strip-prefix\n"},
          RunExport};
}

}  // namespace belay::checkpoint::cli
