// What the publisher does when the disk answers with errors; the real daemon's disks are in disk_trouble_test.cc.
#include "checkpoint/daemon/publisher.h"

#include "runtime/base/fault/faulty_file_system.h"
#include "runtime/base/sim/mem_file_system.h"
#include "runtime/base/sim/memory_index.h"
#include "runtime/base/sim/sim_clock.h"
#include "tests/runtime/base/test_util.h"

namespace belay::checkpoint {
namespace {

using base::Code;
using base::Exists;
using base::FileOperation;
using base::Generation;

const commit::JobKey kJob{"default", "gpt"};

class PublisherTest : public testing::Test {
 protected:
  PublisherTest() { EXPECT_OK(base::MakeDirectories(memory_, "/data/.belayd")); }

  std::string MakeCheckpoint(std::int64_t step, bool committed) {
    const std::string folder = folders_.Checkpoint(kJob, {Generation(1), base::Step(step)});
    EXPECT_OK(base::MakeDirectories(memory_, folder));
    EXPECT_OK(base::WriteFileDurably(memory_, folder + "/rank-00000.model.safetensors", "bytes"));
    if (committed) EXPECT_OK(base::WriteFileDurably(memory_, folder + "/manifest.json", "{}"));
    return folder;
  }
  commit::GenerationPersisted Begin() { return publisher_.Persist({kJob, Generation(2), 0}); }

