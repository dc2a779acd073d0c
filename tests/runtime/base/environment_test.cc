#include "runtime/base/environment.h"

#include <signal.h>
#include <unistd.h>

#include <cstdlib>

#include "tests/runtime/base/test_util.h"

namespace belay::base {
namespace {

TEST(EnvironmentTest, ReadsVariables) {
  ::setenv("BELAY_TEST_VARIABLE", "a=b", 1);
  EXPECT_EQ(GetEnvironment("BELAY_TEST_VARIABLE"), "a=b");
  EXPECT_EQ(WholeEnvironment().at("BELAY_TEST_VARIABLE"), "a=b");
  ::unsetenv("BELAY_TEST_VARIABLE");
  EXPECT_EQ(GetEnvironment("BELAY_TEST_VARIABLE"), std::nullopt);
  EXPECT_FALSE(WholeEnvironment().contains("BELAY_TEST_VARIABLE"));
}

TEST(EnvironmentTest, FindsHomeWithAndWithoutHome) {
  const auto home = GetEnvironment("HOME");
  ::setenv("HOME", "/somewhere", 1);
  EXPECT_EQ(HomeDirectory(), "/somewhere");
  ::unsetenv("HOME");
  EXPECT_TRUE(HomeDirectory().starts_with("/"));
  if (home) ::setenv("HOME", home->c_str(), 1);
}

TEST(EnvironmentTest, KnowsWhereItIs) {
  EXPECT_TRUE(Exists(PosixFileSystem(), ProgramDirectory() + "/base_test")) << ProgramDirectory();
  EXPECT_TRUE(CurrentDirectory().starts_with("/"));
  EXPECT_FALSE(HostName().empty());
  EXPECT_EQ(ProcessId(), ::getpid());
  EXPECT_EQ(UserId(), ::geteuid());
}

TEST(EnvironmentTest, SeedsDiffer) { EXPECT_NE(RandomSeed(), RandomSeed()); }

TEST(EnvironmentTest, AClosedPipeIsAnErrorNotASignal) {
  IgnoreSigpipe();
  int ends[2];
  ASSERT_EQ(::pipe(ends), 0);
  ::close(ends[0]);
  EXPECT_EQ(::write(ends[1], "x", 1), -1);
  EXPECT_EQ(errno, EPIPE);
  ::close(ends[1]);
}

}  // namespace
}  // namespace belay::base
