#include "launcher/protocol/messages.h"

#include <gtest/gtest.h>

#include "runtime/base/rng.h"

namespace belay::launcher {
namespace {

TEST(MessagesTest, GarbageIsRefusedOrDecodesToAKnownKind) {
  wire::ToLauncher message;
  message.mutable_registration()->set_host("host");
  message.mutable_registration()->set_rank(3);
  const std::string good = message.SerializeAsString();
  ASSERT_TRUE(DecodeToLauncher(good));
  for (std::uint64_t seed = 1; seed <= 20000; ++seed) {
    base::Rng rng(seed);
    std::string body = rng.Below(2) == 0 ? good : std::string(rng.Below(64), '\0');
    for (std::uint64_t i = 1 + rng.Below(4); i > 0 && !body.empty(); --i)
      body[rng.Below(body.size())] = static_cast<char>(rng.Below(256));
    const auto decoded = DecodeToLauncher(body);
    if (decoded) {
      EXPECT_NE(decoded->body_case(), wire::ToLauncher::BODY_NOT_SET) << "seed " << seed;
    } else {
      EXPECT_EQ(decoded.error().code, base::Code::kProtocol) << "seed " << seed;
    }
  }
}

TEST(MessagesTest, AnEmptyOrUnknownMessageIsRefused) {
  EXPECT_FALSE(DecodeToLauncher(""));
  EXPECT_FALSE(DecodeFromLauncher(""));
  EXPECT_FALSE(DecodeFromLauncher("\xfa\x07\x01x"));  // field 127
}

}  // namespace
}  // namespace belay::launcher
