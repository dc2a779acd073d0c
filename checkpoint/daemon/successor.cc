#include "checkpoint/daemon/successor.h"

#include <csignal>
#include <iostream>
#include <set>
#include <utility>

#include "runtime/base/environment.h"
#include "runtime/base/fault_points.h"
#include "runtime/base/process_spawner.h"
#include "runtime/base/shared_memory.h"
#include "runtime/base/units.h"

namespace belay::checkpoint {

using base::Code;

namespace {

constexpr std::string_view kTakeOver = "--take-over", kDropDataDir = "--drop-data-dir";
constexpr std::string_view kCheckOnly = "--check-take-over";
constexpr std::string_view kItCan = " takes over\n";
constexpr auto kCheckPatience = std::chrono::seconds(20);  // an old disk loads the program and its libraries
constexpr std::uint64_t kWordsBytes = 4 * base::kKiB;

std::string TextIn(const base::UniqueFd& memory) {
  const auto mapping = base::MapSharedMemory(memory.get(), kWordsBytes, base::MapAccess::kRead);
  if (!mapping) return {};
  const std::string_view text(reinterpret_cast<const char*>(mapping->bytes().data()), mapping->bytes().size());
  return std::string(text.substr(0, text.find('\0')));
}

// What the child ended with, and the words that it left.
base::Result<std::pair<base::ExitEvent, std::string>> RunCheck(const ProgramOnDisk& program) {
  Handover nothing;
  nothing.version = BELAY_VERSION;
  BELAY_ASSIGN(const base::UniqueFd record, base::FreezeInMemory("belayd-handover-check", EncodeHandover(nothing)));
  BELAY_ASSIGN(const base::UniqueFd words,
               base::CreateSharedMemory({.name = "belayd-check-words", .size_bytes = kWordsBytes}));
  base::SpawnRequest child;
  child.argv = program.words;
  child.argv.at(0) = program.path;
  child.argv.insert(child.argv.end(), {std::string(kCheckOnly), base::Str(record.get())});
  child.environment = base::WholeEnvironment();
  child.output = words.Duplicate();
  child.error = words.Duplicate();
  child.inherited = {record.get()};
  base::ProcessSpawner& spawner = base::PosixProcessSpawner();
  BELAY_ASSIGN(const pid_t pid, spawner.Spawn(std::move(child)));
  BELAY_ASSIGN(auto exit, spawner.Wait(pid, base::Duration(kCheckPatience)));
  if (!exit) {
    BELAY_TRY(spawner.SignalGroup(pid, SIGKILL));
    BELAY_TRY(spawner.Wait(pid, std::nullopt));
    return base::Fail(Code::kTimeout, "it did not answer within ", kCheckPatience.count(), " s");
  }
  return std::pair(*exit, TextIn(words));
}

class Inherited {
 public:
  base::Result<base::UniqueFd> Own(int number) {
    if (!owned_.insert(number).second) return base::Fail(Code::kCorrupt, "descriptor ", number, " is named twice");
    return base::OwnInherited(number);
  }

