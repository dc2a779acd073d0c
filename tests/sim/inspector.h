// Looks at the disk itself, past the daemon, and compares it with the model: what is visible is whole, what was
// promised is there, and nothing is left that belongs to nobody.
#pragma once

#include <functional>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "checkpoint/index/folders.h"
#include "runtime/base/sim/mem_file_system.h"
#include "tests/sim/faults.h"
#include "tests/sim/model.h"

namespace belay::checkpoint::sim {

class Inspector {
 public:
  Inspector(base::MemFileSystem& files, index::Folders folders, std::vector<std::string> also, Model& model,
            Coverage& coverage, Model::Violated violated)
      : files_(files),
        folders_(std::move(folders)),
        also_(std::move(also)),
        model_(model),
        coverage_(coverage),
        violated_(std::move(violated)) {}

  // One checkpoint's folder, in any of the data folders; other folders are nobody's business.
  void Look(const std::string& touched);
  // Every checkpoint that is there or should be.
  void LookEverywhere();
  // With nothing under way: files without an owner, checkpoints that were reported failed.
  void LookForLeftovers(bool failed_may_stay);
  // Turns a bit of a random committed checkpoint's file, and notes whom that damages. False if there is none.
  bool Rot(base::Rng& rng);

  // One of the data folders is not there: nothing is said of checkpoints meanwhile.
  bool drive_away = false;

  using Place = std::pair<commit::JobKey, commit::CheckpointId>;
  std::optional<Place> PlaceOf(const std::string& directory) const;

 private:
  void LookForLeftoversBeside(const std::string& also);
  void LookForLeftoversIn(const std::string& directory, const Place& place, bool failed_may_stay);
  // Every folder of a checkpoint, whether it is one or not.
  std::vector<std::string> Directories();

  base::MemFileSystem& files_;
  const index::Folders folders_;
  const std::vector<std::string> also_;  // data folders beside it
  Model& model_;
  Coverage& coverage_;
  const Model::Violated violated_;
};

// Compare's word for the one thing that has no excuse.
bool IsWrongBytes(const std::string& compared);

}  // namespace belay::checkpoint::sim
