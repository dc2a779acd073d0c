// belay ckpt pin, unpin, quarantine, unquarantine, trust, remove, reindex: what only belayd may do.
#include <charconv>

#include "checkpoint/cli/documents.h"
#include "checkpoint/cli/verb.h"
#include "runtime/base/units.h"

namespace belay::checkpoint::cli {
namespace {

std::string NameOf(const CheckpointKey& key) {
  return base::Str(key.job.project, "/", key.job.job, " step ", key.step, " generation ", key.generation);
}

struct Chosen {
  Access access;
  Listed listed;
};

base::Result<Chosen> Choose(const Arguments& arguments) {
  BELAY_ASSIGN(const auto generation, arguments.GetNumber("generation", 1, INT64_MAX));
  BELAY_ASSIGN(Access access, OpenAccess(arguments, Need::kChange));
  BELAY_ASSIGN(Listed listed, Find(access, *arguments.Positional(0), arguments.Positional(1), generation));
  return Chosen{std::move(access), std::move(listed)};
}

int Done(const Arguments& arguments, const Listed& listed, const std::string& action, const std::string& sentence) {
  if (arguments.Has("json")) {
    PrintDocument({{"action", action}, {"checkpoint", CheckpointJson(listed)}});
  } else {
    Print(sentence + "\n");
  }
  return 0;
}

base::Result<int> SetPin(const Arguments& arguments, bool pinned) {
  BELAY_ASSIGN(Chosen chosen, Choose(arguments));
  BELAY_TRY(chosen.access.client->PinCheckpoint(chosen.listed.info.key, pinned));
  chosen.listed.pinned = pinned;
  const std::string name = NameOf(chosen.listed.info.key);
  return Done(arguments, chosen.listed, pinned ? "pinned" : "unpinned",
              pinned ? "pinned " + name + ": retention keeps it" : "unpinned " + name + ": retention may delete it");
}

base::Result<int> RunPin(const Arguments& arguments) { return SetPin(arguments, true); }
base::Result<int> RunUnpin(const Arguments& arguments) { return SetPin(arguments, false); }

base::Result<int> SetQuarantine(const Arguments& arguments, const std::string& reason) {
  BELAY_ASSIGN(Chosen chosen, Choose(arguments));
  BELAY_TRY(chosen.access.client->QuarantineCheckpoint(chosen.listed.info.key, reason));
  chosen.listed.info.quarantine = reason;
  const std::string name = NameOf(chosen.listed.info.key);
  const bool lifted = reason.empty();
  return Done(arguments, chosen.listed, lifted ? "unquarantined" : "quarantined",
              lifted ? name + " is offered for restoring again"
                     : "quarantined " + name + ": it is not resumed from, and retention keeps another in its place");
}

base::Result<int> RunQuarantine(const Arguments& arguments) {
  const std::string reason = arguments.Get("reason").value_or("quarantined by hand");
  if (reason.empty()) return base::Fail(base::Code::kInvalidArgument, "--reason wants words");
  return SetQuarantine(arguments, reason);
}
base::Result<int> RunUnquarantine(const Arguments& arguments) { return SetQuarantine(arguments, ""); }

// One that the disk refused lies in belayd's memory only: no list has it, but runs resume from it.
base::Result<int> TrustInMemory(const Arguments& arguments, Judgement judgement, const std::string& words,
                                const base::Error& not_listed) {
  std::int64_t step = 0;
  const std::string text = *arguments.Positional(1);
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), step);
  if (error != std::errc() || end != text.data() + text.size()) return tl::unexpected(not_listed);
  BELAY_ASSIGN(const auto generation, arguments.GetNumber("generation", 1, INT64_MAX));
  BELAY_ASSIGN(Access access, OpenAccess(arguments, Need::kChange));
  Listed listed;
  listed.info.key = {{access.project, *arguments.Positional(0)},
                     base::Step(step),
                     base::Generation(static_cast<std::uint64_t>(generation.value_or(0)))};
  auto judged = access.client->JudgeCheckpoint(listed.info.key, judgement, {}, words);
  if (!judged) return tl::unexpected(judged.error().code == base::Code::kNotFound ? not_listed : judged.error());
  listed.info.trust = *judged;
  listed.info.in_memory = true;
  return Done(arguments, listed, "trusted",
              base::Str(listed.info.key.job.job, " step ", step, ", which is in belayd's memory only, is ",
                        TrustName(judged->state)));
}

base::Result<int> RunTrust(const Arguments& arguments) {
  const auto state = ParseTrust(*arguments.Positional(2));
  if (!state) {
    return base::Fail(base::Code::kInvalidArgument, "'", *arguments.Positional(2),
                      "' is none of good, suspect and unknown; see `belay ckpt trust --help`");
  }
  const auto reason = arguments.Get("reason");
  const Judgement judgement = *state == TrustState::kGood      ? Judgement::kGood
                              : *state == TrustState::kSuspect ? Judgement::kSuspect
                                                               : Judgement::kUnknown;
  const std::string words = reason.value_or(*state == TrustState::kSuspect ? "marked by hand" : "");
  auto chosen = Choose(arguments);
  if (!chosen && chosen.error().code == base::Code::kNotFound)
    return TrustInMemory(arguments, judgement, words, chosen.error());
  if (!chosen) return tl::unexpected(chosen.error());
  BELAY_ASSIGN(chosen->listed.info.trust,
               chosen->access.client->JudgeCheckpoint(chosen->listed.info.key, judgement, {}, words));
  const std::string name = NameOf(chosen->listed.info.key);
  return Done(arguments, chosen->listed, "trusted",
              *state == TrustState::kSuspect
                  ? name + " is suspect: a run resumes from an older one"
                  : base::Str(name, " is ", TrustName(*state), ": it is offered for restoring"));
}

