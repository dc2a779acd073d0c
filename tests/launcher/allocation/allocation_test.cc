#include "launcher/allocation/allocation.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "runtime/base/str.h"

namespace belay::launcher {
namespace {

using base::Str;
using testing::ElementsAre;
using testing::HasSubstr;

TEST(AllocationTest, KnowsHostNames) {
  for (const std::string& name : {std::string("a"), std::string("node-7.cluster_2.example"), std::string("10.0.0.1"),
                                  std::string("::1"), std::string("fe80::1:2"), std::string(253, 'a')}) {
    EXPECT_TRUE(IsHostName(name)) << name;
  }
  for (const std::string& name :
       {std::string(), std::string("-oProxyCommand=x"), std::string(".a"), std::string("_a"), std::string("a b"),
        std::string("a/b"), std::string("u@a"), std::string("a:1"), std::string("a\n"), std::string("caf\xE9"),
        std::string("a[1]"), std::string("g::1"), std::string(254, 'a')}) {
    EXPECT_FALSE(IsHostName(name)) << name;
  }
}

TEST(AllocationTest, FindsThisHostHoweverTheDomainIsWritten) {
  const auto find = [](const std::vector<std::string>& names, const std::string& host) {
    std::vector<Node> nodes;
    for (const std::string& name : names) nodes.push_back({name});
    const auto found = FindThisHost(nodes, host);
    return found ? static_cast<int>(*found) : -1;
  };
  EXPECT_EQ(find({"n1", "n2"}, "n2"), 1);
  EXPECT_EQ(find({"n1", "n2"}, "n2.cluster"), 1);
  EXPECT_EQ(find({"n1.cluster", "n2.cluster"}, "n2"), 1);
  EXPECT_EQ(find({"n1", "localhost"}, "n2"), 1);
  EXPECT_EQ(find({"n1", "n2"}, "login"), -1);
  EXPECT_EQ(find({"n2.east", "n2.west"}, "n2"), -1) << "which of them?";
  EXPECT_EQ(find({"n2.east", "n2.west"}, "n2.west"), 1);
}

TEST(AllocationTest, RepeatedNamesAddUpWithinTheLimits) {
  NodeCollector nodes;
  ASSERT_TRUE(nodes.Add("f", "b", 3));
  ASSERT_TRUE(nodes.Add("f", "a", kSlotsMax - 1));
  ASSERT_TRUE(nodes.Add("f", "b", 2));
  ASSERT_TRUE(nodes.Add("f", "a", 1));
  EXPECT_THAT(nodes.Add("f, line 7", "a", 1).error().message, HasSubstr("f, line 7: a adds up to more than 100000"));
  const auto taken = std::move(nodes).Take("f");
  ASSERT_TRUE(taken);
  EXPECT_THAT(*taken, ElementsAre(Node{"b", 5, {}, {}}, Node{"a", kSlotsMax, {}, {}}));
}

TEST(AllocationTest, TakesTenThousandHostsAndNoMore) {
  NodeCollector nodes;
  for (std::size_t i = 0; i < kNodesMax; ++i) ASSERT_TRUE(nodes.Add("f", Str("n", i), 1));
  EXPECT_THAT(nodes.Add("f", "one-more", 1).error().message, HasSubstr("more than 10000 hosts"));
  EXPECT_TRUE(nodes.Add("f", "n0", 1)) << "a known one adds no host";
  EXPECT_THAT(NodeCollector().Take("f").error().message, HasSubstr("f names no host"));
}

}  // namespace
}  // namespace belay::launcher
