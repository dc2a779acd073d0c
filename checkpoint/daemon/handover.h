// The hand-over record: what a belayd that restarts leaves in a sealed memory for the one that takes its place by exec.
//
//   offset  bytes
//   0       8      magic "BELAYHND"
//   8       4      version, little-endian: 1. Another one is not read: the new belayd then starts as any other
//   12      4      bytes of the body
//   16             the body: wire.Handover (checkpoint/protocol/handover.proto)
//
// Fields may be added within a version; a reader ignores those that it does not know. Raise the version when a record
// must not be read without them. The record is checked for shape here, against itself and the files by the core
// (checkpoint/commit/restart.cc), and its descriptors by successor.h.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "checkpoint/commit/handover.h"
#include "runtime/base/clock.h"
#include "runtime/base/result.h"

namespace belay::checkpoint {

// 2: ranks may have several buffers, which a reader of version 1 takes for a rank that comes twice.
inline constexpr std::uint32_t kHandoverVersion = 2;
inline constexpr std::size_t kHandoverBytesMax = std::size_t{1} << 30;
inline constexpr std::size_t kHandoverHeaderBytes = 16;

struct Handover {
  struct Job {
    commit::HandedJob job;
    std::vector<int> descriptors;  // one a buffer of each slot, in order
  };
  std::string version;  // of the belayd that leaves
  int lock = -1;
  int listener = -1;
  std::uint64_t attempts = 0;
  base::SteadyTime left{};
  bool clients_awaited = false;
  std::vector<Job> jobs;
  std::vector<std::string> left_out;  // jobs that the record had no room for; found by EncodeHandover
};

// A job that would make the record larger than `limit_bytes` is left out.
std::string EncodeHandover(const Handover& handover, std::size_t limit_bytes = kHandoverBytesMax);
// kCorrupt, kFormatVersion (another version), kLimitExceeded.
base::Result<Handover> DecodeHandover(std::string_view record);

}  // namespace belay::checkpoint