 private:
  std::set<int> owned_;
};

// The job's memory, all of it or none.
base::Result<HeldMemory> MapJob(const Handover::Job& handed, Inherited& inherited) {
  HeldMemory memory;
  base::Status first;
  std::size_t descriptor = 0;
  for (const auto& [rank, slot] : handed.job.slots) {
    for (std::size_t buffer = 0; buffer < slot.buffers.size(); ++buffer) {
      // All of them, so that those of a bad job are closed.
      auto fd = inherited.Own(handed.descriptors.at(descriptor++));
      auto mapped = fd ? MapStaging(*std::move(fd), slot.bytes) : tl::unexpected<base::Error>(fd.error());
      if (!mapped) {
        if (first) first = tl::unexpected<base::Error>(std::move(mapped).error());
        continue;
      }
      memory[{OwnerName(handed.job.key), rank, buffer}] = *std::move(mapped);
    }
  }
  BELAY_TRY(first);
  return memory;
}

base::Result<TakenOver> TryTakeOver(int record, const std::string& lock_path, const std::string& socket) {
  BELAY_TRY(base::FaultPoint("restart.after_exec"));
  Inherited inherited;
  BELAY_ASSIGN(const base::UniqueFd memory, inherited.Own(record));
  BELAY_ASSIGN(const std::string content, base::ReadFrozenMemory(memory.get(), kHandoverBytesMax));
  BELAY_ASSIGN(Handover handover, DecodeHandover(content));
  TakenOver taken;
  taken.report.attempts = handover.attempts;
  taken.report.from_version = handover.version;
  taken.report.left = handover.left;
  taken.clients_awaited = handover.clients_awaited;
  BELAY_ASSIGN(base::UniqueFd lock, inherited.Own(handover.lock));
  BELAY_ASSIGN(taken.lock, base::FileLock::TakeUp(std::move(lock), lock_path));
  const auto lose = [&taken](const std::string& why) {
    taken.report.lost += (taken.report.lost.empty() ? "" : "; ") + why;
  };
  BELAY_ASSIGN(base::UniqueFd listening, inherited.Own(handover.listener));
  if (auto listener = base::TakeUpUnixListener(socket, std::move(listening))) {
    taken.listener = *std::move(listener);
  } else {
    lose(listener.error().Text());
  }
  for (const std::string& job : handover.left_out) lose("the memory of job " + job + ": too much to hand over");
  for (Handover::Job& job : handover.jobs) {
    auto mapped = MapJob(job, inherited);
    if (!mapped) {
      lose(base::Str("the memory of job ", job.job.key, ": ", mapped.error().Text()));
      continue;
    }
    taken.memory.merge(*mapped);
    taken.jobs.push_back(std::move(job.job));
  }
  return taken;
}

}  // namespace

ProgramOnDisk InstalledProgram(int argc, char** argv) {
  ProgramOnDisk program;
  // What was said to one start only: a folder that is dropped a second time would be forgotten, or not be known.
  for (int i = 0; i < argc; ++i) {
    const std::string_view word = argv[i];
    const auto is = [&](std::string_view flag) {
      return word == flag || (word.starts_with(flag) && word.substr(flag.size()).starts_with('='));
    };
    if (!is(kTakeOver) && !is(kDropDataDir))
      program.words.emplace_back(word);
    else if (word.find('=') == std::string_view::npos)
      ++i;  // its value
  }
  if (program.words.empty()) program.words.emplace_back("belayd");
  program.path = program.words.front().starts_with('/') ? program.words.front() : base::ProgramPath();
  return program;
}

base::Status CheckSuccessor(const ProgramOnDisk& program) {
  const auto cannot = [&](const std::string& why) {
    return base::Fail(Code::kUnavailable, "the belayd installed at ", program.path, " cannot take over: ", why,
                      ". This one goes on. Mend that one and ask again; or, at the price of what is in memory only, "
                      "`belay daemon stop` and start it");
  };
  if (auto tried = base::FaultPoint("restart.before_check"); !tried) return cannot(tried.error().Text());
  const auto checked = RunCheck(program);
  if (!checked) return cannot(checked.error().Text());
  auto [exit, words] = *checked;
  if (exit.status == 0 && words.ends_with(kItCan)) return {};
  while (words.ends_with('\n')) words.pop_back();
  if (exit.status == 0) return cannot("it is no belayd that can (" + words + ")");
  return cannot(base::Str("it ends with status ", exit.status, words.empty() ? "" : ": " + words));
}

base::Status ReadRecordOnly(int record) {
  BELAY_ASSIGN(const std::string content, base::ReadFrozenMemory(record, kHandoverBytesMax));
  BELAY_TRY(DecodeHandover(content));
  std::cout << "belayd " << BELAY_VERSION << kItCan;
  return {};
}

base::Error ExecSuccessor(const ProgramOnDisk& program, const Handover& handover) {
  auto record = base::FreezeInMemory("belayd-handover", EncodeHandover(handover));
  if (!record) return std::move(record).error();
  std::vector<int> inherited = {record->get(), handover.lock, handover.listener};
  for (const Handover::Job& job : handover.jobs) {
    inherited.insert(inherited.end(), job.descriptors.begin(), job.descriptors.end());
  }
  std::vector<std::string> words = program.words;
  words.insert(words.end(), {std::string(kTakeOver), base::Str(record->get())});
  if (auto tried = base::FaultPoint("restart.before_exec"); !tried) return std::move(tried).error();
  return base::ReplaceProcess(program.path, std::move(words), inherited);
}

TakenOver TakeOver(int record, const std::string& lock_path, const std::string& socket) {
  auto taken = TryTakeOver(record, lock_path, socket);
  if (taken) return *std::move(taken);
  // Whatever else came with it belongs to nobody, and would hold the lock and the memory as long as we live.
  base::CloseInherited();
  TakenOver nothing;
  nothing.report.attempts = 1;
  nothing.report.left = base::SystemClock().Now();
  nothing.report.lost = "nothing of the belayd before was taken up: " + taken.error().Text();
  return nothing;
}

}  // namespace belay::checkpoint
