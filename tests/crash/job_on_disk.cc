#include "tests/crash/job_on_disk.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cstring>
#include <utility>

#include "checkpoint/daemon/shard_writer.h"
#include "checkpoint/daemon/startup.h"
#include "checkpoint/format/deal.h"
#include "checkpoint/index/schema.h"
#include "runtime/base/fault_points.h"

namespace belay::crash {

using namespace checkpoint;  // NOLINT: the service's own nouns
using commit::CheckpointId;

const commit::JobKey JobOnDisk::kJob{"default", "gpt"};

std::ostream& operator<<(std::ostream& out, const JobState& state) {
  out << "generation " << state.generation << " with";
  for (const auto& [id, pinned] : state.checkpoints) out << ' ' << id << (pinned ? " (pinned)" : "");
  return out << (state.checkpoints.empty() ? " nothing" : "");
}

index::Folders JobOnDisk::FoldersOn(Drives drives) {
  if (drives == Drives::kOne) return index::Folders(kDataDir);
  return index::Folders(kDataDir, {std::string(32, 'a'), {{kOtherDir, std::string(32, '1'), false}}});
}

JobOnDisk::JobOnDisk(Drives drives, State of)
    : history_{drives, {}, {}}, folders_(FoldersOn(drives)), has_frozen_(of == State::kWithFrozenPart) {
  // belayd has made its folders, durably, before any of this.
  EXPECT_TRUE(base::MakeDirectories(recorder_, folders_.OwnFolder()));
  for (const spread::OtherFolder& other : folders_.others()) {
    EXPECT_TRUE(base::MakeDirectories(recorder_, other.path + "/.belayd"));
    EXPECT_TRUE(base::WriteFileDurably(recorder_, spread::MembershipFile(other.path),
                                       spread::EncodeMembership({other.id, folders_.home_id(), kDataDir})));
  }
  EndStage("the data directory", {});
}

JobOnDisk::JobOnDisk(const History& history, std::size_t end)
    : history_{history.drives, {}, {}}, folders_(FoldersOn(history.drives)), has_frozen_(false) {
  DiskModel model;
  for (std::size_t i = 0; i < end; ++i) model.Apply(history.log.operations()[i]);
  history_.log = history.log;
  history_.log.operations().resize(end);
  for (const Stage& stage : history.stages) {
    if (stage.end <= end) history_.stages.push_back(stage);
  }
  if (!history_.stages.empty()) state_ = history_.stages.back().after;
  Load(model.Visible());
}

JobOnDisk::JobOnDisk(const DiskImage& image, Drives drives, State of)
    : history_{drives, {}, {}}, folders_(FoldersOn(drives)), has_frozen_(of == State::kWithFrozenPart) {
  Load(image);
}

void JobOnDisk::Load(const DiskImage& image) {
  for (const auto& [path, content] : image.paths) {  // folders before what is in them
    if (content == nullptr) {
      EXPECT_TRUE(memory_.MakeDirectory(path, 0700));
      continue;
    }
    if (content->is_link) {
      EXPECT_TRUE(memory_.LinkSymbolic(content->bytes, path));
      continue;
    }
    auto file = memory_.Open(path, {.mode = base::OpenOptions::Mode::kCreateExclusive});
    ASSERT_TRUE(file && (*file)->WriteAt(0, std::as_bytes(std::span(content->bytes))));
  }
  base::IndexBatch batch;
  for (const auto& [key, value] : image.index) batch.Put(key, value);
  EXPECT_TRUE(map_.Write(batch));
}

void JobOnDisk::EndStage(std::string name, JobState after) {
  history_.stages.push_back({std::move(name), history_.log.operations().size(), state_, after});
  state_ = std::move(after);
}

CheckpointId JobOnDisk::IdOf(std::int64_t step) const {
  for (const auto& [id, pinned] : state_.checkpoints) {
    if (id.step == base::Step(step)) return id;
  }
  return {base::Generation(state_.generation), base::Step(step)};
}

void JobOnDisk::Start() {
  const auto known = index::ReadCatalogue(index_);
  ASSERT_TRUE(known) << known.error().Text();
  const auto found = Reconcile(files(), folders_, index_, *known, kOwner);
  ASSERT_TRUE(found) << found.error().Text();
  JobState state;
  if (const auto job = found->find(kJob); job != found->end()) {
    state.generation = job->second.generation.value();
    for (const auto& [id, info] : job->second.checkpoints) state.checkpoints[id] = info.pinned;
  }
  EndStage("start", std::move(state));
}

void JobOnDisk::BeginRun() {
  JobState after = state_;
  ++after.generation;
  frozen_.reset();
  const auto event = publisher_.Persist({kJob, base::Generation(after.generation), kOwner});
  EXPECT_FALSE(event.error) << event.error->Text();
  EndStage("the beginning of a run", std::move(after));
}

JobOnDisk::Written JobOnDisk::Write(const CheckpointId& id, int ranks, RankOrder order) {
  Written written;
  std::vector<std::vector<DiskOperation>> parts;
  const std::size_t before = history_.log.operations().size();
  if (has_frozen_ && !frozen_) frozen_ = Frozen{id};
  for (int rank = 0; rank < ranks; ++rank) {
    SealedRank sealed = SealRank(kJob, id, rank, frozen_);
    if (!state_.checkpoints.empty()) sealed.order.previous = state_.checkpoints.rbegin()->first;
    written.push_back(WriteRankFiles(files(), clock_, folders_, sealed.order, sealed.staging));
    EXPECT_FALSE(written.back().error) << written.back().error->Text();
    auto& log = history_.log.operations();
    const auto begin = log.begin() + static_cast<std::ptrdiff_t>(before);
    parts.emplace_back(std::make_move_iterator(begin), std::make_move_iterator(log.end()));
    log.resize(before);
  }
  // Two writers at once, one operation each in turn; the first has made the folder when the second comes.
  for (std::size_t rank = 0; rank < parts.size(); ++rank) {
    auto& log = history_.log.operations();
    const auto made = std::ranges::find_if(
        parts[rank], [](const DiskOperation& one) { return one.kind == DiskOperation::Kind::kOpen; });
    if (order == RankOrder::kInTurns) {
      std::move(parts[rank].begin(), made, std::back_inserter(log));
      parts[rank].erase(parts[rank].begin(), made);
    } else {
      std::ranges::move(std::exchange(parts[rank], {}), std::back_inserter(log));
    }
  }
  for (std::size_t i = 0; std::ranges::any_of(parts, [&](const auto& part) { return i < part.size(); }); ++i) {
    for (auto& part : parts) {
      if (i < part.size()) history_.log.Add(std::move(part[i]));
    }
  }
  for (const commit::WriteFinished& event : written) publisher_.RecordPrepared(event);
  return written;
}

commit::ManifestFinished JobOnDisk::Publish(const CheckpointId& id, const Written& written) {
  commit::PublishManifest order{kJob, id, kWorld, "interval", {}};
  for (const commit::WriteFinished& event : written) {
    order.ranks.push_back({event.rank,
                           LayoutFingerprint(SmallLayout(event.rank.value(), has_frozen_)),
                           {{"loss", 1.0 / static_cast<double>(id.step.value())}},
                           std::nullopt,
                           event.files});
  }
  return publisher_.Publish(order);
}

void JobOnDisk::Save(std::int64_t step, RankOrder order) {
  const CheckpointId id = IdOf(step);
  const auto event = Publish(id, Write(id, kWorld, order));
  EXPECT_FALSE(event.error) << event.error->Text();
  JobState after = state_;
  after.checkpoints[id] = false;
  EndStage(base::Str("the save of step ", step), std::move(after));
}

void JobOnDisk::SaveAndDiscard(std::int64_t step, bool also_rank_1) {
  const CheckpointId id = IdOf(step);
  Write(id, also_rank_1 ? kWorld : 1, RankOrder::kOneAfterTheOther);
  publisher_.Discard({kJob, id});
  EndStage(base::Str("the save of step ", step, " that was given up"), state_);
}

void JobOnDisk::SaveThatFailsAtTheEnd(std::int64_t step) {
  const CheckpointId id = IdOf(step);
  const Written written = Write(id, kWorld, RankOrder::kOneAfterTheOther);
  EXPECT_TRUE(base::ArmFaults("commit.after_manifest_rename=io"));
  EXPECT_TRUE(Publish(id, written).error);
  base::DisarmFaults();
  publisher_.Discard({kJob, id});
  // Until the answer, the step may be found committed: its manifest has had its name.
  JobState maybe = state_;
  maybe.checkpoints[id] = false;
  EndStage(base::Str("the save of step ", step, " that failed at the end"), state_);
  history_.stages.back().before = std::move(maybe);
}

void JobOnDisk::SaveHalf(std::int64_t step) {
  Write(IdOf(step), 1, RankOrder::kOneAfterTheOther);
  EndStage(base::Str("the half save of step ", step), state_);
}

void JobOnDisk::Delete(std::int64_t step) {
  const CheckpointId id = IdOf(step);
  const auto event = publisher_.Delete({kJob, id});
  EXPECT_FALSE(event.error) << event.error->Text();
  JobState after = state_;
  after.checkpoints.erase(id);
  EndStage(base::Str("the deletion of step ", step), std::move(after));
}

void JobOnDisk::Pin(std::int64_t step, bool pinned) {
  const CheckpointId id = IdOf(step);
  const auto event = publisher_.Pin({{}, kJob, id, pinned});
  EXPECT_FALSE(event.error) << event.error->Text();
  JobState after = state_;
  after.checkpoints[id] = pinned;
  EndStage(base::Str(pinned ? "the pinning" : "the unpinning", " of step ", step), std::move(after));
}

void JobOnDisk::Reindex() {
  const auto event = publisher_.Rebuild({});
  EXPECT_FALSE(event.error) << event.error->Text();
  EXPECT_TRUE(event.problems.empty()) << event.problems.front();
  EndStage("a reindex", state_);
}

}  // namespace belay::crash
