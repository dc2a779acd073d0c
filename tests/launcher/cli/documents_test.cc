// The tables in docs/ say what the program says.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <fstream>
#include <sstream>

#include "launcher/cli/environment_table.h"
#include "launcher/supervise/job_state.h"
#include "runtime/base/exit_status.h"
#include "runtime/base/str.h"

namespace belay::launcher {
namespace {

using testing::HasSubstr;

std::string ReadDocument(const std::string& path) {
  std::ifstream file(std::string(BELAY_SOURCE_DIR) + "/" + path);
  EXPECT_TRUE(file) << path;
  return (std::ostringstream() << file.rdbuf()).str();
}

TEST(DocumentsTest, EveryEnvironmentVariableIsDocumented) {
  const std::string text = ReadDocument("docs/environment.md");
  for (const EnvironmentVariable& v : EnvironmentTable()) {
    EXPECT_THAT(text, HasSubstr(base::Str("| `", v.name, "` | ", v.meaning, " |")));
  }
}

TEST(DocumentsTest, EveryExitStatusIsDocumented) {
  const std::string text = ReadDocument("docs/exit-statuses.md");
#define BELAY_X(number, name, meaning) EXPECT_THAT(text, HasSubstr(base::Str("| ", number, " | ", meaning, " |")));
  BELAY_EXIT_STATUSES(BELAY_X)
#undef BELAY_X
}

TEST(DocumentsTest, TheStateTableIsInTheReadme) {
  const std::string text = ReadDocument("launcher/README.md");
  for (const Transition& t : JobTransitions()) {
    EXPECT_THAT(text, HasSubstr(base::Str("| ", Name(t.from), " | ", Name(t.to), " | ", t.when, " |")));
  }
}

}  // namespace
}  // namespace belay::launcher
