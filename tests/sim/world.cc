#include "tests/sim/world.h"

#include <cstdio>
#include <utility>

#include "checkpoint/client/client.h"
#include "tests/sim/contents.h"

namespace belay::checkpoint::sim {

using base::Code;

World::World(std::uint64_t seed_of_all, Plants planted, Coverage& counts, bool tracing)
    : seed(seed_of_all),
      plants(planted),
      also(AlsoDataDirs(seed_of_all)),
      coverage(counts),
      scheduler(base::Mix64(seed_of_all + 1), clock),
      faults(base::Mix64(seed_of_all + 2), scheduler, clock, counts),
      disk(files, faults, planted.lie),
      model([this](const std::string& what) { Violated(what); }),
      inspector(files, index::Folders(kDataDir), also, model, counts,
                [this](const std::string& what) { Violated(what); }),
      network(scheduler, faults, [this](const std::string& what) { Violated(what); }),
      tracing_(tracing) {
  disk.OnManifest([this](const std::string& directory) {
    const auto place = inspector.PlaceOf(directory);
    if (place) model.Named(place->first, place->second);
  });
  if (tracing) network.trace = [this](const std::string& what) { Trace(what); };
}

World::~World() = default;

void World::Violated(const std::string& what) {
  Trace("VIOLATION: " + what);
  if (violation_.empty()) violation_ = what;
}

void World::Trace(const std::string& what) {
  if (!tracing_) return;
  const auto now = std::chrono::duration<double>(clock.Now().time_since_epoch() - std::chrono::hours(1)).count();
  std::fprintf(stderr, "%10.6f %*s%s\n", now, scheduler.depth(), "", what.c_str());
}

void Program::Kill() {
  if (std::exchange(killed_, true)) return;
  world_.scheduler.AtTop([this, there = there_] {
    if (!*there) return;
    life_ = Task<>();
    Died();
  });
}

void Program::KillAll(World& world) {
  for (const auto& [pid, program] : world.programs_) program->Kill();
}

Task<std::shared_ptr<Line>> Program::Connect() {
  while (true) {
    if (auto line = world_.network.Connect(pid_)) co_return line;
    co_await world_.scheduler.Sleep(std::chrono::milliseconds(5));
  }
}

void SetKey(const commit::JobKey& job, wire::JobKey& key) {
  key.set_project(job.project);
  key.set_job(job.job);
}

namespace {

// The client library's face over a simulated line, for the real Restorer: it asks, and the world goes on until the
// answer.
class WaitingClient final : public Client {
 public:
  WaitingClient(World& world, std::shared_ptr<Line> line) : world_(world), line_(std::move(line)) {}

  base::Result<OpenedCheckpoint> OpenCheckpoint(const CheckpointKey& key, bool from_memory,
                                                const std::vector<std::string>& files) override {
    wire::Request request;
    wire::OpenCheckpoint& open = *request.mutable_open_checkpoint();
    SetKey({key.job.project, key.job.job}, *open.mutable_checkpoint()->mutable_key());
    open.mutable_checkpoint()->set_step(key.step.value());
    open.mutable_checkpoint()->set_generation(key.generation.value());
    open.set_from_memory(from_memory);
    for (const std::string& file : files) open.add_files(file);
    const auto outcome = std::make_shared<std::optional<Outcome>>();
    line_->Send(request, [outcome](Outcome answer) { *outcome = std::move(answer); });
    while (!*outcome) {
      if (!world_.machine->up() || !world_.scheduler.RunNext()) return base::Fail(Code::kUnavailable, "no daemon");
    }
    BELAY_ASSIGN(Answer answer, *std::move(*outcome));
    OpenedCheckpoint opened;
    BELAY_ASSIGN(opened.manifest, DecodeManifest(answer.response.opened_checkpoint().manifest()));
    for (int i = 0; i < answer.response.opened_checkpoint().files_size(); ++i) {
      const wire::OpenedFile& file = answer.response.opened_checkpoint().files(i);
      opened.files.push_back(
          {file.name(), std::move(answer.descriptors.at(static_cast<std::size_t>(i))), file.offset(), file.bytes()});
    }
    return opened;
  }

