// The one list of belay's error codes: number, retry class, exit status and meaning.
//
// A code is for callers that act on it; everything else belongs in the message. Numbers go over the wire, into JSON and
// into logs, so they are never reused: a retired number stays here as a comment. Ranges: 1xx base and operating system,
// 2xx checkpoint format, 3xx protocol and daemon, 4xx commit and restore, 5xx runtime, 6xx launcher.
#pragma once

#include <cstdint>
#include <string_view>

#include "runtime/base/exit_status.h"

namespace belay::base {

enum class RetryClass : std::uint8_t {
  kRetryCall,       // the same call may succeed if repeated
  kRestart,         // give up this attempt and restart from the last checkpoint
  kDoNotRetry,      // nothing changes until somebody mends the cause
  kOutcomeUnknown,  // it may have happened: look it up before repeating
};

// X(number, name, retry class, exit status, meaning)
#define BELAY_ERROR_CODES(X)                                                                                      \
  X(100, InvalidArgument, DoNotRetry, Usage, "an argument, flag, environment variable or configuration is wrong") \
  X(101, NotFound, DoNotRetry, NoInput, "the named file, job, checkpoint or host does not exist")                 \
  X(102, AlreadyExists, DoNotRetry, CannotCreate, "the thing to be created exists")                               \
  X(103, PermissionDenied, DoNotRetry, NoPermission, "the caller may not do this")                                \
  X(104, Io, RetryCall, Io, "the operating system reported an I/O error")                                         \
  X(105, NoSpace, DoNotRetry, CannotCreate, "the disk or the memory budget is full")                              \
  X(106, ReadOnly, DoNotRetry, CannotCreate, "the file system is mounted read-only")                              \
  X(107, Timeout, RetryCall, TemporaryFailure, "a deadline passed")                                               \
  X(108, Unavailable, RetryCall, Unavailable, "a service does not answer or the connection broke")                \
  X(109, OutcomeUnknown, OutcomeUnknown, TemporaryFailure, "the connection broke after the request was sent")     \
  X(110, Unsupported, DoNotRetry, Unavailable, "this build, kernel or machine cannot do this")                    \
  X(111, Internal, DoNotRetry, Internal, "a bug in belay")                                                        \
  X(112, Cancelled, DoNotRetry, Internal, "the operation was given up because its owner stopped")                 \
  X(113, OutOfMemory, DoNotRetry, OsError, "memory could not be had")                                             \
  X(114, FolderMissing, DoNotRetry, Unavailable, "a data folder is not there: its drive is not mounted")          \
  X(200, Corrupt, DoNotRetry, BadData, "stored bytes do not match their digest or do not decode")                 \
  X(201, FormatVersion, DoNotRetry, BadData, "written by a version this build cannot read")                       \
  X(202, Incomplete, DoNotRetry, BadData, "a shard or a part of a tensor is missing")                             \
  X(203, LayoutMismatch, DoNotRetry, BadData, "the checkpoint's tensors do not fit the program's")                \
  X(300, Protocol, DoNotRetry, Protocol, "the peer sent something that is not the protocol")                      \
  X(301, ProtocolVersion, DoNotRetry, Protocol, "the peer speaks another protocol version")                       \
  X(302, LimitExceeded, DoNotRetry, Protocol, "a message, layout or count is over its limit")                     \
  X(303, Busy, RetryCall, TemporaryFailure, "the staging memory still holds a snapshot that is being written")    \
  X(400, StaleGeneration, DoNotRetry, NoPermission, "a newer run of this job has begun")                          \
  X(401, JobBusy, RetryCall, TemporaryFailure, "another run of this job is alive")                                \
  X(402, NothingToRestore, DoNotRetry, NoInput, "the job has no restorable checkpoint")                           \
  X(403, SnapshotTorn, RetryCall, Software, "the state changed while it was copied")                              \
  X(500, Communication, Restart, Unavailable, "a collective between ranks failed")                                \
  X(501, Device, Restart, Unavailable, "a GPU or its driver failed")                                              \
  X(600, RankFailed, Restart, RankFailed, "a rank exited, crashed or was killed")                                 \
  X(601, LaunchFailed, DoNotRetry, Unavailable, "mpirun or a rank could not be started")                          \
  X(602, GraceExpired, Restart, GraceExpired, "the ranks did not stop within the grace period")

enum class Code : std::uint16_t {
#define BELAY_X(number, name, retry, exit, meaning) k##name = number,
  BELAY_ERROR_CODES(BELAY_X)
#undef BELAY_X
};

struct CodeInfo {
  Code code;
  std::string_view name;
  RetryClass retry;
  ExitStatus exit_status;
  std::string_view meaning;
};

// Describes a code; for a number that is not in the list (from a newer peer) describes kInternal.
const CodeInfo& Describe(Code code);

// The code with this number, or kInternal.
Code CodeFromNumber(std::uint32_t number);

}  // namespace belay::base
