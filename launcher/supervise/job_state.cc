#include "launcher/supervise/job_state.h"

#include <algorithm>

namespace belay::launcher {
namespace {

using enum JobState;

constexpr Transition kTransitions[] = {
    {kRenewing, kStarting, "belayd granted the generation"},
    {kRenewing, kDone, "belayd refused it, or a stop came first"},
    {kStarting, kRunning, "every rank registered"},
    {kStarting, kKilling, "launch timed out, mpirun ended, a shim was lost, or a stop came first"},
    {kRunning, kStopping, "a stop was asked for, or a rank left with status 75"},
    {kRunning, kSettling, "a rank failed, or mpirun ended"},
    {kRunning, kKilling, "a stop that does not wait"},
    {kRunning, kReleasing, "every rank ended well"},
    {kStopping, kSettling, "a rank failed, or mpirun ended"},
    {kStopping, kKilling, "the grace period expired, or a second interrupt came"},
    {kStopping, kReleasing, "every rank ended"},
    {kSettling, kKilling, "the moment has passed, or every rank has ended"},
    {kKilling, kCleaning, "every program is gone, or the deadline passed"},
    {kReleasing, kCleaning, "mpirun ended, or the deadline passed"},
    {kCleaning, kRenewing, "the run restarts"},
    {kCleaning, kDone, "it does not"},
};

}  // namespace

std::span<const Transition> JobTransitions() { return kTransitions; }

bool MayFollow(JobState from, JobState to) {
  return from == to ||
         std::ranges::any_of(kTransitions, [&](const Transition& t) { return t.from == from && t.to == to; });
}

std::string_view Name(JobState state) {
  switch (state) {
    case kRenewing:
      return "renewing";
    case kStarting:
      return "starting";
    case kRunning:
      return "running";
    case kStopping:
      return "stopping";
    case kSettling:
      return "settling";
    case kKilling:
      return "killing";
    case kReleasing:
      return "releasing";
    case kCleaning:
      return "cleaning";
    case kDone:
      return "done";
  }
  return "unknown";
}

std::string_view Name(RankState state) {
  switch (state) {
    case RankState::kAbsent:
      return "absent";
    case RankState::kRegistered:
      return "registered";
    case RankState::kAlive:
      return "alive";
    case RankState::kEnded:
      return "ended";
    case RankState::kLost:
      return "lost";
  }
  return "unknown";
}

}  // namespace belay::launcher
