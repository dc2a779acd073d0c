// belay ckpt bench
#include <array>
#include <cstdio>

#include "checkpoint/cli/bench.h"
#include "checkpoint/cli/documents.h"
#include "checkpoint/cli/verb.h"
#include "checkpoint/client/locate.h"
#include "runtime/base/host.h"
#include "runtime/base/units.h"

namespace belay::checkpoint::cli {
namespace {

constexpr std::uint64_t kSizeBytes = base::kGiB, kSizeBytesMin = 16 * base::kMiB;
constexpr std::uint64_t kStateBytes = 10 * base::kGiB;

std::string Fixed(double value, int digits) {
  std::array<char, 64> text{};
  std::snprintf(text.data(), text.size(), "%.*f", digits, value);
  return text.data();
}

// The data directory, or where it would be made: the nearest folder above that is there.
std::string ExistingFolder(base::FileSystem& files, std::string path) {
  while (path != "/" && !base::Exists(files, path)) path = base::ParentPath(path);
  return path;
}

// As the belayd of the data directory writes there; the default where none answers.
BulkReport ShapeThere(const Arguments& arguments, const std::string& data_dir) {
  LocateRequest request;
  request.data_dir = arguments.Get("data-dir");
  request.program = "belay ckpt bench";
  const auto located = ConnectToDaemon(request);
  if (!located) return {};
  const auto report = located->client->GetDaemonStatus();
  if (!report) return {};
  for (const DataFolderReport& folder : report->also) {
    if (folder.path == data_dir) return folder.bulk;
  }
  return report->data_dir == data_dir ? report->bulk : BulkReport();
}

Json DocumentOf(const BenchRequest& request, const std::string& writer, const BulkReport& bulk,
                const BenchFigures& figures, std::uint64_t state_bytes) {
  const BenchMeaning meaning = MeaningOf(figures, state_bytes);
  return {{"folder", request.folder},
          {"writer", writer},
          {"block_bytes", bulk.shape.block_bytes},
          {"queue_depth", bulk.shape.queue_depth},
          {"shape_source", bulk.measured.empty() ? "default" : "measured"},
          {"size_bytes", request.bytes},
          {"memory_bytes", figures.memory_bytes},
          {"threads", request.threads},
          {"bytes_per_second",
           {{"first_touch", figures.first_touch},
            {"copy", figures.copy},
            {"digest", figures.digest},
            {"copy_and_digest", figures.copy_and_digest},
            {"write", figures.write},
            {"write_and_sync", figures.write_and_sync},
            {"read_direct", figures.read_direct},
            {"read_buffered", figures.read_buffered}}},
          {"state_bytes", state_bytes},
          {"seconds",
           {{"stall_at_most", meaning.stall_seconds},
            {"commit", meaning.commit_seconds},
            {"restore_disk", meaning.restore_disk_seconds},
            {"restore_memory", meaning.restore_memory_seconds},
            {"first_save_more", meaning.first_save_seconds}}}};
}

void PrintText(const BenchRequest& request, const std::string& writer, const BulkReport& bulk,
               const BenchFigures& figures, std::uint64_t state_bytes) {
  Print(base::Str(request.folder, ": ", base::HumanBytes(request.bytes), " written by ", writer,
                  writer == "io_uring" ? base::Str(", blocks of ", base::HumanBytes(bulk.shape.block_bytes), ", ",
                                                   bulk.shape.queue_depth, " in flight",
                                                   bulk.measured.empty() ? "" : " (as belayd has measured)")
                                       : std::string(),
                  "; ", request.threads, request.threads == 1 ? " thread\n\n" : " threads\n\n"));
  Table table({{"WHAT"}, {"GB/S", true}, {"IT IS"}});
  const auto row = [&](const std::string& what, double rate, const std::string& meaning) {
    table.Add({what, Fixed(rate / 1e9, 2), meaning});
  };
  row("first touch", figures.first_touch, "fresh staging memory, once a job");
  row("copy", figures.copy, "into staging memory, one thread");
  row("digest", figures.digest, "one thread");
  row("copy and digest", figures.copy_and_digest, "what a snapshot does, all threads");
  row("write", figures.write, "until the last write returned");
  row("write and sync", figures.write_and_sync, "until it is durable");
  row("read, direct", figures.read_direct, "past the page cache");
  row("read, buffered", figures.read_buffered, "through the page cache, cold");
  Print(table.Text());
  const BenchMeaning meaning = MeaningOf(figures, state_bytes);
  Print(base::Str("\nFor a state of ", base::HumanBytes(state_bytes), " on this node:\n"));
  Table means({{"SECONDS", true}, {"FOR"}});
  means.Add({Fixed(meaning.stall_seconds, 2), "the copy, which training waits for only as far as a step is shorter"});
  means.Add({Fixed(meaning.commit_seconds, 2), "a save, until it is committed"});
  means.Add({Fixed(meaning.restore_disk_seconds, 2), "a restore from disk"});
  means.Add({Fixed(meaning.restore_memory_seconds, 2), "a restore from belayd's memory"});
  means.Add({Fixed(meaning.first_save_seconds, 2), "making staging memory, beside the first steps of a job"});
  Print(means.Text());
}

base::Result<int> RunBenchVerb(const Arguments& arguments) {
  base::FileSystem& files = base::PosixFileSystem();
  BELAY_ASSIGN(const auto size, arguments.GetBytes("size", kSizeBytesMin));
  BELAY_ASSIGN(const auto state, arguments.GetBytes("state", 1));
  BELAY_ASSIGN(const auto threads, arguments.GetNumber("threads", 1, 256));
  BELAY_ASSIGN(const std::string data_dir, ResolveDataDirectory(arguments.Get("data-dir")));
  const BulkReport bulk = ShapeThere(arguments, data_dir);
  const BenchRequest request{ExistingFolder(files, data_dir), size.value_or(kSizeBytes),
                             static_cast<int>(threads.value_or(std::min(base::CoreCount(), 4))), bulk.shape};
  if (request.folder != data_dir) Note(data_dir + " is not there yet; measuring in " + request.folder);
  const std::string writer(base::BulkWriterName(request.folder));
  const bool terminal = base::TerminalColumns(2).has_value();
  const auto said = [&](std::string_view what) {
    if (terminal) Note(base::Str("measuring: ", what));
  };
  BELAY_ASSIGN(const BenchFigures figures, RunBench(files, base::SystemClock(), request, said));
  if (arguments.Has("json"))
    PrintDocument(DocumentOf(request, writer, bulk, figures, state.value_or(kStateBytes)));
  else
    PrintText(request, writer, bulk, figures, state.value_or(kStateBytes));
  return 0;
}

}  // namespace

Verb BenchVerb() {
  return {
      "bench",
      "how fast this node saves and restores",
      {"belay ckpt bench",
       "Measures memory and disk of this node with belay's own code, and says what that means for a state of some\n"
       "size. Writes one file into the data directory and needs its size free there. The file has no name, so it is\n"
       "gone however the measurement ends. Other work on the node shows in the figures.",
       {{"data-dir", "DIR", "where checkpoints are kept (BELAY_DATA_DIR; ~/.local/share/belay)"},
        {"size", "BYTES", "of the file, 512M or 8G for one (1G); more than the disk's own cache tells more"},
        {"state", "BYTES", "the size of state that the seconds are for (10G)"},
        {"threads", "N", "for copies and digests (the cores, 4 at most)"},
        {"json", "", "print one JSON document (docs/json-output.md)"},
        {"help", "", "this text"}},
       0,
       0,
       "  belay ckpt bench\n  belay ckpt bench --data-dir /nvme/belay --size 8G --state 120G\n"},
      RunBenchVerb};
}

}  // namespace belay::checkpoint::cli
