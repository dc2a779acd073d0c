#include "examples/common/loss_log.h"

#include <gtest/gtest.h>
#include <unistd.h>

#include <cmath>
#include <fstream>
#include <limits>
#include <sstream>
#include <string>
#include <system_error>

namespace examples {
namespace {

class LossLogTest : public testing::Test {
 protected:
  void SetUp() override {
    path_ = testing::TempDir() + "loss_log_test." + std::to_string(getpid()) + ".jsonl";
    std::remove(path_.c_str());
  }
  void TearDown() override { std::remove(path_.c_str()); }
  std::string Read() const {
    std::ostringstream text;
    text << std::ifstream(path_).rdbuf();
    return text.str();
  }
  void Append(const std::string& text) const { std::ofstream(path_, std::ios::app) << text; }

  std::string path_;
};

TEST_F(LossLogTest, WritesADoubleSoThatItReadsBackTheSame) {
  const double loss = std::nextafter(2.5, 3.0);
  LossLog(path_, 0).Write(3, 1, loss);
  double back = 0;
  long step = 0, epoch = 0;
  ASSERT_EQ(std::sscanf(Read().c_str(), "{\"step\": %ld, \"epoch\": %ld, \"loss\": %lf}", &step, &epoch, &back), 3);
  EXPECT_EQ(step, 3);
  EXPECT_EQ(epoch, 1);
  EXPECT_EQ(back, loss);
}

TEST_F(LossLogTest, ResumingDropsTheStepsThatNoCheckpointKept) {
  {
    LossLog log(path_, 0);
    for (int step = 0; step < 5; ++step) log.Write(step, 0, step);
  }
  const auto all = Read();
  {
    LossLog log(path_, 3);
    log.Write(3, 0, 3);
    log.Write(4, 0, 4);
  }
  EXPECT_EQ(Read(), all);
}

TEST_F(LossLogTest, ResumingDropsATornLastLine) {
  LossLog(path_, 0).Write(0, 0, 0.5);
  const auto whole = Read();
  Append("{\"step\": 1, \"epoch\": 0, \"lo");
  LossLog(path_, 2);
  EXPECT_EQ(Read(), whole);
}

TEST_F(LossLogTest, AFreshStartBeginsAnew) {
  Append("not a log\n{\"step\": 0, \"epoch\": 0, \"loss\": 1}\n");
  LossLog(path_, 0);
  EXPECT_EQ(Read(), "");
}

TEST_F(LossLogTest, InfinityIsStillJson) {
  LossLog(path_, 0).Write(0, 0, std::numeric_limits<double>::infinity());
  EXPECT_EQ(Read(), "{\"step\": 0, \"epoch\": 0, \"loss\": null}\n");
}

TEST_F(LossLogTest, SaysWhichFileItCannotCreate) {
  try {
    LossLog("/no/such/folder/loss.jsonl", 0);
    FAIL();
  } catch (const std::system_error& error) {
    EXPECT_NE(std::string(error.what()).find("/no/such/folder/loss.jsonl"), std::string::npos);
  }
}

TEST_F(LossLogTest, AFullDiskIsOneWarningAndTheEndOfTheLog) {
  // What the log creates lands on the device that is always full; its name is only a link, also once it is renamed.
  ASSERT_EQ(symlink("/dev/full", (path_ + ".new").c_str()), 0);
  LossLog log(path_, 0);
  testing::internal::CaptureStderr();
  EXPECT_NO_THROW(log.Write(7, 0, 1.0));
  const std::string said = testing::internal::GetCapturedStderr();
  EXPECT_NE(said.find(path_), std::string::npos) << said;
  EXPECT_NE(said.find("step 7"), std::string::npos) << said;
  EXPECT_NE(said.find("No space left on device"), std::string::npos) << said;
  EXPECT_NE(said.find("training goes on"), std::string::npos) << said;
  testing::internal::CaptureStderr();
  EXPECT_NO_THROW(log.Write(8, 0, 1.0));
  EXPECT_EQ(testing::internal::GetCapturedStderr(), "");
}

TEST_F(LossLogTest, NoPathLogsNothing) { LossLog("", 0).Write(0, 0, 1.0); }

}  // namespace
}  // namespace examples
