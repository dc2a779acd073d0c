// What the daemon says on the wire.
#include "checkpoint/daemon/wire.h"

#include <gtest/gtest.h>

#include "checkpoint/format/strict_json.h"

namespace belay::checkpoint {
namespace {

TEST(WireTest, AFailureCutWithinACharacterStillReachesTheClient) {
  const std::string text = std::string(10, 'x') + "\u00e9";
  wire::Response response;
  ToWire(base::Error{base::Code::kCancelled, text.substr(0, 11), nullptr}, *response.mutable_failure());
  EXPECT_TRUE(IsUtf8(response.failure().message()));
  EXPECT_EQ(response.failure().message(), std::string(10, 'x') + "\uFFFD");
  std::string bytes;
  ASSERT_TRUE(response.SerializeToString(&bytes));
  EXPECT_TRUE(wire::Response().ParseFromString(bytes));
}

TEST(WireTest, ALongFingerprintIsCutAtACharacter) {
  wire::Request request;
  request.mutable_attach()->set_layout_fingerprint(std::string(commit::kTextBytesMax - 1, 'x') + "\u00e9");
  const auto read = FromWire(request);
  ASSERT_TRUE(read);
  EXPECT_TRUE(IsUtf8(std::get<commit::Attach>(*read).layout_fingerprint));
}

TEST(WireTest, AnAttachSaysWhichNumaNodeItWantsOrNothing) {
  wire::Request request;
  request.mutable_attach()->set_rank(1);
  auto read = FromWire(request);
  ASSERT_TRUE(read);
  EXPECT_EQ(std::get<commit::Attach>(*read).numa_node, std::nullopt) << "as an older client leaves it";
  request.mutable_attach()->set_numa_node(0);
  read = FromWire(request);
  ASSERT_TRUE(read);
  EXPECT_EQ(std::get<commit::Attach>(*read).numa_node, 0);
}

}  // namespace
}  // namespace belay::checkpoint
