// One rank of a run: attaches, resumes, trains, saves. And what the ranks of a run share.
#pragma once

#include <map>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "runtime/base/shared_memory.h"
#include "tests/sim/contents.h"
#include "tests/sim/world.h"

namespace belay::checkpoint::sim {

struct JobSetup {
  commit::JobKey key;
  std::uint32_t keep_last = 1, keep_every = 0;
  std::int64_t save_every = 2;
};

// What a rank tells the others of a save: whether it may begin.
struct Asked {
  base::Step step{-1};
  int tries = 0;  // of this step: a rank that lost its daemon tries again, and the others are to do the same
  bool granted = false;
};

struct RunOf {
  JobSetup job;
  base::Generation generation;
  int world = 1;
  std::int64_t first_step = 0, last_step = 0;
  bool patient = false;            // waits for every save, and asks again if it was refused
  std::vector<std::int64_t> done;  // last step that each rank has finished
  std::vector<bool> resumed;
  std::vector<Asked> asked;             // by rank
  std::vector<std::int64_t> committed;  // by rank: saves it was told of
  std::int64_t saves = 0;               // that each rank tried
  bool finished = false;
};

class Trainer final : public Program {
 public:
  Trainer(World& world, std::shared_ptr<RunOf> run, int rank);
  bool copying() const { return copying_; }

 private:
  enum class Next : std::uint8_t { kGoOn, kReconnect, kLeave };
  Task<> Life() override;
  void Died() override;
  Task<Next> Attach();
  Task<Next> Resume();
  Task<Next> Train();
  Task<Next> Save(base::Step step);
  Task<Next> Begin(base::Step step, bool* begun);
  Task<Next> AwaitOthers(base::Step step, bool* all_begun);
  Task<Next> Abandon(base::Step step, std::string why);
  bool TakeBuffer(const Answer& answer);
  void TellOthers(base::Step step, bool granted);
  Task<Next> Copy(base::Step step, bool* copied);
  Task<Next> Await(base::Step step, bool* ended);
  Next AfterError(const base::Error& error);
  void MaybeRepeat(const wire::Request& request);
  commit::CheckpointId IdOf(base::Step step) const { return {run_->generation, step}; }

  const std::shared_ptr<RunOf> run_;
  const int rank_;
  RankState state_;
  std::shared_ptr<Line> line_;
  std::map<std::uint32_t, base::Mapping> buffers_;
  std::uint32_t buffer_ = 0;  // that the save under way goes to
  std::span<std::byte> Staging() { return buffers_.at(buffer_).bytes(); }
  std::int64_t step_;
  std::vector<base::Step> unheard_;  // sealed, their end not asked for yet
  bool copying_ = false;
};

}  // namespace belay::checkpoint::sim
