// last.json in a job's folder: where its newest attempt keeps its files. With it `belay status` and `belay logs` find a
// run that was given --log-dir, without being told that folder again.
//
// Written when an attempt begins. Nothing but those two commands reads it, so a run goes on where it cannot be written.
#pragma once

#include <optional>
#include <string>

#include "launcher/run/run_directory.h"
#include "runtime/base/file_system.h"
#include "runtime/base/ids.h"
#include "runtime/base/result.h"

namespace belay::launcher {

struct LastRun {
  base::Generation generation;
  std::string run_directory;
};
std::string EncodeLastRun(const LastRun& last);
// Nothing if it is damaged.
std::optional<LastRun> DecodeLastRun(const std::string& text);

base::Status WriteLastRun(base::FileSystem& files, const JobFolder& folder, const LastRun& last);
// The job's folder, looking for attempts where the newest one is; unchanged if that cannot be told or is gone.
JobFolder FollowLastRun(base::FileSystem& files, JobFolder folder);

}  // namespace belay::launcher