  base::MemFileSystem memory_;
  base::FaultyFileSystem files_{memory_};
  base::SimClock clock_;
  base::MemoryIndex index_;
  index::Folders folders_{"/data"};
  Publisher publisher_{files_, clock_, folders_, index_, 0};
};

TEST_F(PublisherTest, ANewRunSweepsWhatNobodyCommitted) {
  const std::string kept = MakeCheckpoint(10, true);
  const std::string swept = MakeCheckpoint(20, false);
  EXPECT_FALSE(Begin().error.has_value());
  EXPECT_TRUE(Exists(memory_, kept + "/manifest.json"));
  EXPECT_FALSE(Exists(memory_, swept));
}

TEST_F(PublisherTest, ACheckpointThatCannotBeLookedAtIsNotSwept) {
  const std::string kept = MakeCheckpoint(10, true);
  const auto rule =
      files_.Add({.path_contains = "manifest.json", .operation = FileOperation::kStat, .code = Code::kIo, .count = 0});
  EXPECT_FALSE(Begin().error.has_value());
  EXPECT_GT(files_.Fired(rule), 0U);
  EXPECT_TRUE(Exists(memory_, kept + "/manifest.json"));
  EXPECT_TRUE(Exists(memory_, kept + "/rank-00000.model.safetensors"));
}

TEST_F(PublisherTest, ADeletionThatCannotBeLookedAtIsNotCalledDone) {
  const std::string kept = MakeCheckpoint(10, true);
  files_.Add({.path_contains = "manifest.json", .operation = FileOperation::kStat, .code = Code::kIo, .count = 0});
  const auto event = publisher_.Delete({kJob, {Generation(1), base::Step(10)}});
  ASSERT_TRUE(event.error.has_value());
  EXPECT_EQ(event.error->code, Code::kIo);
  EXPECT_TRUE(Exists(memory_, kept + "/manifest.json"));
}

TEST_F(PublisherTest, APinIsDurableAndLeavesNoTemporaryNameWhereverItIsCutShort) {
  const std::string folder = MakeCheckpoint(10, true);
  const commit::PersistPin pin{{}, kJob, {Generation(1), base::Step(10)}, true};
  for (const FileOperation operation : {FileOperation::kClose, FileOperation::kSyncDirectory}) {
    files_.Add({.path_contains = "step-", .operation = operation});
    EXPECT_TRUE(publisher_.Pin(pin).error.has_value());
    const auto names = memory_.List(folder);
    for (const std::string& name : *names) EXPECT_EQ(name.find(".tmp"), std::string::npos) << name;
  }
  EXPECT_FALSE(publisher_.Pin(pin).error.has_value());
  memory_.Crash();
  EXPECT_TRUE(Exists(memory_, folder + "/.pinned"));
}

TEST_F(PublisherTest, AManifestThatWouldNotFitAnAnswerIsNoCheckpoint) {
  const commit::CheckpointId id{Generation(1), base::Step(10)};
  const std::string folder = MakeCheckpoint(10, false);
  const auto publish = [&](std::size_t bytes) {
    commit::PublishManifest order{kJob, id, 1, std::string(bytes, 'x'), {}, false};
    return publisher_.Publish(order);
  };
  const auto large = publish(kManifestBytesMax - 8192);
  ASSERT_TRUE(large.error.has_value());
  EXPECT_EQ(large.error->code, Code::kLimitExceeded);
  EXPECT_TRUE(large.manifest.empty()) << "it cannot be read from memory either";
  EXPECT_FALSE(Exists(memory_, folder + "/manifest.json"));
  EXPECT_FALSE(publish(1000).error.has_value());
  EXPECT_TRUE(Exists(memory_, folder + "/manifest.json"));
}

TEST_F(PublisherTest, AFullDiskGivesItsReserveForTheNextGeneration) {
  ASSERT_OK(base::WriteFileDurably(memory_, folders_.IndexReserve(), "some space"));
  ASSERT_OK(base::MakeDirectories(memory_, folders_.Job(kJob)));
  files_.Add({.path_contains = ".generation", .operation = FileOperation::kWrite, .code = Code::kNoSpace, .count = 1});
  const auto event = Begin();
  EXPECT_FALSE(event.error.has_value());
  EXPECT_FALSE(Exists(memory_, folders_.IndexReserve()));
}

TEST_F(PublisherTest, AJobThatTheIndexForgotGoesOnWhereItsFolderStands) {
  ASSERT_OK(index::WriteGenerationFile(memory_, folders_, kJob, {Generation(4), 0}));
  const auto event = Begin();
  EXPECT_FALSE(event.error.has_value());
  EXPECT_EQ(event.generation, Generation(5));
  ASSERT_TRUE(event.found.has_value());
  EXPECT_EQ(event.found->generation, Generation(4));
}

TEST_F(PublisherTest, AJobWhoseFolderCannotBeReadBeginsNothing) {
  ASSERT_OK(index::WriteGenerationFile(memory_, folders_, kJob, {Generation(4), 0}));
  files_.Add({.path_contains = ".generation", .operation = FileOperation::kRead, .count = 1});
  EXPECT_EQ(Begin().error->code, Code::kIo);
  files_.Add({.path_contains = "gpt", .operation = FileOperation::kList, .count = 1});
  EXPECT_EQ(Begin().error->code, Code::kIo);
  EXPECT_EQ(Begin().generation, Generation(5));
}

// The file's first reading goes well; the scan that follows cannot read it, and would begin anew at what it finds else.
TEST_F(PublisherTest, AGenerationThatWasReadOnceIsNeverGrantedAgain) {
  MakeCheckpoint(10, true);  // of generation 1
  ASSERT_OK(index::WriteGenerationFile(memory_, folders_, kJob, {Generation(4), 0}));
  const auto rule = files_.Add({.path_contains = ".generation", .operation = FileOperation::kOpen, .skip = 1});
  EXPECT_EQ(Begin().generation, Generation(5));
  EXPECT_EQ(files_.Fired(rule), 1U);
}

TEST_F(PublisherTest, AnotherUsersJobThatTheIndexForgotStaysTheirs) {
  ASSERT_OK(index::WriteGenerationFile(memory_, folders_, kJob, {Generation(4), 1234}));
  EXPECT_EQ(Begin().error->code, Code::kPermissionDenied);
}

TEST_F(PublisherTest, ADiskThatStaysFullGrantsNoGeneration) {
  ASSERT_OK(base::MakeDirectories(memory_, folders_.Job(kJob)));
  files_.Add({.path_contains = ".generation", .operation = FileOperation::kWrite, .code = Code::kNoSpace, .count = 0});
  const auto event = Begin();
  ASSERT_TRUE(event.error.has_value());
  EXPECT_EQ(event.error->code, Code::kNoSpace);
}

}  // namespace
}  // namespace belay::checkpoint