  base::Result<RunGrant> BeginRun(const JobKey&, std::int32_t, base::Generation) override { return Not(); }
  base::Status EndRun(const JobKey&, base::Generation, const std::string&) override { return Not(); }
  base::Status HoldRun(const JobKey&, std::int32_t, base::Generation) override { return Not(); }
  base::Result<Attachment> Attach(const AttachRequest&, base::Duration) override { return Not(); }
  base::Result<Begun> BeginSnapshot(base::Step, const std::string&) override { return Not(); }
  base::Status SealSnapshot(const SealRequest&) override { return Not(); }
  base::Status AbandonSnapshot(base::Step, const std::string&) override { return Not(); }
  base::Result<SnapshotOutcome> WaitSnapshot(base::Step, base::Duration) override { return Not(); }
  base::Result<std::vector<RestorePoint>> RestorePoints(const JobKey&) override { return Not(); }
  base::Result<std::vector<CheckpointInfo>> ListCheckpoints(const std::string&, const std::string&) override {
    return Not();
  }
  base::Status WriteWave(const WaveRequest&) override { return Not(); }
  base::Status PinCheckpoint(const CheckpointKey&, bool) override { return Not(); }
  base::Status RemoveCheckpoint(const CheckpointKey&, bool) override { return Not(); }
  base::Status QuarantineCheckpoint(const CheckpointKey&, const std::string&) override { return Not(); }
  base::Result<Trust> JudgeCheckpoint(const CheckpointKey&, Judgement, base::Generation, const std::string&) override {
    return Not();
  }
  base::Result<DaemonReport> GetDaemonStatus() override { return Not(); }
  base::Status StopDaemon(bool) override { return Not(); }
  base::Status RestartDaemon() override { return Not(); }
  base::Result<ReindexReport> Reindex() override { return Not(); }
  bool Broken() const override { return line_->broken(); }
  bool WaitBroken(base::Duration) override { return line_->broken(); }

 private:
  static tl::unexpected<base::Error> Not() { return base::Fail(Code::kUnsupported, "only restores wait here"); }
  World& world_;
  const std::shared_ptr<Line> line_;
};

}  // namespace

Restored Restore(World& world, const std::shared_ptr<Line>& line, const commit::JobKey& job,
                 const commit::CheckpointId& id, bool from_memory) {
  const std::uint64_t errors = world.faults.errors(), drive_turns = world.drive_turns;
  WaitingClient client(world, line);
  const auto restorer = Restorer::Open(client, {{job.project, job.job}, id.step, id.generation}, from_memory);
  const std::string wrong = restorer ? Compare(**restorer, job, id) : restorer.error().Text();
  world.Trace(base::Str("restore of ", id, " of ", job,
                        from_memory ? " from memory: " : " from disk: ", wrong.empty() ? "whole" : wrong));
  if (wrong.empty()) {
    world.Count(from_memory ? Kind::kRestoredFromMemory : Kind::kRestoredFromDisk);
    return {true, {}};
  }
  world.Count(Kind::kRestoreRefused);
  if (IsWrongBytes(wrong)) world.Violated(base::Str(id, " of ", job, ": ", wrong));
  const Fact& fact = world.model.Of(job, id);
  // Memory may be written anew at any time by whoever begins to save. A disk's checkpoint has no such excuse.
  const bool excused = from_memory || line->broken() || !world.machine->up() || world.faults.errors() != errors ||
                       world.inspector.drive_away || world.drive_turns != drive_turns || fact.damaged ||
                       world.machine->half_blind || !fact.told_committed || world.model.MayBeGone(job, id);
  if (!excused) world.Violated(base::Str(id, " of ", job, " was reported committed and does not restore: ", wrong));
  return {false, wrong};
}

}  // namespace belay::checkpoint::sim
