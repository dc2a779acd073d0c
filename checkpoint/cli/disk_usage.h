// What checkpoints cost on disk, and what deleting one would give back. Reads names and sizes only, never content.
//
// A file that lies in another data folder counts with the checkpoint that links to it.
//
// Files of one job may be hard links to the same bytes, so an inode counts once a job, and deleting a checkpoint frees
// only what no other folder of the job links to. Links from outside the data directory are not seen.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "checkpoint/format/manifest.h"
#include "runtime/base/file_system.h"

namespace belay::checkpoint::cli {

struct CheckpointUsage {
  base::Step step;
  base::Generation generation;
  std::string directory;
  bool committed = false;  // else left over: belayd removes it at the job's next run
  bool pinned = false;
  std::string quarantine;          // why it is quarantined; empty: it is not
  std::uint64_t bytes = 0;         // of its files, as `ls` shows them
  std::uint64_t unique_bytes = 0;  // of files that no other checkpoint links to: what deleting it frees
  std::uint64_t shared_bytes() const { return bytes - unique_bytes; }
};

struct JobUsage {
  std::string project, job;
  std::uint64_t bytes = 0;                   // every inode once
  std::vector<CheckpointUsage> checkpoints;  // those that free most first
};

struct DiskUsage {
  std::vector<JobUsage> jobs;                                    // largest first
  std::uint64_t index_bytes = 0, runs_bytes = 0, own_bytes = 0;  // index; logs of runs; the rest of belayd's own
  base::SpaceInfo space;
  struct Also {
    std::string path;
    base::SpaceInfo space;
  };
  std::vector<Also> also;             // other data folders of this one, as far as they are there
  std::vector<base::Error> problems;  // what could not be looked at
};

// Empty project or job: all. kNotFound and so on: the data directory itself.
base::Result<DiskUsage> MeasureDiskUsage(base::FileSystem& files, const std::string& data_dir,
                                         const std::string& project, const std::string& job);

}  // namespace belay::checkpoint::cli
