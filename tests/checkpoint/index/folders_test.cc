#include "checkpoint/index/folders.h"

#include <gtest/gtest.h>

#include "checkpoint/index/other_folders.h"
#include "runtime/base/fault/faulty_file_system.h"
#include "runtime/base/sim/mem_file_system.h"

namespace belay::checkpoint::index {
namespace {

using base::Generation;
using base::Step;

class FoldersTest : public testing::Test {
 protected:
  const commit::JobKey job{"default", "gpt"};
  const Folders folders{"/data"};

  void SetUp() override { ASSERT_TRUE(base::MakeDirectories(files, "/data/.belayd")); }
  void Write(const std::string& path, const std::string& text) {
    ASSERT_TRUE(base::MakeDirectories(files, base::ParentPath(path)));
    const base::Status written = base::WriteFileDurably(files, path, text);
    ASSERT_TRUE(written) << written.error().Text();
  }
  void Commit(std::int64_t step, std::uint64_t generation, const std::string& job_name = "gpt") {
    Manifest manifest;
    manifest.project = "default";
    manifest.job = job_name;
    manifest.step = Step(step);
    manifest.generation = Generation(generation);
    manifest.reason = "interval";
    manifest.created = "2026-01-01T00:00:00.000Z";
    manifest.layout_fingerprints[base::Rank(0)] = std::string(32, 'a');
    manifest.files.push_back(
        {RecordsFileName(base::Rank(0)), 2, "records", base::Rank(0), 0, std::string(64, 'a'), ""});
    const std::string folder = folders.Checkpoint(job, {Generation(generation), Step(step)});
    Write(folder + "/" + RecordsFileName(base::Rank(0)), "{}");
    Write(folder + "/manifest.json", EncodeManifest(manifest));
  }
  Found Scan(const commit::Catalogue* known = nullptr) {
    auto found = ScanFolders(files, folders, known, 17);
    EXPECT_TRUE(found) << found.error().Text();
    return found ? *std::move(found) : Found{};
  }

