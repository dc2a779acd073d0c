// A job's launcher: begins a run, starts its ranks, ends it or dies, and so on. And somebody at the command line.
#pragma once

#include <memory>
#include <vector>

#include "tests/sim/trainer.h"
#include "tests/sim/world.h"

namespace belay::checkpoint::sim {

class Launcher final : public Program {
 public:
  // `calm`: one patient run that must save, then the end.
  Launcher(World& world, JobSetup job, bool calm) : Program(world), job_(std::move(job)), calm_(calm) {}

  // A rank that lives, if any; ranks of older generations too.
  std::shared_ptr<Trainer> SomeTrainer(base::Rng& rng) const;
  const RunOf* run() const { return run_.get(); }

 private:
  Task<> Life() override;
  void Died() override { line_.reset(); }
  Task<bool> BeginRun();
  void StartRanks(const wire::RunGrant& grant, int ranks);
  void RetireRanks();
  bool RanksLeft() const;

  const JobSetup job_;
  const bool calm_;
  std::shared_ptr<Line> line_;
  std::shared_ptr<RunOf> run_;
  std::vector<std::shared_ptr<Trainer>> ranks_;  // of this generation
  std::vector<std::shared_ptr<Trainer>> stale_;  // of older ones, hung but alive
};

// Lists, looks, verifies, pins, removes, reindexes, at random.
class Visitor final : public Program {
 public:
  Visitor(World& world, std::vector<JobSetup> jobs) : Program(world), jobs_(std::move(jobs)) {}

 private:
  Task<> Life() override;
  void Died() override { line_.reset(); }
  Task<bool> Pin(const commit::JobKey& job, const commit::CheckpointId& id);
  Task<bool> Remove(const commit::JobKey& job, const commit::CheckpointId& id);
  Task<bool> Reindex();

  const std::vector<JobSetup> jobs_;
  std::shared_ptr<Line> line_;
};

}  // namespace belay::checkpoint::sim
