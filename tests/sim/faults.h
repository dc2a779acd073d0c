// What goes wrong, and a count of it. Every call through a seam (file system, index, fault point) asks here first.
//
// A crash of the daemon may be set to come at the n-th call from now, before or after its effect. From then until the
// machine has buried the daemon, its process is a ghost: calls answer kIo and change nothing, so whatever the code does
// on its way out of the call is not done.
#pragma once

#include <array>
#include <cstdint>
#include <functional>
#include <map>
#include <optional>
#include <string>
#include <string_view>

#include "runtime/base/result.h"
#include "tests/sim/scheduler.h"

namespace belay::checkpoint::sim {

// X(name, words). Each must happen in a run of all seeds; faults first, then what shows that the work went on.
#define BELAY_SIM_KINDS(X)                                                \
  X(Killed, "the daemon is killed at a seam call")                        \
  X(PowerLost, "the machine loses power at a seam call")                  \
  X(KilledInStartup, "the daemon dies while it starts")                   \
  X(Stopped, "the daemon gets SIGTERM")                                   \
  X(WriteError, "a write fails")                                          \
  X(ShortWrite, "a write fails half-way")                                 \
  X(SyncError, "a sync of a file fails")                                  \
  X(FolderSyncError, "a sync of a folder fails")                          \
  X(RenameError, "a rename fails")                                        \
  X(LostRename, "a rename happens and answers an error")                  \
  X(ReadError, "a read fails")                                            \
  X(RemoveError, "a removal fails")                                       \
  X(NameError, "opening, listing or looking at something fails")          \
  X(DiskFull, "the disk has no room left")                                \
  X(ReadOnly, "the file system is remounted read-only")                   \
  X(SlowDisk, "a disk operation takes long")                              \
  X(DriveAway, "a drive is not there for a while")                        \
  X(Interleaved, "others go on during a disk operation")                  \
  X(WallJump, "somebody sets the clock")                                  \
  X(BitRot, "a bit of a committed checkpoint's file turns")               \
  X(IndexLost, "the index is gone")                                       \
  X(IndexDamaged, "the index cannot be read")                             \
  X(IndexRefused, "a write to the index fails")                           \
  X(IndexUnsure, "a write to the index happens and answers an error")     \
  X(PointError, "a fault point answers an error")                         \
  X(LineCut, "a connection breaks")                                       \
  X(Repeated, "a request comes twice")                                    \
  X(Late, "a request or an answer is late")                               \
  X(TrainerDied, "a rank dies")                                           \
  X(TrainerDiedCopying, "a rank dies while it copies")                    \
  X(LauncherDied, "a launcher dies")                                      \
  X(HungCopying, "a rank hangs while it copies")                          \
  X(OtherCannotBegin, "a rank abandons a step that another cannot begin") \
  X(StaleRank, "a rank of an older generation asks for something")        \
  X(OtherWorld, "a run resumes with another world size")                  \
  X(SaveCommitted, "saves committed")                                     \
  X(SaveFailed, "saves failed")                                           \
  X(FurtherBuffer, "saves that went to a buffer beyond the first")        \
  X(SaveRefused, "saves refused before a byte was copied")                \
  X(SaveUnknown, "saves whose end their rank did not learn")              \
  X(RestoredFromMemory, "restores from memory")                           \
  X(RestoredFromDisk, "restores from disk")                               \
  X(RestoreRefused, "restores that said why not")                         \
  X(RetentionRemoved, "checkpoints removed by retention")                 \
  X(UserRemoved, "checkpoints removed by somebody")                       \
  X(Pinned, "checkpoints pinned")                                         \
  X(Reindexed, "the index rebuilt while serving")                         \
  X(DaemonStarted, "daemon starts")                                       \
  X(Granted, "generations granted")

enum class Kind : std::uint8_t {
#define BELAY_X(name, words) k##name,
  BELAY_SIM_KINDS(BELAY_X)
#undef BELAY_X
      kCount
};
std::string_view KindWords(Kind kind);

// Over all seeds of a program.
struct Coverage {
  std::array<std::uint64_t, static_cast<std::size_t>(Kind::kCount)> kinds{};
  std::map<std::string, std::uint64_t, std::less<>> points_passed, points_failed, points_died;
  std::uint64_t seeds = 0, events = 0, seam_calls = 0;
  void Count(Kind kind) { ++kinds[static_cast<std::size_t>(kind)]; }
  // Lines of words and numbers.
  std::string Table() const;
  // What never happened, one a line; empty if all is covered.
  std::string Missing() const;
};

enum class Call : std::uint8_t {
  kOpen,
  kWrite,
  kRead,
  kSync,
  kRename,
  kRemove,
  kMakeFolder,
  kSyncFolder,
  kLook,
  kIndexWrite,
  kIndexRead,
  kPoint,
};

struct Disturbance {  // what may go wrong now; probabilities a call
  double disk_error = 0;
  double index_error = 0;
  double point_error = 0;
  double slow = 0;
};

class Faults {
 public:
  Faults(std::uint64_t seed, Scheduler& scheduler, base::SimClock& clock, Coverage& coverage);
  ~Faults();  // disarms the fault points
  Faults(const Faults&) = delete;
  Faults& operator=(const Faults&) = delete;

  enum class Effect : std::uint8_t { kNone, kHalf, kWhole };
  struct Verdict {
    std::optional<base::Error> error;  // the answer, whatever the effect
    Effect effect = Effect::kWhole;    // what shall happen all the same
  };
  // Before the call. After it, if it had an effect, ask Died().
  Verdict Ask(Call call, std::string_view path);
  // True if the daemon died of this call after its effect: answer kIo.
  bool Died();

  Disturbance disturbance;
  bool interleave = false;  // others may run during disk operations
  // The daemon dies at the n-th call from now.
  void DieIn(std::uint64_t calls, std::function<void()> dying);
  // Takes DieIn back.
  void Spare() { die_in_ = 0; }
  bool ghost() const { return ghost_; }
  void Bury() { ghost_ = false; }
  void BecomeGhost() { ghost_ = true; }

  Coverage& coverage() { return coverage_; }
  // Errors made up so far; whoever failed meanwhile has an excuse.
  std::uint64_t errors() const { return errors_; }

 private:
  std::optional<Verdict> DiskError(Call call, std::string_view path);
  base::Status AtPoint(std::string_view name);
  void Interleave();
  void Die();

  base::Rng rng_;
  Scheduler& scheduler_;
  base::SimClock& clock_;
  Coverage& coverage_;
  std::uint64_t die_in_ = 0;  // 0: not
  std::function<void()> dying_;
  bool dies_after_ = false;
  bool ghost_ = false;
  int nested_ = 0;
  std::uint64_t errors_ = 0;
};

}  // namespace belay::checkpoint::sim
