// belayd's measurement of its devices from outside: what is kept of it, and what is left where it fails.
#include <filesystem>
#include <functional>

#include "runtime/base/clock.h"
#include "tests/checkpoint/daemon/daemon_harness.h"

namespace belay::checkpoint {
namespace {

const DaemonOptions kEager{.faults = "", .arguments = {"--probe-idle", "0", "--scrub-rate", "0"}};

class ProbeTest : public testing::Test {
 protected:
  wire::BulkReport Bulk() {
    RawClient client(daemon_.socket());
    wire::Request request;
    request.mutable_daemon_status();
    return client.Ask(request).response.daemon_report().bulk();
  }
  bool Logged(const std::string& word) { return daemon_.LogText().find(word) != std::string::npos; }
  bool Until(const std::function<bool()>& is_so) {
    const auto deadline = base::SystemClock().Now() + std::chrono::seconds(30);
    while (!is_so() && base::SystemClock().Now() < deadline)
      base::SystemClock().SleepFor(std::chrono::milliseconds(20));
    return is_so();
  }
  DaemonUnderTest daemon_;
};

TEST_F(ProbeTest, WhatWasMeasuredIsKeptAndNotMeasuredAgain) {
  daemon_.Start(kEager);
  EXPECT_EQ(Bulk().measured().empty(), !Logged("device_measured"));
  ASSERT_TRUE(Until([&] { return Logged("device_measured") || Logged("device_not_measured"); }));
  if (!Logged("device_measured")) GTEST_SKIP() << "not a disk to measure: " << daemon_.LogText();
  const wire::BulkReport measured = Bulk();
  EXPECT_FALSE(measured.measured().empty());
  // The record is written after that, in its turn; what is asked for later comes later.
  RawClient launcher(daemon_.socket());
  launcher.BeginRun("gpt", 2);
  launcher.Close();
  ASSERT_EQ(daemon_.Stop(), 0);
  daemon_.Start(kEager);
  EXPECT_EQ(Bulk().SerializeAsString(), measured.SerializeAsString());
  ASSERT_EQ(daemon_.Stop(), 0);
  daemon_.Start({.faults = "", .arguments = {"--no-probe"}});
  EXPECT_EQ(Bulk().block_bytes(), 4U << 20);
  EXPECT_EQ(Bulk().queue_depth(), 16U);
  EXPECT_TRUE(Bulk().measured().empty());
}

TEST_F(ProbeTest, ADiskThatFailsIsLoggedOnceAndKeepsTheDefault) {
  DaemonOptions options = kEager;
  options.faults = "probe.before_write=nospace";
  daemon_.Start(options);
  ASSERT_TRUE(Until([&] { return Logged("device_not_measured"); }));
  RawClient launcher(daemon_.socket());
  launcher.BeginRun("gpt", 2);
  auto ranks = AttachAll(daemon_, "gpt", 1, 2, 2);
  EXPECT_TRUE(Save(ranks, 100).ok());
  EXPECT_TRUE(Bulk().measured().empty());
  EXPECT_EQ(Bulk().queue_depth(), 16U);
  const std::string log = daemon_.LogText();
  EXPECT_EQ(log.find("device_not_measured"), log.rfind("device_not_measured"));
  EXPECT_TRUE(LeftOver(daemon_, "gpt", {100}).empty());
}

TEST_F(ProbeTest, KilledInTheMiddleItLeavesNothing) {
  DaemonOptions options = kEager;
  options.faults = "probe.before_write=kill@2";
  daemon_.Start(options);
  if (!Until([&] { return !daemon_.Running() || Logged("measured"); }) || daemon_.Running()) {
    GTEST_SKIP() << "not a disk to measure twice: " << daemon_.LogText();
  }
  for (const auto& entry : std::filesystem::directory_iterator(daemon_.data_dir())) {
    EXPECT_EQ(entry.path().filename(), ".belayd");
  }
}

}  // namespace
}  // namespace belay::checkpoint
