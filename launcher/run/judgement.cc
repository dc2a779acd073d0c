#include "launcher/run/judgement.h"

#include <utility>

#include "runtime/base/str.h"

namespace belay::launcher {

using base::Str;
using checkpoint::Judgement;
using checkpoint::TrustState;

DaemonLink::Verdict VerdictOn(const action::JudgeResume& resume, const checkpoint::JobKey& job,
                              base::Generation generation, std::function<void(std::string)> say) {
  DaemonLink::Verdict verdict;
  verdict.key = {job, base::Step(resume.checkpoint.step), base::Generation(resume.checkpoint.generation)};
  verdict.judgement = resume.fate == ResumeFate::kProved     ? Judgement::kProved
                      : resume.fate == ResumeFate::kDiverged ? Judgement::kDiverged
                                                             : Judgement::kFailed;
  verdict.by = generation;
  verdict.reason = resume.reason;
  verdict.told = [say = std::move(say), key = verdict.key,
                  fate = resume.fate](const base::Result<checkpoint::Trust>& trust) {
    if (std::string words = JudgementWords(key, fate, trust); !words.empty()) say(std::move(words));
  };
  return verdict;
}

std::string JudgementWords(const checkpoint::CheckpointKey& key, ResumeFate fate,
                           const base::Result<checkpoint::Trust>& trust) {
  if (!trust) {
    // Gone since, or the daemon is older than this program: then nobody counts.
    const bool expected = trust.error().code == base::Code::kNotFound || trust.error().code == base::Code::kUnsupported;
    return expected ? std::string()
                    : Str("belay: belayd does not note how the resume from step ", key.step,
                          " went: ", trust.error().Text(), "\n");
  }
  if (fate == ResumeFate::kProved) return "";
  if (trust->state == TrustState::kSuspect) {
    const std::string why = fate == ResumeFate::kDiverged
                                ? std::string("a resume from it gives no numbers")
                                : Str(trust->failed_resumes, " resumes from it failed before they had trained on");
    return Str("belay: the checkpoint of step ", key.step, " is suspect now: ", why,
               ". Runs resume from an older one; `belay ckpt trust ", key.job.job, " ", key.step, " good --generation ",
               key.generation, "` takes that back\n");
  }
  if (trust->state == TrustState::kGood) return "";  // it has trained on before: it is not to blame
  return Str("belay: a resume from step ", key.step,
             " failed before it had trained on; if the next one does too, an older "
             "checkpoint is tried\n");
}

}  // namespace belay::launcher
