#include "checkpoint/cli/bench.h"

#include "runtime/base/fault/faulty_file_system.h"
#include "runtime/base/units.h"
#include "tests/checkpoint/cli/cli_harness.h"

namespace belay::checkpoint {
namespace {

using testing::AllOf;
using testing::HasSubstr;

bool IsEmpty(const std::string& folder) { return std::filesystem::is_empty(folder); }

TEST(BenchTest, MeasuresEverythingAndLeavesNothing) {
  const ScratchFolder scratch;
  const Ran ran = Belay("ckpt", {"bench", "--data-dir", scratch.path(), "--size", "20M", "--state", "2G", "--json"});
  ASSERT_EQ(ran.status, 0) << ran.err;
  const json document = ran.document();
  EXPECT_EQ(document["size_bytes"], 20 * base::kMiB);
  EXPECT_EQ(document["folder"], scratch.path());
  EXPECT_EQ(document["state_bytes"], 2 * base::kGiB);
  EXPECT_EQ(document["block_bytes"], 4 * base::kMiB);
  EXPECT_EQ(document["queue_depth"], 16);
  EXPECT_EQ(document["shape_source"], "default") << "no belayd serves this folder";
  EXPECT_EQ(document["bytes_per_second"].size(), 8U);
  for (const auto& [what, rate] : document["bytes_per_second"].items()) EXPECT_GT(rate.get<double>(), 1000) << what;
  EXPECT_EQ(document["seconds"].size(), 5U);
  for (const auto& [what, seconds] : document["seconds"].items()) EXPECT_GT(seconds.get<double>(), 0) << what;
  EXPECT_LE(document["bytes_per_second"]["write_and_sync"], document["bytes_per_second"]["write"]);
  EXPECT_TRUE(IsEmpty(scratch.path()));
  const Ran text = Belay("ckpt", {"bench", "--data-dir", scratch.path() + "/not/yet", "--size", "16M"});
  EXPECT_EQ(text.status, 0);
  EXPECT_THAT(text.out, AllOf(HasSubstr("GB/S"), HasSubstr("write and sync"), HasSubstr("a state of 10.0 GiB")));
  EXPECT_THAT(text.err, HasSubstr("is not there yet; measuring in " + scratch.path()));
  EXPECT_TRUE(IsEmpty(scratch.path()));
}

TEST(BenchTest, RefusesADiskWithTooLittleSpaceAndWritesNothing) {
  const ScratchFolder scratch;
  const Ran ran = Belay("ckpt", {"bench", "--data-dir", scratch.path(), "--size", "8000000T", "--json"});
  EXPECT_EQ(ran.status, 73);
  EXPECT_EQ(ran.document()["error"]["name"], "NoSpace");
  EXPECT_TRUE(IsEmpty(scratch.path()));
  EXPECT_EQ(Belay("ckpt", {"bench", "--size", "1M"}).status, 64);
}

// At every moment of the measurement the folder is as good as clean: a kill
// leaves nothing.
TEST(BenchTest, TheFileHasNoNameWhileItIsMeasured) {
  const ScratchFolder scratch;
  int heard = 0;
  const auto said = [&](std::string_view) {
    ++heard;
    EXPECT_TRUE(IsEmpty(scratch.path()));
  };
  const auto figures =
      cli::RunBench(base::PosixFileSystem(), base::SystemClock(), {scratch.path(), 16 * base::kMiB, 2, {}}, said);
  ASSERT_TRUE(figures) << figures.error().Text();
  EXPECT_EQ(heard, 8);
}

TEST(BenchTest, AFailingDiskIsAnErrorAndLeavesNothing) {
  const ScratchFolder scratch;
  base::FaultyFileSystem files(base::PosixFileSystem());
  files.Add({.path_contains = scratch.path(), .operation = base::FileOperation::kSync, .code = base::Code::kIo});
  const auto figures = cli::RunBench(files, base::SystemClock(), {scratch.path(), 16 * base::kMiB, 1, {}}, [](auto) {});
  ASSERT_FALSE(figures);
  EXPECT_EQ(figures.error().code, base::Code::kIo);
  EXPECT_TRUE(IsEmpty(scratch.path()));
}

TEST(BenchTest, SecondsFollowFromTheFigures) {
  cli::BenchFigures figures;
  figures.copy_and_digest = 4e9;
  figures.write_and_sync = 1e9;
  figures.read_buffered = 2e9;
  figures.first_touch = 1e9;
  const cli::BenchMeaning meaning = cli::MeaningOf(figures, 8'000'000'000);
  EXPECT_DOUBLE_EQ(meaning.stall_seconds, 2);
  EXPECT_DOUBLE_EQ(meaning.commit_seconds, 10);
  EXPECT_DOUBLE_EQ(meaning.restore_disk_seconds, 4);
  EXPECT_DOUBLE_EQ(meaning.restore_memory_seconds, 2);
  EXPECT_DOUBLE_EQ(meaning.first_save_seconds, 8);
}

}  // namespace
}  // namespace belay::checkpoint