base::Result<int> RunRemove(const Arguments& arguments) {
  if (!arguments.Positional(1)) {
    return base::Fail(base::Code::kInvalidArgument,
                      "say which STEP to remove (or \"latest\"); see `belay ckpt remove --help`");
  }
  BELAY_ASSIGN(Chosen chosen, Choose(arguments));
  const CheckpointKey& key = chosen.listed.info.key;
  BELAY_TRY(chosen.access.client->RemoveCheckpoint(key, arguments.Has("force")));
  return Done(arguments, chosen.listed, "removed",
              base::Str("removed ", NameOf(key), " (", base::HumanBytes(chosen.listed.info.bytes), ")"));
}

base::Result<int> RunReindex(const Arguments& arguments) {
  BELAY_ASSIGN(Access access, OpenAccess(arguments, Need::kChange));
  BELAY_ASSIGN(const ReindexReport report, access.client->Reindex());
  if (arguments.Has("json")) {
    PrintDocument({{"data_dir", access.data_dir}, {"checkpoints", report.checkpoints}, {"problems", report.problems}});
  } else {
    Print(base::Str("indexed ", report.checkpoints, report.checkpoints == 1 ? " checkpoint" : " checkpoints", " in ",
                    access.data_dir, "\n"));
  }
  for (const std::string& problem : report.problems) Note(problem);
  return report.problems.empty() ? 0 : static_cast<int>(base::ExitStatus::kBadData);
}

std::vector<OptionSpec> ChangeOptions(std::vector<OptionSpec> more) {
  more.push_back({"generation", "N", "of several checkpoints of one step, this generation's"});
  return WithCommon(std::move(more));
}

}  // namespace

Verb PinVerb() {
  return {"pin",
          "keep a checkpoint whatever the retention says",
          {"belay ckpt pin JOB [STEP]",
           "Keeps a checkpoint until it is unpinned. STEP: a number or \"latest\" (the default).", ChangeOptions({}), 1,
           2, "  belay ckpt pin gpt 1200\n"},
          RunPin};
}

Verb UnpinVerb() {
  return {"unpin",
          "let retention decide again",
          {"belay ckpt unpin JOB [STEP]", "Takes a pin away. STEP: a number or \"latest\" (the default).",
           ChangeOptions({}), 1, 2, ""},
          RunUnpin};
}

Verb QuarantineVerb() {
  return {
      "quarantine",
      "keep restores away from a checkpoint",
      {"belay ckpt quarantine JOB STEP",
       "Marks a checkpoint as not to be resumed from, as belayd does by itself where it finds damage. Retention then\n"
       "keeps a good one in its place. STEP: a number or \"latest\".",
       ChangeOptions({{"reason", "WORDS", "why, for `list` and `show`"}}), 2, 2,
       "  belay ckpt quarantine gpt 1200 --reason 'the loss went up after it'\n"},
      RunQuarantine};
}

Verb UnquarantineVerb() {
  return {
      "unquarantine",
      "offer a quarantined checkpoint again",
      {"belay ckpt unquarantine JOB STEP",
       "Takes the mark away without reading the files. `belay ckpt verify` reads them, and takes it away if all is\n"
       "good.",
       ChangeOptions({}), 2, 2, "  belay ckpt unquarantine gpt 1200\n"},
      RunUnquarantine};
}

Verb TrustVerb() {
  return {"trust",
          "say whether a checkpoint is worth resuming from",
          {"belay ckpt trust JOB STEP good|suspect|unknown",
           "A checkpoint is good once a resume from it has trained on, and suspect once two have failed before that, "
           "or one\n"
           "gave a loss that is no number. A suspect one is not resumed from; an older one is. This replaces what "
           "belay has\n"
           "found by what you know. STEP: a number or \"latest\".",
           ChangeOptions({{"reason", "WORDS", "why, for `list` and `show`"}}), 3, 3,
           "  belay ckpt trust gpt 1200 good        the bug was in the program\n"
           "  belay ckpt trust gpt 1200 suspect --reason 'the loss went up after it'\n"},
          RunTrust};
}

Verb RemoveVerb() {
  return {
      "remove",
      "delete one checkpoint",
      {"belay ckpt remove JOB STEP",
       "Deletes a checkpoint. A pinned one, or the one that the job would resume from, needs --force.",
       ChangeOptions({{"force", "", "also if it is pinned or the newest"}}), 1, 2, "  belay ckpt remove gpt 1200\n"},
      RunRemove};
}

Verb ReindexVerb() {
  return {"reindex",
          "rebuild belayd's index from the files",
          {"belay ckpt reindex",
           "Reads all manifests below the data directory and builds belayd's index anew. Nothing is moved or deleted. "
           "Exits\n"
           "65 if a folder could not be read.",
           WithCommon({}), 0, 0, ""},
          RunReindex};
}

}  // namespace belay::checkpoint::cli
