#include "runtime/base/fault_points.h"

#include <signal.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <charconv>
#include <mutex>

#include "runtime/base/check.h"
#include "runtime/base/environment.h"

namespace belay::base {

namespace {

struct Point {
  std::string_view name;
  std::string_view meaning;
};

// Sorted by name (checked below). To add a fault point: add its line here and call FaultPoint("name") at the place.
constexpr Point kPoints[] = {
    {"begin_run.after_generation", "the new generation is in its file, not in the index"},
    {"commit.after_manifest_rename", "the manifest has its name, the folder is not synced yet"},
    {"commit.after_manifest_write", "the manifest is written and synced under its temporary name"},
    {"commit.before_index", "the manifest is durable, the index does not know of it yet"},
    {"commit.before_manifest", "every rank is prepared, the manifest is not written"},
    {"control.after_stop", "the launcher has heard of a stop and told no rank yet"},
    {"daemon.before_reply", "an answer is about to be sent"},
    {"file.durable.after_rename", "a small file has its final name, its folder is not synced yet"},
    {"file.durable.after_sync", "a small file is synced under its temporary name"},
    {"file.durable.after_write", "a small file is written under its temporary name and not synced"},
    {"index.write", "a batch is about to be written to the index"},
    {"probe.before_write", "a device is measured, a file without a name is about to be written"},
    {"quarantine.before_mark", "damage was found in a checkpoint, its mark is not written"},
    {"rank.after_spawn", "belay-rank has started its program and not told the launcher"},
    {"rank.before_register", "mpirun has started belay-rank, the launcher has not heard of it"},
    {"repair.after_sync", "a damaged file is written anew and synced under a temporary name"},
    {"restart.after_exec", "the new belayd runs and has taken nothing up yet"},
    {"restart.before_check", "the program that is to take belayd's place is about to be tried"},
    {"restart.before_exec", "everything is handed over, the new belayd is not started yet"},
    {"retention.after_mark", "a checkpoint's manifest is taken away, its files are still there"},
    {"retention.before_mark", "a checkpoint is about to be deleted"},
    {"run.after_begin_run", "belayd has granted the generation, nothing was started"},
    {"run.before_spawn", "the run directory and the control socket are there, mpirun is not"},
    {"spread.after_link", "a shard in another data folder is linked to, home's folder is not synced yet"},
    {"spread.after_removal", "a checkpoint's files in another data folder are removed, home's are not"},
    {"spread.before_link", "a rank's shards in another data folder are durable, home has no links to them"},
    {"spread.before_record", "a new data folder knows whose it is, its home does not know it"},
    {"staging.allocate", "staging memory is about to be made"},
    {"trust.before_mark", "a resume was judged, the checkpoint's trust mark is not written"},
    {"wave.after_data", "a piece of a shard is written and synced, the rest is still in the trainer"},
    {"write.after_data", "a shard's bytes are written and not synced"},
    {"write.after_rename", "a shard has its final name, the folder is not synced yet"},
    {"write.after_sync", "a shard is synced under its temporary name"},
    {"write.before_data", "a rank's shards are about to be written"},
    {"write.before_link", "an unchanged shard is about to be linked from the last checkpoint"},
};
constexpr std::size_t kCount = std::size(kPoints);
static_assert(std::ranges::is_sorted(kPoints, {}, &Point::name));

enum class Action : std::uint8_t { kNone, kKill, kStop, kIo, kNoSpace, kUnavailable };

struct Slot {
  Action action = Action::kNone;
  std::uint64_t at = 0;  // 0: at every passage
  std::uint64_t passed = 0;
  std::uint64_t fired = 0;
};

enum : int { kUnread, kDisarmed, kArmed };
std::atomic<int> g_state{kUnread};
std::mutex g_mutex;
std::array<Slot, kCount> g_slots;                  // guarded by g_mutex
std::function<Status(std::string_view)> g_decide;  // guarded by g_mutex; if set, asked instead of the slots

std::size_t IndexOf(std::string_view name) {
  const Point* found = std::ranges::lower_bound(kPoints, name, {}, &Point::name);
  return found != std::end(kPoints) && found->name == name ? static_cast<std::size_t>(found - kPoints) : kCount;
}

Result<Action> ParseAction(std::string_view word) {
  if (word == "kill") return Action::kKill;
  if (word == "stop") return Action::kStop;
  if (word == "io") return Action::kIo;
  if (word == "nospace") return Action::kNoSpace;
  if (word == "unavailable") return Action::kUnavailable;
  return Fail(Code::kInvalidArgument, "fault action \"", word, "\" is none of kill, stop, io, nospace, unavailable");
}

// name=action[@n]
Result<std::pair<std::size_t, Slot>> ParseFault(std::string_view text) {
  const std::size_t equals = text.find('=');
  if (equals == std::string_view::npos) return Fail(Code::kInvalidArgument, "fault \"", text, "\" is not name=action");
  const std::size_t index = IndexOf(text.substr(0, equals));
  if (index == kCount) return Fail(Code::kInvalidArgument, "no fault point is named ", text.substr(0, equals));
  std::string_view action = text.substr(equals + 1);
  Slot slot;
  if (const std::size_t at = action.find('@'); at != std::string_view::npos) {
    const std::string_view number = action.substr(at + 1);
    const auto [end, error] = std::from_chars(number.begin(), number.end(), slot.at);
    if (error != std::errc() || end != number.end() || slot.at == 0) {
      return Fail(Code::kInvalidArgument, "fault \"", text, "\": the number after @ counts from 1");
    }
    action = action.substr(0, at);
  }
  BELAY_ASSIGN(slot.action, ParseAction(action));
  return std::pair(index, slot);
}

// Once a process: what the environment asks for. A bad plan would silently test nothing, so it ends the program.
void ReadEnvironment() {
  static std::once_flag once;
  std::call_once(once, [] {
    const std::optional<std::string> plan = GetEnvironment("BELAY_FAULTS");
    int unread = kUnread;
    if (!plan || plan->empty()) {
      g_state.compare_exchange_strong(unread, kDisarmed);
      return;
    }
    const Status armed = ArmFaults(*plan);
    BELAY_CHECK(armed.has_value(), "BELAY_FAULTS: ", armed.error().message);
  });
}

Status Fire(std::string_view name, Action action) {
  switch (action) {
    case Action::kKill:
      ::kill(::getpid(), SIGKILL);
      return {};
    case Action::kStop:
      ::kill(::getpid(), SIGSTOP);
      return {};
    case Action::kIo:
      return Fail(Code::kIo, "fault point ", name);
    case Action::kNoSpace:
      return Fail(Code::kNoSpace, "fault point ", name);
    case Action::kUnavailable:
      return Fail(Code::kUnavailable, "fault point ", name);
    case Action::kNone:
      break;
  }
  return {};
}

}  // namespace

Status FaultPoint(std::string_view name) {
  if (g_state.load(std::memory_order_relaxed) == kDisarmed) {
#ifndef NDEBUG
    BELAY_CHECK(IndexOf(name) != kCount, "fault point ", name, " is not in fault_points.cc");
#endif
    return {};
  }
  ReadEnvironment();
  const std::size_t index = IndexOf(name);
  BELAY_CHECK(index != kCount, "fault point ", name, " is not in fault_points.cc");
  Action action = Action::kNone;
  std::function<Status(std::string_view)> decide;
  {
    const std::scoped_lock lock(g_mutex);
    decide = g_decide;
    Slot& slot = g_slots[index];
    ++slot.passed;
    if (slot.action != Action::kNone && (slot.at == 0 || slot.at == slot.passed)) {
      ++slot.fired;
      action = slot.action;
    }
  }
  return decide ? decide(name) : Fire(name, action);
}

Status ArmFaults(std::string_view plan) {
  std::array<Slot, kCount> slots{};
  while (!plan.empty()) {
    const std::size_t comma = std::min(plan.find(','), plan.size());
    BELAY_ASSIGN(const auto fault, ParseFault(plan.substr(0, comma)));
    slots[fault.first] = fault.second;
    plan.remove_prefix(std::min(comma + 1, plan.size()));
  }
  const std::scoped_lock lock(g_mutex);
  g_slots = slots;
  g_decide = nullptr;
  g_state = kArmed;
  return {};
}

void DecideFaults(std::function<Status(std::string_view name)> decide) {
  const std::scoped_lock lock(g_mutex);
  g_slots = {};
  g_decide = std::move(decide);
  g_state = kArmed;
}

void DisarmFaults() {
  const std::scoped_lock lock(g_mutex);
  g_slots = {};
  g_decide = nullptr;
  g_state = kDisarmed;
}

std::vector<FaultPointInfo> ListFaultPoints() {
  const std::scoped_lock lock(g_mutex);
  std::vector<FaultPointInfo> points;
  for (std::size_t i = 0; i < kCount; ++i) {
    points.push_back({kPoints[i].name, kPoints[i].meaning, g_slots[i].passed, g_slots[i].fired});
  }
  return points;
}

}  // namespace belay::base
