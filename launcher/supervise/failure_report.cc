#include "launcher/supervise/failure_report.h"

#include <algorithm>
#include <csignal>
#include <cstdio>
#include <cstring>

#include "runtime/base/check.h"
#include "runtime/base/exit_status.h"
#include "runtime/base/str.h"

namespace belay::launcher {
namespace {

using base::Str;

constexpr std::size_t kOthersShown = 8;

FailureClass Classify(const RankRecord& rank) {
  if (rank.state == RankState::kLost) return FailureClass::kShimLost;
  const RankExit& exit = *rank.exit;
  if (exit.never_started || (exit.signal == 0 && (exit.status == 2 || exit.status == 64))) return FailureClass::kUsage;
  if (exit.signal == 0) return exit.status == 0 || exit.status == 79 ? FailureClass::kMisuse : FailureClass::kUserError;
  switch (exit.signal) {
    case SIGSEGV:
    case SIGABRT:
    case SIGBUS:
    case SIGFPE:
    case SIGILL:
    case SIGSYS:
    case SIGTRAP:
      return FailureClass::kCrash;
    case SIGKILL:
      return exit.out_of_memory ? FailureClass::kOutOfMemory : FailureClass::kKilled;
    default:
      return FailureClass::kKilled;
  }
}

bool LooksLikeException(const RankRecord& rank) {
  return std::ranges::any_of(rank.exit->last_lines, [](const std::string& line) {
    return line.starts_with("Traceback (most recent call last)") || line.find("Error: ") != std::string::npos ||
           line.find("terminate called after throwing") != std::string::npos;
  });
}

std::string Hint(FailureClass failure_class, const RankRecord& rank) {
  switch (failure_class) {
    case FailureClass::kUsage:
      if (rank.exit->never_started) return Str(rank.exit->error, ". Check the program's name after --, and --wdir");
      return "the program refused its arguments or configuration; its last lines say which";
    case FailureClass::kUserError:
      return LooksLikeException(rank) ? "an exception in the program; the last lines below show where"
                                      : "the program ended itself with this status; look at its log";
    case FailureClass::kMisuse:
      return "the program attached to belay but left without session.finish(), so nothing says that it was done";
    case FailureClass::kCrash:
      return "a bug in the program or a library below it; run it again with a debugger or a core dump (ulimit -c)";
    case FailureClass::kOutOfMemory:
      return "the kernel's out-of-memory killer was at work: lower the batch size or the ranks per node, or ask for "
             "memory";
    case FailureClass::kKilled:
      return rank.exit->signal == SIGKILL
                 ? "somebody killed it: a person, the scheduler, or the kernel for memory (dmesg tells)"
                 : "the signal came from outside belay: a person or the scheduler";
    case FailureClass::kShimLost:
      return "somebody killed belay-rank, which looks after the program, or mpirun, which takes it along: a person, "
             "the "
             "scheduler, or the kernel for memory; the program went down with it";
    case FailureClass::kMpirunLost:
    case FailureClass::kLaunch:
      return "";
  }
  return "";
}

std::string Identity(const RankRecord& rank) {
  std::string text =
      Str("rank ", rank.rank, " (", rank.host.empty() ? "unknown host" : rank.host, ", local rank ", rank.local_rank);
  if (rank.pid != 0) text += Str(", pid ", rank.pid);
  return text + ")";
}

int StatusOf(const RankRecord& rank) {
  if (rank.state == RankState::kLost) return 128 + SIGKILL;
  if (rank.exit->status != 0) return rank.exit->status;
  return static_cast<int>(base::ExitStatus::kSoftware);
}

std::vector<RankRecord> InOrderOfEnd(std::vector<RankRecord> ranks) {
  std::ranges::stable_sort(ranks, [](const RankRecord& a, const RankRecord& b) {
    if (a.Gone() != b.Gone()) return a.Gone();
    return a.Gone() && a.ended_at < b.ended_at;
  });
  return ranks;
}

std::string Seconds(base::Duration duration) {
  char text[32];
  std::snprintf(text, sizeof text, "%.1f s", std::chrono::duration<double>(duration).count());
  return text;
}

}  // namespace

std::string_view Name(FailureClass failure_class) {
  switch (failure_class) {
    case FailureClass::kUsage:
      return "usage";
    case FailureClass::kUserError:
      return "user_error";
    case FailureClass::kMisuse:
      return "misuse";
    case FailureClass::kCrash:
      return "crash";
    case FailureClass::kOutOfMemory:
      return "out_of_memory";
    case FailureClass::kKilled:
      return "killed";
    case FailureClass::kShimLost:
      return "shim_lost";
    case FailureClass::kMpirunLost:
      return "mpirun_lost";
    case FailureClass::kLaunch:
      return "launch";
  }
  return "unknown";
}

bool Failed(const RankRecord& rank) {
  if (rank.progress.SaidSaved()) return false;
  if (rank.state == RankState::kLost) return true;
  if (rank.state != RankState::kEnded) return false;
  const RankExit& exit = *rank.exit;
  if (exit.status == 0) return rank.progress.attached && rank.progress.outcome == 0;
  if (exit.signal == 0 && exit.status == static_cast<int>(base::kExitPreempted)) return false;
  if (exit.signal == 0 && exit.status == static_cast<int>(base::ExitStatus::kGraceExpired))
    return !rank.progress.attached;
  return true;
}

FailureReport MakeFailureReport(const std::vector<RankRecord>& ranks) {
  const std::vector<RankRecord> ordered = InOrderOfEnd(ranks);
  // A rank that belay killed is nobody's cause, whatever the clock says.
  const auto first = std::ranges::find_if(ordered, [](const RankRecord& r) { return Failed(r) && !r.killed_by_us; });
  BELAY_CHECK(first != ordered.end(), "a failure report needs a failed rank");
  FailureReport report;
  report.failure_class = Classify(*first);
  report.first = *first;
  report.what = DescribeEnd(*first);
  if (first->progress.attached) {
    report.what += first->progress.step > 0 ? Str(" after step ", first->progress.step) : " before its first step";
  }
  report.hint = Hint(report.failure_class, *first);
  report.status = StatusOf(*first);
  for (const RankRecord& rank : ordered) {
    if (rank.rank != first->rank) report.others.push_back(rank);
  }
  return report;
}

FailureReport MakeRunFailure(FailureClass failure_class, std::string what, std::string hint, int status,
                             const std::vector<RankRecord>& ranks) {
  FailureReport report;
  report.failure_class = failure_class;
  report.first.rank = -1;
  report.what = std::move(what);
  report.hint = std::move(hint);
  report.status = status;
  report.others = InOrderOfEnd(ranks);
  return report;
}

std::string SignalName(int signal) {
  const char* abbreviation = sigabbrev_np(signal);
  return abbreviation != nullptr ? Str("SIG", abbreviation) : Str("signal ", signal);
}

std::string DescribeEnd(const RankRecord& rank) {
  if (rank.state == RankState::kLost)
    return Str("vanished: its belay-rank (pid ", rank.shim_pid, ") ended without a word");
  if (!rank.exit) return "was still running";
  if (rank.exit->never_started) return "could not be started";
  if (rank.exit->signal != 0)
    return Str("was killed by signal ", rank.exit->signal, " (", SignalName(rank.exit->signal), ")");
  if (rank.exit->status == 0 && rank.progress.attached && rank.progress.outcome == 0) {
    return "exited with status 0 without having finished";
  }
  return Str("exited with status ", rank.exit->status);
}

std::string RenderFailureReport(const FailureReport& report, std::string_view next) {
  std::string text;
  if (report.first.rank >= 0) {
    text += Str("belay: ", Identity(report.first), " failed first: it ", report.what, "\n");
  } else {
    text += Str("belay: the run failed: ", report.what, "\n");
  }
  if (!report.hint.empty()) text += Str("  why    ", report.hint, "\n");
  if (!report.first.log_path.empty()) text += Str("  log    ", report.first.log_path, "\n");
  if (report.first.exit) {
    for (const std::string& line : report.first.exit->last_lines) text += Str("         | ", line, "\n");
  }
  std::size_t shown = 0, killed = 0, finished = 0;
  for (const RankRecord& rank : report.others) {
    if (rank.killed_by_us || !rank.Gone()) {
      ++killed;
      continue;
    }
    if (!Failed(rank)) {
      ++finished;
      continue;
    }
    if (++shown > kOthersShown) continue;
    text += Str("  then   ", Identity(rank), " ", DescribeEnd(rank));
    if (report.first.rank >= 0) text += Str(", ", Seconds(rank.ended_at - report.first.ended_at), " later");
    text += "\n";
  }
  if (shown > kOthersShown) text += Str("         and ", shown - kOthersShown, " more ranks failed\n");
  if (finished > 0) text += Str("         ", finished, finished == 1 ? " rank" : " ranks", " had already ended well\n");
  if (killed > 0)
    text += killed == 1 ? std::string("         belay kills the remaining rank\n")
                        : Str("         belay kills the remaining ", killed, " ranks\n");
  text += Str("  next   ", next, "\n");
  return text;
}

}  // namespace belay::launcher
