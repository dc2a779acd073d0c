// Power cuts and kills between any two operations of the checkpoint service on its disk, with everything that a file
// system may have lost: the state before or the state after is found, whole, and nothing else. README.md says how.
#include <gtest/gtest.h>

#include <algorithm>
#include <iostream>
#include <optional>
#include <set>

#include "tests/crash/job_on_disk.h"

namespace belay::crash {
namespace {

struct Outcome {
  std::size_t crash_points = 0, images = 0, distinct = 0, selections = 0;
  std::size_t violations = 0;
  std::string first_violation;
};

// Every image of every crash point from operation `from` on. Ends at the first violation.
Outcome Enumerate(const History& history, ImageChecker& checker, std::size_t from = 0,
                  std::set<std::string>* seen = nullptr, const EnumerationLimits& limits = {}) {
  Outcome outcome;
  std::set<std::string> own;
  if (seen == nullptr) seen = &own;
  DiskModel model;
  const auto& operations = history.log.operations();
  std::size_t stage = 0;
  for (std::size_t end = 0; end <= operations.size() && outcome.violations == 0; ++end) {
    if (end > 0) model.Apply(operations[end - 1]);
    while (stage + 1 < history.stages.size() && history.stages[stage].end < end) ++stage;
    if (end < from || end < history.stages.front().end) continue;
    const Stage& now = history.stages[stage];
    std::vector<JobState> allowed = {now.after};
    if (end < now.end && !(now.before == now.after)) allowed.push_back(now.before);
    ++outcome.crash_points;
    const bool complete = model.ForEachImage(limits, [&](const DiskImage& image) {
      ++outcome.images;
      std::string key = image.Key();
      for (const JobState& state : allowed) key += base::Str(state);
      if (!seen->insert(key).second) return;
      ++outcome.distinct;
      if (outcome.violations > 0) return;
      const std::string wrong = checker.Check(image, allowed);
      if (wrong.empty()) return;
      ++outcome.violations;
      outcome.first_violation =
          base::Str("crash after operation ", end, " of ", operations.size(), " (",
                    end == 0 ? std::string("none") : Describe(operations[end - 1]), "), in ", now.name, ": ", wrong);
      for (const auto& [path, content] : image.paths) {
        outcome.first_violation +=
            base::Str("\n    ", path, content ? base::Str(": ", content->bytes.size(), " bytes") : "/");
      }
    });
    if (!complete) ++outcome.selections;
  }
  return outcome;
}

void Report(const char* what, const Outcome& outcome) {
  std::cout << what << ": " << outcome.images << " images of " << outcome.crash_points << " crash points ("
            << outcome.selections << " of them by selection), " << outcome.distinct << " distinct ones checked\n";
  EXPECT_EQ(outcome.violations, 0U) << outcome.first_violation;
  EXPECT_GT(outcome.distinct, outcome.crash_points / 4);
}

// Everything that the service does to its disk, in one job's life.
JobOnDisk& WholeLife(JobOnDisk& job) {
  job.Start();
  job.BeginRun();
  job.Save(10);
  job.Save(20, RankOrder::kInTurns);
  job.Delete(10);
  job.Pin(20, true);
  job.SaveAndDiscard(30, false);
  job.SaveAndDiscard(30, true);
  job.SaveThatFailsAtTheEnd(30);
  job.Save(30);  // the same step again, under the same names
  job.Pin(20, false);
  job.Reindex();
  job.SaveHalf(40);
  job.BeginRun();
  job.Save(40);
  job.Delete(20);
  job.Delete(30);
  return job;
}

class EnumerationTest : public testing::TestWithParam<Drives> {};

TEST_P(EnumerationTest, APowerCutLeavesTheStateBeforeOrAfter) {
  JobOnDisk job(GetParam());
  ImageChecker checker(GetParam());
  Report("power cuts", Enumerate(WholeLife(job).history(), checker));
}

// One file with names in several checkpoints: what happens to one of them is none of the others' business.
JobOnDisk& FrozenLife(JobOnDisk& job) {
  job.Start();
  job.BeginRun();
  job.Save(10);
  job.Save(20);    // linked
  job.Delete(10);  // the one that it was linked from
  job.SaveAndDiscard(30, true);
  job.Save(30, RankOrder::kInTurns);
  job.Reindex();
  job.SaveHalf(40);
  job.BeginRun();
  job.SaveAndDiscard(40, false);  // the memory has the frozen part from here, the disk has it from the run before
  job.Save(50);                   // so it is written
  job.Delete(20);
  job.Save(60);
  job.Delete(30);
  job.Delete(50);
  return job;
}

std::size_t Links(const History& history) {
  return static_cast<std::size_t>(std::ranges::count(history.log.operations(), DiskOperation::Kind::kLink,
                                                     [](const DiskOperation& one) { return one.kind; }));
}

TEST_P(EnumerationTest, APowerCutLeavesLinkedCheckpointsWhole) {
  JobOnDisk job(GetParam(), State::kWithFrozenPart);
  ImageChecker checker(GetParam(), State::kWithFrozenPart);
  const History& history = FrozenLife(job).history();
  EXPECT_EQ(Links(history), 9U);  // of both ranks in four saves, and of the half one
  Report("power cuts with links", Enumerate(history, checker));
}

// Every place where the first daemon may die, the machine going on; then every power cut in the life of a second one
// that starts there, saves, and deletes all that the first has saved. The second has a disk that lies while it starts
// if `lie` says so. Ends at the first violation.
Outcome EnumerateAfterAKill(const std::optional<base::FileFault>& lie, Drives drives) {
  JobOnDisk first(drives);
  const History& history = WholeLife(first).history();
  ImageChecker checker(drives);
  std::set<std::string> seen;
  Outcome all;
  std::size_t stage = 0;
  for (std::size_t end = history.stages.front().end; end <= history.log.operations().size(); ++end) {
    while (stage + 1 < history.stages.size() && history.stages[stage].end < end) ++stage;
    const Stage& killed = history.stages[stage];
    JobOnDisk second(history, end);
    if (lie) second.faults().Add(*lie);
    const std::size_t start = second.history().stages.size();
    second.Start();
    second.faults().Clear();
    const JobState found = second.state();
    const bool is_before = end < killed.end && found == killed.before;
    EXPECT_TRUE(found == killed.after || is_before)
        << "killed after operation " << end << " in " << killed.name << ": " << found;
    second.BeginRun();
    second.Save(500);
    for (const auto& [id, pinned] : found.checkpoints) second.Delete(id.step.value());
    // While the second daemon starts a power cut may still decide otherwise; what it has found is known to its clients.
    History both = second.history();
    both.stages[start].before = end == killed.end ? found : is_before ? killed.after : killed.before;
    const Outcome outcome = Enumerate(both, checker, end, &seen, {.all_name_subsets_max = 6, .all_contents_max = 30});
    all.crash_points += outcome.crash_points;
    all.images += outcome.images;
    all.distinct += outcome.distinct;
    all.selections += outcome.selections;
    all.violations += outcome.violations;
    if (outcome.violations == 0) continue;
    all.first_violation =
        base::Str("the first daemon died after operation ", end, " (", Describe(history.log.operations()[end - 1]),
                  ") in ", killed.name, "; then ", outcome.first_violation);
    break;
  }
  return all;
}

TEST_P(EnumerationTest, APowerCutAfterADaemonDiedAndAnotherWentOn) {
  Report("power cuts after a kill", EnumerateAfterAKill(std::nullopt, GetParam()));
}

INSTANTIATE_TEST_SUITE_P(OnDrives, EnumerationTest, testing::Values(Drives::kOne, Drives::kTwo),
                         [](const auto& tested) { return tested.param == Drives::kOne ? "One" : "Two"; });

void ExpectFound(const Outcome& outcome) {
  EXPECT_GT(outcome.violations, 0U) << "not noticed";
  std::cout << "found after " << outcome.distinct
            << " images: " << outcome.first_violation.substr(0, outcome.first_violation.find('\n')) << "\n";
}

// A daemon on a disk that lies must be found out: else the enumeration sees nothing.
struct Lie {
  const char* name;
  base::FileFault fault;
  Drives drives = Drives::kOne;
};

class PlantedBugTest : public testing::TestWithParam<Lie> {};

TEST_P(PlantedBugTest, IsFound) {
  base::FileFault fault = GetParam().fault;
  fault.kind = base::FileFault::Kind::kSwallow;
  fault.count = 0;
  JobOnDisk job(GetParam().drives);
  job.faults().Add(fault);
  ImageChecker checker(GetParam().drives);
  ExpectFound(Enumerate(WholeLife(job).history(), checker));
}

using Operation = base::FileOperation;
INSTANTIATE_TEST_SUITE_P(
    Lies, PlantedBugTest,
    testing::Values(
        Lie{"NoSyncOfAShard", {.path_contains = "model.safetensors", .operation = Operation::kSync}},
        Lie{"NoSyncOfRecords", {.path_contains = "rank-00001.state.json", .operation = Operation::kSync}},
        Lie{"NoSyncOfAManifest", {.path_contains = "manifest.json", .operation = Operation::kSync}},
        Lie{"NoSyncOfAGeneration", {.path_contains = ".generation", .operation = Operation::kSync}},
        Lie{"NoSyncOfACheckpointsFolder", {.path_contains = "step-", .operation = Operation::kSyncDirectory}},
        Lie{"NoSyncOfAnyFolder", {.path_contains = "", .operation = Operation::kSyncDirectory}},
        Lie{"ARenameThatDoesNothing", {.path_contains = "manifest.deleted", .operation = Operation::kRename}},
        Lie{"NoSyncOfAShardElsewhere",
            {.path_contains = "/nvme1/default/gpt/step-", .operation = Operation::kSync},
            Drives::kTwo},
        Lie{"NoSyncOfACheckpointsFolderElsewhere",
            {.path_contains = "/nvme1/default/gpt/step-", .operation = Operation::kSyncDirectory},
            Drives::kTwo},
        Lie{"NoSyncOfAJobsFolderElsewhere",
            {.path_contains = "/nvme1/default", .operation = Operation::kSyncDirectory},
            Drives::kTwo},
        Lie{"NoSyncOfTheLinks",
            {.path_contains = "/data/default/gpt/step-", .operation = Operation::kSyncDirectory},
            Drives::kTwo}),
    [](const auto& tested) { return std::string(tested.param.name); });

TEST(PlantedBugOfLinksTest, IsFound) {
  JobOnDisk job(Drives::kOne, State::kWithFrozenPart);
  job.faults().Add({.operation = Operation::kLink, .kind = base::FileFault::Kind::kSwallow, .count = 0});
  job.Start();
  job.BeginRun();
  job.Save(10);
  job.Save(20);
  job.Delete(10);
  ImageChecker checker(Drives::kOne, State::kWithFrozenPart);
  ExpectFound(Enumerate(job.history(), checker));
}

// What a start has to make durable before it serves and deletes; see SyncWhatIsNew and RemoveLeftover.
class PlantedBugInStartTest : public testing::TestWithParam<Lie> {};

TEST_P(PlantedBugInStartTest, IsFound) {
  base::FileFault fault = GetParam().fault;
  fault.kind = base::FileFault::Kind::kSwallow;
  fault.count = 0;
  ExpectFound(EnumerateAfterAKill(fault, GetParam().drives));
}

INSTANTIATE_TEST_SUITE_P(Lies, PlantedBugInStartTest,
                         testing::Values(Lie{"NoSyncOfNewFolders",
                                             {.path_contains = "/default", .operation = Operation::kSyncDirectory}},
                                         Lie{"NoSyncOfACheckpointsFolder",
                                             {.path_contains = "step-", .operation = Operation::kSyncDirectory}},
                                         Lie{"NoSyncOfNewFoldersElsewhere",
                                             {.path_contains = "/nvme1", .operation = Operation::kSyncDirectory},
                                             Drives::kTwo}),
                         [](const auto& tested) { return std::string(tested.param.name); });

}  // namespace
}  // namespace belay::crash