  base::MemFileSystem files;
};

TEST_F(FoldersTest, AllIsFoundAgainFromTheFiles) {
  ASSERT_TRUE(WriteGenerationFile(files, folders, job, {Generation(9), 1000}));
  Commit(100, 3);
  Commit(200, 4);
  Write(folders.Checkpoint(job, {Generation(3), Step(100)}) + "/.pinned", "");
  const Found found = Scan();
  EXPECT_TRUE(found.problems.empty()) << found.problems.front();
  EXPECT_TRUE(found.leftovers.empty());
  const commit::CataloguedJob& seen = found.catalogue.at(job);
  EXPECT_EQ(seen.generation, Generation(9));
  EXPECT_EQ(seen.owner_uid, 1000U);
  ASSERT_EQ(seen.checkpoints.size(), 2U);
  EXPECT_TRUE(seen.checkpoints.at({Generation(3), Step(100)}).pinned);
  EXPECT_EQ(seen.checkpoints.at({Generation(4), Step(200)}).bytes, 2U);
  EXPECT_FALSE(seen.checkpoints.at({Generation(4), Step(200)}).digest.empty());
}

TEST_F(FoldersTest, WithoutAGenerationFileTheFoldersNamesCount) {
  Commit(100, 3);
  EXPECT_EQ(Scan().catalogue.at(job).generation, Generation(3));
  EXPECT_EQ(Scan().catalogue.at(job).owner_uid, 17U);
}

TEST_F(FoldersTest, AFolderWithoutAManifestIsLeftOver) {
  Commit(100, 3);
  const std::string folder = folders.Checkpoint(job, {Generation(3), Step(200)});
  Write(folder + "/rank-00000.model.safetensors.tmp", "half");
  const std::string deleted = folders.Checkpoint(job, {Generation(3), Step(50)});
  Write(deleted + "/manifest.deleted", "{}");
  EXPECT_EQ(Scan().leftovers, (std::vector<std::string>{deleted, folder}));
  ASSERT_TRUE(RemoveLeftover(files, folders, folder));
  ASSERT_TRUE(RemoveLeftover(files, folders, deleted));
  EXPECT_TRUE(Scan().leftovers.empty());
  EXPECT_EQ(Scan().catalogue.at(job).checkpoints.size(), 1U);
}

TEST_F(FoldersTest, WhatTheDiskHidesMustBeKnownToTheIndex) {
  Commit(100, 3);
  const commit::Catalogue known = Scan().catalogue;
  base::FaultyFileSystem faulty(files);
  faulty.Add({.path_contains = folders.Job(job), .operation = base::FileOperation::kList, .count = 0});
  const auto found = ScanFolders(faulty, folders, nullptr, 0);
  ASSERT_TRUE(found) << found.error().Text();
  EXPECT_TRUE(CheckSeen(folders, known, *found)) << "the index has it";
  const auto unknown = CheckSeen(folders, {}, *found);
  ASSERT_FALSE(unknown);
  EXPECT_EQ(unknown.error().code, base::Code::kIo);
  faulty.Clear();
  faulty.Add({.path_contains = folders.Job(job),
              .operation = base::FileOperation::kList,
              .code = base::Code::kPermissionDenied,
              .count = 0});
  EXPECT_TRUE(CheckSeen(folders, {}, *ScanFolders(faulty, folders, nullptr, 0))) << "somebody else's folder";
}

TEST_F(FoldersTest, WhatTheIndexDoesNotKnowIsMadeDurable) {
  Commit(100, 3);
  const std::string folder = folders.Checkpoint(job, {Generation(3), Step(100)});
  ASSERT_TRUE(files.Rename(folder + "/manifest.json", folder + "/manifest.json.tmp"));
  ASSERT_TRUE(files.SyncDirectory(folder));
  ASSERT_TRUE(files.Rename(folder + "/manifest.json.tmp", folder + "/manifest.json"));  // and the daemon died
  const Found found = Scan();
  ASSERT_TRUE(SyncWhatIsNew(files, folders, found.catalogue, {}));
  files.Crash();
  EXPECT_EQ(Scan().catalogue.at(job).checkpoints.size(), 1U);
}

TEST_F(FoldersTest, ALeftoverLosesItsManifestForGoodBeforeItsFiles) {
  Commit(100, 3);
  const std::string folder = folders.Checkpoint(job, {Generation(3), Step(100)});
  ASSERT_TRUE(files.Rename(folder + "/manifest.json", folder + "/manifest.deleted"));  // and the daemon died
  base::FaultyFileSystem faulty(files);
  faulty.Add({.path_contains = "manifest.deleted", .operation = base::FileOperation::kRemove, .count = 0});
  EXPECT_FALSE(RemoveLeftover(faulty, folders, folder));  // the power goes half-way
  files.Crash();
  EXPECT_TRUE(Scan().catalogue.at(job).checkpoints.empty());
  EXPECT_EQ(Scan().leftovers, (std::vector<std::string>{folder}));
}

TEST_F(FoldersTest, SmallFilesThatNeverGotTheirNameAreLeftOver) {
  Commit(100, 3);
  const std::string mark = folders.Checkpoint(job, {Generation(3), Step(100)}) + "/.pinned.tmp";
  Write(mark, "");
  Write(folders.GenerationFile(job) + ".tmp", "{");
  EXPECT_EQ(Scan().leftovers, (std::vector<std::string>{folders.GenerationFile(job) + ".tmp", mark}));
  for (const std::string& leftover : Scan().leftovers) EXPECT_TRUE(RemoveLeftover(files, folders, leftover));
  EXPECT_TRUE(Scan().leftovers.empty());
  EXPECT_EQ(Scan().catalogue.at(job).checkpoints.size(), 1U);
}

TEST_F(FoldersTest, DamageIsReportedAndNothingIsTouched) {
  Commit(100, 3);
  Commit(200, 3);
  Commit(300, 3, "another");  // its manifest is another job's
  const std::string damaged = folders.Checkpoint(job, {Generation(3), Step(100)}) + "/manifest.json";
  Write(damaged, "{\"not\": \"a manifest\"}");
  const Found found = Scan();
  EXPECT_EQ(found.problems.size(), 2U);
  EXPECT_NE(found.problems.at(0).find("step-000000100"), std::string::npos);
  EXPECT_TRUE(found.leftovers.empty());
  EXPECT_EQ(found.catalogue.at(job).checkpoints.size(), 1U);
  EXPECT_TRUE(base::Exists(files, damaged));
}

TEST_F(FoldersTest, AMissingShardIsReported) {
  Commit(100, 3);
  ASSERT_TRUE(files.Remove(folders.Checkpoint(job, {Generation(3), Step(100)}) + "/" + RecordsFileName(base::Rank(0))));
  EXPECT_EQ(Scan().problems.size(), 1U);
}

TEST_F(FoldersTest, WhatIsNotOursIsNotTouched) {
  Write("/data/.runs/default/gpt/gen-1/run.json", "{}");
  Write("/data/notes.txt", "mine");
  Write("/data/default/readme", "mine");
  Write("/data/default/gpt/step-1/file", "not our name");
  const Found found = Scan();
  EXPECT_TRUE(found.catalogue.empty());
  EXPECT_TRUE(found.leftovers.empty());
  EXPECT_TRUE(found.problems.empty());
}

TEST_F(FoldersTest, AQuarantineIsReadFromItsMark) {
  Commit(100, 3);
  Commit(200, 3);
  const commit::CheckpointId id{Generation(3), Step(100)};
  const std::string mark = folders.Checkpoint(job, id) + "/.quarantined";
  Write(mark, EncodeQuarantine({"a bad chunk", "2026-01-02T03:04:05Z"}));
  EXPECT_EQ(Scan().catalogue.at(job).checkpoints.at(id).quarantine, "a bad chunk");
  EXPECT_EQ(Scan().catalogue.at(job).checkpoints.at({Generation(3), Step(200)}).quarantine, "");
  // What the index says is not believed against the mark.
  commit::Catalogue known = Scan().catalogue;
  Write(mark, "nonsense");
  EXPECT_NE(Scan(&known).catalogue.at(job).checkpoints.at(id).quarantine, "a bad chunk");
  EXPECT_NE(Scan(&known).catalogue.at(job).checkpoints.at(id).quarantine, "");
  ASSERT_TRUE(files.Remove(mark));
  EXPECT_EQ(Scan(&known).catalogue.at(job).checkpoints.at(id).quarantine, "");
}

TEST_F(FoldersTest, TrustIsReadFromItsMark) {
  Commit(100, 3);
  const commit::CheckpointId id{Generation(3), Step(100)};
  const std::string mark = folders.Checkpoint(job, id) + "/.trust";
  const Trust suspect{TrustState::kSuspect, 2, Generation(4), "rank 1 died"};
  Write(mark, EncodeTrust(suspect, "2026-01-02T03:04:05Z"));
  commit::Catalogue known = Scan().catalogue;
  EXPECT_EQ(known.at(job).checkpoints.at(id).trust, suspect);
  // What the index says is not believed against the mark, and one that is spoilt says nothing.
  Write(mark, "nonsense");
  EXPECT_EQ(Scan(&known).catalogue.at(job).checkpoints.at(id).trust.state, TrustState::kUnknown);
  ASSERT_TRUE(files.Remove(mark));
  EXPECT_EQ(Scan(&known).catalogue.at(job).checkpoints.at(id).trust, Trust());
}

TEST_F(FoldersTest, MarksThatWereHalfMadeAreSwept) {
  Commit(100, 3);
  const std::string folder = folders.Checkpoint(job, {Generation(3), Step(100)});
  for (const char* name : {".pinned.tmp", ".quarantined.tmp", ".trust.tmp"}) Write(folder + "/" + name, "x");
  EXPECT_EQ(Scan().leftovers.size(), 3U);
}

TEST_F(FoldersTest, KnownCheckpointsAreNotReadAgain) {
  Commit(100, 3);
  commit::Catalogue known;
  known[job].checkpoints[{Generation(3), Step(100)}].reason = "from the index";
  EXPECT_EQ(Scan(&known).catalogue.at(job).checkpoints.begin()->second.reason, "from the index");
}

// Killed between the rename of the manifest and the sync of its folder, then swept in part, then without power:
// whatever of that the disk has kept, no manifest is left without its files.
TEST_F(FoldersTest, ALeftoverNeverComesBackWithoutItsFiles) {
  const std::string folder = folders.Checkpoint(job, {Generation(3), Step(100)});
  for (std::uint64_t seed = 1; seed <= 64; ++seed) {
    SCOPED_TRACE(seed);
    Commit(100, 3);
    ASSERT_TRUE(files.Rename(folder + "/manifest.json", folder + "/manifest.deleted"));
    base::FaultyFileSystem faulty(files);
    faulty.Add({.path_contains = folder, .operation = base::FileOperation::kRemoveDirectory});
    EXPECT_FALSE(RemoveLeftover(faulty, folders, folder));
    files.Crash(seed);
    if (base::Exists(files, folder + "/manifest.json")) {
      EXPECT_TRUE(base::Exists(files, folder + "/" + RecordsFileName(base::Rank(0))));
    }
    ASSERT_TRUE(base::RemoveTree(files, folder));
  }
}

// What the disk refuses to show is reported, and what is known of it stays known.
TEST_F(FoldersTest, WhatCannotBeLookedAtIsNotGone) {
  Commit(100, 3);
  const std::string checkpoint = folders.Checkpoint(job, {Generation(3), Step(100)});
  commit::Catalogue known;
  known[job].owner_uid = 1000;
  known[job].checkpoints[{Generation(3), Step(100)}].reason = "from the index";
  const std::pair<std::string, base::FileOperation> refused[] = {
      {"/data/default", base::FileOperation::kStat},  {"/data/default", base::FileOperation::kList},
      {folders.Job(job), base::FileOperation::kStat}, {folders.Job(job), base::FileOperation::kList},
      {checkpoint, base::FileOperation::kList},       {"manifest.json", base::FileOperation::kRead}};
  for (const auto& [path, operation] : refused) {
    SCOPED_TRACE(path + " " + std::to_string(static_cast<int>(operation)));
    base::FaultyFileSystem faulty(files);
    faulty.Add({.path_contains = path, .operation = operation});
    auto found = ScanFolders(faulty, folders, nullptr, 17);
    ASSERT_TRUE(found) << found.error().Text();
    EXPECT_EQ(found->problems.size(), 1U);
    EXPECT_TRUE(found->catalogue[job].checkpoints.empty());
    KeepUnseen(folders, known, *found);
    EXPECT_EQ(found->catalogue.at(job).checkpoints.size(), 1U);
    EXPECT_TRUE(found->leftovers.empty());
  }
  ASSERT_TRUE(files.Remove(checkpoint + "/manifest.json"));
  Found seen = Scan();
  KeepUnseen(folders, known, seen);
  EXPECT_TRUE(seen.catalogue.at(job).checkpoints.empty());
}

}  // namespace
}  // namespace belay::checkpoint::index
