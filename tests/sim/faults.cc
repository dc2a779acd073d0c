#include "tests/sim/faults.h"

#include <cstdio>
#include <utility>

#include "runtime/base/fault_points.h"

namespace belay::checkpoint::sim {

namespace {

constexpr int kNestedMax = 4;
constexpr double kInterleaveChance = 0.15;
constexpr base::Duration kMeanwhile = std::chrono::milliseconds(5);
constexpr base::Duration kSlowMax = std::chrono::milliseconds(300);

// The launcher's points; its processes are not simulated here (tests/launcher/mpi fires them). The scrubber's and
// the probe's, which wait on their own thread, those of frozen files, which no trainer here has, that of trust, which
// nobody here judges, that of waves, for which the memory here is too large, those of a restart, which takes a process,
// and that of a new data folder, which a first start alone passes (tests/checkpoint fires them).
bool IsElsewhere(std::string_view name) {
  for (const std::string_view prefix : {"rank.", "run.", "control.", "quarantine.", "trust.", "wave.", "repair.",
                                        "probe.", "restart.", "write.before_link", "spread.before_record"}) {
    if (name.starts_with(prefix)) return true;
  }
  return false;
}

std::string Line(std::string_view words, std::uint64_t count) {
  std::array<char, 120> text{};
  std::snprintf(text.data(), text.size(), "  %10llu  %.*s\n", static_cast<unsigned long long>(count),
                static_cast<int>(words.size()), words.data());
  return text.data();
}

}  // namespace

std::string_view KindWords(Kind kind) {
  static constexpr std::string_view kWords[] = {
#define BELAY_X(name, words) words,
      BELAY_SIM_KINDS(BELAY_X)
#undef BELAY_X
  };
  return kWords[static_cast<std::size_t>(kind)];
}

std::string Coverage::Table() const {
  std::string text = Line("seeds", seeds) + Line("events", events) + Line("seam calls", seam_calls);
  for (std::size_t i = 0; i < kinds.size(); ++i) text += Line(KindWords(static_cast<Kind>(i)), kinds[i]);
  text += "  fault point: passed, answered an error, the daemon died there\n";
  for (const auto& [name, passed] : points_passed) {
    const auto of = [&name = name](const auto& counts) {
      const auto found = counts.find(name);
      return found == counts.end() ? std::uint64_t{0} : found->second;
    };
    text += base::Str("    ", name, ": ", passed, ", ", of(points_failed), ", ", of(points_died), "\n");
  }
  return text;
}

std::string Coverage::Missing() const {
  std::string text;
  for (std::size_t i = 0; i < kinds.size(); ++i) {
    if (kinds[i] == 0) text += base::Str("never: ", KindWords(static_cast<Kind>(i)), "\n");
  }
  for (const base::FaultPointInfo& point : base::ListFaultPoints()) {
    if (IsElsewhere(point.name)) continue;
    if (!points_passed.contains(point.name)) text += base::Str("never passed: ", point.name, "\n");
    if (!points_failed.contains(point.name)) text += base::Str("never answered an error: ", point.name, "\n");
    if (!points_died.contains(point.name)) text += base::Str("the daemon never died at ", point.name, "\n");
  }
  return text;
}

Faults::Faults(std::uint64_t seed, Scheduler& scheduler, base::SimClock& clock, Coverage& coverage)
    : rng_(seed), scheduler_(scheduler), clock_(clock), coverage_(coverage) {
  base::DecideFaults([this](std::string_view name) { return AtPoint(name); });
}

Faults::~Faults() { base::DisarmFaults(); }

void Faults::DieIn(std::uint64_t calls, std::function<void()> dying) {
  die_in_ = calls;
  dying_ = std::move(dying);
}

void Faults::Die() {
  ghost_ = true;
  std::exchange(dying_, nullptr)();
}

bool Faults::Died() {
  if (!std::exchange(dies_after_, false) || ghost_) return false;
  Die();
  return true;
}

base::Status Faults::AtPoint(std::string_view name) {
  if (ghost_) return base::Fail(base::Code::kIo, "the process is dead");
  ++coverage_.points_passed[std::string(name)];
  if (die_in_ == 1) ++coverage_.points_died[std::string(name)];
  const Verdict verdict = Ask(Call::kPoint, name);
  if (Died()) return base::Fail(base::Code::kIo, "the process is dead");
  if (!verdict.error) return {};
  if (!ghost_) ++coverage_.points_failed[std::string(name)];
  return tl::unexpected<base::Error>(*verdict.error);
}

Faults::Verdict Faults::Ask(Call call, std::string_view path) {
  const auto dead = [] { return Verdict{base::Error{base::Code::kIo, "the process is dead", nullptr}, Effect::kNone}; };
  if (ghost_) return dead();
  ++coverage_.seam_calls;
  if (die_in_ > 0 && --die_in_ == 0) {
    if (rng_.Below(2) == 0) {
      Die();
      return dead();
    }
    dies_after_ = true;
    return {};
  }
  if (disturbance.slow > 0 && rng_.Uniform() < disturbance.slow) {
    coverage_.Count(Kind::kSlowDisk);
    clock_.Advance(base::Duration(static_cast<base::Duration::rep>(rng_.Below(kSlowMax.count()))));
  }
  Interleave();
  if (ghost_) return dead();
  if (auto failed = DiskError(call, path)) {
    ++errors_;
    return *std::move(failed);
  }
  return {};
}

void Faults::Interleave() {
  if (!interleave || nested_ == kNestedMax || rng_.Uniform() >= kInterleaveChance) return;
  ++nested_;
  for (std::uint64_t count = 1 + rng_.Below(6); count > 0 && !ghost_; --count) {
    if (!scheduler_.RunNext(kMeanwhile)) break;
    coverage_.Count(Kind::kInterleaved);
  }
  --nested_;
}

std::optional<Faults::Verdict> Faults::DiskError(Call call, std::string_view path) {
  const auto fails = [&](double chance) { return chance > 0 && rng_.Uniform() < chance; };
  const auto fail = [&](Kind kind, Effect effect = Effect::kNone) {
    coverage_.Count(kind);
    return Verdict{base::Error{base::Code::kIo, base::Str("made-up error: ", path), nullptr}, effect};
  };
  if (call == Call::kPoint) {
    if (!fails(disturbance.point_error)) return std::nullopt;
    return fail(Kind::kPointError);
  }
  if (call == Call::kIndexWrite || call == Call::kIndexRead) {
    if (!fails(disturbance.index_error)) return std::nullopt;
    if (call == Call::kIndexWrite && rng_.Below(2) == 0) return fail(Kind::kIndexUnsure, Effect::kWhole);
    return fail(Kind::kIndexRefused);
  }
  if (!fails(disturbance.disk_error)) return std::nullopt;
  switch (call) {
    case Call::kWrite:
      return rng_.Below(2) == 0 ? fail(Kind::kWriteError) : fail(Kind::kShortWrite, Effect::kHalf);
    case Call::kSync:
      return fail(Kind::kSyncError);
    case Call::kSyncFolder:
      return fail(Kind::kFolderSyncError);
    case Call::kRename:
      return rng_.Below(2) == 0 ? fail(Kind::kRenameError) : fail(Kind::kLostRename, Effect::kWhole);
    case Call::kRead:
      return fail(Kind::kReadError);
    case Call::kRemove:
      return fail(Kind::kRemoveError);
    default:
      return fail(Kind::kNameError);
  }
}

}  // namespace belay::checkpoint::sim
