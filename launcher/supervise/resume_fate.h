// What a run shows of the checkpoint that it resumed from. Pure.
//
// Only what the state itself can be blamed for counts against it: a crash, or a program that ends by itself, before the
// run has made as many steps as the program asks for (CheckpointOptions::trust_steps). Not a kill from outside, memory
// that ran out, a preemption, a lost mpirun, or belay's own errors: they would have come with any checkpoint.
#pragma once

#include <cstdint>
#include <optional>
#include <string_view>
#include <vector>

#include "launcher/supervise/failure_report.h"
#include "launcher/supervise/rank_record.h"

namespace belay::launcher {

enum class ResumeFate : std::uint8_t {
  kFailed,
  kDiverged,  // its loss is no number, where the run that saved it had one
  kProved,
};

struct ResumedCheckpoint {
  std::int64_t step = 0;
  std::uint64_t generation = 0;
};
// What the ranks came back from, if they did and it is to be judged.
std::optional<ResumedCheckpoint> ResumedFrom(const std::vector<RankRecord>& ranks);

// Every rank has made the steps that prove it.
bool ResumeProved(const std::vector<RankRecord>& ranks);
// No value: this failure says nothing of the checkpoint.
std::optional<ResumeFate> FateAfter(const FailureReport& failure, const std::vector<RankRecord>& ranks);

}  // namespace belay::launcher
