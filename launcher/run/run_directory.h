// Where a run keeps its files: <data dir>/.runs/<project>/<job>/
//
//   launcher.json      who runs the job now; there while it runs
//   last.json          where the newest attempt keeps its files (last_run.h)
//   gen-<g>/           one attempt: run.json, rank-00000.log ..., mpirun.log, verdict.json at its end, and what the
//                      training program leaves (metrics.jsonl, events.out.tfevents.*)
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "runtime/base/file_system.h"
#include "runtime/base/ids.h"
#include "runtime/base/result.h"

namespace belay::launcher {

struct JobFolder {
  std::string path;           // <data dir>/.runs/<project>/<job>
  std::string attempts_path;  // the same, or --log-dir

  std::string LauncherFile() const { return path + "/launcher.json"; }
  std::string AttemptPath(base::Generation generation) const;
};
struct AttemptFolder {
  std::string path;
  std::string RankLog(std::int32_t rank) const;
  std::string MpirunLog() const { return path + "/mpirun.log"; }
  std::string RunFile() const { return path + "/run.json"; }
  std::string VerdictFile() const { return path + "/verdict.json"; }
};

std::string RunsRoot(const std::string& data_dir);
JobFolder MakeJobFolder(const std::string& data_dir, const std::string& project, const std::string& job,
                        const std::string& log_dir);

// A project's or job's name: 1 to 128 of A-Z a-z 0-9 . _ - and no dot first. kInvalidArgument says so.
base::Status CheckName(const std::string& what, const std::string& name);

// What launcher.json says.
struct LauncherRecord {
  std::int32_t pid = 0;
  std::string host;
  std::string socket;
  base::Generation generation;
  std::string run_directory;
  std::string started;  // RFC 3339
};
std::string EncodeLauncherRecord(const LauncherRecord& record);
base::Result<LauncherRecord> DecodeLauncherRecord(const std::string& text);
// kNotFound if no launcher has written one.
base::Result<LauncherRecord> ReadLauncherRecord(base::FileSystem& files, const JobFolder& folder);

// Generations with a run directory, oldest first.
std::vector<base::Generation> ListAttempts(base::FileSystem& files, const JobFolder& folder);
// project/job pairs that ever ran, sorted.
struct JobName {
  std::string project, job;
};
std::vector<JobName> ListJobs(base::FileSystem& files, const std::string& data_dir);

}  // namespace belay::launcher
