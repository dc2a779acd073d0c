#include "checkpoint/commit/trust.h"

#include <algorithm>
#include <utility>

#include "checkpoint/commit/core.h"

namespace belay::checkpoint::commit {

using base::Code;
using base::Error;

std::optional<Trust> Judge(const Trust& before, Judgement judgement, base::Generation by, const std::string& reason) {
  Trust after = before;
  if (!OfARun(judgement)) {
    after = {judgement == Judgement::kGood      ? TrustState::kGood
             : judgement == Judgement::kSuspect ? TrustState::kSuspect
                                                : TrustState::kUnknown,
             0,
             {},
             reason};
    return after == before ? std::nullopt : std::optional(after);
  }
  if (before.judged_by == by || before.state == TrustState::kGood) return std::nullopt;
  after.judged_by = by;
  if (judgement == Judgement::kProved) {
    // Also a suspect one: somebody resumed from it all the same, and it trains.
    after.state = TrustState::kGood;
    after.failed_resumes = 0;
    after.reason.clear();
    return after;
  }
  if (before.state == TrustState::kSuspect) return std::nullopt;
  after.failed_resumes = before.failed_resumes + 1;
  after.reason = reason;
  if (judgement == Judgement::kDiverged || after.failed_resumes >= kFailedResumesMax)
    after.state = TrustState::kSuspect;
  return after;
}

// Checked as far as it concerns who asks; the checkpoint itself is looked up by Handle.
base::Status Core::CheckJudge(const RequestRef& ref, const JudgeCheckpoint& request) const {
  const auto found = state_.jobs.find(request.job);
  if (found == state_.jobs.end()) return base::Fail(Code::kNotFound, "no job ", request.job);
  BELAY_TRY(CheckOwner(ref.connection, request.job));
  if (request.judgement < Judgement::kFailed || request.judgement > Judgement::kUnknown) {
    return base::Fail(Code::kInvalidArgument, "this belayd knows no judgement ", static_cast<int>(request.judgement),
                      " of a checkpoint");
  }
  if (!OfARun(request.judgement)) return {};
  const Job& job = found->second;
  if (request.by != job.generation || job.beginning) {
    return base::Fail(Code::kStaleGeneration, "job ", request.job, " is at generation ", job.generation,
                      ": generation ", request.by, " judges its checkpoints no more");
  }
  return {};
}

void Core::Handle(const RequestRef& ref, const JudgeCheckpoint& request) {
  if (auto allowed = CheckJudge(ref, request); !allowed) return Answer(ref, allowed.error());
  Job& job = state_.jobs.at(request.job);
  const std::string reason = request.reason.substr(0, kTextBytesMax);
  const auto id = Resolve(job, request.step, request.generation);
  const auto found = id ? job.committed.find(*id) : job.committed.end();
  if (found != job.committed.end()) {
    const auto after = Judge(found->second.info.trust, request.judgement, request.by, reason);
    if (!after) return Answer(ref, Judged{found->second.info.trust});
    // From now on, not from when the mark is durable: a run that begins in between must hear of it.
    found->second.info.trust = *after;
    ++found->second.trust_marks_under_way;
    return Do(PersistTrust{ref, request.job, *id, *after},
              base::Str(*id, " of job ", request.job, " is ", TrustName(after->state), " now (", after->failed_resumes,
                        " failed resumes)", after->reason.empty() ? "" : ": ", after->reason));
  }
  if (id && job.memory && job.memory->id == *id) {  // in memory only: as long as that lasts
    if (auto after = Judge(job.memory->trust, request.judgement, request.by, reason)) job.memory->trust = *after;
    return Answer(ref, Judged{job.memory->trust});
  }
  Answer(ref,
         Error{Code::kNotFound, base::Str("job ", request.job, " has no checkpoint of step ", request.step), nullptr});
}

void Core::Handle(const TrustFinished& event) {
  if (Job* job = FindJob(event.job); job != nullptr && job->committed.contains(event.id)) {
    int& under_way = job->committed.at(event.id).trust_marks_under_way;
    under_way = std::max(0, under_way - 1);  // 0: a reindex found it anew
  }
  if (!event.error) return Answer(event.ref, Judged{event.trust});
  // It holds until the daemon ends.
  Do(Note{},
     base::Str("the trust mark of ", event.id, " of job ", event.job, " is not durable: ", event.error->Text()));
  Answer(event.ref, *event.error);
}

}  // namespace belay::checkpoint::commit
