#include "checkpoint/spread/placement.h"

#include <gtest/gtest.h>

namespace belay::checkpoint::spread {
namespace {

TEST(PlacementTest, RanksTakeFoldersInTurn) {
  for (const int rank : {0, 1, 2, 3, 4, 5}) {
    EXPECT_EQ(FolderOfRank(base::Rank(rank), 3), static_cast<std::size_t>(rank % 3));
    EXPECT_EQ(FolderOfRank(base::Rank(rank), 1), 0U) << "one folder is home";
  }
}

}  // namespace
}  // namespace belay::checkpoint::spread
