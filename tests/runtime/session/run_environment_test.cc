#include "runtime/session/run_environment.h"

#include <gtest/gtest.h>

namespace belay::runtime {
namespace {

TEST(RunEnvironmentTest, IsEmptyWithoutALauncher) {
  const auto run = ReadRunEnvironment({{"PATH", "/bin"}});
  ASSERT_TRUE(run);
  EXPECT_EQ(run->job, "");
  EXPECT_EQ(run->generation, 0U);
  EXPECT_EQ(run->socket, "");
}

TEST(RunEnvironmentTest, TakesWhatBelayRankSays) {
  const auto run = ReadRunEnvironment({{"BELAY_PROJECT", "p"},
                                       {"BELAY_JOB", "j"},
                                       {"BELAY_GENERATION", "18446744073709551615"},
                                       {"BELAY_SOCKET", "/s"},
                                       {"BELAY_RUN_DIR", "/r"},
                                       {"BELAY_GRACE_SECONDS", "25"}});
  ASSERT_TRUE(run);
  EXPECT_EQ(run->project, "p");
  EXPECT_EQ(run->generation, ~std::uint64_t{0});
  EXPECT_EQ(run->run_directory, "/r");
  EXPECT_EQ(run->grace_seconds, 25);
}

TEST(RunEnvironmentTest, RefusesWhatIsNoNumber) {
  for (const char* bad : {"x", "-1", "1x", "99999999999999999999"}) {
    const auto run = ReadRunEnvironment({{"BELAY_GENERATION", bad}});
    ASSERT_FALSE(run) << bad;
    EXPECT_EQ(run.error().code, base::Code::kInvalidArgument);
  }
  EXPECT_FALSE(ReadClaimedPlace({{"RANK", "first"}}));
}

TEST(ClaimedPlaceTest, PrefersTorchrunsNamesToOpenMpis) {
  const auto place =
      ReadClaimedPlace({{"RANK", "3"}, {"OMPI_COMM_WORLD_RANK", "1"}, {"OMPI_COMM_WORLD_LOCAL_RANK", "2"}});
  ASSERT_TRUE(place);
  EXPECT_EQ(place->rank, 3);
  EXPECT_EQ(place->local_rank, 2);
  EXPECT_FALSE(place->world_size);
}

TEST(ClaimedPlaceTest, MustAgreeWithMpi) {
  EXPECT_TRUE(CheckPlace({}, 1, 4));
  EXPECT_TRUE(CheckPlace({.rank = 1, .world_size = 4}, 1, 4));
  const auto wrong = CheckPlace({.rank = 1, .world_size = 2, .rank_name = "RANK"}, 0, 1);
  ASSERT_FALSE(wrong);
  EXPECT_NE(wrong.error().message.find("rank 1 of 2 (RANK), but MPI says rank 0 of 1"), std::string::npos);
  EXPECT_FALSE(CheckPlace({.world_size = 2}, 0, 1));
}

}  // namespace
}  // namespace belay::runtime
