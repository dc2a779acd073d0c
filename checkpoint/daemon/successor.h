// Putting the belayd that is installed now in this one's place, by exec: same pid, same socket, same lock, same staging
// memory. The old one tries the program first and starts it; the new one takes up what it finds.
//
// Descriptors come only by inheritance, their numbers in the sealed record that --take-over names: nobody but whoever
// starts a belayd can hand it any, and each is held against what it is said to be.
#pragma once

#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "checkpoint/daemon/handover.h"
#include "checkpoint/daemon/service_parts.h"
#include "runtime/base/file_system.h"
#include "runtime/base/transport.h"

namespace belay::checkpoint {

struct ProgramOnDisk {
  std::string path;
  std::vector<std::string> words;  // its argv, without what a restart adds
};
// To be asked at the start, before an upgrade replaces the file: the path that this program was started by, if that is
// absolute (it may be a link that an upgrade turns elsewhere), else where the file lies.
ProgramOnDisk InstalledProgram(int argc, char** argv);

// Starts the program as a child that only reads a record and these flags, and says that it can. kUnavailable with what
// it said instead.
base::Status CheckSuccessor(const ProgramOnDisk& program);
// What CheckSuccessor's child does: prints that it can.
base::Status ReadRecordOnly(int record);

// Does not return if it succeeds; else nothing has changed but what the error says. The numbers in `handover` stay open
// in the new program, and nothing else does.
base::Error ExecSuccessor(const ProgramOnDisk& program, const Handover& handover);

struct TakenOver {
  std::optional<base::FileLock> lock;
  std::unique_ptr<base::Listener> listener;  // null: to be made
  std::vector<commit::HandedJob> jobs;
  HeldMemory memory;
  bool clients_awaited = false;
  LastRestart report;
};
// As the new one, before anything else is opened. What does not fit is closed and named in the report's `lost`: this
// belayd then starts like any other, with an empty memory.
TakenOver TakeOver(int record, const std::string& lock_path, const std::string& socket);

}  // namespace belay::checkpoint
